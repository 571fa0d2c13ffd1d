/** One copy of strings that come again and again (node names, zones, port names), without growing for ever. */

/**
 * Two generations of at most `capacity` strings each: what was not met while the younger one filled up is forgotten. JSON.parse
 * makes a new string for every value, so 100,000 endpoints would else hold 100,000 copies of a few node names.
 */
export class StringPool {
  readonly #capacity: number;
  #young = new Map<string, string>();
  #old = new Map<string, string>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** An equal string, the same one each time while it is remembered. */
  intern(text: string): string {
    const known = this.#young.get(text);
    if (known !== undefined) return known;
    const kept = this.#old.get(text) ?? text;
    if (this.#young.size >= this.#capacity) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(kept, kept);
    return kept;
  }

  /** Strings held now: at most twice the capacity. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }
}
