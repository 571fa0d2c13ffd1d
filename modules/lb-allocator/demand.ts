/** What a Service still needs beside what it keeps, and what it will not get whatever is free. */
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Claimant, Wish } from './claimant.ts';
import type { Refusal } from './diagnostics.ts';
import type { Pool, Pools } from './pools.ts';

/** One address of a family. */
export interface Need {
  readonly family: Family;
  /** The one that was asked for; undefined for any. */
  readonly address: IpAddress | undefined;
  /** That may give it, in the order of choice. */
  readonly pools: readonly Pool[];
  /** It has another one of the family meanwhile, and is whole without this. */
  readonly isCovered: boolean;
}

export interface Demand {
  readonly needs: readonly Need[];
  /** All or nothing. */
  readonly isWhole: boolean;
}

export interface Aim {
  /** What it has and may keep. */
  readonly kept: ReadonlyMap<Family, IpAddress>;
  readonly demand: Demand | undefined;
  /** Why some of what it asks for is not even tried. */
  readonly refusals: readonly Refusal[];
  /** A family that it lacks and cannot get. */
  readonly isStuck: boolean;
}

/** `lost`: of what it keeps, the addresses that it must leave to others. */
export function aimOf({ wish, holdings }: Claimant, lost: ReadonlyMap<IpAddress, string>, pools: Pools): Aim {
  const kept = new Map([...holdings.kept].filter(([, address]) => !lost.has(address)));
  if (wish === undefined) return { kept, demand: undefined, refusals: [], isStuck: false };
  // Whoever writes the status last owns all of it: to add to another's addresses would make these look like ours.
  if (holdings.foreign.length > 0) return { kept, demand: undefined, refusals: [], isStuck: false };
  const refused = (refusal: Refusal): Aim => ({
    kept,
    demand: undefined,
    refusals: [refusal],
    isStuck: wish.needsAll ? kept.size < wish.families.length : kept.size === 0,
  });
  const unusable = objectionTo(wish, pools);
  if (unusable !== undefined) return refused(unusable);
  const { needs, lacking } = needsOf(wish, kept, pools);
  const isInVain =
    lacking.length > 0 && ((wish.needsAll && lacking.some(family => !kept.has(family))) || kept.size + needs.length === 0);
  if (isInVain) return refused({ why: 'family', families: lacking });
  const asked = wish.request.pool === '' ? [] : lacking.filter(family => kept.has(family));
  return {
    kept,
    demand: needs.length === 0 ? undefined : { needs, isWhole: wish.needsAll },
    refusals: asked.length === 0 ? [] : [{ why: 'family', families: asked }],
    isStuck: false,
  };
}

/** What is wrong with the request itself, or with what it names. */
function objectionTo({ request, families, serving }: Wish, pools: Pools): Refusal | undefined {
  if (request.trouble !== undefined) return { why: 'request', trouble: request.trouble };
  for (const [family, address] of request.addresses) {
    if (!families.includes(family)) return { why: 'other family', address, families };
  }
  const pool = request.pool === '' ? undefined : pools.named(request.pool);
  if (request.pool !== '' && pool === undefined)
    return { why: 'unknown pool', names: pools.all.map(({ definition }) => definition.name) };
  if (pool !== undefined && !serving.includes(pool)) return { why: 'closed pool', pool };
  for (const address of request.addresses.values()) {
    const owner = pools.poolOf(address);
    if (owner === undefined) return { why: 'outside', address, pools: serving };
    if (!serving.includes(owner)) return { why: 'closed address', address, pool: owner };
    if (pool !== undefined && owner !== pool) return { why: 'other pool', address, pool: owner };
  }
  return undefined;
}

function needsOf(
  { request, families, serving }: Wish,
  kept: ReadonlyMap<Family, IpAddress>,
  pools: Pools,
): { readonly needs: readonly Need[]; readonly lacking: readonly Family[] } {
  const asked = request.pool === '' ? undefined : pools.named(request.pool);
  const giving = asked === undefined ? serving.filter(({ definition }) => definition.autoAssign) : [asked];
  const needs: Need[] = [];
  const lacking: Family[] = [];
  for (const family of families) {
    const address = request.addresses.get(family);
    const has = kept.get(family);
    const able = giving.filter(({ free }) => free.has(family));
    const isServed =
      address === undefined ? has !== undefined && (asked === undefined || pools.poolOf(has) === asked) : has === address;
    if (isServed) continue;
    if (address !== undefined || able.length > 0) needs.push({ family, address, pools: able, isCovered: has !== undefined });
    else lacking.push(family);
  }
  return { needs, lacking };
}
