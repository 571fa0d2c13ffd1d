/**
 * Services that need an address, in the order in which they get one. Those that would take any address of the same pools stand in one queue: when
 * nothing is left for the first, nothing is for the others, so that ten thousand who wait cost as much as one.
 */
import type { ObjectKey } from '../../daemon/cluster/kinds.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { Failure } from './allocate.ts';
import type { Claimant } from './claimant.ts';
import type { Demand } from './demand.ts';

export interface Waiter {
  readonly claimant: Claimant;
  readonly demand: Demand;
  /** Of the queue that it stands in; '' for the one of those who are all different. */
  readonly queueKey: string;
}

export interface Queue {
  readonly key: string;
  /** In their order. */
  readonly waiters: readonly Waiter[];
  /** Why those got nothing who got nothing; undefined while everybody gets something, and in the queue of those who are different. */
  failure: Failure | undefined;
}

export const DIFFERENT = '';

export class Waiting {
  readonly #waiters = new Map<ObjectKey, Waiter>();
  readonly #queues = new Map<string, Queue & { readonly waiters: Waiter[] }>();
  /** How many wait for this very address, or for company by this key. */
  readonly #addresses = new Map<IpAddress, number>();
  readonly #shareKeys = new Map<string, number>();

  get size(): number {
    return this.#waiters.size;
  }

  get queues(): Iterable<Queue> {
    return this.#queues.values();
  }

  of(key: ObjectKey): Waiter | undefined {
    return this.#waiters.get(key);
  }

  queue(key: string): Queue | undefined {
    return this.#queues.get(key);
  }

  add(claimant: Claimant, demand: Demand): Waiter {
    const waiter: Waiter = { claimant, demand, queueKey: queueKeyOf(claimant, demand) };
    const queue = this.#queues.get(waiter.queueKey) ?? { key: waiter.queueKey, waiters: [], failure: undefined };
    this.#queues.set(waiter.queueKey, queue);
    queue.waiters.splice(placeOf(queue.waiters, waiter), 0, waiter);
    this.#waiters.set(claimant.key, waiter);
    this.#watch(waiter, 1);
    return waiter;
  }

  remove(key: ObjectKey): void {
    const waiter = this.#waiters.get(key);
    const queue = waiter === undefined ? undefined : this.#queues.get(waiter.queueKey);
    if (waiter === undefined || queue === undefined) return;
    const place = placeOf(queue.waiters, waiter);
    // Most are served in their order, and taking the first moves none of the others.
    if (place === 0) queue.waiters.shift();
    else queue.waiters.splice(place, 1);
    if (queue.waiters.length === 0) this.#queues.delete(queue.key);
    this.#waiters.delete(key);
    this.#watch(waiter, -1);
  }

  /** Whether it may matter to somebody who has this address: it was asked for, or company of one of those keys. */
  isWatched(address: IpAddress, shareKeys: readonly string[]): boolean {
    return this.#addresses.has(address) || shareKeys.some(key => this.#shareKeys.has(key));
  }

  #watch({ claimant, demand }: Waiter, by: number): void {
    for (const { address } of demand.needs) if (address !== undefined) count(this.#addresses, address, by);
    if (claimant.sharing.key !== '') count(this.#shareKeys, claimant.sharing.key, by);
  }
}

/** Requests of an address first, then by age, then by key. */
export function isBefore(one: Waiter, other: Waiter): boolean {
  const [asks, othersAsks] = [asksForAddress(one), asksForAddress(other)];
  if (asks !== othersAsks) return asks;
  const [a, b] = [one.claimant.owner, other.claimant.owner];
  return a.since === b.since ? a.key < b.key : a.since < b.since;
}

function asksForAddress({ demand }: Waiter): boolean {
  return demand.needs.some(({ address }) => address !== undefined);
}

function queueKeyOf({ sharing }: Claimant, { needs, isWhole }: Demand): string {
  if (sharing.key !== '' || needs.some(({ address }) => address !== undefined)) return DIFFERENT;
  const parts = needs.map(
    ({ family, pools, isCovered }) => `${isCovered ? 'better ' : ''}${family} of ${pools.map(({ rank }) => rank).join(',')}`,
  );
  return `${isWhole ? 'all' : 'any'}: ${parts.join('; ')}`;
}

/** Where the waiter stands in the queue, or would. */
function placeOf(waiters: readonly Waiter[], waiter: Waiter): number {
  let low = 0;
  let high = waiters.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = waiters[middle];
    if (other !== undefined && isBefore(other, waiter)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function count<T>(counts: Map<T, number>, what: T, by: number): void {
  const sum = (counts.get(what) ?? 0) + by;
  if (sum === 0) counts.delete(what);
  else counts.set(what, sum);
}
