/** Where on this host addresses are answered for. A picture of it changes only when something in it does, and not by our own answering. */
import { nodeLinksOf } from '../../daemon/cluster/node-links.ts';
import type { HostFacts, NodeView } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, HOST_BITS, type IpAddress, isLinkLocal } from '../../daemon/net/address.ts';
import { type IpPrefix, prefixContains, prefixOf } from '../../daemon/net/prefix.ts';
import { FAMILIES, type LanAnnouncerOptions } from './options.ts';

export interface AnnouncingLinks {
  /** By family, in no order that means anything. */
  readonly names: Readonly<Record<Family, readonly string[]>>;
  /** What is beyond which of them, without a router between. */
  readonly subnets: readonly { readonly link: string; readonly prefix: IpPrefix }[];
  /** Addresses with which the host is part of a subnet, on any link: it answers for them as it is. */
  readonly standing: readonly IpAddress[];
  /** Links of `--announce-interfaces` that are not there. */
  readonly missing: readonly string[];
  /** Families of the node's addresses. */
  readonly nodeFamilies: readonly Family[];
}

export function announcingLinksOf(node: NodeView, host: HostFacts, options: LanAnnouncerOptions): AnnouncingLinks {
  const nodeFamilies = FAMILIES.filter(family => node.addresses.some(address => familyOf(address) === family));
  const namesOf = (family: Family): readonly string[] => {
    if (!options.families.includes(family) || (family === 'ipv6' && !host.capabilities.ipv6)) return [];
    if (options.links.length > 0) return options.links.filter(name => host.links.has(name));
    return nodeLinksOf(node, host, family).filter(name => name !== LOOPBACK);
  };
  const names = { ipv4: namesOf('ipv4'), ipv6: namesOf('ipv6') };
  // A host prefix, as our own addresses on these links are, makes nobody a neighbour.
  const standing = host.addresses.filter(
    ({ address, prefixLength }) => prefixLength < HOST_BITS[familyOf(address)] && !isLinkLocal(address),
  );
  const subnets = standing
    .filter(({ link, address }) => names[familyOf(address)].includes(link))
    .map(({ link, address, prefixLength }) => ({ link, prefix: prefixOf(address, prefixLength) }));
  return {
    names,
    subnets,
    standing: [...new Set(standing.map(({ address }) => address))].sort(),
    missing: options.links.filter(name => !host.links.has(name)),
    nodeFamilies,
  };
}

/** Where a link's subnet holds the address, clients look for it there and nowhere else. */
export function linksFor(address: IpAddress, { names, subnets, standing }: AnnouncingLinks): readonly string[] {
  if (standing.includes(address)) return [];
  const near = subnets.filter(({ prefix }) => prefixContains(prefix, address)).map(({ link }) => link);
  return near.length > 0 ? [...new Set(near)] : names[familyOf(address)];
}

const LOOPBACK = 'lo';
