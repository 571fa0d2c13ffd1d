/** One Service as the allocation sees it: what it asks for, who may serve it, what it has. A function of the Service, its namespace and the pools. */
import { keyOf, type Namespace, type ObjectKey, type Service } from '../../daemon/cluster/kinds.ts';
import { isWrittenByUs } from '../../daemon/cluster/our-writing.ts';
import type { HandedOverStatus } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { type ObjectRef, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { type Holdings, holdingsOf, pendingStatus, remainsOf } from './holdings.ts';
import type { Holder, Seniority } from './occupancy.ts';
import { FAMILIES, type Pool, type Pools } from './pools.ts';
import { type Request, requestOf } from './request.ts';
import { type Sharing, sharingOf } from './sharing.ts';

export interface Claimant {
  readonly key: ObjectKey;
  readonly service: Service;
  readonly owner: ObjectRef;
  /** `Service default/web`. */
  readonly name: string;
  /** Undefined for a Service that asks for nothing of ours; its addresses are taken all the same. */
  readonly wish: Wish | undefined;
  readonly sharing: Sharing;
  readonly holdings: Holdings;
  readonly pending: HandedOverStatus | undefined;
  /** The addresses that it takes, each with the ground. */
  readonly places: readonly Place[];
}

export interface Wish {
  readonly request: Request;
  /** In the order of `ipFamilies`. */
  readonly families: readonly Family[];
  /** RequireDualStack: all families or none. */
  readonly needsAll: boolean;
  /** In the order of choice. */
  readonly serving: readonly Pool[];
}

export interface Place {
  readonly address: IpAddress;
  readonly holder: Holder;
}

/** Undefined for a Service that has and wants no address beyond its ClusterIPs. */
export function claimantOf(
  service: Service,
  namespace: Namespace | undefined,
  handedOver: ReadonlyMap<ObjectKey, HandedOverStatus>,
  pools: Pools,
): Claimant | undefined {
  const key = keyOf(service.meta);
  const pending = pendingStatus(service, key, handedOver);
  const wish = wishOf(service, namespace, pools);
  if (wish === undefined && service.externalIPs.length === 0 && service.loadBalancer === undefined && pending === undefined)
    return undefined;
  const owner: ObjectRef = { kind: 'Service', key, since: service.meta.creationTimestamp };
  const name = ownerKey(owner);
  const sharing = sharingOf(service, wish?.request.shareKey ?? '');
  const holdings =
    wish === undefined || service.loadBalancer === undefined
      ? remainsOf(service, pending, pools)
      : holdingsOf(service.loadBalancer, pending, pools, wish.serving, wish.families, wish.request.addresses);
  const places = placesOf(service, name, sharing, holdings, pending);
  return { key, service, owner, name, wish, sharing, holdings, pending, places };
}

function wishOf(service: Service, namespace: Namespace | undefined, pools: Pools): Wish | undefined {
  if (!pools.isOurs(service)) return undefined;
  const serving = pools.serving(service, namespace);
  const policy = service.loadBalancer?.ipFamilyPolicy ?? 'SingleStack';
  const families = familiesOf(service, serving);
  return {
    request: requestOf(service),
    families: policy === 'SingleStack' ? families.slice(0, 1) : families,
    needsAll: policy === 'RequireDualStack',
    serving,
  };
}

/** A Service from a manifest folder need not name any: then it is of those that its pools have. */
function familiesOf({ ipFamilies, clusterIPs }: Service, serving: readonly Pool[]): readonly Family[] {
  if (ipFamilies.length > 0) return ipFamilies;
  if (clusterIPs.length > 0) return [...new Set(clusterIPs.map(familyOf))];
  const offered = FAMILIES.filter(family => serving.some(({ free }) => free.has(family)));
  return offered.length === 0 ? FAMILIES : offered;
}

function placesOf(
  service: Service,
  name: string,
  sharing: Sharing,
  { kept, surplus, leaving, foreign }: Holdings,
  pending: HandedOverStatus | undefined,
): readonly Place[] {
  const keeper: Holder = { name, ground: 'kept', sharing, seniority: seniorityOf(service, pending) };
  const onGround = (addresses: Iterable<IpAddress>, holder: Holder): readonly Place[] =>
    [...addresses].map(address => ({ address, holder }));
  return [
    ...onGround([...kept.values(), ...surplus], keeper),
    ...onGround(leaving, { ...keeper, ground: 'leaving' }),
    ...onGround(foreign, { name, ground: 'foreign', sharing: undefined, seniority: undefined }),
    ...onGround(service.externalIPs, { name, ground: 'external', sharing: undefined, seniority: undefined }),
  ];
}

function seniorityOf({ meta, loadBalancer }: Service, pending: HandedOverStatus | undefined): Seniority {
  return {
    isWrittenByUs: pending !== undefined || isWrittenByUs(loadBalancer),
    writtenAt: pending === undefined ? (loadBalancer?.writtenAt ?? 0) : Number.POSITIVE_INFINITY,
    createdAt: meta.creationTimestamp,
  };
}
