/** What neighbours told, compared with what was told before: a route that did not change stays the same object. */
import type { LearnedNextHop, LearnedRoute } from '../cluster/snapshot.ts';
import type { IpAddress } from '../net/address.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { BestPath } from './speaker.ts';

/** Routes that are others now, and undefined for those that are gone. */
export type RouteChanges = ReadonlyMap<IpPrefix, LearnedRoute | undefined>;

export class LearnedRoutes {
  readonly #routes = new Map<IpPrefix, LearnedRoute>();
  /** Of an earlier speaker and not told by the present one: they count as told until {@link LearnedRoutes.forgetUntold}. */
  readonly #untold = new Set<IpPrefix>();

  get size(): number {
    return this.#routes.size;
  }

  /** The speaker is another, or may have become one: all that is known is still to be told. */
  doubt(): void {
    for (const prefix of this.#routes.keys()) this.#untold.add(prefix);
  }

  /** Takes in the best paths to these prefixes, or all there are; gives what that changes. */
  take(asked: 'all' | readonly IpPrefix[], paths: readonly BestPath[]): RouteChanges {
    const changes = new Map<IpPrefix, LearnedRoute | undefined>();
    const told = byPrefix(paths);
    for (const [prefix, hops] of told) {
      this.#untold.delete(prefix);
      const known = this.#routes.get(prefix);
      const nextHops = sorted(hops);
      if (known !== undefined && sameHops(known.nextHops, nextHops)) continue;
      const route: LearnedRoute = { prefix, nextHops };
      this.#routes.set(prefix, route);
      changes.set(prefix, route);
    }
    const perhapsGone = asked === 'all' ? this.#routes.keys() : asked;
    for (const prefix of perhapsGone) {
      if (told.has(prefix) || this.#untold.has(prefix) || !this.#routes.delete(prefix)) continue;
      changes.set(prefix, undefined);
    }
    return changes;
  }

  /** The present speaker has told all it will: what it did not tell is gone. */
  forgetUntold(): RouteChanges {
    const changes = new Map<IpPrefix, undefined>();
    for (const prefix of this.#untold) {
      this.#routes.delete(prefix);
      changes.set(prefix, undefined);
    }
    this.#untold.clear();
    return changes;
  }
}

type HopsByAddress = Map<IpAddress, LearnedNextHop>;

function byPrefix(paths: readonly BestPath[]): ReadonlyMap<IpPrefix, HopsByAddress> {
  const told = new Map<IpPrefix, HopsByAddress>();
  for (const { prefix, nextHop, origin } of paths) {
    if (origin === 'local') continue;
    const isInternal = origin === 'internal';
    const hops = told.get(prefix);
    if (hops === undefined) told.set(prefix, new Map([[nextHop, { address: nextHop, isInternal }]]));
    // Two neighbours may name one router, of which one is a node like us: then the router is a node.
    else if (isInternal || !hops.has(nextHop)) hops.set(nextHop, { address: nextHop, isInternal });
  }
  return told;
}

function sorted(hops: HopsByAddress): readonly LearnedNextHop[] {
  return [...hops.values()].sort((one, other) => (one.address < other.address ? -1 : 1));
}

function sameHops(one: readonly LearnedNextHop[], other: readonly LearnedNextHop[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ address, isInternal }, index) => {
      const counterpart = other[index];
      return address === counterpart?.address && isInternal === counterpart.isInternal;
    })
  );
}
