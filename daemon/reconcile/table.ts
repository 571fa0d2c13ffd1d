/**
 * One table at work: what we believe is there, what is still to be changed, what failed and when it is tried again.
 *
 * Believed state is the whole cache policy: unknown (`undefined`) at the start, after a failure and at an audit, and then read back.
 */
import { asFairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { earliest, type Instant, instantOf } from '../net/instant.ts';
import type { Backoff } from './backoff.ts';
import type { Claim, Claims } from './claims.ts';
import type { Change, TableDriver } from './driver.ts';
import { FailedKeys } from './failed-keys.ts';
import { Leftovers } from './leftovers.ts';
import type { Applied, Drift, Failure } from './outcome.ts';
import { type Part, readyChanges, type Surroundings } from './readiness.ts';
import type { Requirement, TableDefinition, TableName, TableTypes } from './tables.ts';
import { changesBetween, type Examined, type ViewedEntry } from './view.ts';

export interface TableOptions<K extends TableName> {
  readonly name: K;
  readonly definition: TableDefinition<TableTypes[K]>;
  readonly driver: TableDriver<TableTypes[K]>;
  readonly claims: Claims;
  readonly clock: Clock;
  readonly backoff: Backoff;
  /** Lets the event loop run between pieces of long work. */
  readonly breathe: () => Promise<void>;
  /** How long, in milliseconds, what nobody wants or uses any more may stay until other changes of the table take it along. */
  readonly lingerMs: number;
  /** Whether it is not known in full yet what is wanted here: what was found then and nobody wanted yet stays, and nothing waits for its end. */
  readonly isUndecided: () => boolean;
}

/** Keys looked at between two breaths: a few milliseconds of work. */
const STRIDE = 2000;

export class Table<K extends TableName> {
  readonly name: K;
  readonly #definition: TableDefinition<TableTypes[K]>;
  readonly #driver: TableDriver<TableTypes[K]>;
  readonly #claims: Claims;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #breathe: () => Promise<void>;
  readonly #lingerMs: number;
  /** What an entry requires, remembered as long as the entry is the same. */
  readonly #requirements = new WeakMap<object, readonly Requirement[]>();
  /** When what lingers is to go at the latest. */
  #sweepAt: Instant | undefined;
  #believed: Map<string, TableTypes[K]> | undefined;
  /** Belief goes on until the next round reads the table back: so a failure never holds up what has nothing to do with it. */
  #isDoubted = true;
  readonly #dirty = new Set<string>();
  readonly #failures = new FailedKeys();
  readonly #leftovers: Leftovers;
  #unreadable: Failure | undefined;
  #readAt: Instant | undefined;
  #readMs = 0;

  constructor(options: TableOptions<K>) {
    this.name = options.name;
    this.#definition = options.definition;
    this.#driver = options.driver;
    this.#claims = options.claims;
    this.#clock = options.clock;
    this.#backoff = options.backoff;
    this.#breathe = options.breathe;
    this.#lingerMs = options.lingerMs;
    this.#leftovers = new Leftovers(options.isUndecided);
  }

  /** The wanted entries of these keys changed: they are looked at in the next round, whatever failed before. */
  mark(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#dirty.add(key);
      if (this.#wanted(key) !== undefined) this.#leftovers.claim(key);
      this.#failures.forget(key);
    }
  }

  /** Puts what we believe in doubt: the next round reads the table back. */
  doubt(): void {
    this.#isDoubted = true;
  }

  /** Somebody who knows tells that it can be read again, or must be: the next round does, whatever failed before. */
  renew(): void {
    this.#isDoubted = true;
    this.#unreadable = undefined;
    for (const { key } of this.#failures.all()) this.#failures.forget(key);
  }

  /** Whether the table was ever read. */
  get isKnown(): boolean {
    return this.#believed !== undefined;
  }

  /** Entries believed to be there; 0 while unknown. */
  get size(): number {
    return this.#believed?.size ?? 0;
  }

  get readAt(): Instant | undefined {
    return this.#readAt;
  }

  /** Milliseconds the last reading took, with the comparison. */
  get readMs(): number {
    return this.#readMs;
  }

  /** Why the table cannot be read, if so. */
  get unreadable(): Failure | undefined {
    return this.#unreadable;
  }

  failures(): readonly Failure[] {
    return this.#failures.all();
  }

  has(key: string): boolean {
    return this.#believed?.has(key) ?? false;
  }

  /**
   * Keys of another table that entries believed to be there require, and whether these are to stay: asked only when something is about to be
   * deleted.
   */
  *requirements(of: TableName): Iterable<{ readonly key: string; readonly isToStay: boolean }> {
    for (const [own, value] of this.#believed ?? []) {
      let requirements = this.#requirements.get(value);
      if (requirements === undefined) {
        requirements = this.#definition.requires(value);
        this.#requirements.set(value, requirements);
      }
      for (const { table, key } of requirements) if (table === of) yield { key, isToStay: this.#wanted(own) !== undefined };
    }
  }

  /** When something of this table is due without an event. */
  dueAt(): Instant | undefined {
    const others = [this.#unreadable?.retryAt, this.#sweepAt].filter(at => at !== undefined);
    return earliest([...this.#failures.retryTimes(), ...others]);
  }

  /** Reads the table back where it is in doubt. What differs from both belief and wish without our doing is drift. */
  async refresh(signal: AbortSignal): Promise<readonly Drift[]> {
    const now = this.#clock.now();
    if (!this.#isDoubted || (this.#unreadable !== undefined && this.#unreadable.retryAt > now)) return [];
    let actual: ReadonlyMap<string, TableTypes[K]>;
    try {
      actual = await this.#driver.read(this.#expected(), signal);
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      this.#unreadable = this.#failure('', undefined, thrown, this.#unreadable);
      return [];
    }
    this.#unreadable = undefined;
    this.#readAt = now;
    this.#isDoubted = false;
    const before = this.#believed;
    const isFirst = before === undefined;
    this.#believed = new Map(actual);
    this.#leftovers.noteFound(actual.keys(), key => before?.has(key) === true || this.#wanted(key) !== undefined);
    const differences = await this.#compare(this.#believed);
    this.#readMs = this.#clock.now() - now;
    return isFirst ? [] : differences;
  }

  /** What is wanted; all in which that differs from belief is dirty. Drivers judge by it: a link that is wanted is there only if it is up, another in any state. */
  #expected(): ReadonlyMap<string, TableTypes[K]> {
    const believed = this.#believed;
    if (believed !== undefined && this.#dirty.size === 0) return believed;
    const expected = new Map(believed);
    for (const key of believed === undefined ? this.#claims.keys(this.name) : this.#dirty) {
      const wanted = this.#wanted(key);
      if (wanted === undefined) expected.delete(key);
      else expected.set(key, wanted);
    }
    return expected;
  }

  /** Marks every key whose actual entry is not the wanted one; tells those that no pending change explains. */
  async #compare(actual: Map<string, TableTypes[K]>): Promise<readonly Drift[]> {
    const unexplained: Drift[] = [];
    const differs = (key: string, found: Drift['found']): void => {
      if (!this.#dirty.has(key)) unexplained.push({ table: this.name, key, found });
      this.#dirty.add(key);
    };
    let count = 0;
    for (const key of this.#claims.keys(this.name)) {
      const there = actual.get(key);
      const wanted = this.#wanted(key);
      if (there === undefined) differs(key, 'missing');
      else if (wanted !== undefined && there !== wanted) {
        // The wanted object in place of an equal one: one copy in memory, and the next comparison is by identity.
        if (this.#definition.same(there, wanted)) actual.set(key, wanted);
        else differs(key, 'changed');
      }
      if (++count % STRIDE === 0) await this.#breathe();
    }
    for (const key of actual.keys()) {
      if (this.#claims.wanted(this.name, key) === undefined) differs(key, 'unexpected');
      if (++count % STRIDE === 0) await this.#breathe();
    }
    return unexplained;
  }

  /** Makes the changes of this part that are due. What waits for an entry that is not there, or is still required, stays due. */
  async change(part: Part, surroundings: Surroundings, signal: AbortSignal): Promise<Applied | undefined> {
    const believed = this.#believed;
    if (believed === undefined) return undefined;
    const changes: Change<TableTypes[K]>[] = [];
    for (const key of this.#due()) {
      const from = believed.get(key);
      const wanted = this.#wanted(key);
      // Whose time came after its part of the round was over has the next round.
      if (part !== 'deletes' || wanted === undefined) this.#failures.took(key);
      if (wanted === undefined) {
        if (from === undefined) this.#settle(key);
        else if (
          part !== 'upserts' &&
          !this.#leftovers.has(key) &&
          this.#mayGo(key, from, surroundings) &&
          this.#isPartOf(part, from, surroundings)
        ) {
          changes.push({ op: 'delete', key, from });
        }
      } else if (from === undefined) {
        if (part !== 'deletes' && this.#isPartOf(part, wanted, surroundings)) changes.push({ op: 'create', key, to: wanted });
      } else if (this.#definition.same(from, wanted)) {
        believed.set(key, wanted);
        this.#settle(key);
      } else if (this.#isPartOf(part, wanted, surroundings)) {
        const widened = this.#widened(from, wanted);
        const to = part === 'deletes' ? wanted : widened;
        // What is left to be dropped is dropped late; what is not only that is not for then.
        const isDrop = this.#definition.same(from, widened);
        if (isDrop === (part === 'deletes')) changes.push({ op: 'update', key, from, to });
      }
    }
    if (changes.length === 0) {
      // What lingered is gone or wanted again, and so is its time.
      if (part === 'deletes' || part === 'everything') this.#sweepAt = undefined;
      return undefined;
    }
    if (this.#mayLinger(changes, surroundings)) return undefined;
    return this.#apply(readyChanges(changes, this.name, this.#definition, surroundings), signal);
  }

  /** What is in a set that goes is left to go with it, where only chains that go as well still ask for it: one line in place of thousands. */
  #mayGo(key: string, from: TableTypes[K], { isRequired, isRequiredToStay }: Surroundings): boolean {
    if (isRequired(key)) return false;
    const handle = this.#definition.use?.handle(from) ?? key;
    return handle === key || this.#wanted(handle) !== undefined || !isRequired(handle) || isRequiredToStay(handle);
  }

  #isPartOf(part: Part, entry: TableTypes[K], { isRequired }: Surroundings): boolean {
    const { use } = this.#definition;
    if (part !== 'idle' || use === undefined) return true;
    const refined = use.refined(entry);
    const isRefining = refined !== undefined && this.has(this.#definition.key(refined)) && isRequired(use.handle(refined));
    const handle = use.handle(entry);
    // What is not there is used by nothing, whatever we believe of those who would use it.
    return !isRefining && (!this.has(handle) || !isRequired(handle));
  }

  #widened(from: TableTypes[K], to: TableTypes[K]): TableTypes[K] {
    return this.#definition.widened?.(from, to) ?? to;
  }

  /** Whether these changes only clear away what has no effect any more, and it is not time for that yet: it can go along with others. */
  #mayLinger(changes: readonly Change<TableTypes[K]>[], { isRequired }: Surroundings): boolean {
    const { use } = this.#definition;
    const isClearing = (change: Change<TableTypes[K]>): boolean => {
      const handle = use?.handle(change.op === 'delete' ? change.from : change.to) ?? change.key;
      if (change.op === 'create' || (use !== undefined && isRequired(handle))) return false;
      // What is stale in a set that is wanted is gone before something uses that.
      if (handle !== change.key && this.#wanted(handle) !== undefined) return false;
      return this.#isInert(change.key, change.from);
    };
    const now = this.#clock.now();
    const isLater = changes.every(isClearing) && (this.#sweepAt ?? Number.POSITIVE_INFINITY) > now && this.#lingerMs > 0;
    if (isLater) this.#sweepAt ??= instantOf(now + this.#lingerMs);
    else this.#sweepAt = undefined;
    return isLater;
  }

  /** Whether the entry is to go or to become less, and that makes no difference. */
  #isInert(key: string, from: TableTypes[K]): boolean {
    const wanted = this.#wanted(key);
    if (wanted !== undefined && !this.#definition.same(from, this.#widened(from, wanted))) return false;
    return this.#definition.isInert?.(from) === true;
  }

  /** True where something is to be changed now that makes a difference. */
  hasDue(): boolean {
    for (const key of this.#due()) {
      const from = this.#believed?.get(key);
      const isWanted = this.#wanted(key) !== undefined;
      if (from === undefined ? isWanted : !this.#isInert(key, from) && (isWanted || !this.#leftovers.has(key))) return true;
    }
    return false;
  }

  /** What is there now, whatever is believed. Rejects where the table cannot be read. */
  look(signal: AbortSignal): Promise<ReadonlyMap<string, TableTypes[K]>> {
    return this.#driver.read(this.#expected(), signal);
  }

  /** What would make `actual` as wanted. */
  toBeDone(actual: ReadonlyMap<string, TableTypes[K]>): Examined<TableTypes[K]> {
    const mayStay = (key: string): boolean => this.#leftovers.mayStay(key, this.has(key));
    const changes = changesBetween(actual, this.#claims.keys(this.name), key => this.#wanted(key), this.#definition, mayStay);
    return { changes, script: changes.length === 0 ? '' : this.#driver.render(changes) };
  }

  view(key: string): Omit<ViewedEntry<TableTypes[K]>, 'owners'> {
    return { key, actual: this.#believed?.get(key), wanted: this.#wanted(key), failure: this.#failures.get(key) };
  }

  /** All that are wanted or believed to be there. */
  keys(): ReadonlySet<string> {
    return new Set([...this.#claims.keys(this.name), ...(this.#believed?.keys() ?? [])]);
  }

  *#due(): Iterable<string> {
    const now = this.#clock.now();
    for (const key of [...this.#dirty]) {
      const failure = this.#failures.get(key);
      if (failure === undefined || failure.retryAt <= now) yield key;
    }
  }

  #wanted(key: string): TableTypes[K] | undefined {
    // A claim of table K holds an entry of table K; the map of claims cannot say so.
    return this.#claims.wanted(this.name, key)?.entry.value as TableTypes[K] | undefined;
  }

  #settle(key: string): void {
    this.#dirty.delete(key);
    this.#failures.forget(key);
  }

  async #apply(changes: readonly Change<TableTypes[K]>[], signal: AbortSignal): Promise<Applied | undefined> {
    const believed = this.#believed;
    if (changes.length === 0 || believed === undefined) return undefined;
    const start = this.#clock.now();
    const { failed } = await this.#driver.apply(changes, signal).catch((thrown: unknown) => {
      if (signal.aborted) throw thrown;
      return { failed: new Map(changes.map(change => [change.key, asFairwayError(thrown, 'FW_COMMAND_FAILED')])) };
    });
    const failures: Failure[] = [];
    const retried = changes.filter(({ key }) => this.#failures.get(key) !== undefined);
    const hasRecovered = retried.some(({ key }) => !failed.has(key));
    for (const change of changes) {
      const error = failed.get(change.key);
      if (error !== undefined) {
        const failure = this.#failure(
          change.key,
          this.#claims.wanted(this.name, change.key),
          error,
          this.#failures.get(change.key),
        );
        this.#failures.note(failure);
        failures.push(failure);
      } else {
        if (change.op === 'delete') believed.delete(change.key);
        else believed.set(change.key, change.to);
        this.#settle(change.key);
        // What had to be reduced is still to become what is wanted.
        if (change.op !== 'delete' && this.#isShortOfWish(change.key, change.to)) this.#dirty.add(change.key);
      }
    }
    if (failures.length > 0) this.doubt();
    if (hasRecovered) this.#failures.retrySoon(this.#clock.now(), failures);
    const made = changes.filter(({ key }) => !failed.has(key));
    const count = (op: Change<unknown>['op']): number => made.filter(change => change.op === op).length;
    return {
      table: this.name,
      creates: count('create'),
      updates: count('update'),
      deletes: count('delete'),
      retries: retried.length,
      failures,
      milliseconds: this.#clock.now() - start,
    };
  }

  #isShortOfWish(key: string, actual: TableTypes[K]): boolean {
    const wanted = this.#wanted(key);
    return wanted !== undefined && wanted !== actual && !this.#definition.same(actual, wanted);
  }

  #failure(key: string, claim: Claim | undefined, thrown: unknown, former: Failure | undefined): Failure {
    const count = (former?.count ?? 0) + 1;
    const retryAt = instantOf(this.#clock.now() + this.#backoff.delay(count));
    return { table: this.name, key, claim, error: asFairwayError(thrown, 'FW_COMMAND_FAILED'), count, retryAt };
  }
}
