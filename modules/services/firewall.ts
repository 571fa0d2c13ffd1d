/**
 * The firewall in front of virtual addresses. They are local addresses of the host: without it every port that a process of the host
 * listens on would answer under them too. Rules are as `iptables-save` prints them.
 */
import type { Family } from '../../daemon/net/address.ts';
import { DIRECT_RETURN, markText } from '../../daemon/net/marks.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import type { NodeContext } from './context.ts';
import { CHAINS, HOOK_ORDER, setName } from './names.ts';

/**
 * Echo request and errors (RFC 792, RFC 4443), IPv6 also echo reply and neighbour discovery (RFC 4861); types by number, as printed. Errors
 * to a virtual address are about replies that went out under it. kube-router leaves out IPv6's 2, packet too big, and 4: without the
 * former, large replies vanish wherever a link on the way is narrow.
 */
const ICMP_ACCEPTS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['3', '8', '11'].map(type => `-p icmp -m icmp --icmp-type ${type} -j ACCEPT`),
  ipv6: ['1', '2', '3', '4', '128', '129', '135', '136'].map(type => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`),
};

const REJECT: Readonly<Record<Family, string>> = {
  ipv4: '-j REJECT --reject-with icmp-port-unreachable',
  ipv6: '-j REJECT --reject-with icmp6-port-unreachable',
};

/**
 * Replies to connections the host itself made: to a virtual address it connects from that very address, and the reply comes back to it,
 * at a port that is no Service's.
 */
const REPLIES = '-m conntrack --ctdir REPLY -j ACCEPT';

/** Connections that are there go on to IPVS, which knows their endpoint, or that it is gone. */
const NEW = '-m conntrack --ctstate NEW';

/** For who may not meet a load-balancer address: `spec.loadBalancerSourceRanges` says whom it is open to. */
export function closedRule(family: Family): string {
  return `${NEW} -m set --match-set ${setName('closed', family)} dst,dst -m set ! --match-set ${setName('open', family)} dst,dst,src -j DROP`;
}

/**
 * For what a Local policy leaves nothing to serve here, unless a mark says that the client is one of this node: those meet all endpoints. The
 * bit that tells direct server return is no such mark.
 */
function droppedRule(family: Family): string {
  return `${NEW} -m mark --mark ${markText(0, DIRECT_RETURN - 1)} -m set --match-set ${setName('dropped', family)} dst,dst -j DROP`;
}

/**
 * In the filter table's INPUT, which packets pass before IPVS takes them (IPVS hooks in behind, at the place of source NAT). First new
 * connections that source ranges or a Local policy drop or that no endpoint is there for, also on the node's own addresses; then, where the
 * operator wants the firewall, all that is for a virtual address.
 */
export function firewallEntries(node: NodeContext, family: Family): readonly Entry[] {
  const roles = node.sets[family];
  if (!roles.includes('dropped')) return [];
  const hasFirewall = roles.includes('vipPorts');
  const input = [
    closedRule(family),
    droppedRule(family),
    `-p tcp ${NEW} -m set --match-set ${setName('refused', family)} dst,dst -j REJECT --reject-with tcp-reset`,
    ...(hasFirewall ? [`-m set --match-set ${setName('vips', family)} dst -j ${CHAINS.services}`] : []),
  ];
  const services = [
    REPLIES,
    ...ICMP_ACCEPTS[family],
    `-m set --match-set ${setName('vipPorts', family)} dst,dst -j ACCEPT`,
    `-m set ! --match-set ${setName('hostAddresses', family)} dst ${REJECT[family]}`,
  ];
  return [
    ...(hasFirewall
      ? [entry('iptables', { kind: 'chain', family, table: 'filter', name: CHAINS.services, rules: services })]
      : []),
    entry('iptables', { kind: 'chain', family, table: 'filter', name: CHAINS.input, rules: input }),
    entry('iptables', { kind: 'hook', family, table: 'filter', from: 'INPUT', to: CHAINS.input, order: HOOK_ORDER, match: '' }),
  ];
}
