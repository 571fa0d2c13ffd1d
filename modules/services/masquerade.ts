/**
 * Whose source address is replaced by the node's. A client keeps its address wherever the replies come back through this node anyhow;
 * where they would not, they must be drawn here, since only here they can be translated back. Rules are as `iptables-save` prints them.
 */
import type { Family } from '../../daemon/net/address.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import type { NodeContext } from './context.ts';
import { CHAINS, HOOK_ORDER, setName } from './names.ts';
import type { ServicesOptions } from './options.ts';

/** First packets of connections that IPVS sends to an endpoint; replies are translated back by conntrack. `--ipvs` is implied. */
const BALANCED = '-m ipvs --vdir ORIGINAL --vmethod MASQ';

export function masqueradeEntries(node: NodeContext, options: ServicesOptions, family: Family): readonly Entry[] {
  if (!node.capabilities.iptables[family] || !node.capabilities.xtIpvs) return [];
  return [
    entry('iptables', {
      kind: 'chain',
      family,
      table: 'nat',
      name: CHAINS.masquerade,
      rules: masqueradeRules(node, options, family),
    }),
    entry('iptables', {
      kind: 'hook',
      family,
      table: 'nat',
      from: 'POSTROUTING',
      to: CHAINS.masquerade,
      order: HOOK_ORDER,
      match: BALANCED,
    }),
  ];
}

function masqueradeRules(node: NodeContext, options: ServicesOptions, family: Family): readonly string[] {
  const target = masqueradeTarget(node, family);
  if (options.masqueradeAll) return [target];
  const cidrs = node.podCIDRs[family];
  const roles = node.sets[family];
  const bridged = node.capabilities.bridgeNetfilter
    ? []
    : cidrs.flatMap(from => cidrs.map(to => `-s ${from} -d ${to} ${target}`));
  return [
    // An endpoint that is balanced to itself would see its own address as the client and answer itself.
    ...(roles.includes('hairpin') ? [`-m set --match-set ${setName('hairpin', family)} dst,dst,src ${target}`] : []),
    // The kernel gives a connection from the node to a virtual address that same address as its source; it stands on every node.
    ...(roles.includes('vips') ? [`-m set --match-set ${setName('vips', family)} src ${target}`] : []),
    // Between two pods of one bridge the reply would be bridged past IPVS.
    ...bridged,
    // The way back to pods of this node leads through it, whoever answers; so does the way out of an endpoint here.
    ...cidrs.map(cidr => `-s ${cidr} -j RETURN`),
    ...cidrs.map(cidr => `-d ${cidr} -j RETURN`),
    // Without pod CIDRs (bare metal, other address management) endpoints of this node are known one by one, clients are not.
    ...(roles.includes('localPods') ? [`-m set --match-set ${setName('localPods', family)} dst -j RETURN`] : []),
    target,
  ];
}

/** `--random-fully`: without it, connections that race for one source port lose packets. */
function masqueradeTarget(node: NodeContext, family: Family): string {
  const address = node.masqueradeAddress[family];
  return address === undefined ? '-j MASQUERADE --random-fully' : `-j SNAT --to-source ${address} --random-fully`;
}
