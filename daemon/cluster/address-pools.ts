/** The pools of load-balancer addresses together: that of the flag and the named ones. */
import type { IpAddress } from '../net/address.ts';
import { type AddressRange, prefixesOfRange, rangeContains } from '../net/address-range.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { AddressPool, AddressPools } from './kinds.ts';

/** The name of the pool that `--loadbalancer-ip-range` makes. */
export const DEFAULT_POOL = 'default';

/** The named ones in their order, then that of the flag, which serves everyone. */
export function poolsInForce(flagRanges: readonly AddressRange[], configured: AddressPools | undefined): readonly AddressPool[] {
  const named = configured?.pools ?? [];
  return flagRanges.length === 0 ? named : [...named, poolOfFlag(flagRanges)];
}

function poolOfFlag(ranges: readonly AddressRange[]): AddressPool {
  return {
    name: DEFAULT_POOL,
    ranges,
    autoAssign: true,
    namespaces: [],
    namespaceSelector: undefined,
    serviceSelector: undefined,
    loadBalancerClasses: [],
    nodeSelector: undefined,
  };
}

/** The first one that holds the address. */
export function poolOf(address: IpAddress, pools: readonly AddressPool[]): AddressPool | undefined {
  return pools.find(({ ranges }) => ranges.some(range => rangeContains(range, address)));
}

/** What all of them hold, each prefix once. */
export function loadBalancerPrefixes(
  flagRanges: readonly AddressRange[],
  configured: AddressPools | undefined,
): readonly IpPrefix[] {
  return prefixesOf(poolsInForce(flagRanges, configured));
}

export function prefixesOf(pools: readonly AddressPool[]): readonly IpPrefix[] {
  return [...new Set(pools.flatMap(({ ranges }) => ranges.flatMap(prefixesOfRange)))];
}

/**
 * Pools that cannot be read keep what they last held. After a start nothing is known of those: until they can be read, an address in no pool may be in one
 * of them. Likewise while what should hold the pools is not there.
 */
export function areAllKnown(configured: AddressPools | undefined): boolean {
  return configured?.unreadable?.length === 0 && configured.incomplete.length === 0;
}
