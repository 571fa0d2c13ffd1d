/**
 * What of node, host and options every route, peer and path depends on. A context is a new object only when its content is another: a pod
 * that comes and brings a link with it must not plan a thousand nodes again.
 */
import type { HostFacts, NodeView } from '../../daemon/cluster/snapshot.ts';
import { type Family, type IpAddress, isLinkLocal, isLoopback } from '../../daemon/net/address.ts';
import { type IpPrefix, prefixContains, prefixFamily, prefixLength, prefixOf } from '../../daemon/net/prefix.ts';
import { isUnderlay } from './names.ts';
import type { RoutingOptions } from './options.ts';

export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** A network that a link of the host is on: its neighbours are reached without a router. */
export interface Subnet {
  readonly prefix: IpPrefix;
  readonly link: string;
}

export interface RoutingContext {
  readonly nodeName: string;
  /** Families routed on this node. */
  readonly families: readonly Family[];
  /** By family, what the rest of the cluster knows us by. */
  readonly addresses: Readonly<Partial<Record<Family, IpAddress>>>;
  /** Likewise, where it is on a link of the host: the source of connections from the node itself. */
  readonly sources: Readonly<Partial<Record<Family, IpAddress>>>;
  readonly podCIDRs: readonly IpPrefix[];
  readonly subnets: readonly Subnet[];
  /** All addresses of the host: no way leads through them. */
  readonly ownAddresses: readonly IpAddress[];
  /** The link with the node's address of a family, and its MTU in bytes. */
  readonly nodeLinks: Readonly<Partial<Record<Family, { readonly link: string; readonly mtu: number }>>>;
}

export function routingContextOf(node: NodeView, host: HostFacts, options: RoutingOptions): RoutingContext {
  const underlay = host.addresses.filter(
    ({ link, address }) => isUnderlay(link) && !isLoopback(address) && !isLinkLocal(address),
  );
  const linkOf = (address: IpAddress | undefined): string | undefined => underlay.find(entry => entry.address === address)?.link;
  const families = FAMILIES.filter(
    family =>
      options.families[family] !== 'off' && node.primary[family] !== undefined && (family === 'ipv4' || host.capabilities.ipv6),
  );
  const sources: Partial<Record<Family, IpAddress>> = {};
  const nodeLinks: Partial<Record<Family, { link: string; mtu: number }>> = {};
  for (const family of families) {
    const address = node.primary[family];
    const link = linkOf(address);
    if (address === undefined || link === undefined) continue;
    sources[family] = address;
    const mtu = host.links.get(link)?.mtu ?? 0;
    if (mtu > 0) nodeLinks[family] = { link, mtu };
  }
  return {
    nodeName: node.name,
    families,
    addresses: Object.fromEntries(families.map(family => [family, node.primary[family]])),
    sources,
    podCIDRs: node.podCIDRs.filter(prefix => families.includes(prefixFamily(prefix))),
    subnets: underlay.map(({ link, address, prefixLength }) => ({ prefix: prefixOf(address, prefixLength), link })),
    // Link-local addresses come and go with every pod.
    ownAddresses: host.addresses.map(({ address }) => address).filter(address => !isLinkLocal(address)),
    nodeLinks,
  };
}

/** The subnet of the host that holds the address; the longest prefix where several do. */
export function subnetOf({ subnets }: RoutingContext, address: IpAddress): Subnet | undefined {
  let best: Subnet | undefined;
  for (const subnet of subnets) {
    if (!prefixContains(subnet.prefix, address)) continue;
    if (best === undefined || prefixLength(subnet.prefix) > prefixLength(best.prefix)) best = subnet;
  }
  return best;
}

/** Packets to the next hop, those of its tunnel among them, would take the very route that needs it (RFC 4271, 9.1.2.1). */
export function leadsIntoItself(destination: IpPrefix, nextHop: IpAddress, context: RoutingContext): boolean {
  if (!prefixContains(destination, nextHop)) return false;
  const subnet = subnetOf(context, nextHop);
  return subnet === undefined || prefixLength(subnet.prefix) < prefixLength(destination);
}
