/** Pools outlive a slip of the pen: what cannot be read any more stays as it could last be. */
import type { AddressPool, AddressPools } from './kinds.ts';

/** The pools as they are to be used now. `former` are those that were in use before this text came. */
export function lastGoodPools(former: AddressPools | undefined, now: AddressPools): AddressPools {
  if (former === undefined) return now;
  if (now.unreadable === undefined) return { ...now, pools: former.pools, unreadable: former.unreadable };
  const pools: AddressPool[] = [...now.pools];
  const unknown: string[] = [];
  for (const name of now.unreadable) {
    const index = former.pools.findIndex(pool => pool.name === name);
    const pool = former.pools[index];
    // Where it stood: their order decides which of them gives an address.
    if (pool === undefined) unknown.push(name);
    else pools.splice(index, 0, pool);
  }
  return { ...now, pools, unreadable: unknown };
}
