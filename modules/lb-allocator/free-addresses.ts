/**
 * The addresses of one family that a pool hands out unasked, and which of them is the lowest free one: everything below a mark is taken but for
 * what was given back, so that neither ten thousand taken addresses nor the 2^64 of an IPv6 subnet are ever walked through.
 */
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import { addressOfNumber } from '../../daemon/net/address-range.ts';
import { holds, type Interval, positionOf } from './intervals.ts';
import { NumberHeap } from './number-heap.ts';

export class FreeAddresses {
  readonly size: bigint;
  readonly #family: Family;
  /** Ascending, without overlaps. */
  readonly #intervals: readonly Interval[];
  readonly #givenBack = new NumberHeap();
  /** Every address before it is taken, or was given back. */
  #mark: bigint;
  #inUse = 0;

  constructor(family: Family, intervals: readonly Interval[]) {
    this.#family = family;
    this.#intervals = intervals;
    this.#mark = intervals[0]?.first ?? 0n;
    this.size = intervals.reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
  }

  get inUse(): number {
    return this.#inUse;
  }

  take(number: bigint): void {
    if (this.#holds(number)) this.#inUse++;
  }

  giveBack(number: bigint): void {
    if (!this.#holds(number)) return;
    this.#inUse--;
    if (number < this.#mark) this.#givenBack.push(number);
  }

  lowest(isTaken: (address: IpAddress) => boolean): IpAddress | undefined {
    for (let number = this.#givenBack.least(); number !== undefined; number = this.#givenBack.least()) {
      const address = addressOfNumber(number, this.#family);
      if (!isTaken(address)) return address;
      this.#givenBack.dropLeast();
    }
    for (let index = positionOf(this.#intervals, this.#mark); index < this.#intervals.length; index++) {
      const interval = this.#intervals[index];
      if (interval === undefined) break;
      if (this.#mark < interval.first) this.#mark = interval.first;
      for (; this.#mark <= interval.last; this.#mark++) {
        const address = addressOfNumber(this.#mark, this.#family);
        if (!isTaken(address)) return address;
      }
    }
    return undefined;
  }

  #holds(number: bigint): boolean {
    return holds(this.#intervals[positionOf(this.#intervals, number)], number);
  }
}
