/** Who has which address and which pods, and which learned routes lead over whom: what a Node's coming and going concerns. */
import type { Node } from '../../daemon/cluster/kinds.ts';
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { hostPrefix, type IpPrefix, prefixFamily, prefixLength, prefixOf } from '../../daemon/net/prefix.ts';
import { maxElementsFor } from '../../daemon/reconcile/set-size.ts';

export class NodeIndex {
  /** How many nodes have it: two may, for a moment or by mistake. */
  readonly #addresses = new Map<IpAddress, number>();
  readonly #nodesWith = new Map<string, Set<Node>>();
  readonly #routesOver = new Map<IpAddress, Set<IpPrefix>>();
  /** By family and length, how many learned routes there are. */
  readonly #lengths: Readonly<Record<Family, Map<number, number>>> = { ipv4: new Map(), ipv6: new Map() };
  #elements = 0;

  isNode(address: IpAddress): boolean {
    return this.#addresses.has(address);
  }

  /** Nodes with this pod CIDR; more than one only by mistake. */
  nodesWith(prefix: string): Iterable<Node> {
    return this.#nodesWith.get(prefix) ?? [];
  }

  addresses(): Iterable<IpAddress> {
    return this.#addresses.keys();
  }

  /** The most elements that one of the sets can have, stepwise, so that it is another only when a set must be. */
  get elements(): number {
    return maxElementsFor(this.#elements) / 4;
  }

  /** Takes a Node in place of a former one; returns prefixes of routes that may be planned otherwise now. */
  replace(former: Node | undefined, now: Node | undefined): ReadonlySet<IpPrefix> {
    const touched = new Set<IpPrefix>();
    const apply = (node: Node | undefined, by: number): void => {
      for (const address of addressesOf(node)) {
        count(this.#addresses, address, by);
        this.#elements += by;
        touched.add(hostPrefix(address));
        // A route to a part of a network that we are on is refused while a node is in it.
        for (const length of this.#lengths[familyOf(address)].keys()) touched.add(prefixOf(address, length));
        for (const prefix of this.#routesOver.get(address) ?? []) touched.add(prefix);
      }
      for (const prefix of node?.podCIDRs ?? []) {
        if (node !== undefined) this.#note(prefix, node, by);
        this.#elements += by;
        touched.add(prefix);
      }
    };
    apply(former, -1);
    apply(now, 1);
    return touched;
  }

  #note(prefix: string, node: Node, by: number): void {
    const nodes = this.#nodesWith.get(prefix) ?? new Set<Node>();
    if (by > 0) nodes.add(node);
    else nodes.delete(node);
    if (nodes.size === 0) this.#nodesWith.delete(prefix);
    else this.#nodesWith.set(prefix, nodes);
  }

  /** Takes a learned route in place of a former one. */
  route(former: LearnedRoute | undefined, now: LearnedRoute | undefined): void {
    if (former !== undefined) count(this.#lengths[prefixFamily(former.prefix)], prefixLength(former.prefix), -1);
    if (now !== undefined) count(this.#lengths[prefixFamily(now.prefix)], prefixLength(now.prefix), 1);
    for (const { address } of former?.nextHops ?? []) {
      const over = this.#routesOver.get(address);
      if (former !== undefined) over?.delete(former.prefix);
      if (over?.size === 0) this.#routesOver.delete(address);
    }
    for (const { address } of now?.nextHops ?? []) {
      const over = this.#routesOver.get(address) ?? new Set();
      if (now !== undefined) over.add(now.prefix);
      this.#routesOver.set(address, over);
    }
  }
}

function count<K>(counts: Map<K, number>, key: K, by: number): void {
  const sum = (counts.get(key) ?? 0) + by;
  if (sum === 0) counts.delete(key);
  else counts.set(key, sum);
}

function addressesOf(node: Node | undefined): ReadonlySet<IpAddress> {
  return new Set([...(node?.internalIPs ?? []), ...(node?.externalIPs ?? [])]);
}
