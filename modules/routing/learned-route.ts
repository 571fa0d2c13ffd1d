/** A route that BGP taught us becomes one of the kernel's. */
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import { familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { hostPrefix, type IpPrefix, prefixContains, prefixFamily } from '../../daemon/net/prefix.ts';
import { type Entry, entry, type Fragment, type ObjectRef } from '../../daemon/reconcile/fragment.ts';
import { MAIN_TABLE, type NextHop, nextHopKey } from '../../daemon/reconcile/routing-tables.ts';
import { leadsIntoItself, type RoutingContext } from './context.ts';
import { isInside, isMartian } from './martians.ts';
import type { RoutingOptions } from './options.ts';
import { wayTo } from './overlay.ts';

export interface RouteSurroundings {
  readonly context: RoutingContext;
  /** Whether a node has this address. */
  readonly isNode: (address: IpAddress) => boolean;
  readonly nodeAddresses: () => Iterable<IpAddress>;
}

/** Undefined where no route is to be made of it: it is not ours to send away, or the fabric carries it by itself. */
export function planRoute(learned: LearnedRoute, surroundings: RouteSurroundings, options: RoutingOptions): Fragment | undefined {
  const { context, isNode } = surroundings;
  const { prefix: destination } = learned;
  const family = prefixFamily(destination);
  if (!context.families.includes(family) || isRefused(destination, surroundings)) return undefined;
  const nextHops = new Map<string, NextHop>();
  const entries: Entry[] = [];
  for (const { address } of learned.nextHops) {
    // A next hop of the other family (RFC 8950) has no tunnel of its own family, and ip(8) wants it spelled otherwise.
    if (familyOf(address) !== family) continue;
    const way = wayTo(address, isNode(address), context, options);
    if (way === undefined || leadsIntoItself(destination, address, context)) continue;
    nextHops.set(nextHopKey(way.nextHop), way.nextHop);
    entries.push(...way.entries);
  }
  if (nextHops.size === 0) return undefined;
  const owner: ObjectRef = { kind: 'Route', key: destination, since: Number.MAX_SAFE_INTEGER };
  const sorted = [...nextHops].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, nextHop]) => nextHop);
  return {
    owner,
    entries: [
      entry('unicastRoute', { table: MAIN_TABLE, destination, nextHops: sorted, source: context.sources[family] }),
      ...entries,
    ],
    diagnostics: [],
  };
}

/** The import policy keeps most of it out already; what stands here holds whatever speaker is behind it. */
function isRefused(destination: IpPrefix, { context, isNode, nodeAddresses }: RouteSurroundings): boolean {
  if (isMartian(destination) || context.podCIDRs.some(own => isInside(destination, own))) return true;
  if (isHijack(destination, context, nodeAddresses)) return true;
  const host = destination.slice(0, destination.indexOf('/')) as IpAddress;
  // Packets to a node go where the fabric sends them, not where a neighbour wants them.
  return destination === hostPrefix(host) && (context.ownAddresses.includes(host) || isNode(host));
}

/** A part of a network that we are on, with a node in it: the neighbours there are reached straight, and nobody else has a say. */
function isHijack(destination: IpPrefix, { subnets }: RoutingContext, nodeAddresses: () => Iterable<IpAddress>): boolean {
  if (!subnets.some(({ prefix }) => isInside(destination, prefix))) return false;
  for (const address of nodeAddresses()) if (prefixContains(destination, address)) return true;
  return false;
}
