/**
 * Numbers for what is found by mark, each its own: the place that a hash gives, or the next free one. Of two with one place the older has it. So the
 * same claims have the same numbers, whatever the order they came in, and a new one moves none that is there.
 */
import { DIRECT_RETURN } from '../../daemon/net/marks.ts';

interface Claim {
  readonly key: string;
  readonly since: number;
}

/** Numbers are 1 to this. */
export const MOST_MARKS = DIRECT_RETURN - 1;

export class MarkBook {
  readonly #claims = new Map<string, Claim>();
  #numbers = new Map<string, number>();
  #owners = new Map<number, string>();
  /** How many do not have the place that their hash gives: while there are none, one that goes lets none move. */
  #displaced = 0;
  #youngest: Claim | undefined;
  /** What may have changed since the last {@link settle}, with its number then. */
  #touched = new Map<string, number | undefined>();
  #isStale = false;

  claim(key: string, since: number): void {
    const claim = { key, since };
    const isYoungest = this.#youngest === undefined || isOlder(this.#youngest, claim);
    this.#touch(key);
    this.#claims.set(key, claim);
    if (isYoungest && !this.#isStale) this.#place(claim);
    else this.#isStale = true;
  }

  release(key: string): void {
    this.#touch(key);
    this.#claims.delete(key);
    const number = this.#numbers.get(key);
    if (this.#displaced > 0 || number === undefined || this.#isStale) {
      this.#isStale = true;
      return;
    }
    this.#owners.delete(number);
    this.#numbers.delete(key);
  }

  /** Undefined where there are more claims than numbers. */
  numberOf(key: string): number | undefined {
    return this.#numbers.get(key);
  }

  /** Brings the numbers in order; gives the claimed keys whose number is another than when it was settled last. */
  settle(): ReadonlySet<string> {
    if (this.#isStale) this.#placeAll();
    const touched = this.#touched;
    this.#touched = new Map();
    return new Set(
      [...touched].filter(([key, former]) => this.#claims.has(key) && this.#numbers.get(key) !== former).map(([key]) => key),
    );
  }

  #touch(key: string): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.#numbers.get(key));
  }

  #placeAll(): void {
    for (const key of this.#numbers.keys()) this.#touch(key);
    this.#numbers = new Map();
    this.#owners = new Map();
    this.#displaced = 0;
    this.#youngest = undefined;
    this.#isStale = false;
    for (const claim of [...this.#claims.values()].sort((a, b) => (isOlder(a, b) ? -1 : 1))) this.#place(claim);
  }

  #place(claim: Claim): void {
    this.#youngest = claim;
    const home = homeOf(claim.key);
    for (let step = 0; step < MOST_MARKS; step++) {
      const number = 1 + ((home + step) % MOST_MARKS);
      if (this.#owners.has(number)) continue;
      this.#owners.set(number, claim.key);
      this.#numbers.set(claim.key, number);
      if (step > 0) this.#displaced++;
      return;
    }
    this.#displaced++;
  }
}

function isOlder(one: Claim, other: Claim): boolean {
  return one.since === other.since ? one.key < other.key : one.since < other.since;
}

/** 32-bit FNV-1a (draft-eastlake-fnv) of the key's UTF-16 code units, cut to the numbers there are. */
function homeOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index++) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193) >>> 0;
  return hash % MOST_MARKS;
}
