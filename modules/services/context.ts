/**
 * What of node, host and options matters here. A context is a new object only when its content is another: a pod that comes and brings
 * a link with it must not plan ten thousand Services again.
 */
import type { Node } from '../../daemon/cluster/kinds.ts';
import { nodeLinksOf } from '../../daemon/cluster/node-links.ts';
import type { Capabilities, HostFacts, NodeView } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress, isLinkLocal, isLoopback } from '../../daemon/net/address.ts';
import { anyPrefixContains, type IpPrefix, prefixFamily } from '../../daemon/net/prefix.ts';
import type { Place } from './endpoints.ts';
import { POD_BRIDGE, type SetRole, VIP_LINK } from './names.ts';
import type { ServicesOptions } from './options.ts';

/** What every Service's plan depends on. */
export interface ServicesContext extends Place {
  readonly nodeAddresses: readonly IpAddress[];
  /** Families served on this node. */
  readonly families: readonly Family[];
  readonly nodePortAddresses: readonly IpAddress[];
  /** Whether virtual addresses can be put on {@link VIP_LINK}. */
  readonly hasVipLink: boolean;
  /** The sets there are; elements go into no other. */
  readonly sets: Readonly<Record<Family, readonly SetRole[]>>;
  /**
   * The source that the routes of virtual addresses name for connections from this node, by family; undefined where the rule that masquerades
   * those is there (the normal case), or the node's primary address is on no link of the host.
   */
  readonly routeSource: Readonly<Record<Family, IpAddress | undefined>>;
}

/** What the module's own entries depend on, apart from the sizes of the sets. */
export interface NodeContext {
  readonly nodeName: string;
  readonly families: readonly Family[];
  readonly capabilities: Capabilities;
  readonly sets: Readonly<Record<Family, readonly SetRole[]>>;
  /** The node's primary address of a family where it is on a link of the host. */
  readonly masqueradeAddress: Readonly<Record<Family, IpAddress | undefined>>;
  readonly podCIDRs: Readonly<Record<Family, readonly IpPrefix[]>>;
  /** Links that carry an address of the node of that family, sorted. */
  readonly nodeLinks: Readonly<Record<Family, readonly string[]>>;
  readonly hasPodBridge: boolean;
  /** The smallest MTU in bytes on the way between clients and pods: of links with an address of the node, and of the pods' bridge; undefined where none is known. */
  readonly pathMtu: Readonly<Record<Family, number | undefined>>;
  /** Elements of the set of host addresses, sorted. */
  readonly hostAddresses: readonly IpAddress[];
  /** Families the operator switched on without the node having an address of them. */
  readonly missingFamilies: readonly Family[];
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

export function servicesContextOf(node: NodeView, host: HostFacts, options: ServicesOptions): ServicesContext {
  const families = servedFamilies(node, host, options);
  return {
    nodeName: node.name,
    zone: node.zone,
    nodeAddresses: node.addresses,
    families,
    nodePortAddresses: nodePortAddressesOf(node, host, options).filter(address => families.includes(familyOf(address))),
    hasVipLink: host.capabilities.dummyLink,
    sets: setsOf(families, node, host, options),
    routeSource: byFamily(family =>
      families.includes(family) && !masqueradesThisNode(host.capabilities, options, family)
        ? primaryOnHost(node, host, family)
        : undefined,
    ),
  };
}

/**
 * Whether a rule can give connections from the node to virtual addresses another source than that very address: it matches on the set of
 * virtual addresses, or (`--masquerade-all`) on everything that is balanced.
 */
function masqueradesThisNode({ ipset, iptables, xtIpvs }: Capabilities, options: ServicesOptions, family: Family): boolean {
  return xtIpvs && iptables[family] && (ipset || options.masqueradeAll);
}

export function nodeContextOf(node: NodeView, host: HostFacts, options: ServicesOptions): NodeContext {
  const families = servedFamilies(node, host, options);
  return {
    nodeName: node.name,
    families,
    capabilities: host.capabilities,
    sets: setsOf(families, node, host, options),
    masqueradeAddress: byFamily(family => (families.includes(family) ? primaryOnHost(node, host, family) : undefined)),
    podCIDRs: byFamily(family => podCIDRsOf(node, family)),
    nodeLinks: byFamily(family => nodeLinksOf(node, host, family)),
    hasPodBridge: host.links.has(POD_BRIDGE),
    pathMtu: byFamily(family => pathMtuOf(nodeLinksOf(node, host, family), host)),
    hostAddresses: hostAddressesOf(host)
      .filter(address => families.includes(familyOf(address)))
      .sort(),
    missingFamilies: FAMILIES.filter(family => options.families[family] === 'on' && !hasAddressOf(node, family)),
  };
}

/**
 * Addresses that stand on other links of this host or belong to other nodes. A virtual address among them is served where its packets
 * come by, and never put on {@link VIP_LINK}: the host would lose it, or the way to the other node. Link-local IPv6 addresses, which
 * come and go with every pod, are left out: no virtual address can be one.
 */
export function occupiedAddresses(nodeName: string, host: HostFacts, nodes: ReadonlyMap<string, Node>): ReadonlySet<IpAddress> {
  const occupied = new Set<IpAddress>();
  for (const { link, address } of host.addresses) {
    if (link !== VIP_LINK && !isLinkLocalV6(address)) occupied.add(address);
  }
  for (const node of nodes.values()) {
    if (node.meta.name === nodeName) continue;
    for (const address of node.internalIPs) occupied.add(address);
    for (const address of node.externalIPs) occupied.add(address);
  }
  return occupied;
}

/** Links that are ports of the pods' bridge, sorted. */
export function bridgePortsOf(host: HostFacts): readonly string[] {
  return [...host.links].flatMap(([name, { master }]) => (master === POD_BRIDGE ? [name] : [])).sort();
}

function servedFamilies(node: NodeView, host: HostFacts, options: ServicesOptions): readonly Family[] {
  if (!host.capabilities.ipvs) return [];
  return FAMILIES.filter(
    family => options.families[family] !== 'off' && hasAddressOf(node, family) && (family === 'ipv4' || host.capabilities.ipv6),
  );
}

function hasAddressOf(node: NodeView, family: Family): boolean {
  return node.addresses.some(address => familyOf(address) === family);
}

/**
 * The node's Internal and External addresses; with `--nodeport-bindon-all-ip` also the host's others, but for those of bridges and
 * dummies of container software (kube-router's rule by name), loopback, and link-local IPv6, which means something only with its link.
 */
function nodePortAddressesOf(node: NodeView, host: HostFacts, options: ServicesOptions): readonly IpAddress[] {
  const others = options.nodeportBindOnAllIp ? hostAddressesOf(host) : [];
  return [...new Set([...node.addresses, ...others])].filter(
    address => options.nodeportAddresses.length === 0 || anyPrefixContains(options.nodeportAddresses, address),
  );
}

/**
 * The host's own addresses as kube-router counts them: not on links whose name contains dummy, kube or docker. Loopback and link-local
 * IPv6 are left out: no packet to a virtual address bears them, and the latter come and go with every pod.
 */
function hostAddressesOf(host: HostFacts): IpAddress[] {
  const own = host.addresses.filter(
    ({ link, address }) => !/dummy|kube|docker/.test(link) && !isLoopback(address) && !isLinkLocalV6(address),
  );
  return [...new Set(own.map(({ address }) => address))];
}

/** Only sets that a rule of ours matches on. */
function setsOf(
  families: readonly Family[],
  node: NodeView,
  host: HostFacts,
  options: ServicesOptions,
): Readonly<Record<Family, readonly SetRole[]>> {
  const { ipset, iptables, xtIpvs, bridgeNetfilter } = host.capabilities;
  return byFamily(family => {
    if (!ipset || !iptables[family] || !families.includes(family)) return [];
    const roles: SetRole[] = ['vips', 'dropped', 'refused', 'closed', 'open', 'inside', 'direct'];
    if (options.ipvsPermitAll) roles.push('vipPorts', 'hostAddresses');
    if (xtIpvs && !options.masqueradeAll) {
      roles.push('hairpin');
      // A client that is a pod on the same bridge cannot be told from others then, and its replies would be bridged past IPVS.
      if (podCIDRsOf(node, family).length === 0 && bridgeNetfilter) roles.push('localPods');
    }
    return roles;
  });
}

function podCIDRsOf(node: NodeView, family: Family): readonly IpPrefix[] {
  return node.podCIDRs.filter(prefix => prefixFamily(prefix) === family);
}

function primaryOnHost(node: NodeView, host: HostFacts, family: Family): IpAddress | undefined {
  const primary = node.primary[family];
  return host.addresses.some(({ address }) => address === primary) ? primary : undefined;
}

function pathMtuOf(nodeLinks: readonly string[], { links }: HostFacts): number | undefined {
  const mtus = [...nodeLinks, POD_BRIDGE].flatMap(name => links.get(name)?.mtu ?? []);
  return mtus.length === 0 ? undefined : Math.min(...mtus);
}

function isLinkLocalV6(address: IpAddress): boolean {
  return familyOf(address) === 'ipv6' && isLinkLocal(address);
}

function byFamily<T>(of: (family: Family) => T): Readonly<Record<Family, T>> {
  return { ipv4: of('ipv4'), ipv6: of('ipv6') };
}
