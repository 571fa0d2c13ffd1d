/** The pods that policies are about, found by namespace, and which of them has an address. */
import type { ObjectKey, Pod } from '../../daemon/cluster/kinds.ts';
import { hasOwnAddress, isYounger } from '../../daemon/cluster/policy-subjects.ts';
import type { IpAddress } from '../../daemon/net/address.ts';

const NOBODY: ReadonlySet<ObjectKey> = new Set();

export class PodIndex {
  readonly #pods = new Map<ObjectKey, Pod>();
  readonly #ofNamespace = new Map<string, Set<ObjectKey>>();
  /** Who claims an address, the youngest first. Two at a time are rare, so that a lone one stands without a list. */
  readonly #claimants = new Map<
    IpAddress,
    { readonly key: ObjectKey; readonly pod: Pod; readonly others: readonly ObjectKey[] }
  >();

  get(key: ObjectKey): Pod | undefined {
    return this.#pods.get(key);
  }

  ofNamespace(namespace: string): ReadonlySet<ObjectKey> {
    return this.#ofNamespace.get(namespace) ?? NOBODY;
  }

  namespaces(): Iterable<string> {
    return this.#ofNamespace.keys();
  }

  /** Addresses that are this pod's and no younger one's. */
  addressesOf(key: ObjectKey): readonly IpAddress[] {
    const addresses = this.#pods.get(key)?.addresses ?? [];
    return addresses.every(address => this.#claimants.get(address)?.key === key)
      ? addresses
      : addresses.filter(address => this.#claimants.get(address)?.key === key);
  }

  /** The pod is now so, or gone. Returns the other pods that gained or lost an address by it. */
  put(key: ObjectKey, pod: Pod | undefined): readonly ObjectKey[] {
    const former = this.#pods.get(key);
    const affected = former === undefined ? [] : this.#remove(key, former);
    return pod !== undefined && hasOwnAddress(pod) ? [...affected, ...this.#add(key, pod)] : affected;
  }

  #add(key: ObjectKey, pod: Pod): readonly ObjectKey[] {
    this.#pods.set(key, pod);
    const siblings = this.#ofNamespace.get(pod.meta.namespace);
    if (siblings === undefined) this.#ofNamespace.set(pod.meta.namespace, new Set([key]));
    else siblings.add(key);
    return pod.addresses.flatMap(address => this.#claim(address, key, pod));
  }

  #claim(address: IpAddress, key: ObjectKey, pod: Pod): readonly ObjectKey[] {
    const holder = this.#claimants.get(address);
    if (holder === undefined) {
      this.#claimants.set(address, { key, pod, others: [] });
      return [];
    }
    if (isYounger(pod, holder.pod)) this.#claimants.set(address, { key, pod, others: [holder.key, ...holder.others] });
    else this.#claimants.set(address, { ...holder, others: [...holder.others, key] });
    return [holder.key];
  }

  #remove(key: ObjectKey, former: Pod): readonly ObjectKey[] {
    this.#pods.delete(key);
    const siblings = this.#ofNamespace.get(former.meta.namespace);
    siblings?.delete(key);
    if (siblings?.size === 0) this.#ofNamespace.delete(former.meta.namespace);
    return former.addresses.flatMap(address => this.#release(address, key));
  }

  #release(address: IpAddress, key: ObjectKey): readonly ObjectKey[] {
    const claimants = this.#claimants.get(address);
    if (claimants === undefined) return [];
    if (claimants.key !== key) {
      this.#claimants.set(address, { ...claimants, others: claimants.others.filter(other => other !== key) });
      return [];
    }
    const [heir, ...others] = claimants.others
      .flatMap(other => {
        const pod = this.#pods.get(other);
        return pod === undefined ? [] : [{ key: other, pod }];
      })
      .sort((a, b) => (isYounger(a.pod, b.pod) ? -1 : 1));
    if (heir === undefined) this.#claimants.delete(address);
    else this.#claimants.set(address, { ...heir, others: others.map(other => other.key) });
    return heir === undefined ? [] : [heir.key];
  }
}
