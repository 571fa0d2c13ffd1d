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
  /** Links that are left out for another one in the same subnet, by that one's name. */
  readonly doubles: Readonly<Record<string, string>>;
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
  // A host prefix, as our own addresses on these links are, makes nobody a neighbour.
  const standing = host.addresses.filter(
    ({ address, prefixLength }) => prefixLength < HOST_BITS[familyOf(address)] && !isLinkLocal(address),
  );
  const subnetsOf = (name: string, family: Family): readonly IpPrefix[] =>
    standing
      .filter(({ link, address }) => link === name && familyOf(address) === family)
      .map(({ address, prefixLength }) => prefixOf(address, prefixLength));
  const doubles: Record<string, string> = {};
  const oneOfEach = (family: Family): readonly string[] => {
    const links = oneOfEachSubnet(namesOf(family), name => subnetsOf(name, family));
    Object.assign(doubles, links.doubles);
    return links.names;
  };
  const names = { ipv4: oneOfEach('ipv4'), ipv6: oneOfEach('ipv6') };
  return {
    names,
    subnets: FAMILIES.flatMap(family => names[family].flatMap(link => subnetsOf(link, family).map(prefix => ({ link, prefix })))),
    standing: [...new Set(standing.map(({ address }) => address))].sort(),
    missing: options.links.filter(name => !host.links.has(name)),
    doubles,
    nodeFamilies,
  };
}

/**
 * Two links in one subnet are on one network, which would hear two answers for each address; and in IPv6 each would find the other when it tests the
 * address. The first one answers.
 */
function oneOfEachSubnet(
  links: readonly string[],
  subnetsOf: (link: string) => readonly IpPrefix[],
): { readonly names: readonly string[]; readonly doubles: Readonly<Record<string, string>> } {
  const firsts = new Map<IpPrefix, string>();
  const doubles: Record<string, string> = {};
  const names = links.filter(link => {
    const subnets = subnetsOf(link);
    const first = subnets.map(subnet => firsts.get(subnet)).find(name => name !== undefined);
    if (first === undefined) for (const subnet of subnets) firsts.set(subnet, link);
    else doubles[link] = first;
    return first === undefined;
  });
  return { names, doubles };
}

/** Where a link's subnet holds the address, clients look for it there and nowhere else. */
export function linksFor(address: IpAddress, { names, subnets, standing }: AnnouncingLinks): readonly string[] {
  if (standing.includes(address)) return [];
  const near = subnets.filter(({ prefix }) => prefixContains(prefix, address)).map(({ link }) => link);
  return near.length > 0 ? [...new Set(near)] : names[familyOf(address)];
}

const LOOPBACK = 'lo';
