/** Immutable maps that share what they have in common: the next version of ten thousand entries costs what was changed. */

/** More entries than this in a patch are worked into a map of their own, so that reading stays one look into it and one beside. */
const MOST_IN_PATCH = 128;

/** The map with these keys set, or removed where the value is undefined. The map itself stays as it is. */
export function patched<V extends object>(
  map: ReadonlyMap<string, V>,
  changes: ReadonlyMap<string, V | undefined>,
): ReadonlyMap<string, V> {
  const [base, former] = partsOf(map);
  const patch = new Map<string, V | undefined>(former);
  for (const [key, value] of changes) patch.set(key, value);
  return patch.size > MOST_IN_PATCH ? workedIn(base, patch) : new PatchedMap<V>(base, patch);
}

/** A copy that is changed: copying a whole map is many times faster than walking it. */
function workedIn<V extends object>(base: ReadonlyMap<string, V>, patch: Patch<V>): ReadonlyMap<string, V> {
  const next = new Map(base);
  for (const [key, value] of patch) {
    if (value === undefined) next.delete(key);
    else next.set(key, value);
  }
  return next;
}

/** Keys that only one of the maps has, or whose values are not the same object. Two versions of one map cost only what was patched. */
export function differingKeys<V extends object>(
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
): ReadonlySet<string> {
  const differing = new Set<string>();
  if (before === after) return differing;
  const note = (key: string): void => {
    if (before.get(key) !== after.get(key)) differing.add(key);
  };
  const [oldBase, oldPatch] = partsOf(before);
  const [newBase, newPatch] = partsOf(after);
  for (const key of (oldBase === newBase ? oldPatch : before).keys()) note(key);
  for (const key of (oldBase === newBase ? newPatch : after).keys()) note(key);
  return differing;
}

class PatchedMap<V extends object> implements ReadonlyMap<string, V> {
  readonly base: ReadonlyMap<string, V>;
  readonly patch: ReadonlyMap<string, V | undefined>;
  readonly size: number;

  constructor(base: ReadonlyMap<string, V>, patch: ReadonlyMap<string, V | undefined>) {
    this.base = base;
    this.patch = patch;
    let size = base.size;
    for (const [key, value] of patch) size += (value === undefined ? 0 : 1) - (base.has(key) ? 1 : 0);
    this.size = size;
  }

  get(key: string): V | undefined {
    return this.patch.get(key) ?? (this.patch.has(key) ? undefined : this.base.get(key));
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  forEach(callback: (value: V, key: string, map: ReadonlyMap<string, V>) => void, thisArg?: unknown): void {
    for (const [key, value] of this) callback.call(thisArg, value, key, this);
  }

  /** In the order of a map that was built and changed in place, but for keys that were removed and set again. */
  *entries(): Generator<[string, V], undefined> {
    const { patch, base } = this;
    for (const item of base) {
      const value = patch.get(item[0]);
      if (value !== undefined) yield [item[0], value];
      else if (!patch.has(item[0])) yield item;
    }
    for (const [key, value] of patch) if (value !== undefined && !base.has(key)) yield [key, value];
  }

  *keys(): Generator<string, undefined> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): Generator<V, undefined> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): Generator<[string, V], undefined> {
    return this.entries();
  }
}

type Patch<V> = ReadonlyMap<string, V | undefined>;

function partsOf<V extends object>(map: ReadonlyMap<string, V>): readonly [ReadonlyMap<string, V>, Patch<V>] {
  return isPatched(map) ? [map.base, map.patch] : [map, new Map()];
}

/** A type guard, since `instanceof` alone does not keep the type of the values. */
function isPatched<V extends object>(map: ReadonlyMap<string, V>): map is PatchedMap<V> {
  return map instanceof PatchedMap;
}
