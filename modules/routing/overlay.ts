/** The way to another node: straight over a shared network, or through a tunnel. */
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { tunnelName } from '../../daemon/net/names.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { type NextHop, POD_SOURCE_TABLE, VXLAN_LINK } from '../../daemon/reconcile/routing-tables.ts';
import { type RoutingContext, subnetOf } from './context.ts';
import type { Overlay, RoutingOptions } from './options.ts';

/** How packets get to a next hop, and what must be there for it. */
export interface Way {
  readonly nextHop: NextHop;
  /** Tunnel and routes to the node itself; each way to one next hop has equal ones. */
  readonly entries: readonly Entry[];
}

/**
 * Bytes that each encapsulation takes of a packet: the outer header (20 or 40), with GUE its 4 and UDP's 8 besides, with VXLAN its 8 and
 * UDP's 8: without an inner Ethernet header, which the generic protocol extension leaves out.
 */
const OVERHEAD: Readonly<Record<Overlay['encapsulation'], Readonly<Record<Family, number>>>> = {
  ipip: { ipv4: 20, ipv6: 40 },
  fou: { ipv4: 32, ipv6: 52 },
  vxlan: { ipv4: 36, ipv6: 56 },
};

export function overheadOf(overlay: Overlay | undefined, family: Family): number {
  return overlay === undefined ? 0 : OVERHEAD[overlay.encapsulation][family];
}

/** Bytes that are left inside a tunnel of this family. Undefined where the node's address is on no link. */
export function tunnelMtu(context: RoutingContext, overlay: Overlay, family: Family): number | undefined {
  const mtu = context.nodeLinks[family]?.mtu;
  return mtu === undefined ? undefined : mtu - OVERHEAD[overlay.encapsulation][family];
}

/**
 * The way to a next hop; undefined where it is left to the fabric: it is on no network of ours, and no tunnel is wanted or possible.
 * `isNode`: at the other end is a node, which has its end of the tunnel.
 */
export function wayTo(
  remote: IpAddress,
  isNode: boolean,
  context: RoutingContext,
  { overlay }: Pick<RoutingOptions, 'overlay'>,
): Way | undefined {
  if (context.ownAddresses.includes(remote)) return undefined;
  const subnet = subnetOf(context, remote);
  if (overlay !== undefined && isNode && (overlay.reach === 'full' || subnet === undefined)) {
    const tunnelled = tunnelTo(remote, context, overlay);
    if (tunnelled !== undefined) return tunnelled;
  }
  if (subnet === undefined) return undefined;
  return { nextHop: { link: subnet.link, gateway: remote, vxlanRemote: undefined }, entries: [] };
}

function tunnelTo(remote: IpAddress, context: RoutingContext, overlay: Overlay): Way | undefined {
  const family = familyOf(remote);
  const local = context.sources[family];
  const mtu = tunnelMtu(context, overlay, family);
  if (local === undefined || mtu === undefined) return undefined;
  if (overlay.encapsulation === 'vxlan') {
    const nextHop: NextHop = { link: VXLAN_LINK, gateway: undefined, vxlanRemote: remote };
    return { nextHop, entries: [fromPods(remote, nextHop)] };
  }
  const name = tunnelName(remote);
  const nextHop: NextHop = { link: name, gateway: undefined, vxlanRemote: undefined };
  const guePort = overlay.encapsulation === 'fou' ? overlay.port : undefined;
  const type = family === 'ipv4' ? 'ipip' : 'ip6tnl';
  return { nextHop, entries: [entry('link', { name, type, local, remote, guePort, mtu }), fromPods(remote, nextHop)] };
}

/** Packets of our pods to the node itself go through the tunnel too: the fabric may drop what has a pod's address as its source. */
function fromPods(remote: IpAddress, nextHop: NextHop): Entry {
  return entry('unicastRoute', {
    table: POD_SOURCE_TABLE,
    destination: hostPrefix(remote),
    nextHops: [nextHop],
    source: undefined,
  });
}

/** What the node needs to take in what others send through tunnels, whomever it knows. */
export function receivingEntries(context: RoutingContext, { overlay }: RoutingOptions): readonly Entry[] {
  if (overlay === undefined) return [];
  switch (overlay.encapsulation) {
    case 'ipip':
      return [];
    case 'fou':
      return context.families.map(family => entry('fouPort', { family, port: overlay.port }));
    case 'vxlan': {
      const mtus = context.families.flatMap(family => tunnelMtu(context, overlay, family) ?? []);
      return mtus.length === 0
        ? []
        : [entry('link', { name: VXLAN_LINK, type: 'vxlan', port: overlay.port, mtu: Math.min(...mtus) })];
    }
  }
}
