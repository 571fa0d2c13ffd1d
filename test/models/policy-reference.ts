/**
 * What network policy says of the first packet of a flow, read naively off the Kubernetes documentation (NetworkPolicy API, concept
 * page "Network Policies") and our flags' help, one packet at a time and without any memory. Shares nothing with the module it judges.
 */
import type {
  LabelRequirement,
  LabelSelector,
  Namespace,
  NetworkPolicy,
  Pod,
  PolicyPeer,
  PolicyPort,
  PolicyRule,
} from '../../daemon/cluster/kinds.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { isWithin } from './address-bits.ts';

export interface World {
  readonly nodeName: string;
  /** Internal and External addresses of this node. */
  readonly nodeAddresses: readonly IpAddress[];
  /** Everything this host takes for its own: the node's addresses, loopback, the bridge's, those of Services. */
  readonly hostAddresses: readonly IpAddress[];
  /** Of this node. */
  readonly podCIDRs: readonly IpPrefix[];
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly policies: readonly NetworkPolicy[];
  /** Families that are filtered at all. */
  readonly families: readonly Family[];
  readonly defaultDeny: boolean;
  readonly serviceRanges: readonly IpPrefix[];
  /** What Services are served at that are outside of the ranges: the port alone, since the address may be the node's own. */
  readonly serviceListeners: readonly { readonly address: IpAddress; readonly protocol: Protocol; readonly port: number }[];
  /** Endpoints of Services on this node: only through a Service does a packet of a pod to itself leave it. */
  readonly endpoints: readonly { readonly address: IpAddress; readonly protocol: Protocol; readonly port: number }[];
  readonly nodePorts: { readonly first: number; readonly last: number };
}

/**
 * - `forwarded`: from one link to another: pod to pod, pod to elsewhere, elsewhere to pod.
 * - `to-node`: to an address of the host, its own or that of a Service.
 * - `from-node`: from an address of the host.
 * - `balanced`: sent on by IPVS to an endpoint, with the client's own address.
 */
export type Path = 'forwarded' | 'to-node' | 'from-node' | 'balanced';

export type Transport =
  | { readonly protocol: Protocol; readonly port: number }
  /** ICMP or ICMPv6 by the packet's family. */
  | { readonly protocol: 'ICMP'; readonly type: number };

export interface Packet {
  readonly path: Path;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** With the destination port. */
  readonly transport: Transport;
}

export type Verdict = 'allow' | 'deny';

export function verdictOf(world: World, packet: Packet): Verdict {
  return isAllowed(world, packet) ? 'allow' : 'deny';
}

function isAllowed(world: World, packet: Packet): boolean {
  const { source, destination } = packet;
  if (!world.families.includes(familyIn(source))) return true;
  // "Traffic to and from the node where a Pod is running is always allowed": what the node sends.
  if (world.hostAddresses.includes(source)) return true;
  if (isSupportingIcmp(packet)) return true;
  if (packet.path === 'to-node' && isForService(world, packet)) return true;
  if (world.defaultDeny && isOfNobody(world, source)) return false;
  // "A Pod cannot block access to itself."
  if (source === destination && isListed(world.endpoints, packet)) return true;
  if (!mayLeave(world, packet)) return false;
  if (packet.path === 'to-node') return true;
  if (world.defaultDeny && isOfNobody(world, destination)) return false;
  return mayEnter(world, packet);
}

/** Errors, echo request and neighbour discovery: NetworkPolicy leaves ICMP open, and connections break without them. */
function isSupportingIcmp({ source, transport }: Packet): boolean {
  if (transport.protocol !== 'ICMP') return false;
  const types = familyIn(source) === 'ipv4' ? [3, 8, 11, 12] : [1, 2, 3, 4, 128, 133, 134, 135, 136];
  return types.includes(transport.type);
}

/** Left to the service proxy, behind which the same flow is judged again as `balanced`. */
function isForService(world: World, { destination, transport }: Packet): boolean {
  if (world.serviceRanges.some(range => isWithin(destination, range))) return true;
  if (isListed(world.serviceListeners, { destination, transport })) return true;
  const isNodePort =
    transport.protocol !== 'ICMP' && transport.port >= world.nodePorts.first && transport.port <= world.nodePorts.last;
  return isNodePort && world.hostAddresses.includes(destination);
}

function isListed(list: World['endpoints'], { destination, transport }: Pick<Packet, 'destination' | 'transport'>): boolean {
  return list.some(
    ({ address, protocol, port }) => address === destination && transport.protocol === protocol && transport.port === port,
  );
}

/** An address this node gives to pods, of which no pod is known. */
function isOfNobody(world: World, address: IpAddress): boolean {
  return world.podCIDRs.some(cidr => isWithin(address, cidr)) && localPodAt(world, address) === undefined;
}

function mayLeave(world: World, packet: Packet): boolean {
  const pod = localPodAt(world, packet.source);
  if (pod === undefined) return true;
  const directions = world.policies.filter(policy => selects(policy, pod)).map(policy => ({ policy, says: policy.egress }));
  return passes(world, packet, packet.destination, directions);
}

function mayEnter(world: World, packet: Packet): boolean {
  const pod = localPodAt(world, packet.destination);
  if (pod === undefined) return true;
  const directions = world.policies.filter(policy => selects(policy, pod)).map(policy => ({ policy, says: policy.ingress }));
  return passes(world, packet, packet.source, directions);
}

/** "By default, a pod is non-isolated"; policies "are additive"; what was not understood of one allows nothing. */
function passes(
  world: World,
  packet: Packet,
  other: IpAddress,
  directions: readonly { readonly policy: NetworkPolicy; readonly says: NetworkPolicy['ingress'] }[],
): boolean {
  const isolating = directions.filter(({ says }) => says !== undefined);
  if (isolating.length === 0) return true;
  return isolating.some(
    ({ policy, says }) => says?.unusable === undefined && says?.rules.some(rule => permits(world, policy, rule, packet, other)),
  );
}

function selects(policy: NetworkPolicy, pod: Pod): boolean {
  return policy.meta.namespace === pod.meta.namespace && matches(policy.podSelector, pod.labels);
}

function permits(world: World, policy: NetworkPolicy, rule: PolicyRule, packet: Packet, other: IpAddress): boolean {
  const isPeer = rule.peers.length === 0 || rule.peers.some(peer => isAt(world, policy, peer, other));
  return isPeer && (rule.ports.length === 0 || rule.ports.some(port => isPort(world, port, packet)));
}

function isAt(world: World, policy: NetworkPolicy, peer: PolicyPeer, address: IpAddress): boolean {
  if (peer.match === 'block') {
    return isWithin(address, peer.cidr) && !peer.except.some(except => isWithin(address, except));
  }
  const pod = podAt(world, address);
  if (pod === undefined) return false;
  if (peer.podSelector !== undefined && !matches(peer.podSelector, pod.labels)) return false;
  return peer.namespaceSelector === undefined
    ? pod.meta.namespace === policy.meta.namespace
    : matchesNamespace(world, peer.namespaceSelector, pod.meta.namespace);
}

/** A named port is what the destination declares under that name: of a destination that is no pod, or has no such port, nothing. */
function isPort(world: World, port: PolicyPort, { destination, transport }: Packet): boolean {
  if (transport.protocol !== port.protocol) return false;
  switch (port.match) {
    case 'all':
      return true;
    case 'range':
      return transport.port >= port.first && transport.port <= port.last;
    case 'name': {
      const declared = podAt(world, destination)?.namedPorts ?? [];
      return declared.some(
        ({ name, protocol, port: number }) => name === port.name && protocol === port.protocol && number === transport.port,
      );
    }
  }
}

/** Every namespace has its name for a label, set by the API server. Of one whose object is not there nothing else is known. */
function matchesNamespace(world: World, selector: LabelSelector, name: string): boolean {
  const namespace = world.namespaces.find(({ meta }) => meta.name === name);
  if (namespace !== undefined) return matches(selector, { 'kubernetes.io/metadata.name': name, ...namespace.labels });
  return selector.requirements.every(
    ({ key, operator, values }) => key === 'kubernetes.io/metadata.name' && operator === 'In' && values.includes(name),
  );
}

function matches(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  return selector.requirements.every(requirement => holds(requirement, labels));
}

function holds({ key, operator, values }: LabelRequirement, labels: Readonly<Record<string, string>>): boolean {
  const isThere = Object.hasOwn(labels, key);
  switch (operator) {
    case 'In':
      return isThere && values.includes(labels[key] ?? '');
    case 'NotIn':
      return !isThere || !values.includes(labels[key] ?? '');
    case 'Exists':
      return isThere;
    case 'DoesNotExist':
      return !isThere;
  }
}

/** The pod that an address leads to: the youngest of those that claim it, since an address is only given again when it is free. */
function podAt(world: World, address: IpAddress): Pod | undefined {
  const [youngest] = world.pods
    .filter(pod => !pod.hostNetwork && !pod.finished && pod.addresses.includes(address))
    .sort((a, b) => b.meta.creationTimestamp - a.meta.creationTimestamp || (keyIn(a) < keyIn(b) ? 1 : -1));
  return youngest;
}

export function localPodAt(world: World, address: IpAddress): Pod | undefined {
  const pod = podAt(world, address);
  if (pod === undefined) return undefined;
  const isHere =
    pod.nodeName === '' ? pod.hostIPs.some(hostIP => world.nodeAddresses.includes(hostIP)) : pod.nodeName === world.nodeName;
  return isHere ? pod : undefined;
}

function keyIn(pod: Pod): string {
  return `${pod.meta.namespace}/${pod.meta.name}`;
}

function familyIn(address: IpAddress): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}
