/** This node as the planners see it: from its Node object, or on bare metal from the host itself. */
import { type Family, familyOf, type IpAddress, isLinkLocal, isLoopback } from '../net/address.ts';
import type { Node } from './kinds.ts';
import type { HostFacts, NodeView } from './snapshot.ts';

const ZONE_LABEL = 'topology.kubernetes.io/zone';
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Makes the view of one node; the same inputs give the same view (`===`). */
export class NodeViewer {
  readonly #name: string;
  #last: { readonly node: Node | undefined; readonly host: HostFacts; readonly view: NodeView } | undefined;

  /** @param name metadata.name of this node's Node object. */
  constructor(name: string) {
    this.#name = name;
  }

  view(nodes: ReadonlyMap<string, Node>, host: HostFacts): NodeView {
    const node = nodes.get(this.#name);
    if (this.#last?.node === node && this.#last?.host === host) return this.#last.view;
    const view = node === undefined ? viewOfHost(this.#name, host) : (this.#viewOfSame(node) ?? viewOfNode(node));
    this.#last = { node, host, view };
    return view;
  }

  /** With a Node object the host has no say, so a change of host facts keeps the view. */
  #viewOfSame(node: Node): NodeView | undefined {
    return this.#last?.node === node ? this.#last.view : undefined;
  }
}

function viewOfNode(node: Node): NodeView {
  const primary = primaryOf([...node.internalIPs, ...node.externalIPs]);
  return {
    name: node.meta.name,
    fromCluster: true,
    primary,
    addresses: primaryFirst(primary, [...node.internalIPs, ...node.externalIPs]),
    podCIDRs: node.podCIDRs,
    zone: node.labels[ZONE_LABEL] ?? '',
    isLeaving: node.isLeaving,
  };
}

/** Without a Node object: the host's global addresses, except on links that hold Service or pod addresses. */
function viewOfHost(name: string, host: HostFacts): NodeView {
  const addresses = host.addresses
    .filter(({ link, address }) => !/dummy|kube|docker/.test(link) && !isLoopback(address) && !isLinkLocal(address))
    .map(({ address }) => address);
  const primary = primaryOf(addresses);
  return {
    name,
    fromCluster: false,
    primary,
    addresses: primaryFirst(primary, addresses),
    podCIDRs: [],
    zone: '',
    isLeaving: false,
  };
}

function primaryOf(addresses: readonly IpAddress[]): NodeView['primary'] {
  const primary: Partial<Record<Family, IpAddress>> = {};
  for (const address of addresses) primary[familyOf(address)] ??= address;
  return primary;
}

function primaryFirst(primary: NodeView['primary'], addresses: readonly IpAddress[]): readonly IpAddress[] {
  const first = FAMILIES.map(family => primary[family]).filter(address => address !== undefined);
  return [...new Set([...first, ...addresses])];
}
