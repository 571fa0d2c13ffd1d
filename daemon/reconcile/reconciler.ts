/**
 * The one reconcile loop: plan, merge, compare, apply. One diff, one order, one retry policy; a dry run and a cleanup are the same
 * round with printing in place of applying, or with nothing wanted.
 */
import type { Snapshot } from '../cluster/snapshot.ts';
import { asFairwayError, FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { earliest, type Instant } from '../net/instant.ts';
import type { Backoff } from './backoff.ts';
import { type Claim, Claims } from './claims.ts';
import type { TableDriver } from './driver.ts';
import { entryLines } from './entry-lines.ts';
import type { Diagnostic, Fragment, ObjectRef } from './fragment.ts';
import type { Module } from './module.ts';
import type { Applied, Drift, Failure } from './outcome.ts';
import type { Part } from './readiness.ts';
import { Table, type TableOptions } from './table.ts';
import { STAGES, TABLES, type TableName, type TableTypes } from './tables.ts';
import type { Examined, TableChanges, TablesView, ViewedEntry } from './view.ts';

export type Drivers = { readonly [K in TableName]: TableDriver<TableTypes[K]> };

/** What a round did, told as it happens. Nothing here may throw. */
export interface ReconcileObserver {
  /** With the tables in which it wants something else than before. */
  planned(module: string, milliseconds: number, changed: readonly TableName[]): void;
  planFailed(module: string, error: FairwayError): void;
  applied(applied: Applied): void;
  drifted(drift: readonly Drift[]): void;
  /** A table was read back and compared; for who measures. */
  readBack?(table: TableName, milliseconds: number): void;
  /** Once for each try. */
  unreadable(failure: Failure): void;
}

export interface ReconcilerOptions {
  readonly modules: readonly Module[];
  readonly drivers: Drivers;
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly breathe: () => Promise<void>;
  readonly observer: ReconcileObserver;
  /** See {@link TableOptions.lingerMs}; at once unless told. */
  readonly lingerMs?: number;
  /** The tables that are looked after; those that the modules write to unless told. */
  readonly tables?: readonly TableName[];
}

export interface TableStatus {
  readonly table: TableName;
  readonly entries: number;
  readonly wanted: number;
  readonly failures: readonly Failure[];
  readonly unreadable: Failure | undefined;
  readonly readAt: Instant | undefined;
  /** Milliseconds the last reading took. */
  readonly readMs: number;
}

type Tables = { readonly [K in TableName]: Table<K> };

export class Reconciler implements TablesView {
  readonly #modules: readonly Module[];
  readonly #claims = new Claims();
  readonly #clock: Clock;
  readonly #observer: ReconcileObserver;
  readonly #tables: Tables;
  /** The tables that are looked after, in the order of their stages. */
  readonly #stages: readonly TableName[];
  readonly #planErrors = new Map<string, FairwayError>();
  /** By module, {@link Plan.undecided}. */
  readonly #undecided = new Map<string, readonly TableName[]>();
  /** Keys of entries that were seen to go. */
  readonly #suspects = new Map<TableName, ReadonlySet<string>>();

  constructor(options: ReconcilerOptions) {
    this.#modules = options.modules;
    this.#clock = options.clock;
    this.#observer = options.observer;
    const written = new Set(options.tables ?? options.modules.flatMap(module => module.writes));
    this.#stages = STAGES.filter(stage => written.has(stage));
    const table = <K extends TableName>(name: K): Table<K> => {
      const own: TableOptions<K> = {
        isUndecided: () => this.#isUndecided(name),
        name,
        definition: TABLES[name],
        driver: options.drivers[name],
        claims: this.#claims,
        lingerMs: 0,
        ...options,
      };
      return new Table(own);
    };
    this.#tables = {
      sysctl: table('sysctl'),
      fouPort: table('fouPort'),
      link: table('link'),
      address: table('address'),
      route: table('route'),
      ipset: table('ipset'),
      iptables: table('iptables'),
      virtualServer: table('virtualServer'),
      unicastRoute: table('unicastRoute'),
      rule: table('rule'),
      cniConfig: table('cniConfig'),
      bridgePort: table('bridgePort'),
      markDelivery: table('markDelivery'),
      podTunnel: table('podTunnel'),
      healthPort: table('healthPort'),
      bgpServer: table('bgpServer'),
      bgpPolicy: table('bgpPolicy'),
      bgpPath: table('bgpPath'),
      bgpPeer: table('bgpPeer'),
      lanAddress: table('lanAddress'),
      serviceStatus: table('serviceStatus'),
    };
  }

  /** Brings everything outside to what the modules plan for this snapshot. Returns when to come again without an event. */
  async round(snapshot: Snapshot, signal: AbortSignal): Promise<Instant | undefined> {
    this.plan(snapshot);
    return this.converge(signal);
  }

  /** Plans only: what is wanted changes, nothing outside does. */
  plan(snapshot: Snapshot): void {
    for (const module of this.#modules) {
      const start = this.#clock.now();
      try {
        const { fragments, undecided = [] } = module.plan(snapshot);
        this.#undecided.set(module.name, undecided);
        const changed = this.#want(module.name, fragments);
        this.#planErrors.delete(module.name);
        this.#observer.planned(module.name, this.#clock.now() - start, changed);
      } catch (thrown) {
        const error = new FairwayError('FW_PLAN_FAILED', `module ${module.name} failed to plan: ${messageOf(thrown)}`, {
          cause: thrown,
        });
        this.#planErrors.set(module.name, error);
        this.#observer.planFailed(module.name, error);
      }
    }
  }

  /**
   * Upserts forward through the stages, deletes backward; where nothing is left to do in later stages, both in one batch. What a later
   * table uses changes in two steps around the change of that table: first what nothing uses yet, so that it is complete when it comes into
   * use; what is in use only when the users are as wanted, so that no new element meets an old rule.
   */
  async converge(signal: AbortSignal): Promise<Instant | undefined> {
    await this.refresh(signal);
    const postponed = new Map<TableName, TableName[]>();
    for (const [index, stage] of this.#stages.entries()) {
      const isLast = (): boolean => this.#stages.slice(index + 1).every(later => !this.#tables[later].hasDue());
      const user = TABLES[stage].use?.by;
      if (user !== undefined && this.#tables[user].hasDue()) {
        await this.#change(stage, 'idle', signal);
        postponed.set(user, [...(postponed.get(user) ?? []), stage]);
        continue;
      }
      // What uses another table may drop something only when that table is as wanted.
      await this.#change(stage, isLast() && !isUser(stage) ? 'everything' : 'upserts', signal);
      for (const used of postponed.get(stage) ?? []) await this.#change(used, isLast() ? 'everything' : 'upserts', signal);
    }
    for (const stage of this.#stages.toReversed()) await this.#change(stage, 'deletes', signal);
    return this.#dueAt();
  }

  async #change(stage: TableName, part: Part, signal: AbortSignal): Promise<void> {
    let required: ReadonlyMap<string, boolean> | undefined;
    const requiredOf = (key: string): boolean | undefined => {
      required ??= this.#requiredOf(stage);
      return required.get(key);
    };
    const applied = await this.#tables[stage].change(
      part,
      {
        isThere: need => this.#tables[need.table].has(need.key),
        isKnown: table => this.#tables[table].isKnown,
        isRequired: key => requiredOf(key) !== undefined,
        isRequiredToStay: key => requiredOf(key) === true,
      },
      signal,
    );
    if (applied !== undefined) this.#observer.applied(applied);
  }

  /** Reads back every table that is in doubt; what an audit finds changed is reported as drift. */
  async refresh(signal: AbortSignal): Promise<void> {
    for (const stage of this.#stages) {
      const table = this.#tables[stage];
      if (this.#isMissed(stage)) table.doubt();
      const { readAt, unreadable } = table;
      const drift = await table.refresh(signal);
      if (table.readAt !== readAt) this.#observer.readBack?.(stage, table.readMs);
      if (drift.length > 0) this.#observer.drifted(drift);
      if (table.unreadable !== undefined && table.unreadable !== unreadable) this.#observer.unreadable(table.unreadable);
    }
  }

  /** The next round reads this table back. */
  audit(table: TableName): void {
    this.#tables[table].doubt();
  }

  /**
   * These entries were seen to go, perhaps by our own hand: the next round reads the table back if one of them should still be there. Not before, since
   * what goes while changes are being made is known to be ours only when they are done.
   */
  suspect(table: TableName, keys: Iterable<string>): void {
    this.#suspects.set(table, new Set([...(this.#suspects.get(table) ?? []), ...keys]));
  }

  #isMissed(stage: TableName): boolean {
    const suspects = this.#suspects.get(stage) ?? [];
    this.#suspects.delete(stage);
    return [...suspects].some(key => this.#tables[stage].has(key));
  }

  /** As {@link audit}, at once, although reading or writing failed lately: what was in the way is known to be gone. */
  renew(table: TableName): void {
    this.#tables[table].renew();
  }

  /** What a round would do now: reads every table back and changes nothing. */
  async examine(signal: AbortSignal): Promise<readonly TableChanges[]> {
    const all: TableChanges[] = [];
    for (const stage of this.#stages) all.push(await this.#examine(this.#tables[stage], signal));
    return all;
  }

  async #examine<K extends TableName>(table: Table<K>, signal: AbortSignal): Promise<TableChanges> {
    const owned = ({ changes, script }: Examined<TableTypes[K]>, unreadable?: FairwayError): TableChanges => ({
      table: table.name,
      changes: changes.map(change => ({
        op: change.op,
        key: change.key,
        before: change.op === 'create' ? [] : entryLines(table.name, change.from),
        after: change.op === 'delete' ? [] : entryLines(table.name, change.to),
        owners: this.#claims.owners(table.name, change.key).map(({ owner }) => owner),
      })),
      script,
      unreadable: unreadable === undefined ? undefined : { code: unreadable.code, message: unreadable.message },
    });
    try {
      return owned(table.toBeDone(await table.look(signal)));
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      const error = asFairwayError(thrown, 'FW_COMMAND_FAILED');
      // Where nobody speaks BGP yet, all of it is still to be made.
      return owned(error.code === 'FW_BGP_UNREACHABLE' ? table.toBeDone(new Map()) : { changes: [], script: '' }, error);
    }
  }

  /** The tables that are looked after, in the order of their stages. */
  get tables(): readonly TableName[] {
    return this.#stages;
  }

  *entries<K extends TableName>(table: K): Iterable<ViewedEntry<TableTypes[K]>> {
    const viewed = this.#tableOf(table);
    for (const key of viewed.keys()) yield this.#view(viewed, key);
  }

  entry<K extends TableName>(table: K, key: string): ViewedEntry<TableTypes[K]> | undefined {
    const view = this.#view(this.#tableOf(table), key);
    return view.actual === undefined && view.wanted === undefined ? undefined : view;
  }

  #view<K extends TableName>(table: Table<K>, key: string): ViewedEntry<TableTypes[K]> {
    return { ...table.view(key), owners: this.#claims.owners(table.name, key).map(({ owner }) => owner) };
  }

  #tableOf<K extends TableName>(name: K): Table<K> {
    return this.#tables[name];
  }

  status(): readonly TableStatus[] {
    return this.#stages.map(name => this.statusOf(name));
  }

  statusOf(name: TableName): TableStatus {
    const table = this.#tables[name];
    return {
      table: name,
      entries: table.size,
      wanted: this.#claims.count(name),
      failures: table.failures(),
      unreadable: table.unreadable,
      readAt: table.readAt,
      readMs: table.readMs,
    };
  }

  /** Whose entry is wanted under this key. */
  ownerOf(table: TableName, key: string): ObjectRef | undefined {
    return this.#claims.wanted(table, key)?.owner;
  }

  /** Of what is wanted of a table and is there in some form, that which is meant: for whoever counts. */
  *inForce(table: TableName, isMeant: (claim: Claim) => boolean): Iterable<Claim> {
    for (const key of this.#claims.keys(table)) {
      const claim = this.#claims.wanted(table, key);
      // Asked first: of a hundred thousand elements of sets none may be.
      if (claim !== undefined && isMeant(claim) && this.#tables[table].has(key)) yield claim;
    }
  }

  planErrors(): ReadonlyMap<string, FairwayError> {
    return this.#planErrors;
  }

  diagnostics(): readonly Diagnostic[] {
    return this.#claims.diagnostics();
  }

  #want(module: string, fragments: ReadonlyMap<string, Fragment>): readonly TableName[] {
    const changed = this.#claims.update(module, fragments);
    for (const [table, keys] of changed) this.#tables[table].mark(keys);
    return [...changed.keys()];
  }

  /** Keys of this table that entries of other tables, believed to be there, cannot do without; true where one of these is to stay. */
  #requiredOf(stage: TableName): ReadonlyMap<string, boolean> {
    const required = new Map<string, boolean>();
    // Entries require those of their own or an earlier table.
    for (const other of this.#stages.slice(this.#stages.indexOf(stage) + 1)) {
      for (const { key, isToStay } of this.#tables[other].requirements(stage)) {
        required.set(key, isToStay || required.get(key) === true);
      }
    }
    return required;
  }

  #isUndecided(table: TableName): boolean {
    return [...this.#undecided.values()].some(tables => tables.includes(table));
  }

  #dueAt(): Instant | undefined {
    const due = [this.#claims.wakeAt(), ...this.#stages.map(stage => this.#tables[stage].dueAt())].filter(at => at !== undefined);
    return earliest(due);
  }
}

/** Whether entries of this table make those of an earlier one take effect. */
function isUser(table: TableName): boolean {
  return STAGES.some(stage => TABLES[stage].use?.by === table);
}
