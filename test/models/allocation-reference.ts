/**
 * What must hold of load-balancer addresses, written down as simply as can be: every address of every (small) pool is looked at, and nothing is
 * remembered. Knows nothing of the allocator but the entries and diagnostics that it gives.
 */
import type { AddressPool, Namespace, Node, Service } from '../../daemon/cluster/kinds.ts';
import { keyOf } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf, type IpAddress, parseAddress } from '../../daemon/net/address.ts';
import { addressOfNumber, numberOf, rangeContains, rangeFamily } from '../../daemon/net/address-range.ts';

export interface AllocationWorld {
  readonly services: readonly Service[];
  readonly nodes: readonly Node[];
  readonly namespaces: ReadonlyMap<string, Namespace>;
  /** In the order of the configuration, the flag's last. */
  readonly pools: readonly AddressPool[];
  readonly servesDefaultClass: boolean;
}

/** Only such selectors as the tests write: `matchLabels`. */
function selects(selector: AddressPool['serviceSelector'], labels: Readonly<Record<string, string>>): boolean {
  return selector === undefined || selector.requirements.every(({ key, values }) => values.includes(labels[key] ?? ''));
}

export function isServedClass(service: Service, { pools, servesDefaultClass }: AllocationWorld): boolean {
  const name = service.loadBalancer?.loadBalancerClass ?? '';
  return (
    service.type === 'LoadBalancer' &&
    (name === 'kube-router' ||
      (servesDefaultClass && (name === '' || name === 'default')) ||
      pools.some(pool => pool.loadBalancerClasses.includes(name)))
  );
}

export function poolServes(pool: AddressPool, service: Service, world: AllocationWorld): boolean {
  const name = service.loadBalancer?.loadBalancerClass ?? '';
  const isOfClass =
    pool.loadBalancerClasses.length > 0
      ? pool.loadBalancerClasses.includes(name)
      : name === 'kube-router' || (world.servesDefaultClass && (name === '' || name === 'default'));
  const { namespace } = service.meta;
  const isOfNamespace =
    (pool.namespaces.length === 0 && pool.namespaceSelector === undefined) ||
    pool.namespaces.includes(namespace) ||
    (pool.namespaceSelector !== undefined && selects(pool.namespaceSelector, world.namespaces.get(namespace)?.labels ?? {}));
  return isOfClass && isOfNamespace && selects(pool.serviceSelector, service.loadBalancer?.labels ?? {});
}

/** The pool that an address belongs to. */
export function ownerOf(address: IpAddress, { pools }: AllocationWorld): AddressPool | undefined {
  return pools.find(({ ranges }) => ranges.some(range => rangeContains(range, address)));
}

export function mayHave(service: Service, address: IpAddress, world: AllocationWorld): boolean {
  const pool = ownerOf(address, world);
  return pool !== undefined && poolServes(pool, service, world);
}

/** Those that a pool hands out to who does not ask for them, at most `most` of a range. */
export function unaskedAddresses(pool: AddressPool, family: Family, world: AllocationWorld, most: number): readonly IpAddress[] {
  const found = new Set<IpAddress>();
  for (const range of pool.ranges.filter(each => rangeFamily(each) === family)) {
    const [first, last] = [numberOf(range.first), numberOf(range.last)];
    for (let number = first; number <= last && number < first + BigInt(most); number++) {
      const isEdge = range.prefix !== undefined && last - first > 1n && (number === first || number === last);
      const address = addressOfNumber(number, family);
      if (!isEdge && ownerOf(address, world) === pool) found.add(address);
    }
  }
  return [...found];
}

export function shareKeyOf({ annotations }: Service): string {
  return annotations['fairway.dev/lb-share'] ?? annotations['metallb.io/allow-shared-ip'] ?? '';
}

export function mayShareAddress(one: Service, other: Service): boolean {
  const listeners = new Set(one.ports.map(({ protocol, port }) => `${protocol}/${port}`));
  const selectors = [one, other].map(({ loadBalancer }) => loadBalancer?.selector ?? '');
  return (
    shareKeyOf(one) !== '' &&
    shareKeyOf(one) === shareKeyOf(other) &&
    !other.ports.some(({ protocol, port }) => listeners.has(`${protocol}/${port}`)) &&
    one.externalTrafficPolicy === other.externalTrafficPolicy &&
    (one.externalTrafficPolicy === 'Cluster' || (selectors[0] !== '' && selectors[0] === selectors[1]))
  );
}

export function requestedAddresses({ annotations, loadBalancer }: Service): readonly string[] {
  const text =
    annotations['fairway.dev/lb-ips'] ?? annotations['metallb.io/loadBalancerIPs'] ?? loadBalancer?.loadBalancerIP ?? '';
  return text === '' ? [] : text.split(',');
}

export function requestedPool({ annotations }: Service): string {
  return annotations['fairway.dev/lb-pool'] ?? annotations['metallb.io/address-pool'] ?? '';
}

/** Nobody but this Service has it; or those who have it share it with this Service. */
export function isFreeFor(service: Service, address: IpAddress, { services, nodes }: AllocationWorld): boolean {
  const isNodes = nodes.some(({ internalIPs, externalIPs }) => internalIPs.includes(address) || externalIPs.includes(address));
  return (
    !isNodes &&
    services.every(other => {
      if (keyOf(other.meta) === keyOf(service.meta)) return true;
      if (other.externalIPs.includes(address)) return false;
      return !statusOf(other).includes(address) || mayShareAddress(service, other);
    })
  );
}

export function statusOf({ loadBalancer }: Service): readonly IpAddress[] {
  return loadBalancer?.ingressIPs ?? [];
}

export function neededFamilies({ ipFamilies, loadBalancer }: Service): readonly Family[] {
  return loadBalancer?.ipFamilyPolicy === 'SingleStack' ? ipFamilies.slice(0, 1) : ipFamilies;
}

/** At rest: an address that the Service lacks and could have; undefined where there is none. */
export function missedAddress(service: Service, world: AllocationWorld): string | undefined {
  const has = statusOf(service);
  if (!isServedClass(service, world) || has.some(address => !mayHave(service, address, world))) return undefined;
  const asked = requestedAddresses(service);
  const pool = requestedPool(service);
  if (asked.some(text => parseAddress(text) === undefined)) return undefined;
  if (pool !== '' && !world.pools.some(each => each.name === pool && poolServes(each, service, world))) return undefined;
  const families = neededFamilies(service);
  const requested = asked.map(text => parseAddress(text)).filter((address): address is IpAddress => address !== undefined);
  const isUsable = (address: IpAddress): boolean =>
    families.includes(familyOf(address)) &&
    mayHave(service, address, world) &&
    (pool === '' || ownerOf(address, world)?.name === pool);
  if (!requested.every(isUsable) || new Set(requested.map(familyOf)).size < requested.length) return undefined;
  if (requested.some(address => !isFreeFor(service, address, world))) return undefined;
  const missing = requested.find(address => !has.includes(address));
  const open = (family: Family): IpAddress | undefined =>
    requested.find(address => familyOf(address) === family) ??
    world.pools
      .filter(each => poolServes(each, service, world) && (pool === '' ? each.autoAssign : each.name === pool))
      .flatMap(each => unaskedAddresses(each, family, world, 40))
      .find(address => !service.externalIPs.includes(address) && isFreeFor(service, address, world));
  const lacked = families.filter(family => !has.some(address => familyOf(address) === family));
  if (service.loadBalancer?.ipFamilyPolicy === 'RequireDualStack' && lacked.some(family => open(family) === undefined))
    return undefined;
  return missing ?? lacked.map(open).find(address => address !== undefined);
}
