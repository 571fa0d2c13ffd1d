/**
 * The chains around the groups: how packets come to be judged, and what is settled before. Rules are as `iptables-save` prints them.
 *
 * Established traffic is settled by the first rule and a few address comparisons behind it, however many pods and policies there are.
 * Of new flows, those of pods that no policy selects pass two set lookups; only the others are looked at further.
 */
import type { Family } from '../../daemon/net/address.ts';
import { markText, POLICY_ALLOWED, POLICY_BALANCED } from '../../daemon/net/marks.ts';
import { PROTOCOLS } from '../../daemon/net/port.ts';
import { type IpPrefix, prefixLength } from '../../daemon/net/prefix.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import { dispatchRule, logRule, protocolName, setMatch, words } from './emit-iptables.ts';
import { bucketChain, bucketOf, bucketSet, CHAINS, HOOK_ORDER, ofFamily, SETS } from './names.ts';
import type { PolicyOptions } from './options.ts';
import type { Direction, Group } from './program.ts';

export interface FrameContext {
  readonly families: readonly Family[];
  /** Pod prefixes of this node. */
  readonly podCIDRs: Readonly<Record<Family, readonly IpPrefix[]>>;
  readonly hasLog: boolean;
}

const ESTABLISHED = '-m conntrack --ctstate RELATED,ESTABLISHED';
const FROM_THE_NODE = '-m addrtype --src-type LOCAL';

/**
 * ICMP that no policy is about: errors (RFC 792, RFC 4443), neighbour discovery (RFC 4861), and, as kube-router has it, echo requests;
 * types by number, as printed.
 */
const ICMP: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['3', '8', '11', '12'].map(type => `-p icmp -m icmp --icmp-type ${type} -j RETURN`),
  ipv6: ['1', '2', '3', '4', '128', '133', '134', '135', '136'].map(
    type => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`,
  ),
};

const REJECT: Readonly<Record<Family, string>> = {
  ipv4: '-j REJECT --reject-with icmp-port-unreachable',
  ipv6: '-j REJECT --reject-with icmp6-port-unreachable',
};

/** Everything but the dispatch and what names single pods. */
export function frameEntries(context: FrameContext, options: PolicyOptions): readonly Entry[] {
  return context.families.flatMap(family => [
    ...setEntries(options, family),
    ...chains(family, {
      [CHAINS.deny]: denyRules(options, family),
      [CHAINS.allow]: [`-j MARK --set-xmark ${markText(POLICY_ALLOWED, POLICY_ALLOWED)}`],
      [CHAINS.pass]: [CLEAR_MARK],
      // Asked only of what is about to be denied: a pod that reaches itself through a Service is never kept from it.
      [CHAINS.self]: [`${setMatch(ofFamily(SETS.self, family), 'dst,dst,src')} -g ${CHAINS.allow}`],
      [CHAINS.pods]: podsRules(context, family),
      ...(options.defaultDeny ? { [CHAINS.defaultDeny]: defaultDenyRules(context, family) } : {}),
      [CHAINS.forward]: forwardRules(context, options, family),
      [CHAINS.input]: inputRules(context, options, family),
      [CHAINS.output]: outputRules(options, family),
    }),
    ...(['FORWARD', 'INPUT', 'OUTPUT'] as const).map(from => hook(family, from)),
  ]);
}

const BALANCED = markText(POLICY_BALANCED, POLICY_BALANCED);
const CLEAR_MARK = `-j MARK --set-xmark ${markText(0, POLICY_ALLOWED)}`;

const TO_BY_HOOK = { FORWARD: CHAINS.forward, INPUT: CHAINS.input, OUTPUT: CHAINS.output } as const;

function hook(family: Family, from: keyof typeof TO_BY_HOOK): Entry {
  const to = TO_BY_HOOK[from];
  return entry('iptables', { kind: 'hook', family, table: 'filter', from, to, order: HOOK_ORDER, match: '' });
}

function chains(family: Family, rulesOf: Readonly<Record<string, readonly string[]>>): readonly Entry[] {
  return Object.entries(rulesOf).map(([name, rules]) =>
    entry('iptables', { kind: 'chain', family, table: 'filter', name, rules }),
  );
}

function setEntries(options: PolicyOptions, family: Family): readonly Entry[] {
  const open = options.defaultDeny ? [SETS.openEgress, SETS.openIngress] : [];
  return [SETS.localPods, SETS.egress, SETS.ingress, ...open].map(name =>
    entry('ipset', { kind: 'set', name: ofFamily(name, family), type: 'hash:ip', family, maxElements: maxElementsFor(0) }),
  );
}

/**
 * A TCP client learns of it at once by an RST; ICMP errors the kernel rations (icmp_ratelimit), but only they find back through IPVS. Linux takes an SCTP association for refused
 * when the protocol is unreachable, not when the port is; in IPv6 ip6tables has no error that it heeds.
 */
function denyRules({ denyWith }: PolicyOptions, family: Family): readonly string[] {
  if (denyWith === 'drop') return ['-j DROP'];
  return [
    `-p tcp -m mark ! --mark ${BALANCED} -j REJECT --reject-with tcp-reset`,
    ...(family === 'ipv4' ? ['-p sctp -j REJECT --reject-with icmp-proto-unreachable'] : []),
    REJECT[family],
  ];
}

/** Traffic of pods is ours to decide, as in kube-router: a host whose FORWARD policy is DROP forwards it all the same. The rest is the host's. */
function podsRules({ podCIDRs }: FrameContext, family: Family): readonly string[] {
  return [
    ...podCIDRs[family].flatMap(cidr => ['-s', '-d'].map(side => words(addressMatch(side, cidr), '-j ACCEPT'))),
    ...['src', 'dst'].map(side => `${setMatch(ofFamily(SETS.localPods, family), side)} -j ACCEPT`),
  ];
}

function forwardRules({ podCIDRs }: FrameContext, options: PolicyOptions, family: Family): readonly string[] {
  return [
    // Most packets of all end here; those of pods outside of the prefixes one chain further.
    ...podCIDRs[family].flatMap(cidr => ['-s', '-d'].map(side => words(addressMatch(side, cidr), ESTABLISHED, '-j ACCEPT'))),
    `${ESTABLISHED} -g ${CHAINS.pods}`,
    judge('egress', family),
    judge('ingress', family),
    ...(options.defaultDeny ? [`-j ${CHAINS.defaultDeny}`] : []),
    `-g ${CHAINS.pods}`,
  ];
}

/** A pod to its own node. What IPVS takes from here comes by again in OUTPUT, on its way to the endpoint. */
function inputRules(context: FrameContext, options: PolicyOptions, family: Family): readonly string[] {
  const { first, last } = options.nodePorts;
  const ranges = options.serviceRanges.filter(range => range.includes(':') === (family === 'ipv6'));
  const services = [
    ...ranges.map(range => words(addressMatch('-d', range), '-j RETURN')),
    `${setMatch(ofFamily(SETS.servicePorts, family), 'dst,dst')} -j RETURN`,
    ...PROTOCOLS.map(protocolName).map(
      protocol => `-p ${protocol} -m addrtype --dst-type LOCAL -m multiport --dports ${first}:${last} -j RETURN`,
    ),
  ];
  const isSelected = setMatch(ofFamily(SETS.egress, family), 'src');
  if (!options.defaultDeny) {
    return [
      `${ESTABLISHED} -j RETURN`,
      `-m set ! --match-set ${ofFamily(SETS.egress, family)} src -j RETURN`,
      ...services,
      `-j ${CHAINS.egress}`,
    ];
  }
  return [
    `${ESTABLISHED} -j RETURN`,
    `${FROM_THE_NODE} -j RETURN`,
    ...services,
    `${isSelected} -j ${CHAINS.egress}`,
    ...ICMP[family],
    ...context.podCIDRs[family].map(cidr => unknownRule('egress', cidr, family)),
  ];
}

/**
 * The node may always reach its own pods; so its own packets are through at once. The others come from IPVS, with the address of the
 * client and that of the endpoint.
 */
function outputRules(options: PolicyOptions, family: Family): readonly string[] {
  return [
    `${ESTABLISHED} -j RETURN`,
    `${FROM_THE_NODE} -j RETURN`,
    `-j MARK --set-xmark ${BALANCED}`,
    judge('egress', family),
    judge('ingress', family),
    ...(options.defaultDeny ? [`-j ${CHAINS.defaultDeny}`] : []),
    `-j MARK --set-xmark ${markText(0, POLICY_BALANCED)}`,
  ];
}

const SIDES = {
  ingress: { set: 'dst', address: '-d', chain: CHAINS.ingress, selected: SETS.ingress, open: SETS.openIngress },
  egress: { set: 'src', address: '-s', chain: CHAINS.egress, selected: SETS.egress, open: SETS.openEgress },
} as const;

function judge(direction: Direction, family: Family): string {
  const { set, chain, selected } = SIDES[direction];
  return `${setMatch(ofFamily(selected, family), set)} -j ${chain}`;
}

/** Addresses of the node's pod prefixes that are neither of a pod whose group was asked nor of one that no policy selects. */
function defaultDenyRules({ podCIDRs, hasLog }: FrameContext, family: Family): readonly string[] {
  const unknown = (['egress', 'ingress'] as const).flatMap(direction =>
    podCIDRs[family].map(cidr => unknownRule(direction, cidr, family)),
  );
  return unknown.length === 0 ? [] : [...ICMP[family], ...unknown.flatMap(rule => (hasLog ? [logged(rule), rule] : [rule]))];
}

function logged(rule: string): string {
  return `${rule.slice(0, rule.lastIndexOf(' -j '))} ${logRule('deny: pod not known yet')}`;
}

function unknownRule(direction: Direction, cidr: IpPrefix, family: Family): string {
  const { set, address, selected, open } = SIDES[direction];
  const isIn = (name: string): string => `-m set ! --match-set ${ofFamily(name, family)} ${set}`;
  return words(addressMatch(address, cidr), isIn(open), isIn(selected), `-j ${CHAINS.deny}`);
}

/** More groups than this are found in two steps: 250 groups by at most 32 set lookups instead of 250. */
export const MOST_GROUPS_IN_A_ROW = 16;

/**
 * From a pod that some policy selects to the chain of its group. One that is in no group, because someone took it out or a chain could
 * not be made, is closed.
 */
export function dispatchEntries(direction: Direction, groups: readonly Group[], context: FrameContext): readonly Entry[] {
  const buckets = groups.length > MOST_GROUPS_IN_A_ROW ? Map.groupBy(groups, bucketOf) : undefined;
  const side = SIDES[direction].set;
  return context.families.flatMap(family => {
    const chain = (name: string, rules: readonly string[]): Entry =>
      entry('iptables', { kind: 'chain', family, table: 'filter', name, rules, lacking: 'rule by rule', dropping: 'late' });
    const rulesOf = (some: readonly Group[]): readonly string[] => [
      ...some.map(group => dispatchRule(group, family)),
      `-g ${CHAINS.deny}`,
    ];
    const head = [
      ...ICMP[family],
      // No part of any flow that is known: neither a policy's to allow nor to be answered.
      '-m conntrack --ctstate INVALID -j DROP',
      CLEAR_MARK,
    ];
    if (buckets === undefined) return [chain(SIDES[direction].chain, [...head, ...rulesOf(groups)])];
    const names = [...buckets.keys()].sort();
    const setOf = (bucket: string): string => ofFamily(bucketSet(direction, bucket), family);
    const steps = names.map(bucket => `${setMatch(setOf(bucket), side)} -g ${bucketChain(direction, bucket)}`);
    return [
      chain(SIDES[direction].chain, [...head, ...steps, `-g ${CHAINS.deny}`]),
      ...[...buckets].map(([bucket, some]) => chain(bucketChain(direction, bucket), rulesOf(some))),
      ...names.map(bucket =>
        entry('ipset', { kind: 'set', name: setOf(bucket), type: 'hash:ip', family, maxElements: maxElementsFor(0) }),
      ),
    ];
  });
}

/** iptables prints no prefix of length 0. */
function addressMatch(side: string, prefix: IpPrefix): string {
  return prefixLength(prefix) === 0 ? '' : `${side} ${prefix}`;
}
