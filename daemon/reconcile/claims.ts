/**
 * Who wants what: merges the fragments of all modules into one wanted entry a key. Equal wishes share an entry; of unequal ones the
 * older owner's wins and the others get a diagnostic. One changed fragment costs its own entries.
 */
import { differingKeys } from '../cluster/patched-map.ts';
import { earliest, type Instant } from '../net/instant.ts';
import { type Diagnostic, type Entry, type Fragment, type ObjectRef, type OwnerKey, ownerKey } from './fragment.ts';
import { STAGES, sameEntry, type TableName } from './tables.ts';

/** One owner's wish for one key. */
export interface Claim {
  readonly module: string;
  readonly owner: ObjectRef;
  readonly entry: Entry;
}

/** Keys whose wanted entry changed, by table. */
export type ChangedKeys = ReadonlyMap<TableName, ReadonlySet<string>>;

export class Claims {
  readonly #plans = new Map<string, ReadonlyMap<OwnerKey, Fragment>>();
  /** The winner's claim first. A lone claim stands without an array: there are hundreds of thousands. */
  readonly #claims = new Map<TableName, Map<string, Claim | Claim[]>>(STAGES.map(table => [table, new Map()]));
  readonly #conflicts = new Map<string, readonly Diagnostic[]>();
  /** Diagnostics of the fragments that have any, so that nobody walks the others. */
  readonly #diagnostics = new Map<string, readonly Diagnostic[]>();
  /** When the fragments that asked for it are to be planned again. */
  readonly #wakes = new Map<string, Instant>();

  /** The wanted entry of a key, with the owner it is made for. */
  wanted(table: TableName, key: string): Claim | undefined {
    return winnerOf(this.#table(table).get(key));
  }

  /** All owners of a key, the winner first. */
  owners(table: TableName, key: string): readonly Claim[] {
    return claimsOf(this.#table(table).get(key));
  }

  keys(table: TableName): Iterable<string> {
    return this.#table(table).keys();
  }

  count(table: TableName): number {
    return this.#table(table).size;
  }

  /** What the modules say of objects, and the owners that did not get what they want. */
  diagnostics(): readonly Diagnostic[] {
    return [...this.#diagnostics.values(), ...this.#conflicts.values()].flat();
  }

  /** When the first fragment is to be planned again although no event comes. */
  wakeAt(): Instant | undefined {
    return earliest([...this.#wakes.values()]);
  }

  /** Takes a module's new plan in place of its last one; returns the keys whose wanted entry is now another. */
  update(module: string, fragments: ReadonlyMap<OwnerKey, Fragment>): ChangedKeys {
    const { added, removed } = compare(this.#plans.get(module) ?? new Map<OwnerKey, Fragment>(), fragments);
    this.#plans.set(module, fragments);
    const touched = new Map<TableName, Map<string, Claim | undefined>>();
    const touch = (entry: Entry): Map<string, Claim | Claim[]> => {
      const table = this.#table(entry.table);
      let before = touched.get(entry.table);
      if (before === undefined) {
        before = new Map<string, Claim | undefined>();
        touched.set(entry.table, before);
      }
      if (!before.has(entry.key)) before.set(entry.key, winnerOf(table.get(entry.key)));
      return table;
    };
    for (const fragment of removed) {
      this.#forget(`${module} ${ownerKey(fragment.owner)}`);
      for (const entry of fragment.entries) withdraw(touch(entry), entry.key, module, fragment.owner);
    }
    for (const fragment of added) {
      this.#remember(`${module} ${ownerKey(fragment.owner)}`, fragment);
      for (const entry of fragment.entries) make(touch(entry), { module, owner: fragment.owner, entry });
    }
    return this.#settle(touched);
  }

  #forget(owner: string): void {
    this.#diagnostics.delete(owner);
    this.#wakes.delete(owner);
  }

  #remember(owner: string, fragment: Fragment): void {
    if (fragment.diagnostics.length > 0) this.#diagnostics.set(owner, fragment.diagnostics);
    if (fragment.wakeAt !== undefined) this.#wakes.set(owner, fragment.wakeAt);
  }

  #settle(touched: ReadonlyMap<TableName, ReadonlyMap<string, Claim | undefined>>): ChangedKeys {
    const changed = new Map<TableName, Set<string>>();
    for (const [table, keys] of touched) {
      const dirty = new Set<string>();
      for (const [key, before] of keys) {
        const claims = this.owners(table, key);
        this.#noteConflict(table, key, claims);
        if (!isSameWish(before?.entry, claims[0]?.entry)) dirty.add(key);
      }
      if (dirty.size > 0) changed.set(table, dirty);
    }
    return changed;
  }

  #noteConflict(table: TableName, key: string, claims: readonly Claim[]): void {
    const [winner, ...others] = claims;
    const losers = winner === undefined ? [] : others.filter(claim => !isSameWish(winner.entry, claim.entry));
    if (winner === undefined || losers.length === 0) {
      this.#conflicts.delete(`${table} ${key}`);
      return;
    }
    const diagnostics = losers.map(
      (loser): Diagnostic => ({
        code: 'FW_CLAIM_LOST',
        object: loser.owner,
        message: `${loser.owner.kind} ${loser.owner.key} and the older ${winner.owner.kind} ${winner.owner.key} both want ${table} ${key}; the older one has it. Give one of them another address or port.`,
      }),
    );
    this.#conflicts.set(`${table} ${key}`, diagnostics);
  }

  #table(table: TableName): Map<string, Claim | Claim[]> {
    const claims = this.#claims.get(table);
    if (claims === undefined) throw new TypeError(`no table ${table}`);
    return claims;
  }
}

/** Which fragments are new and which are no longer, by identity. */
function compare(
  before: ReadonlyMap<OwnerKey, Fragment>,
  after: ReadonlyMap<OwnerKey, Fragment>,
): { added: readonly Fragment[]; removed: readonly Fragment[] } {
  const differing = [...differingKeys(before, after)];
  const of = (plan: ReadonlyMap<OwnerKey, Fragment>): readonly Fragment[] => differing.flatMap(owner => plan.get(owner) ?? []);
  return { added: of(after), removed: of(before) };
}

function make(table: Map<string, Claim | Claim[]>, claim: Claim): void {
  const present = table.get(claim.entry.key);
  if (present === undefined) table.set(claim.entry.key, claim);
  else table.set(claim.entry.key, [...claimsOf(present), claim].sort(byAge));
}

function withdraw(table: Map<string, Claim | Claim[]>, key: string, module: string, owner: ObjectRef): void {
  const [first, ...others] = claimsOf(table.get(key)).filter(
    claim => claim.module !== module || claim.owner.key !== owner.key || claim.owner.kind !== owner.kind,
  );
  if (first === undefined) table.delete(key);
  else table.set(key, others.length === 0 ? first : [first, ...others]);
}

function claimsOf(claims: Claim | Claim[] | undefined): readonly Claim[] {
  if (claims === undefined) return [];
  return Array.isArray(claims) ? claims : [claims];
}

function winnerOf(claims: Claim | Claim[] | undefined): Claim | undefined {
  return Array.isArray(claims) ? claims[0] : claims;
}

/** The older first; among the equally old by name, so that every node decides alike. */
function byAge(a: Claim, b: Claim): number {
  if (a.owner.since !== b.owner.since) return a.owner.since - b.owner.since;
  const left = ownerKey(a.owner);
  const right = ownerKey(b.owner);
  return left < right ? -1 : left > right ? 1 : 0;
}

function isSameWish(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.value === b.value) return true;
  return sameEntry(a.table, a.value, b.value);
}
