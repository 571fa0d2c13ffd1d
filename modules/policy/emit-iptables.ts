/**
 * The program as chains and sets of iptables and ipset: one chain for each policy and direction, one for each group, one set for each
 * distinct selection of pods, named port and list of blocks. What stands around them is in `emit-frame.ts`. Rules are as
 * `iptables-save` prints them.
 */
import type { ObjectKey } from '../../daemon/cluster/kinds.ts';
import type { Family } from '../../daemon/net/address.ts';
import { markText, POLICY_ALLOWED } from '../../daemon/net/marks.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { prefixFamily, prefixLength } from '../../daemon/net/prefix.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { elementText, halved } from '../../daemon/reconcile/set-element.ts';
import { maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import { blocksSet, CHAINS, groupChain, groupSet, membersSet, namedPortSet, ofFamily, policyChain } from './names.ts';
import type { Allow, Block, Direction, Group, Peer, PolicyProgram, Ports } from './program.ts';

/** Which end of the packet the other end of the flow is, as set matches and address matches name it. */
const PEER_SIDE = { ingress: { set: 'src', address: '-s' }, egress: { set: 'dst', address: '-d' } } as const;

/** Ports that one `-m multiport` takes; a range counts twice (iptables-extensions(8)). */
const MULTIPORT_SLOTS = 15;

/** Denied packets that a group's chain tells of, so that a flood of them does not flood the log. kube-router's rate. */
export const LOG_RATE = '-m limit --limit 10/min --limit-burst 10';
/** kube-router's NFLOG group. */
export const LOG_GROUP = 100;

/** A policy's chain in each family where at least one rule of it can match; the others need no visit. */
export function policyEntries(program: PolicyProgram, families: readonly Family[]): readonly Entry[] {
  return families.flatMap(family => {
    const rules = policyRules(program, family);
    if (rules.length === 0) return [];
    const name = policyChain(program.policy, program.direction);
    return [
      ...blockSetEntries(program, family),
      entry('iptables', { kind: 'chain', family, table: 'filter', name, rules, lacking: 'rule by rule' }),
    ];
  });
}

/** Each allows: it goes on in {@link CHAINS.allow}, from where the packet is back in the group's chain. */
export function policyRules(program: PolicyProgram, family: Family): readonly string[] {
  return program.allows.flatMap(allow => allowRules(allow, program, family));
}

function allowRules({ peer, ports, rule }: Allow, { policy, direction }: PolicyProgram, family: Family): readonly string[] {
  const from = peerMatch(peer, direction, family);
  if (from === undefined) return [];
  const comment = commentMatch(`${policy} ${direction}[${rule}]`);
  return portMatches(ports, direction, family).map(at => words(from.address, at, from.set, comment, `-g ${CHAINS.allow}`));
}

interface PeerMatch {
  /** `-s` or `-d` with its prefix, or ''. */
  readonly address: string;
  /** A set match, or ''. */
  readonly set: string;
}

/** Undefined where nobody of this family is meant. */
function peerMatch(peer: Peer, direction: Direction, family: Family): PeerMatch | undefined {
  const side = PEER_SIDE[direction];
  switch (peer.who) {
    case 'anyone':
      return { address: '', set: '' };
    case 'members':
      return { address: '', set: setMatch(ofFamily(membersSet(peer.members), family), side.set) };
    case 'blocks': {
      const blocks = blocksOf(peer, family);
      const [only] = blocks;
      if (only === undefined) return undefined;
      if (blocks.some(isEverything)) return { address: '', set: '' };
      if (blocks.length === 1 && only.except.length === 0) return { address: `${side.address} ${only.cidr}`, set: '' };
      return { address: '', set: setMatch(ofFamily(blocksSet(blocks), family), side.set) };
    }
  }
}

function blocksOf(peer: Extract<Peer, { who: 'blocks' }>, family: Family): readonly Block[] {
  return peer.blocks.filter(({ cidr }) => prefixFamily(cidr) === family);
}

function isEverything({ cidr, except }: Block): boolean {
  return prefixLength(cidr) === 0 && except.length === 0;
}

/** At least one; several stand for one rule each. */
function portMatches(ports: Ports, direction: Direction, family: Family): readonly string[] {
  switch (ports.which) {
    case 'any':
      return [''];
    case 'protocol':
      return [`-p ${protocolName(ports.protocol)}`];
    case 'numbers':
      return numberMatches(protocolName(ports.protocol), ports.ranges);
    case 'named': {
      const set = namedPortSet(scopeOf(direction), ports.protocol, ports.name);
      return [words(`-p ${protocolName(ports.protocol)}`, setMatch(ofFamily(set, family), 'dst,dst'))];
    }
  }
}

/** A named port is the destination's: for ingress a pod of this node, for egress any. */
export function scopeOf(direction: Direction): 'node' | 'cluster' {
  return direction === 'ingress' ? 'node' : 'cluster';
}

function numberMatches(protocol: string, ranges: readonly (readonly [number, number])[]): readonly string[] {
  const [only] = ranges;
  if (ranges.length === 1 && only !== undefined) return [`-p ${protocol} -m ${protocol} --dport ${rangeText(only)}`];
  const lines: string[][] = [];
  let slots = MULTIPORT_SLOTS;
  for (const range of ranges) {
    const needed = range[0] === range[1] ? 1 : 2;
    if (slots + needed > MULTIPORT_SLOTS) {
      lines.push([]);
      slots = 0;
    }
    lines.at(-1)?.push(rangeText(range));
    slots += needed;
  }
  return lines.map(line => `-p ${protocol} -m multiport --dports ${line.join(',')}`);
}

function rangeText([first, last]: readonly [number, number]): string {
  return first === last ? String(first) : `${first}:${last}`;
}

export function protocolName(protocol: Protocol): string {
  return protocol.toLowerCase();
}

/** Sets of blocks: their name says what is in them, so that their content never changes. */
function blockSetEntries(program: PolicyProgram, family: Family): readonly Entry[] {
  const entries = new Map<string, readonly Entry[]>();
  for (const { peer } of program.allows) {
    if (peer.who !== 'blocks') continue;
    const blocks = blocksOf(peer, family);
    const isPlain = blocks.some(isEverything) || (blocks.length === 1 && blocks[0]?.except.length === 0);
    if (blocks.length === 0 || isPlain) continue;
    const name = ofFamily(blocksSet(blocks), family);
    const elements = blockElements(blocks);
    entries.set(name, [
      entry('ipset', { kind: 'set', name, type: 'hash:net', family, maxElements: maxElementsFor(elements.length) }),
      ...elements.map(value => entry('ipset', { kind: 'element', set: name, value })),
    ]);
  }
  return [...entries.values()].flat();
}

/** As `ipset save` prints them. The most specific element decides, so that what is left out stands as `nomatch`. */
function blockElements(blocks: readonly Block[]): readonly string[] {
  const left = new Set(blocks.flatMap(({ except }) => except.flatMap(halved)));
  const taken = new Set(blocks.flatMap(({ cidr }) => halved(cidr)).filter(prefix => !left.has(prefix)));
  return [...[...taken].map(elementText), ...[...left].map(prefix => `${elementText(prefix)} nomatch`)];
}

export interface GroupContext {
  readonly families: readonly Family[];
  readonly hasLog: boolean;
  /** Whether the policy has a chain in that family. */
  hasChain(policy: ObjectKey, family: Family): boolean;
}

const ALLOWED_PASSES = `-m mark --mark ${markText(POLICY_ALLOWED, POLICY_ALLOWED)} -g ${CHAINS.pass}`;

/**
 * The chain of a group: its policies one after another until one allows; what none allows is denied. It is entered with `-g`, so that a
 * packet that passes is back in the chain that called the dispatch.
 */
export function groupEntries(group: Group, context: GroupContext): readonly Entry[] {
  const name = groupChain(group);
  return context.families.flatMap(family => {
    const set = ofFamily(groupSet(group), family);
    const visits = group.policies
      .filter(policy => context.hasChain(policy, family))
      .flatMap(policy => [words(commentMatch(policy), `-j ${policyChain(policy, group.direction)}`), ALLOWED_PASSES]);
    const rules = [
      ...visits,
      `-j ${CHAINS.self}`,
      ALLOWED_PASSES,
      ...(context.hasLog ? [logRule(deniedText(group))] : []),
      `-g ${CHAINS.deny}`,
    ];
    return [
      entry('ipset', { kind: 'set', name: set, type: 'hash:ip', family, maxElements: maxElementsFor(0) }),
      entry('iptables', { kind: 'chain', family, table: 'filter', name, rules, lacking: 'rule by rule' }),
    ];
  });
}

/** The rule of the dispatch that sends packets of the group's pods to its chain. */
export function dispatchRule(group: Group, family: Family): string {
  const side = group.direction === 'ingress' ? 'dst' : 'src';
  return `${setMatch(ofFamily(groupSet(group), family), side)} -g ${groupChain(group)}`;
}

/** One policy is to blame by name; of several, none allowed it. */
function deniedText({ direction, policies }: Group): string {
  const [only = ''] = policies;
  return policies.length === 1
    ? `deny ${direction}: ${only}`
    : `deny ${direction}: ${only.slice(0, only.indexOf('/'))}: no policy allowed it`;
}

/** NFLOG takes prefixes of up to 63 characters (iptables-extensions(8)). */
export function logRule(prefix: string): string {
  return `${LOG_RATE} -j NFLOG --nflog-prefix ${quoted(prefix.slice(0, 63))} --nflog-group ${LOG_GROUP}`;
}

export function setMatch(set: string, sides: string): string {
  return `-m set --match-set ${set} ${sides}`;
}

/** Of up to 255 characters; names of objects are shortened long before. */
export function commentMatch(text: string): string {
  return `-m comment --comment ${quoted(text.slice(0, 200))}`;
}

/** As iptables-save quotes. Names from the API are harmless; what a manifest may hold besides is replaced. */
function quoted(text: string): string {
  const plain = text.replace(/[^A-Za-z0-9_./:[\] -]/g, '?');
  return /^[A-Za-z0-9_-]+$/.test(plain) ? plain : `"${plain}"`;
}

export function words(...parts: readonly string[]): string {
  return parts.filter(part => part !== '').join(' ');
}
