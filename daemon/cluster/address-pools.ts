/** The pools of load-balancer addresses that are in force: the flag's and the named ones. */
import type { AddressRange } from '../net/address-range.ts';
import type { AddressPool, AddressPools } from './kinds.ts';

/** The pool of `--loadbalancer-ip-range`. */
export const FLAG_POOL = 'default';

export function poolsInForce(flagRanges: readonly AddressRange[], configured: AddressPools | undefined): readonly AddressPool[] {
  const named = configured?.pools ?? [];
  if (flagRanges.length === 0) return named;
  const flagPool: AddressPool = {
    name: FLAG_POOL,
    ranges: flagRanges,
    autoAssign: true,
    namespaces: [],
    namespaceSelector: undefined,
    serviceSelector: undefined,
    loadBalancerClasses: [],
    nodeSelector: undefined,
  };
  return [flagPool, ...named];
}
