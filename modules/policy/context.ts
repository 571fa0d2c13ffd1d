/** What of node, host and options matters here; a new object only when its content is another. */
import type { Capabilities, HostFacts, NodeView } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { type IpPrefix, prefixFamily } from '../../daemon/net/prefix.ts';
import type { PolicyOptions } from './options.ts';

export interface PolicyContext {
  readonly nodeName: string;
  readonly nodeAddresses: readonly IpAddress[];
  readonly podCIDRs: Readonly<Record<Family, readonly IpPrefix[]>>;
  readonly capabilities: Capabilities;
}

export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

export function policyContextOf(node: NodeView, host: HostFacts): PolicyContext {
  const ofFamily = (family: Family): readonly IpPrefix[] => node.podCIDRs.filter(cidr => prefixFamily(cidr) === family);
  return {
    nodeName: node.name,
    nodeAddresses: node.addresses,
    podCIDRs: { ipv4: ofFamily('ipv4'), ipv6: ofFamily('ipv6') },
    capabilities: host.capabilities,
  };
}

/** Families that are filtered: those that node or pods have addresses of, unless the operator decided, as far as the host can. */
export function filteredFamilies(
  context: PolicyContext,
  ofPods: ReadonlySet<Family>,
  { families }: PolicyOptions,
): readonly Family[] {
  return FAMILIES.filter(family => canFilter(context.capabilities, family) && isWanted(family));

  function isWanted(family: Family): boolean {
    if (families[family] !== 'auto') return families[family] === 'on';
    return (
      ofPods.has(family) ||
      context.podCIDRs[family].length > 0 ||
      context.nodeAddresses.some(address => familyOf(address) === family)
    );
  }
}

export function canFilter({ ipset, iptables, ipv6 }: Capabilities, family: Family): boolean {
  return ipset && iptables[family] && (family === 'ipv4' || ipv6);
}
