/** The links by which the rest of the cluster reaches this node. */
import { type Family, familyOf } from '../net/address.ts';
import type { HostFacts, NodeView } from './snapshot.ts';

/** Our link for virtual addresses: whatever stands on it is no address of the node. */
const VIP_LINK = 'kube-dummy-if';

/** Links that carry an address of the node of that family, sorted. */
export function nodeLinksOf(node: NodeView, host: HostFacts, family: Family): readonly string[] {
  const links = host.addresses
    .filter(({ link, address }) => link !== VIP_LINK && familyOf(address) === family && node.addresses.includes(address))
    .map(({ link }) => link);
  return [...new Set(links)].sort();
}
