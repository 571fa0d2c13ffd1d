/** Sets of addresses as ascending intervals of numbers, both ends included. */

export interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

/** What of the interval is in none of the others, ascending. `others` in any order; they may overlap. */
export function without({ first, last }: Interval, others: readonly Interval[]): readonly Interval[] {
  const rest: Interval[] = [];
  let start = first;
  for (const other of others.toSorted(byFirst)) {
    if (other.last < start || other.first > last) continue;
    if (other.first > start) rest.push({ first: start, last: other.first - 1n });
    start = other.last + 1n;
  }
  if (start <= last) rest.push({ first: start, last });
  return rest;
}

/** The interval of an ascending list without overlaps that holds the number, or the position at which it would stand. */
export function positionOf(intervals: readonly Interval[], number: bigint): number {
  let low = 0;
  let high = intervals.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const interval = intervals[middle];
    if (interval !== undefined && interval.last < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function holds(interval: Interval | undefined, number: bigint): boolean {
  return interval !== undefined && interval.first <= number && number <= interval.last;
}

export function byFirst(one: Interval, other: Interval): number {
  if (one.first === other.first) return 0;
  return one.first < other.first ? -1 : 1;
}
