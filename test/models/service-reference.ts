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
  /** Internal and External addresses of this node, all on its links. */
  readonly nodeAddresses: readonly IpAddress[];
  readonly otherNodesAddresses: readonly IpAddress[];
  readonly servedFamilies: readonly Family[];
  readonly nodeportAddresses: readonly IpPrefix[];
  readonly isStrict: boolean;
  readonly externalIpRanges: readonly IpPrefix[];
  readonly loadBalancerIpRanges: readonly IpPrefix[];
  readonly clusterIpRanges: readonly IpPrefix[];
}

export interface Packet {
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: Protocol;
}

/** `address port` of each endpoint a new connection may reach, or what else happens to it. */
export type Fate = 'refused' | 'dropped' | 'not-a-service' | ReadonlySet<string>;

/** The fate of the first packet of a connection that arrives at this node, from outside or from a pod. */
export function fateOf(packet: Packet, world: World): Fate {
  if (world.otherNodesAddresses.includes(packet.address)) return 'not-a-service';
  const family = packet.address.includes(':') ? 'ipv6' : 'ipv4';
  if (!world.servedFamilies.includes(family)) return 'not-a-service';
  const claims = world.services.flatMap(service =>
    service.ports.flatMap(port => {
      const scope = scopeOf(packet, service, port, world);
      return scope === undefined ? [] : [{ service, port, scope }];
    }),
  );
  const [winner] = claims.sort(
    (a, b) =>
      a.service.meta.creationTimestamp - b.service.meta.creationTimestamp || (nameOf(a.service) < nameOf(b.service) ? -1 : 1),
  );
  return winner === undefined ? 'not-a-service' : fateAt(winner.service, winner.port, winner.scope, family, world);
}

/** Which traffic policy governs the packet where this port of this Service is what it is addressed to. */
function scopeOf(packet: Packet, service: Service, port: ServicePort, world: World): 'internal' | 'external' | undefined {
  if (service.headless || service.type === 'ExternalName') return undefined;
  if (!['', 'kube-router', 'fairway'].includes(service.proxyName)) return undefined;
  if (port.protocol !== packet.protocol) return undefined;
  if (port.port === packet.port) {
    if (service.clusterIPs.includes(packet.address)) return 'internal';
    if (service.externalIPs.includes(packet.address) && isAllowed(packet.address, world.externalIpRanges, service, world)) {
      return 'external';
    }
    const isSkipped = service.annotations['kube-router.io/service.skiplbips'] !== undefined;
    if (!isSkipped && service.loadBalancerIPs.includes(packet.address)) {
      if (isAllowed(packet.address, world.loadBalancerIpRanges, service, world)) return 'external';
    }
  }
  if (port.nodePort === packet.port && world.nodeAddresses.includes(packet.address) && isOfFamily(packet.address, service)) {
    const ranges = world.nodeportAddresses;
    if (ranges.length === 0 || ranges.some(range => prefixContains(range, packet.address))) return 'external';
  }
  return undefined;
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

function fateAt(service: Service, port: ServicePort, scope: 'internal' | 'external', family: Family, world: World): Fate {
  const endpoints = endpointsOf(service, port, family, world);
  const anywhere = eligible(endpoints);
  const isLocalOnly =
    service.annotations['kube-router.io/service.local'] === 'true' ||
    (scope === 'internal' ? service.internalTrafficPolicy : service.externalTrafficPolicy) === 'Local';
  const chosen = isLocalOnly ? eligible(endpoints.filter(({ isHere }) => isHere)) : anywhere;
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

function nameOf(service: Service): string {
  return `${service.meta.namespace}/${service.meta.name}`;
}
