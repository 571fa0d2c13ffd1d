/** What an earlier run left in a table while it is not decided yet what is wanted there: it may be wanted again, and stays until that is known. */

export class Leftovers {
  readonly #isUndecided: () => boolean;
  readonly #keys = new Set<string>();

  constructor(isUndecided: () => boolean) {
    this.#isUndecided = isUndecided;
  }

  /** The table was read: what was not there before, and nobody wants, is left by somebody. */
  noteFound(found: Iterable<string>, isKnown: (key: string) => boolean): void {
    if (!this.#isUndecided()) {
      this.#keys.clear();
      return;
    }
    for (const key of found) if (!isKnown(key)) this.#keys.add(key);
  }

  /** Somebody wants it: whether it stays is decided from now on. */
  claim(key: string): void {
    this.#keys.delete(key);
  }

  has(key: string): boolean {
    return this.#isUndecided() && this.#keys.has(key);
  }

  /** Whether something that nobody wants may not go now: one that was known before goes, unless it is a leftover. */
  mayStay(key: string, isKnown: boolean): boolean {
    return this.#isUndecided() && (!isKnown || this.#keys.has(key));
  }
}
