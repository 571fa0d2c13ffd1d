/** Pools outlive a slip of the pen: what cannot be read any more stays as it could last be. */
import type { AddressPool, AddressPools } from './kinds.ts';

/** The pools as they are to be used now. `former` are those that were in use before this text came. */
export function lastGoodPools(former: AddressPools | undefined, now: AddressPools): AddressPools {
  if (former === undefined) return now;
  if (now.unreadable === undefined) return { ...now, pools: former.pools, unreadable: former.unreadable };
  const formerOf = (name: string): AddressPool | undefined => former.pools.find(pool => pool.name === name);
  // A slip of the pen in one range takes no address away from anybody.
  const pools = now.pools.map(pool => (now.incomplete.includes(pool.name) ? (formerOf(pool.name) ?? pool) : pool));
  for (const name of now.unreadable) {
    const pool = formerOf(name);
    // Where it stood: their order decides which of them gives an address.
    if (pool !== undefined) pools.splice(former.pools.indexOf(pool), 0, pool);
  }
  const isUnknown = (name: string): boolean => formerOf(name) === undefined;
  return { ...now, pools, unreadable: now.unreadable.filter(isUnknown), incomplete: now.incomplete.filter(isUnknown) };
}
