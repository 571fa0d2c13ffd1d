/** Who of those who wait gets which address. */
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { numberOf } from '../../daemon/net/address-range.ts';
import type { Claimant } from './claimant.ts';
import type { Need } from './demand.ts';
import { type Occupancy, titleOf } from './occupancy.ts';
import type { Pools } from './pools.ts';
import { DIFFERENT, isBefore, type Queue, type Waiter, type Waiting } from './waiting.ts';

/** Why a Service did not get all it asks for. */
export type Failure =
  | { readonly why: 'exhausted'; readonly needs: readonly Need[] }
  /** `by`: who has it, and in which way. `couldShare`: a Service of ours, which would share it if both asked for that. */
  | { readonly why: 'taken'; readonly address: IpAddress; readonly by: string; readonly couldShare: boolean };

export interface Outcome {
  readonly granted: ReadonlyMap<Family, IpAddress>;
  readonly failure: Failure | undefined;
}

/**
 * Of those who wait, in their order: what each gets is taken for the next. Only told of who got something or stands in the queue of those who are
 * different; for the others the queue has the failure. What is granted is added to the occupancy.
 */
export function allocate(waiting: Waiting, occupancy: Occupancy, pools: Pools): ReadonlyMap<Waiter, Outcome> {
  const outcomes = new Map<Waiter, Outcome>();
  const lines = [...waiting.queues].map(queue => new Line(queue));
  for (const { queue } of lines) queue.failure = undefined;
  for (let line = nextOf(lines); line !== undefined; line = nextOf(lines)) {
    const waiter = line.step();
    const outcome = outcomeOf(waiter, occupancy, pools);
    if (outcome.granted.size === 0 && line.queue.key !== DIFFERENT) {
      line.queue.failure = outcome.failure;
      line.isClosed = true;
      continue;
    }
    for (const address of outcome.granted.values()) occupancy.add(address, granteeOf(waiter.claimant));
    outcomes.set(waiter, outcome);
  }
  return outcomes;
}

/** Takes back what {@link allocate} granted. */
export function revoke(outcomes: ReadonlyMap<Waiter, Outcome>, occupancy: Occupancy): void {
  for (const [{ claimant }, { granted }] of outcomes) {
    for (const address of granted.values()) occupancy.removeGrant(address, claimant.name);
  }
}

export function sameOutcome(one: Outcome, other: Outcome): boolean {
  if (one.granted.size !== other.granted.size || !sameFailure(one.failure, other.failure)) return false;
  for (const [family, address] of one.granted) if (other.granted.get(family) !== address) return false;
  return true;
}

export function sameFailure(one: Failure | undefined, other: Failure | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  if (one.why === 'exhausted') {
    return (
      other.why === 'exhausted' &&
      one.needs.length === other.needs.length &&
      one.needs.every(({ family, pools }, index) => other.needs[index]?.family === family && samePools(pools, other.needs[index]))
    );
  }
  return other.why === 'taken' && one.address === other.address && one.by === other.by && one.couldShare === other.couldShare;
}

function samePools(pools: Need['pools'], need: Need | undefined): boolean {
  return need?.pools.length === pools.length && pools.every((pool, index) => pool === need.pools[index]);
}

/** A queue as it is worked off. */
class Line {
  readonly queue: Queue;
  isClosed = false;
  #served = 0;

  constructor(queue: Queue) {
    this.queue = queue;
  }

  get first(): Waiter | undefined {
    return this.isClosed ? undefined : this.queue.waiters[this.#served];
  }

  /** The first, who is no longer. */
  step(): Waiter {
    const { first } = this;
    if (first === undefined) throw new RangeError('nobody is left in the queue');
    this.#served++;
    return first;
  }
}

function nextOf(lines: readonly Line[]): Line | undefined {
  let next: Line | undefined;
  for (const line of lines) {
    if (line.first === undefined) continue;
    if (next?.first === undefined || isBefore(line.first, next.first)) next = line;
  }
  return next;
}

function outcomeOf({ claimant, demand }: Waiter, occupancy: Occupancy, pools: Pools): Outcome {
  const granted = new Map<Family, IpAddress>();
  const failed: Need[] = [];
  for (const { family, address } of demand.needs) {
    if (address === undefined) continue;
    const obstacle = occupancy.obstacle(address, claimant.name, claimant.sharing);
    // What was asked for and is not to be had is not made up for by something else.
    if (obstacle !== undefined) {
      const couldShare = obstacle.sharing !== undefined;
      return { granted: new Map(), failure: { why: 'taken', address, by: titleOf(obstacle), couldShare } };
    }
    granted.set(family, address);
  }
  for (const need of demand.needs) {
    if (need.address !== undefined) continue;
    const address = sharedFor(need, claimant, occupancy, pools) ?? lowestFor(need, occupancy);
    if (address === undefined) failed.push(need);
    else granted.set(need.family, address);
  }
  if (failed.length === 0) return { granted, failure: undefined };
  const isHalf = demand.isWhole && failed.some(({ isCovered }) => !isCovered);
  return { granted: isHalf ? new Map() : granted, failure: { why: 'exhausted', needs: failed } };
}

function lowestFor({ family, pools }: Need, occupancy: Occupancy): IpAddress | undefined {
  for (const { free } of pools) {
    const address = free.get(family)?.lowest(occupancy.isTaken);
    if (address !== undefined) return address;
  }
  return undefined;
}

/** An address of Services that ask to share by the same key: of the first of the pools, the lowest. */
function sharedFor(need: Need, { name, sharing }: Claimant, occupancy: Occupancy, pools: Pools): IpAddress | undefined {
  if (sharing.key === '') return undefined;
  const open = [...occupancy.sharedBy(sharing.key)]
    .filter(address => familyOf(address) === need.family && occupancy.obstacle(address, name, sharing) === undefined)
    .map(address => ({ address, number: numberOf(address), place: placeAmong(need, pools, address) }))
    .filter(({ place }) => place >= 0)
    .sort((a, b) => a.place - b.place || (a.number < b.number ? -1 : 1));
  return open[0]?.address;
}

function placeAmong({ pools: allowed }: Need, pools: Pools, address: IpAddress): number {
  const owner = pools.poolOf(address);
  return owner === undefined ? -1 : allowed.indexOf(owner);
}

function granteeOf({ name, sharing }: Claimant): Parameters<Occupancy['add']>[1] {
  return { name, ground: 'granted', sharing, seniority: undefined };
}
