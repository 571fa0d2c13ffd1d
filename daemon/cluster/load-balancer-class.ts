/** Which load-balancer classes (`spec.loadBalancerClass`) are ours. What allocates addresses and what announces them must agree on it. */
import type { AddressPool } from './kinds.ts';

/** kube-router's own class, which kube-router and we serve in any case. */
const OWN_CLASS = 'kube-router';

/** What stands for "no class in particular", as kube-router has it. */
const DEFAULT_CLASSES: readonly string[] = ['', 'default'];

/** `loadBalancerClass`: '' where the Service names none. A class that a pool names is ours as well. */
export function isOurClass(loadBalancerClass: string, { servesDefaultClass, pools }: ServedClasses): boolean {
  return (
    isServedWithoutPool(loadBalancerClass, servesDefaultClass) ||
    pools.some(pool => pool.loadBalancerClasses.includes(loadBalancerClass))
  );
}

/** Whether pools that name no classes serve this one. `servesDefaultClass`: `--loadbalancer-default-class`. */
export function isServedWithoutPool(loadBalancerClass: string, servesDefaultClass: boolean): boolean {
  return loadBalancerClass === OWN_CLASS || (servesDefaultClass && DEFAULT_CLASSES.includes(loadBalancerClass));
}

export interface ServedClasses {
  readonly servesDefaultClass: boolean;
  readonly pools: readonly AddressPool[];
}
