/**
 * Services on IPVS: Services, their EndpointSlices and this node in; virtual servers, addresses, sets, chains and settings out. One
 * fragment a Service, and one for what the module needs itself. One event costs what it changed, apart from comparisons by identity.
 */
import type { EndpointSlice, ObjectKey, Service } from '../../daemon/cluster/kinds.ts';
import { differingKeys, patched } from '../../daemon/cluster/patched-map.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { type Fragment, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { sameList } from '../../daemon/reconcile/stable.ts';
import { Contest } from './contest.ts';
import type { ServicesContext } from './context.ts';
import { ElementCounts } from './element-counts.ts';
import { planNode } from './node-plan.ts';
import type { ServicesOptions } from './options.ts';
import { type Drop, isServed, planService, type ServicePlan } from './service-plan.ts';
import { type Surroundings, SurroundingsMemory } from './surroundings.ts';

export function servicesModule(options: ServicesOptions): Module {
  return new ServicesModule(options);
}

/** A Service as it was planned last, with what of the surroundings the plan came from. */
interface ServiceRecord {
  readonly service: Service;
  readonly context: ServicesContext;
  /** The occupied addresses then, and which of the Service's own were among them. */
  readonly occupied: ReadonlySet<IpAddress>;
  readonly ownOccupied: readonly IpAddress[];
  /** Undefined for a Service that is not ours to serve. */
  readonly plan: ServicePlan | undefined;
}

const NO_SLICES: readonly EndpointSlice[] = [];
const NO_DROPS: readonly Drop[] = [];

class ServicesModule implements Module {
  readonly name = 'services';
  readonly reads = ['Service', 'EndpointSlice', 'Node'] as const;
  readonly writes = ['sysctl', 'link', 'address', 'route', 'ipset', 'iptables', 'virtualServer'] as const;
  readonly #options: ServicesOptions;
  readonly #surroundings: SurroundingsMemory;
  #services: Snapshot['services'] = new Map();
  #slices: Snapshot['endpointSlicesOf'] = new Map();
  /** Services to be planned again; kept until done, so that a plan that fails forgets none. */
  readonly #stale = new Set<ObjectKey>();
  #lastSurroundings: Surroundings | undefined;
  readonly #records = new Map<ObjectKey, ServiceRecord>();
  readonly #contest = new Contest();
  readonly #counts = new ElementCounts();
  /** Plans with drops, and which of those were granted. */
  readonly #dropping = new Map<ServicePlan, readonly Drop[]>();
  #nodeFragment: { readonly from: readonly unknown[]; readonly fragment: Fragment } | undefined;
  /** As they were handed out last; never changed. */
  #fragments: ReadonlyMap<OwnerKey, Fragment> = new Map();

  constructor(options: ServicesOptions) {
    this.#options = options;
    this.#surroundings = new SurroundingsMemory(options);
  }

  plan(snapshot: Snapshot): Plan {
    const surroundings = this.#surroundings.of(snapshot);
    const changes = new Map<OwnerKey, Fragment | undefined>();
    this.#noteStale(snapshot, surroundings);
    for (const key of this.#stale) {
      this.#replan(key, snapshot, surroundings, changes);
      this.#stale.delete(key);
    }
    if (changes.size > 0) this.#grantDrops(changes);
    this.#planNode(surroundings, changes);
    if (changes.size > 0) this.#fragments = patched(this.#fragments, changes);
    return { fragments: this.#fragments };
  }

  #noteStale({ services, endpointSlicesOf }: Snapshot, surroundings: Surroundings): void {
    for (const key of differingKeys(this.#services, services)) this.#stale.add(key);
    for (const key of differingKeys(this.#slices, endpointSlicesOf)) this.#stale.add(key);
    this.#services = services;
    this.#slices = endpointSlicesOf;
    if (surroundings === this.#lastSurroundings) return;
    for (const [key, record] of this.#records) if (!fits(record, surroundings)) this.#stale.add(key);
    this.#lastSurroundings = surroundings;
  }

  #replan(
    key: ObjectKey,
    { services, endpointSlicesOf }: Snapshot,
    surroundings: Surroundings,
    changes: Map<OwnerKey, Fragment | undefined>,
  ): void {
    const service = services.get(key);
    const record =
      service === undefined ? undefined : this.#record(service, endpointSlicesOf.get(key) ?? NO_SLICES, surroundings);
    this.#put(key, this.#records.get(key), record, changes);
  }

  #record(service: Service, slices: readonly EndpointSlice[], { services, occupied }: Surroundings): ServiceRecord {
    const plan = isServed(service) ? planService(service, slices, services, this.#options, occupied) : undefined;
    return { service, context: services, occupied, ownOccupied: occupiedOf(service, occupied), plan };
  }

  #put(
    key: ObjectKey,
    former: ServiceRecord | undefined,
    record: ServiceRecord | undefined,
    changes: Map<OwnerKey, Fragment | undefined>,
  ): void {
    if (record === undefined) this.#records.delete(key);
    else this.#records.set(key, record);
    if (former?.plan !== undefined) {
      this.#contest.leave(former.plan);
      this.#counts.subtract(former.plan);
      this.#dropping.delete(former.plan);
      changes.set(ownerKey(former.plan.owner), undefined);
    }
    if (record?.plan !== undefined) {
      this.#contest.enter(record.plan);
      this.#counts.add(record.plan);
      if (record.plan.drops.length > 0) this.#dropping.set(record.plan, NO_DROPS);
      changes.set(ownerKey(record.plan.owner), fragmentOf(record.plan, NO_DROPS));
    }
  }

  /** After any change, since one Service's change decides what another may drop. */
  #grantDrops(changes: Map<OwnerKey, Fragment | undefined>): void {
    for (const [plan, former] of this.#dropping) {
      const granted = this.#contest.granted(plan);
      if (sameList(former, granted)) continue;
      this.#dropping.set(plan, granted);
      changes.set(ownerKey(plan.owner), fragmentOf(plan, granted));
    }
  }

  #planNode({ node }: Surroundings, changes: Map<OwnerKey, Fragment | undefined>): void {
    const from = [node, this.#counts.sizes()];
    if (this.#nodeFragment !== undefined && sameList(this.#nodeFragment.from, from)) return;
    const fragment = planNode(node, this.#counts.sizes(), this.#options);
    this.#nodeFragment = { from, fragment };
    changes.set(ownerKey(fragment.owner), fragment);
  }
}

/** Whether the plan would come out the same in these surroundings. */
function fits(record: ServiceRecord, { services, occupied }: Surroundings): boolean {
  if (record.context !== services) return false;
  return record.occupied === occupied || sameList(record.ownOccupied, occupiedOf(record.service, occupied));
}

function occupiedOf(service: Service, occupied: ReadonlySet<IpAddress>): readonly IpAddress[] {
  const isOccupied = (address: IpAddress): boolean => occupied.has(address);
  return [
    ...service.clusterIPs.filter(isOccupied),
    ...service.externalIPs.filter(isOccupied),
    ...service.loadBalancerIPs.filter(isOccupied),
  ];
}

function fragmentOf(plan: ServicePlan, drops: readonly Drop[]): Fragment {
  const entries = drops.length === 0 ? plan.entries : [...plan.entries, ...drops.map(drop => drop.entry)];
  return { owner: plan.owner, entries, diagnostics: plan.diagnostics };
}
