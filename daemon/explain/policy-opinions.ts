/** What each NetworkPolicy that selects a pod says of a packet, read off the objects: what the kernel of the pod's node is to do. */
import {
  keyOf,
  type LabelRequirement,
  type LabelSelector,
  type NetworkPolicy,
  type ObjectKey,
  type Pod,
  type PolicyPeer,
  type PolicyPort,
  type PolicyRule,
} from '../cluster/kinds.ts';
import { selects } from '../cluster/policy-subjects.ts';
import { matchesLabels, matchesNamespace } from '../cluster/selectors.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import type { IpAddress } from '../net/address.ts';
import { anyPrefixContains, prefixContains } from '../net/prefix.ts';
import type { ClusterObjects } from './cluster-objects.ts';
import type { Transport } from './traced-packet.ts';

export type Direction = 'ingress' | 'egress';

/** One policy that restricts the pod in the direction. */
export interface PolicyOpinion {
  readonly policy: ObjectKey;
  /** Index of the first rule that allows the packet. */
  readonly allowedBy: number | undefined;
  /** What each rule wants: `ingress[0]: from pods app=front at tcp/80`. */
  readonly wants: readonly string[];
  /** Why the direction cannot be used, if so. */
  readonly unusable: string | undefined;
}

export interface JudgedPacket {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly transport: JudgedTransport;
}

/** What is wrapped has no ports that a rule could name: IP in IP, as direct server return sends it. */
export type JudgedTransport = Transport | { readonly protocol: 'IPIP' };

export function opinionsOn(
  pod: Pod,
  direction: Direction,
  packet: JudgedPacket,
  { networkPolicies, namespaces }: Snapshot,
  objects: ClusterObjects,
): readonly PolicyOpinion[] {
  const other = direction === 'ingress' ? packet.source : packet.destination;
  const found: PolicyOpinion[] = [];
  for (const policy of networkPolicies.values()) {
    const says = policy[direction];
    if (says === undefined || !selects(policy, pod)) continue;
    const allowedBy = says.rules.findIndex(
      rule =>
        (rule.peers.length === 0 || rule.peers.some(peer => isPeer(peer, policy, other, objects, namespaces))) &&
        (rule.ports.length === 0 || rule.ports.some(port => isPort(port, packet, objects))),
    );
    found.push({
      policy: keyOf(policy.meta),
      allowedBy: allowedBy < 0 ? undefined : allowedBy,
      wants: says.rules.map((rule, index) => `${direction}[${index}]: ${ruleText(rule, direction)}`),
      unusable: says.unusable,
    });
  }
  return found.sort((a, b) => (a.policy < b.policy ? -1 : 1));
}

/** Of no policy, or one that allows it. */
export function isAllowedBy(opinions: readonly PolicyOpinion[]): boolean {
  return opinions.length === 0 || opinions.some(({ allowedBy }) => allowedBy !== undefined);
}

function isPeer(
  peer: PolicyPeer,
  { meta }: NetworkPolicy,
  address: IpAddress,
  objects: ClusterObjects,
  namespaces: Snapshot['namespaces'],
): boolean {
  if (peer.match === 'block') return prefixContains(peer.cidr, address) && !anyPrefixContains(peer.except, address);
  const pod = objects.podAt(address);
  if (pod === undefined) return false;
  const { namespace } = pod.meta;
  const isOfNamespace =
    peer.namespaceSelector === undefined
      ? namespace === meta.namespace
      : matchesNamespace(peer.namespaceSelector, namespace, namespaces.get(namespace));
  return isOfNamespace && (peer.podSelector === undefined || matchesLabels(peer.podSelector, pod.labels));
}

function isPort(port: PolicyPort, { destination, transport }: JudgedPacket, objects: ClusterObjects): boolean {
  if (transport.protocol !== port.protocol || !('port' in transport)) return false;
  switch (port.match) {
    case 'all':
      return true;
    case 'range':
      return transport.port >= port.first && transport.port <= port.last;
    case 'name':
      return (objects.podAt(destination)?.namedPorts ?? []).some(
        ({ name, protocol, port: number }) => name === port.name && protocol === port.protocol && number === transport.port,
      );
  }
}

function ruleText({ peers, ports }: PolicyRule, direction: Direction): string {
  const who = peers.length === 0 ? 'anyone' : peers.map(peerText).join(' or ');
  const where = ports.length === 0 ? 'every port' : ports.map(portText).join(', ');
  return `${direction === 'ingress' ? 'from' : 'to'} ${who} at ${where}`;
}

function peerText(peer: PolicyPeer): string {
  if (peer.match === 'block') return `${peer.cidr}${peer.except.length === 0 ? '' : ` except ${peer.except.join(', ')}`}`;
  const { podSelector, namespaceSelector } = peer;
  const pods = isEverything(podSelector) ? 'every pod' : `pods ${selectorText(podSelector)}`;
  if (namespaceSelector === undefined) return `${pods} of its namespace`;
  return isEverything(namespaceSelector)
    ? `${pods} of every namespace`
    : `${pods} of namespaces ${selectorText(namespaceSelector)}`;
}

function isEverything(selector: LabelSelector | undefined): selector is undefined {
  return selector === undefined || selector.requirements.length === 0;
}

/** As `kubectl --selector` takes it. */
function selectorText({ requirements }: LabelSelector): string {
  return requirements.map(requirementText).join(',');
}

function requirementText({ key, operator, values }: LabelRequirement): string {
  switch (operator) {
    case 'In':
      return values.length === 1 ? `${key}=${values.join()}` : `${key} in (${values.join(',')})`;
    case 'NotIn':
      return values.length === 1 ? `${key}!=${values.join()}` : `${key} notin (${values.join(',')})`;
    case 'Exists':
      return key;
    case 'DoesNotExist':
      return `!${key}`;
  }
}

function portText(port: PolicyPort): string {
  const protocol = port.protocol.toLowerCase();
  switch (port.match) {
    case 'all':
      return `every ${protocol} port`;
    case 'range':
      return `${protocol}/${port.first}${port.first === port.last ? '' : `-${port.last}`}`;
    case 'name':
      return `${protocol}/${port.name}`;
  }
}
