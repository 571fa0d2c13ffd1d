/** From a NetworkPolicy to a program: what it says, without how it is said. */
import { keyOf, type NetworkPolicy, type PolicyPeer, type PolicyPort, type PolicyRule } from '../../daemon/cluster/kinds.ts';
import { PROTOCOLS } from '../../daemon/net/port.ts';
import type { Allow, Block, Direction, Members, Peer, PolicyProgram, Ports } from './program.ts';

/**
 * One direction of a policy; undefined where the policy does not restrict it. What is unusable allows nothing: the pods that the policy
 * selects are closed unless another policy opens them.
 */
export function compilePolicy(policy: NetworkPolicy, direction: Direction): PolicyProgram | undefined {
  const wanted = policy[direction];
  if (wanted === undefined) return undefined;
  const allows = wanted.unusable === undefined ? wanted.rules.flatMap((rule, index) => allowsOf(rule, index, policy)) : [];
  return { policy: keyOf(policy.meta), direction, allows };
}

/** Every peer at every port. */
function allowsOf(rule: PolicyRule, index: number, policy: NetworkPolicy): readonly Allow[] {
  const ports = portsOf(rule.ports);
  return peersOf(rule.peers, policy.meta.namespace).flatMap(peer => ports.map(at => ({ peer, ports: at, rule: index })));
}

/** Blocks without `except` are one peer together; one with `except` is one of its own, since the parts left out are left out of it alone. */
function peersOf(peers: readonly PolicyPeer[], namespace: string): readonly Peer[] {
  if (peers.length === 0) return [{ who: 'anyone' }];
  const plain: Block[] = [];
  const found: Peer[] = [];
  for (const peer of peers) {
    if (peer.match === 'pods') found.push({ who: 'members', members: membersOf(peer, namespace) });
    else if (peer.except.length === 0) plain.push({ cidr: peer.cidr, except: [] });
    else found.push({ who: 'blocks', blocks: [{ cidr: peer.cidr, except: [...new Set(peer.except)].sort() }] });
  }
  if (plain.length > 0) found.push({ who: 'blocks', blocks: distinct(plain) });
  return found;
}

function distinct(blocks: readonly Block[]): readonly Block[] {
  return [...new Map(blocks.map(block => [block.cidr, block])).values()].sort((a, b) => (a.cidr < b.cidr ? -1 : 1));
}

function membersOf(peer: Extract<PolicyPeer, { match: 'pods' }>, namespace: string): Members {
  const podSelector = peer.podSelector ?? { requirements: [] };
  return peer.namespaceSelector === undefined
    ? { in: 'namespace', namespace, podSelector }
    : { in: 'namespaces', namespaceSelector: peer.namespaceSelector, podSelector };
}

/** One item a protocol where numbers allow it, and one a name. */
function portsOf(ports: readonly PolicyPort[]): readonly Ports[] {
  if (ports.length === 0) return [{ which: 'any' }];
  return PROTOCOLS.flatMap((protocol): readonly Ports[] => {
    const ofProtocol = ports.filter(port => port.protocol === protocol);
    if (ofProtocol.some(port => port.match === 'all')) return [{ which: 'protocol', protocol }];
    const ranges = merged(ofProtocol.flatMap(port => (port.match === 'range' ? [[port.first, port.last] as const] : [])));
    const names = new Set(ofProtocol.flatMap(port => (port.match === 'name' ? [port.name] : [])));
    const named = [...names].sort().map((name): Ports => ({ which: 'named', protocol, name }));
    return ranges.length === 0 ? named : [{ which: 'numbers', protocol, ranges }, ...named];
  });
}

/** The same ports in the fewest ranges. */
function merged(ranges: readonly (readonly [number, number])[]): readonly (readonly [number, number])[] {
  const found: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const former = found.at(-1);
    if (former !== undefined && first <= former[1] + 1) former[1] = Math.max(former[1], last);
    else found.push([first, last]);
  }
  return found;
}
