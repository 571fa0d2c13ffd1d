/**
 * Where packets to pods go and who hears of which prefix, read naively off the specification (RFC 4271, RFC 4456, KEP-1669, the flags' help and
 * what kube-router documents), one prefix at a time and without any memory. Shares nothing with the module it judges.
 */
import type { EndpointSlice, Node, Service } from '../../daemon/cluster/kinds.ts';
import type { HostAddress, LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import { prefixBits } from '../../daemon/explain/address-bits.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';

export interface World {
  /** This node's Node object first. */
  readonly nodes: readonly Node[];
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly routes: readonly LearnedRoute[];
  readonly hostAddresses: readonly HostAddress[];
  readonly isIPv6On: boolean;
  readonly podRoutes: 'bgp' | 'api';
  /** Whether this node has a speaker; what one told that is no more does not count. */
  readonly speaksBgp: boolean;
  readonly overlay: 'off' | 'subnet' | 'full';
  /** Flags `--advertise-cluster-ip`, `--advertise-external-ip`, `--advertise-loadbalancer-ip`, `--advertise-pod-cidr`. */
  readonly advertises: {
    readonly cluster: boolean;
    readonly external: boolean;
    readonly balancer: boolean;
    readonly pods: boolean;
  };
  readonly externalRanges: readonly string[];
  readonly balancerRanges: readonly string[];
  readonly clusterRanges: readonly string[];
}

/** Each way of a route: `via ROUTER dev LINK`, or `tunnel NODE`; sorted. */
export type Ways = readonly string[];

/** By destination, the routes to others that this node has in its main table. */
export function kernelRoutes(world: World): ReadonlyMap<string, Ways> {
  const routes = new Map<string, Ways>();
  for (const { prefix, nextHops } of world.speaksBgp ? world.routes : []) {
    if (world.podRoutes === 'api' && isSaidByNodes(prefix, world)) continue;
    if (!isRouted(prefix, world) || isForbidden(prefix, world)) continue;
    const ways = nextHops.flatMap(({ address }) => wayTo(prefix, address, isNodeAddress(address, world), world));
    if (ways.length > 0) routes.set(prefix, [...new Set(ways)].sort());
  }
  if (world.podRoutes === 'api') addPodRoutes(routes, world);
  return routes;
}

function addPodRoutes(routes: Map<string, Ways>, world: World): void {
  const [ours, ...others] = world.nodes;
  // All are of one age: the first by name has it.
  for (const node of others.toSorted((a, b) => (a.meta.name < b.meta.name ? -1 : 1))) {
    for (const prefix of node.podCIDRs) {
      const remote = [...node.internalIPs, ...node.externalIPs].find(address => address.includes(':') === prefix.includes(':'));
      const overlaps = (ours?.podCIDRs ?? [])
        .filter(own => isRouted(own, world))
        .some(own => holds(own, prefix) || holds(prefix, own));
      if (remote === undefined || routes.has(prefix) || !isRouted(prefix, world) || overlaps || isMartian(prefix)) continue;
      if (world.hostAddresses.some(({ address }) => prefix === hostPrefixOf(address))) continue;
      const ways = wayTo(prefix, remote, true, world);
      if (ways.length > 0) routes.set(prefix, ways);
    }
  }
}

/** What a Node object leads to itself; what it leaves to the fabric, the fabric may say. */
function isSaidByNodes(prefix: string, world: World): boolean {
  return world.nodes.slice(1).some(node => {
    const remote = [...node.internalIPs, ...node.externalIPs].find(address => address.includes(':') === prefix.includes(':'));
    if (remote === undefined || !(node.podCIDRs as readonly string[]).includes(prefix)) return false;
    return wayTo(prefix, remote, true, world).length > 0;
  });
}

function isRouted(prefix: string, world: World): boolean {
  return prefix.includes(':')
    ? world.isIPv6On && ownAddress('ipv6', world) !== undefined
    : ownAddress('ipv4', world) !== undefined;
}

function ownAddress(family: 'ipv4' | 'ipv6', { nodes: [ours] }: World): string | undefined {
  return [...(ours?.internalIPs ?? []), ...(ours?.externalIPs ?? [])].find(
    address => address.includes(':') === (family === 'ipv6'),
  );
}

function isForbidden(prefix: string, world: World): boolean {
  const own = (world.nodes[0]?.podCIDRs ?? []).filter(each => isRouted(each, world));
  if (isMartian(prefix) || own.some(each => holds(each, prefix))) return true;
  const hosts = [
    ...world.hostAddresses.map(({ address }) => address),
    ...world.nodes.flatMap(node => [...node.internalIPs, ...node.externalIPs]),
  ];
  if (hosts.some(address => !isLinkLocal(address) && prefix === hostPrefixOf(address))) return true;
  // Nobody draws away packets to nodes that are on a network of ours.
  const networks = world.hostAddresses.filter(({ link, address }) => link.startsWith('eth') && !isLinkLocal(address));
  return (
    networks.some(({ address, prefixLength }) => holds(`${address}/${prefixLength}`, prefix)) &&
    world.nodes.some(node => [...node.internalIPs, ...node.externalIPs].some(address => holds(prefix, hostPrefixOf(address))))
  );
}

function wayTo(destination: string, remote: string, isNode: boolean, world: World): Ways {
  if (remote.includes(':') !== destination.includes(':')) return [];
  if (world.hostAddresses.some(({ address }) => address === remote && !isLinkLocal(address))) return [];
  const underlay = world.hostAddresses
    .filter(({ link }) => link.startsWith('eth'))
    .filter(({ address }) => !isLinkLocal(address));
  const [nearest] = underlay
    .filter(({ address, prefixLength }) => holds(`${address}/${prefixLength}`, `${remote}/${remote.includes(':') ? 128 : 32}`))
    .sort((a, b) => b.prefixLength - a.prefixLength);
  // The packets that carry it there would take the route themselves.
  if (holds(destination, hostPrefixOf(remote)) && (nearest === undefined || nearest.prefixLength < lengthOf(destination)))
    return [];
  const local = ownAddress(remote.includes(':') ? 'ipv6' : 'ipv4', world);
  const hasEnd = underlay.some(({ address, link }) => address === local && link !== '');
  const isTunnelled = isNode && hasEnd && (world.overlay === 'full' || (world.overlay === 'subnet' && nearest === undefined));
  if (isTunnelled) return [`tunnel ${remote}`];
  return nearest === undefined ? [] : [`via ${remote} dev ${nearest.link}`];
}

const MARTIANS = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  '::1/128',
  '::ffff:0:0/96',
  'fe80::/10',
  'ff00::/8',
];

/** Besides, the default routes. */
export function isMartian(prefix: string): boolean {
  return lengthOf(prefix) === 0 || MARTIANS.some(martian => holds(martian, prefix));
}

/** What this node originates: for the other nodes, and for the fabric. */
export function announcements(world: World): { readonly nodes: ReadonlySet<string>; readonly fabric: ReadonlySet<string> } {
  const pods = (world.nodes[0]?.podCIDRs ?? []).filter(prefix => isRouted(prefix, world));
  const addresses = world.services.flatMap(service => addressesTold(service, world)).map(hostPrefixOf);
  return {
    nodes: new Set(pods),
    fabric: new Set([...(world.advertises.pods ? pods : []), ...addresses.filter(prefix => isRouted(prefix, world))]),
  };
}

function addressesTold(service: Service, world: World): readonly string[] {
  if (service.type === 'ExternalName' || service.headless) return [];
  const { annotations } = service;
  const isWanted = (flag: boolean, name: string): boolean => {
    const text = annotations[`kube-router.io/service.advertise.${name}`];
    return text === undefined ? flag : /^(1|t|T|TRUE|true|True)$/.test(text);
  };
  const isLocal = annotations['kube-router.io/service.local'] === 'true';
  const internal = isLocal ? 'Local' : service.internalTrafficPolicy;
  const external = isLocal ? 'Local' : service.externalTrafficPolicy;
  const skips = annotations['kube-router.io/service.skiplbips'] !== undefined;
  const families = new Set<string>([
    ...service.ipFamilies,
    ...service.clusterIPs.map(address => (address.includes(':') ? 'ipv6' : 'ipv4')),
  ]);
  const isAllowed = (address: string, ranges: readonly string[]): boolean =>
    families.has(address.includes(':') ? 'ipv6' : 'ipv4') &&
    !world.clusterRanges.some(range => holds(range, hostPrefixOf(address))) &&
    ranges.some(range => holds(range, hostPrefixOf(address)));
  const told = [
    ...(isWanted(world.advertises.cluster, 'clusterip') ? service.clusterIPs : []).map(address => ({
      address,
      policy: internal,
    })),
    ...(isWanted(world.advertises.external, 'externalip') ? service.externalIPs : [])
      .filter(address => isAllowed(address, world.externalRanges))
      .map(address => ({ address, policy: external })),
    ...(isWanted(world.advertises.balancer, 'loadbalancerip') && service.type === 'LoadBalancer' && !skips
      ? service.loadBalancerIPs
      : []
    )
      .filter(address => isAllowed(address, world.balancerRanges))
      .map(address => ({ address, policy: external })),
  ];
  return told.filter(({ address, policy }) => isServed(service, address, policy, world)).map(({ address }) => address);
}

function isServed({ meta }: Service, vip: string, policy: string, { slices, nodes: [ours] }: World): boolean {
  const endpoints = slices
    .filter(
      ({ serviceKey, family }) => serviceKey === `${meta.namespace}/${meta.name}` && (family === 'ipv6') === vip.includes(':'),
    )
    .flatMap(slice => slice.endpoints)
    .filter(({ nodeName }) => policy !== 'Local' || nodeName === ours?.meta.name);
  return endpoints.some(({ ready }) => ready) || endpoints.some(({ serving, terminating }) => serving && terminating);
}

function isNodeAddress(address: string, { nodes }: World): boolean {
  return nodes.some(node => [...node.internalIPs, ...node.externalIPs].some(each => each === address));
}

/** Whether the second prefix is the first or a part of it. */
export function holds(outer: string, inner: string): boolean {
  return outer.includes(':') === inner.includes(':') && prefixBits(inner as IpPrefix).startsWith(prefixBits(outer as IpPrefix));
}

function lengthOf(prefix: string): number {
  return Number(prefix.slice(prefix.indexOf('/') + 1));
}

function hostPrefixOf(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}

function isLinkLocal(address: string): boolean {
  return holds('fe80::/10', hostPrefixOf(address)) || holds('169.254.0.0/16', hostPrefixOf(address));
}
