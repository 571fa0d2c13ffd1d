/** Of the addresses in a Service's status, which are ours and stay, which are ours to take away, and which another controller wrote. */
import type { LoadBalancer, ObjectKey, Service } from '../../daemon/cluster/kinds.ts';
import { isWrittenByUs } from '../../daemon/cluster/our-writing.ts';
import type { HandedOverStatus } from '../../daemon/cluster/snapshot.ts';
import { isNewerVersion } from '../../daemon/cluster/watch-event.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Pool, Pools } from './pools.ts';

export interface Holdings {
  /** One of a family at most, each in a pool that may serve the Service. */
  readonly kept: ReadonlyMap<Family, IpAddress>;
  /**
   * Served as well, and too many: they stay beside what another controller wrote. Whoever writes the status last owns all of it, so that to take one away would
   * make all of that look like ours.
   */
  readonly surplus: readonly IpAddress[];
  /** Ours, whether kept or not, in the order of the status. */
  readonly found: readonly IpAddress[];
  /** Of these, what no pool holds that may serve the Service. */
  readonly outside: readonly IpAddress[];
  readonly foreign: readonly IpAddress[];
  /** All that the Service has or may have any moment, but for {@link kept}, {@link surplus} and {@link foreign}: not free before it is seen to be without. */
  readonly leaving: readonly IpAddress[];
}

/** The status that was handed over for this Service, where the Service as it is known does not show yet what became of it. */
export function pendingStatus(
  { meta, loadBalancer }: Service,
  key: ObjectKey,
  handedOver: ReadonlyMap<ObjectKey, HandedOverStatus>,
): HandedOverStatus | undefined {
  const status = handedOver.get(key);
  if (status === undefined || status.uid !== meta.uid) return undefined;
  const shown = loadBalancer?.resourceVersion ?? '';
  return status.version === undefined || isNewerVersion(status.version, shown) ? status : undefined;
}

/** Of a Service that asks for addresses of ours. `families`: those it needs; `asked`: the addresses that it asks for. */
export function holdingsOf(
  loadBalancer: LoadBalancer,
  pending: HandedOverStatus | undefined,
  pools: Pools,
  serving: readonly Pool[],
  families: readonly Family[],
  asked: ReadonlyMap<Family, IpAddress>,
): Holdings {
  const isPutRight = loadBalancer.loadBalancerClass !== '' || isWrittenByUs(loadBalancer);
  const isServed = (address: IpAddress): boolean => {
    const pool = pools.poolOf(address);
    return pool === undefined ? isPutRight && !pools.areAllKnown : serving.includes(pool);
  };
  const isHandedOver = (address: IpAddress): boolean => pending?.addresses.includes(address) ?? false;
  const isOurs = (address: IpAddress): boolean => isPutRight || isHandedOver(address) || isServed(address);
  const { ingressIPs } = loadBalancer;
  const shown = ingressIPs.filter(isOurs);
  const found = pending?.addresses ?? shown;
  const kept = new Map<Family, IpAddress>();
  for (const family of families) {
    const usable = found.filter(address => familyOf(address) === family && isServed(address));
    const address = usable.find(each => each === asked.get(family)) ?? usable[0];
    if (address !== undefined) kept.set(family, address);
  }
  const isKept = (address: IpAddress): boolean => kept.get(familyOf(address)) === address;
  const foreign = ingressIPs.filter(address => !isOurs(address));
  const surplus = foreign.length === 0 ? [] : found.filter(address => isServed(address) && !isKept(address));
  return {
    kept,
    surplus,
    found,
    outside: found.filter(address => !isServed(address)),
    foreign,
    leaving: leavingOf(found, shown, pending).filter(address => !isKept(address) && !surplus.includes(address)),
  };
}

/** Of a Service that asks for none (any more): what is ours of its status is taken back. */
export function remainsOf({ type, loadBalancer }: Service, pending: HandedOverStatus | undefined, pools: Pools): Holdings {
  const shown = loadBalancer?.ingressIPs ?? [];
  // A LoadBalancer Service of another class is another controller's.
  const isOurs = (address: IpAddress): boolean =>
    type !== 'LoadBalancer' && loadBalancer !== undefined && (isWrittenByUs(loadBalancer) || pools.poolOf(address) !== undefined);
  const ours = shown.filter(isOurs);
  const found = pending?.addresses ?? ours;
  return {
    kept: new Map(),
    surplus: [],
    found: type === 'LoadBalancer' ? [] : found,
    outside: [],
    foreign: shown.filter(address => !isOurs(address) && !found.includes(address)),
    leaving: leavingOf(found, ours, pending),
  };
}

/** While nobody knows whether a write was done, the Service may have either. */
function leavingOf(
  found: readonly IpAddress[],
  shown: readonly IpAddress[],
  pending: HandedOverStatus | undefined,
): readonly IpAddress[] {
  if (pending === undefined || pending.version !== undefined) return found;
  return [...new Set([...found, ...shown, ...(pending.inPlaceOf ?? [])])];
}
