/** Who in the cluster has an address. */
import { keyOf, type Node, type ObjectKey, type Pod, type Service } from '../cluster/kinds.ts';
import { hasOwnAddress, isYounger } from '../cluster/policy-subjects.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import type { IpAddress } from '../net/address.ts';
import { anyPrefixContains, type IpPrefix, prefixContains } from '../net/prefix.ts';

/** Where packets from an address begin, or to it end. `outside`: at no node that we know. */
export type Place = { readonly at: 'here' } | { readonly at: 'node'; readonly node: string } | { readonly at: 'outside' };

export class ClusterObjects {
  readonly #snapshot: Snapshot;
  #pods: ReadonlyMap<IpAddress, Pod> | undefined;

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot;
  }

  /** The pod that an address leads to. Pods of their host's network have none of their own. */
  podAt(address: IpAddress): Pod | undefined {
    this.#pods ??= podsByAddress(this.#snapshot.pods.values());
    return this.#pods.get(address);
  }

  /** The other or this node that has the address. */
  nodeAt(address: IpAddress): Node | undefined {
    for (const node of this.#snapshot.nodes.values()) {
      if (node.internalIPs.includes(address) || node.externalIPs.includes(address)) return node;
    }
    return undefined;
  }

  /** The node that gives such addresses to pods, with the prefix. */
  podNetworkOf(address: IpAddress): { readonly node: string; readonly prefix: IpPrefix } | undefined {
    const { node, nodes } = this.#snapshot;
    const own = node.podCIDRs.find(prefix => prefixContains(prefix, address));
    if (own !== undefined) return { node: node.name, prefix: own };
    for (const other of nodes.values()) {
      const prefix = other.podCIDRs.find(each => prefixContains(each, address));
      if (prefix !== undefined) return { node: other.meta.name, prefix };
    }
    return undefined;
  }

  /** Services that claim the address for themselves, in whatever field. */
  servicesAt(address: IpAddress): readonly Service[] {
    return [...this.#snapshot.services.values()].filter(({ clusterIPs, externalIPs, loadBalancerIPs }) =>
      [clusterIPs, externalIPs, loadBalancerIPs].some(list => list.includes(address)),
    );
  }

  servicesOfNodePort(port: number): readonly Service[] {
    return [...this.#snapshot.services.values()].filter(({ ports }) => ports.some(({ nodePort }) => nodePort === port));
  }

  placeOf(address: IpAddress): Place {
    const { node } = this.#snapshot;
    const pod = this.podAt(address);
    const name =
      pod !== undefined && pod.nodeName !== ''
        ? pod.nodeName
        : (this.nodeAt(address)?.meta.name ?? this.podNetworkOf(address)?.node);
    if (name === node.name || node.addresses.includes(address)) return { at: 'here' };
    if (this.#snapshot.host.addresses.some(each => each.address === address)) return { at: 'here' };
    return name === undefined ? { at: 'outside' } : { at: 'node', node: name };
  }

  isOfOwnPods(address: IpAddress): boolean {
    return anyPrefixContains(this.#snapshot.node.podCIDRs, address) || this.#isPodHere(address);
  }

  /** `default/web-1 (10.244.1.5)`, `node-2 (192.168.1.2)`, or the address alone. */
  title(address: IpAddress): string {
    const name = this.#nameAt(address);
    return name === undefined ? address : `${name} (${address})`;
  }

  #nameAt(address: IpAddress): ObjectKey | undefined {
    const pod = this.podAt(address);
    if (pod !== undefined) return keyOf(pod.meta);
    if (this.#snapshot.node.addresses.includes(address)) return this.#snapshot.node.name;
    return this.nodeAt(address)?.meta.name;
  }

  #isPodHere(address: IpAddress): boolean {
    const pod = this.podAt(address);
    return pod !== undefined && pod.nodeName === this.#snapshot.node.name;
  }
}

function podsByAddress(pods: Iterable<Pod>): ReadonlyMap<IpAddress, Pod> {
  const found = new Map<IpAddress, Pod>();
  for (const pod of pods) {
    if (!hasOwnAddress(pod)) continue;
    for (const address of pod.addresses) {
      const other = found.get(address);
      if (other === undefined || isYounger(pod, other)) found.set(address, pod);
    }
  }
  return found;
}
