/**
 * Marks by which IPVS finds another virtual service than by address and port (ipvsadm(8): fwmark-service). They come from the elements of sets, so
 * that the number of Services adds no rule. Rules are as `iptables-save` prints them.
 */
import type { Family } from '../../daemon/net/address.ts';
import { DIRECT_RETURN, markText } from '../../daemon/net/marks.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { MARK_DELIVERY_TABLE } from '../../daemon/reconcile/service-tables.ts';
import type { NodeContext } from './context.ts';
import { closedRule } from './firewall.ts';
import { CHAINS, HOOK_ORDER, setName } from './names.ts';

/** How many bytes of a packet are not TCP's own: two IP headers (RFC 791, RFC 8200) and TCP's, with room for its options over IPv6, as kube-router has it. */
const WRAPPING: Readonly<Record<Family, number>> = { ipv4: 60, ipv6: 100 };

/**
 * In the mangle table: before the routing decision for packets that arrive, before IPVS for those of the node itself. The latter never
 * come to INPUT when IPVS takes them, so that what source ranges close is closed to the node here.
 */
export function markingEntries(node: NodeContext, family: Family, hasDirect: boolean): readonly Entry[] {
  if (!node.sets[family].includes('inside')) return [];
  const inside = mapRule('inside', family);
  // Who comes from inside has the last word.
  const direct = hasDirect ? [mapRule('direct', family)] : [];
  const chains = {
    PREROUTING: {
      name: CHAINS.prerouting,
      rules: [
        ...direct,
        ...node.podCIDRs[family].map(cidr => `-s ${cidr} ${inside}`),
        ...(hasDirect ? clampRules(node, family) : []),
      ],
    },
    OUTPUT: { name: CHAINS.output, rules: [closedRule(family), ...(hasDirect ? unmarkRules(node) : []), ...direct, inside] },
  };
  return Object.entries(chains).flatMap(([from, { name, rules }]) => [
    entry('iptables', { kind: 'chain', family, table: 'mangle', name, rules }),
    entry('iptables', { kind: 'hook', family, table: 'mangle', from, to: name, order: HOOK_ORDER, match: '' }),
  ]);
}

/** Marked packets of direct server return are for this host although no link has their address: IPVS sees what is delivered here. */
export function deliveryEntries(family: Family): readonly Entry[] {
  return [entry('markDelivery', { family, mark: DIRECT_RETURN, table: MARK_DELIVERY_TABLE })];
}

function mapRule(role: 'inside' | 'direct', family: Family): string {
  return `-j SET --map-set ${setName(role, family)} dst,dst --map-mark`;
}

/**
 * What IPVS sends on to an endpoint still bears the mark, and the kernel looks for its way anew where the destination was translated: by the
 * mark it would come back to this host.
 */
function unmarkRules({ capabilities }: NodeContext): readonly string[] {
  const bit = markText(DIRECT_RETURN, DIRECT_RETURN);
  return capabilities.xtIpvs ? [`-m mark --mark ${bit} -m ipvs --ipvs -j MARK --set-xmark ${markText(0, DIRECT_RETURN)}`] : [];
}

/** The endpoint's answer to a connection says how large the client's segments may be: they will be wrapped on their way. */
function clampRules(node: NodeContext, family: Family): readonly string[] {
  const mtu = node.pathMtu[family];
  if (mtu === undefined) return [];
  const answers = `-p tcp -m set --match-set ${setName('direct', family)} src,src -m tcp --tcp-flags SYN,RST SYN`;
  return [`${answers} -j TCPMSS --set-mss ${mtu - WRAPPING[family]}`];
}
