/**
 * What becomes of a packet, read naively off the Kubernetes documentation (Service, EndpointSlice, "Virtual IPs and Service Proxies",
 * KEP-1669, KEP-2086) and the flags' help, one packet at a time and without any memory. Shares nothing with the module it judges.
 */
import type { Endpoint, EndpointSlice, Service, ServicePort } from '../../daemon/cluster/kinds.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { type IpPrefix, prefixContains } from '../../daemon/net/prefix.ts';

export interface World {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly nodeName: string;
  readonly zone: string;
  /** Internal and External addresses of this node, all on its links. */
  readonly nodeAddresses: readonly IpAddress[];
  readonly otherNodesAddresses: readonly IpAddress[];
  readonly servedFamilies: readonly Family[];
  readonly nodeportAddresses: readonly IpPrefix[];
  readonly isStrict: boolean;
  readonly externalIpRanges: readonly IpPrefix[];
  readonly loadBalancerIpRanges: readonly IpPrefix[];
  readonly clusterIpRanges: readonly IpPrefix[];
  /** Pods of this node have addresses in these, and nobody else. */
  readonly podCIDRs: readonly IpPrefix[];
  /** By which other nodes know this one. */
  readonly primary: Readonly<Record<Family, IpAddress>>;
  readonly masqueradesAll: boolean;
  /** `--ipvs-permit-all`. */
  readonly hasFirewall: boolean;
}

export interface Packet {
  /** Address of the client, or this node itself, whichever address it connects from. */
  readonly from: IpAddress | 'this node';
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: Protocol;
}

/**
 * Of each endpoint a new connection may reach (`address port`) the client's address as it sees it; or what else happens to the connection.
 * `left alone`: nobody's Service is meant.
 */
export type Fate = 'refused' | 'dropped' | 'left alone' | ReadonlyMap<string, IpAddress>;

/** The fate of the first packet of a connection that arrives at this node, from outside or from a pod, or that the node itself makes. */
export function fateOf(packet: Packet, world: World): Fate {
  // What others send to another node goes there. The node's own connections are balanced where they begin.
  if (packet.from !== 'this node' && world.otherNodesAddresses.includes(packet.address)) return 'left alone';
  const family = packet.address.includes(':') ? 'ipv6' : 'ipv4';
  if (!world.servedFamilies.includes(family)) return 'left alone';
  const [winner] = world.services
    .flatMap(service =>
      service.ports.flatMap(port => {
        const scope = scopeOf(packet, service, port, world);
        return scope === undefined ? [] : [{ service, port, scope }];
      }),
    )
    .sort(
      (a, b) =>
        a.service.meta.creationTimestamp - b.service.meta.creationTimestamp || (nameOf(a.service) < nameOf(b.service) ? -1 : 1),
    );
  // "A VIP exposes its Service ports and ICMP echo, and nothing else of the host."
  if (winner === undefined) return world.hasFirewall && isOnlyVirtual(packet, world) ? 'refused' : 'left alone';
  const { service, port, scope } = winner;
  if (!isOpenTo(packet, service, port, world)) return 'dropped';
  const chosen = chosenAt(service, port, isLocalOnly(service, scope, packet, world), family, world);
  if (typeof chosen === 'string') return chosen;
  const source = isDirect(service, packet, world) ? directSource : sourceAt;
  return new Map(Array.from(chosen, endpoint => [endpoint, source(endpoint, packet, family, world)]));
}

const DSR = 'kube-router.io/service.dsr';

/** kube-router's docs/dsr.md: external and load-balancer addresses of Services with the annotation. Not addresses that a node has. */
function isDirect(service: Service, { address, port }: Packet, world: World): boolean {
  if (service.annotations[DSR] !== 'tunnel' || service.clusterIPs.includes(address)) return false;
  if (world.nodeAddresses.includes(address) || world.otherNodesAddresses.includes(address)) return false;
  return service.ports.some(each => each.port === port);
}

/**
 * "The client's address is kept", by whatever way; a tunnel cannot change the port nor end in the host's own network, so that such
 * endpoints are reached as those of other Services. The node itself connects from the address where a Service without has put that on it.
 */
function directSource(endpoint: string, packet: Packet, family: Family, world: World): IpAddress {
  const [address = '', port] = endpoint.split(' ');
  const isOfNode = [...world.nodeAddresses, ...world.otherNodesAddresses].some(each => each === address);
  if (Number(port) !== packet.port || isOfNode) return sourceAt(endpoint, packet, family, world);
  if (packet.from !== 'this node') return packet.from;
  return isPutOnNode(packet.address, world) ? packet.address : world.primary[family];
}

/** While nothing answers there the address is the node's, which refuses: the kernel does so under no address but its own. */
function isAnswered(address: IpAddress, service: Service, world: World): boolean {
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  return service.ports.some(port => eligible(endpointsOf(service, port, family, world)).size > 0);
}

function isPutOnNode(address: IpAddress, world: World): boolean {
  return world.services.some(service =>
    service.ports.some(
      port =>
        scopeOf({ ...port, from: 'this node', address }, service, port, world) !== undefined &&
        !(isDirect(service, { ...port, from: 'this node', address }, world) && isAnswered(address, service, world)),
    ),
  );
}

/** Whether the address is there for Services alone, and of no node. */
function isOnlyVirtual({ address }: Packet, world: World): boolean {
  if (world.nodeAddresses.includes(address) || world.otherNodesAddresses.includes(address)) return false;
  return isPutOnNode(address, world);
}

/** "Traffic policies" of the documentation: Local for the outside leaves alone what comes from this node and its pods. */
function isLocalOnly(service: Service, scope: Scope, packet: Packet, world: World): boolean {
  const isBothLocal = service.annotations['kube-router.io/service.local'] === 'true';
  if (scope === 'internal') return isBothLocal || service.internalTrafficPolicy === 'Local';
  return (
    (isBothLocal || service.externalTrafficPolicy === 'Local') && packet.from !== 'this node' && !isPodHere(packet.from, world)
  );
}

/**
 * "loadBalancerSourceRanges: traffic through the cloud-provider load-balancer will be restricted to the specified client IPs." Of the node
 * itself one of its addresses must be there, or that from which it connects where the address is on the node: that very address.
 */
function isOpenTo(packet: Packet, service: Service, port: ServicePort, world: World): boolean {
  const ranges = service.loadBalancerSourceRanges;
  // A node port stays open, although the load balancer may have the node's own address.
  if (ranges.length === 0 || packet.port !== port.port || !isLoadBalancerIp(packet.address, service, world)) return true;
  const isV6 = packet.address.includes(':');
  const isFromVip = !isDirect(service, packet, world) || isPutOnNode(packet.address, world);
  const own = [...world.nodeAddresses, ...(isFromVip ? [packet.address] : [])];
  const sources = packet.from === 'this node' ? own : [packet.from];
  return sources.some(source => source.includes(':') === isV6 && ranges.some(range => prefixContains(range, source)));
}

/** "Kept wherever the route back is through this node; masqueraded otherwise." */
function sourceAt(endpoint: string, { from }: Packet, family: Family, world: World): IpAddress {
  const own = world.primary[family];
  if (from === 'this node') return own;
  const address = endpoint.slice(0, endpoint.indexOf(' ')) as IpAddress;
  // What is for the node itself goes nowhere, whatever `--masquerade-all` says.
  if (world.nodeAddresses.includes(address)) return from;
  if (world.masqueradesAll || address === from) return own;
  return isPodHere(from, world) || isPodHere(address, world) ? from : own;
}

function isPodHere(address: IpAddress, { podCIDRs }: World): boolean {
  return podCIDRs.some(cidr => prefixContains(cidr, address));
}

type Scope = 'internal' | 'external';

/** Which traffic policy governs the packet where this port of this Service is what it is addressed to. */
function scopeOf(packet: Packet, service: Service, port: ServicePort, world: World): Scope | undefined {
  if (service.headless || service.type === 'ExternalName') return undefined;
  if (!['', 'kube-router', 'fairway'].includes(service.proxyName)) return undefined;
  if (port.protocol !== packet.protocol) return undefined;
  if (port.port === packet.port) {
    if (service.clusterIPs.includes(packet.address)) return 'internal';
    if (service.externalIPs.includes(packet.address) && isAllowed(packet.address, world.externalIpRanges, service, world)) {
      return 'external';
    }
    if (isLoadBalancerIp(packet.address, service, world)) return 'external';
  }
  if (port.nodePort === packet.port && world.nodeAddresses.includes(packet.address) && isOfFamily(packet.address, service)) {
    const ranges = world.nodeportAddresses;
    if (ranges.length === 0 || ranges.some(range => prefixContains(range, packet.address))) return 'external';
  }
  return undefined;
}

function isLoadBalancerIp(address: IpAddress, service: Service, world: World): boolean {
  if (service.annotations['kube-router.io/service.skiplbips'] !== undefined) return false;
  return service.loadBalancerIPs.includes(address) && isAllowed(address, world.loadBalancerIpRanges, service, world);
}

function isAllowed(address: IpAddress, ranges: readonly IpPrefix[], service: Service, world: World): boolean {
  if (!isOfFamily(address, service)) return false;
  if (!world.isStrict) return true;
  if (world.clusterIpRanges.some(range => prefixContains(range, address))) return false;
  return ranges.some(range => prefixContains(range, address));
}

function isOfFamily(address: IpAddress, service: Service): boolean {
  return service.ipFamilies.includes(address.includes(':') ? 'ipv6' : 'ipv4');
}

function chosenAt(
  service: Service,
  port: ServicePort,
  isLocal: boolean,
  family: Family,
  world: World,
): 'refused' | 'dropped' | ReadonlySet<string> {
  const endpoints = endpointsOf(service, port, family, world);
  const anywhere = eligible(endpoints);
  const chosen = isLocal ? eligible(endpoints.filter(({ isHere }) => isHere)) : preferred(endpoints, anywhere, world);
  if (chosen.size > 0) return chosen;
  return anywhere.size > 0 ? 'dropped' : 'refused';
}

interface Copy {
  readonly key: string;
  readonly endpoint: Endpoint;
  readonly isHere: boolean;
}

/** All copies of the endpoints; an endpoint is here where one copy says so. */
function endpointsOf(service: Service, port: ServicePort, family: Family, world: World): readonly Copy[] {
  const copies: { key: string; endpoint: Endpoint }[] = [];
  for (const slice of world.slices) {
    if (slice.serviceKey !== nameOf(service) || slice.family !== family) continue;
    for (const target of slice.ports) {
      if (target.name !== port.name || target.protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) copies.push({ key: `${endpoint.address} ${target.port}`, endpoint });
    }
  }
  const isHere = (key: string): boolean => copies.some(copy => copy.key === key && copy.endpoint.nodeName === world.nodeName);
  return copies.map(copy => ({ ...copy, isHere: isHere(copy.key) }));
}

/** The ready ones; where there are none, those that terminate while they serve. */
function eligible(copies: readonly Copy[]): ReadonlySet<string> {
  const ready = copies.filter(({ endpoint }) => endpoint.ready);
  const fallback = copies.filter(({ endpoint }) => endpoint.serving && endpoint.terminating);
  return new Set((ready.length > 0 ? ready : fallback).map(({ key }) => key));
}

/**
 * "Topology aware routing": of the ready endpoints those with a hint for this node, else for its zone, provided that each of them has a hint
 * of that kind; otherwise all. One copy of an endpoint that has hints is enough.
 */
function preferred(copies: readonly Copy[], all: ReadonlySet<string>, { nodeName, zone }: World): ReadonlySet<string> {
  const ready = copies.filter(({ endpoint }) => endpoint.ready);
  for (const [field, name] of [['forNodes', nodeName] as const, ['forZones', zone] as const]) {
    const hintsOf = (key: string): readonly string[] =>
      ready.filter(copy => copy.key === key).flatMap(copy => copy.endpoint[field]);
    const keys = [...new Set(ready.map(({ key }) => key))];
    const meant = keys.filter(key => hintsOf(key).includes(name));
    if (name !== '' && meant.length > 0 && keys.every(key => hintsOf(key).length > 0)) return new Set(meant);
  }
  return all;
}

function nameOf(service: Service): string {
  return `${service.meta.namespace}/${service.meta.name}`;
}
