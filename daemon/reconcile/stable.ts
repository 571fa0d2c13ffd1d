/** Values that are computed again and again and seldom come out different: the former object stands for an equal one. */

export class Stable<T> {
  readonly #isSame: (former: T, now: T) => boolean;
  #former: T | undefined;

  constructor(isSame: (former: T, now: T) => boolean) {
    this.#isSame = isSame;
  }

  of(now: T): T {
    if (this.#former === undefined || !this.#isSame(this.#former, now)) this.#former = now;
    return this.#former;
  }
}

/** Equality of values that are made of plain objects, arrays, strings, numbers and booleans, always in the same order of keys. */
export function sameText<T>(former: T, now: T): boolean {
  return JSON.stringify(former) === JSON.stringify(now);
}

export function sameSet<T>(former: ReadonlySet<T>, now: ReadonlySet<T>): boolean {
  if (former.size !== now.size) return false;
  for (const member of former) if (!now.has(member)) return false;
  return true;
}

export function sameList<T>(former: readonly T[], now: readonly T[]): boolean {
  return former.length === now.length && former.every((member, index) => member === now[index]);
}
