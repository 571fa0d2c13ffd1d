/** Pods by their addresses, kept up to date pod by pod. */
import type { IpAddress } from '../net/address.ts';
import type { Pod } from './kinds.ts';

const NO_PODS: readonly Pod[] = [];

export class PodsByAddress {
  readonly #pods = new Map<IpAddress, readonly Pod[]>();

  /** Takes a pod in place of a former one. One that has ended has no address: others may have it by now. */
  replace(former: Pod | undefined, now: Pod | undefined): void {
    for (const address of addressesOf(former)) {
      const others = this.at(address).filter(pod => pod !== former);
      if (others.length === 0) this.#pods.delete(address);
      else this.#pods.set(address, others);
    }
    if (now !== undefined) for (const address of addressesOf(now)) this.#pods.set(address, [...this.at(address), now]);
  }

  at(address: IpAddress): readonly Pod[] {
    return this.#pods.get(address) ?? NO_PODS;
  }
}

function addressesOf(pod: Pod | undefined): readonly IpAddress[] {
  return pod === undefined || pod.finished ? [] : pod.addresses;
}
