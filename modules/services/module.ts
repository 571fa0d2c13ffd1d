/**
 * Services on IPVS: Services, their EndpointSlices and this node in; virtual servers, addresses, sets, chains and settings out. One
 * fragment a Service, and one for what the module needs itself. One event costs what it changed, apart from comparisons by identity.
 */
import type { EndpointSlice, Kind, ObjectKey, Service } from '../../daemon/cluster/kinds.ts';
import { differingKeys, patched } from '../../daemon/cluster/patched-map.ts';
import { RulesInForce } from '../../daemon/cluster/rules-in-force.ts';
import { isServed } from '../../daemon/cluster/served.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { type Fragment, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { sameList } from '../../daemon/reconcile/stable.ts';
import { Contest, type Verdict } from './contest.ts';
import type { ServicesContext } from './context.ts';
import { MarkBook } from './mark-book.ts';
import { planBridgePorts, planNode } from './node-plan.ts';
import type { ServicesOptions } from './options.ts';
import { ServiceNeeds } from './service-needs.ts';
import { markKeysOf, planService, type ServicePlan } from './service-plan.ts';
import { type Surroundings, SurroundingsMemory } from './surroundings.ts';

export function servicesModule(options: ServicesOptions): Module {
  return new ServicesModule(options);
}

/** A Service as it was planned last, with what of the surroundings the plan came from. */
interface ServiceRecord {
  readonly service: Service;
  readonly context: ServicesContext;
  readonly options: ServicesOptions;
  /** The occupied addresses then, and which of those that the plan asked about were among them. */
  readonly occupied: ReadonlySet<IpAddress>;
  readonly ownOccupied: readonly IpAddress[];
  /** Undefined for a Service that is not ours to serve. */
  readonly plan: ServicePlan | undefined;
}

const NO_SLICES: readonly EndpointSlice[] = [];
const NO_KEYS: readonly string[] = [];
const NO_ADDRESSES: readonly IpAddress[] = [];

class ServicesModule implements Module {
  readonly name = 'services';
  readonly reads: readonly Kind[];
  readonly writes = [
    'sysctl',
    'link',
    'bridgePort',
    'address',
    'route',
    'markDelivery',
    'ipset',
    'iptables',
    'podTunnel',
    'virtualServer',
    'healthPort',
  ] as const;
  readonly #options: ServicesOptions;
  readonly #inForce: RulesInForce<ServicesOptions>;
  readonly #surroundings: SurroundingsMemory;
  #services: Snapshot['services'] = new Map();
  #slices: Snapshot['endpointSlicesOf'] = new Map();
  /** Services to be planned again; kept until done, so that a plan that fails forgets none. */
  readonly #stale = new Set<ObjectKey>();
  #lastSurroundings: Surroundings | undefined;
  #lastOptions: ServicesOptions;
  readonly #records = new Map<ObjectKey, ServiceRecord>();
  readonly #contest = new Contest();
  readonly #needs = new ServiceNeeds();
  readonly #marks = new MarkBook();
  /** By Service, what it has numbers for. */
  readonly #markKeys = new Map<ObjectKey, { readonly keys: readonly string[]; readonly since: number }>();
  /** As each plan was handed out last. */
  readonly #verdicts = new Map<ServicePlan, Verdict>();
  #bridgePorts: readonly string[] = NO_KEYS;
  #nodeFragment: { readonly from: readonly unknown[]; readonly fragment: Fragment } | undefined;
  /** As they were handed out last; never changed. */
  #fragments: ReadonlyMap<OwnerKey, Fragment> = new Map();

  constructor(options: ServicesOptions) {
    this.#options = options;
    this.#lastOptions = options;
    this.#inForce = new RulesInForce(options);
    // How long a pod takes to end is for who drains its connections.
    const ofPods = options.drains ? (['Pod'] as const) : [];
    this.reads = ['Service', 'EndpointSlice', 'Node', ...ofPods, ...(options.followsPools ? (['ConfigMap'] as const) : [])];
    this.#surroundings = new SurroundingsMemory(options);
  }

  plan(snapshot: Snapshot): Plan {
    const surroundings = this.#surroundings.of(snapshot);
    const changes = new Map<OwnerKey, Fragment | undefined>();
    const options = this.#inForce.with(snapshot.addressPools);
    this.#noteStale(snapshot, surroundings, options);
    try {
      for (const key of this.#stale) {
        this.#replan(key, snapshot, surroundings, options, changes);
        this.#stale.delete(key);
      }
    } finally {
      // What was planned before a failure is stale no more.
      this.#grant(changes);
      this.#planNode(surroundings, changes);
      if (changes.size > 0) this.#fragments = patched(this.#fragments, changes);
    }
    return { fragments: this.#fragments };
  }

  #noteStale({ services, endpointSlicesOf }: Snapshot, surroundings: Surroundings, options: ServicesOptions): void {
    for (const key of differingKeys(this.#services, services)) {
      this.#stale.add(key);
      this.#claimMarks(key, services.get(key));
    }
    for (const markKey of this.#marks.settle()) this.#stale.add(markKey.slice(0, markKey.indexOf(' ')));
    for (const key of differingKeys(this.#slices, endpointSlicesOf)) this.#stale.add(key);
    this.#services = services;
    this.#slices = endpointSlicesOf;
    if (surroundings === this.#lastSurroundings && options === this.#lastOptions) return;
    for (const [key, record] of this.#records) if (!fits(record, surroundings, options)) this.#stale.add(key);
    this.#lastSurroundings = surroundings;
    this.#lastOptions = options;
  }

  #claimMarks(key: ObjectKey, service: Service | undefined): void {
    const former = this.#markKeys.get(key) ?? { keys: NO_KEYS, since: 0 };
    const keys = service === undefined ? NO_KEYS : markKeysOf(service);
    const since = service?.meta.creationTimestamp ?? 0;
    if (former.since === since && sameList(former.keys, keys)) return;
    for (const markKey of former.keys) this.#marks.release(markKey);
    for (const markKey of keys) this.#marks.claim(markKey, since);
    if (keys.length === 0) this.#markKeys.delete(key);
    else this.#markKeys.set(key, { keys, since });
  }

  #replan(
    key: ObjectKey,
    { services, endpointSlicesOf }: Snapshot,
    surroundings: Surroundings,
    options: ServicesOptions,
    changes: Map<OwnerKey, Fragment | undefined>,
  ): void {
    const service = services.get(key);
    const record =
      service === undefined ? undefined : this.#record(service, endpointSlicesOf.get(key) ?? NO_SLICES, surroundings, options);
    this.#put(key, this.#records.get(key), record, changes);
  }

  #record(
    service: Service,
    slices: readonly EndpointSlice[],
    { services, occupied }: Surroundings,
    options: ServicesOptions,
  ): ServiceRecord {
    const plan = isServed(service)
      ? planService(service, slices, services, options, occupied, key => this.#marks.numberOf(key))
      : undefined;
    return { service, context: services, options, occupied, ownOccupied: occupiedOf(plan, occupied), plan };
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
      this.#needs.subtract(former.plan);
      this.#verdicts.delete(former.plan);
      changes.set(ownerKey(former.plan.owner), undefined);
    }
    if (record?.plan !== undefined) {
      this.#contest.enter(record.plan);
      this.#needs.add(record.plan);
    }
  }

  /** Of the plans that are new, and of those that one of these contests with: what one Service wants decides what another may have. */
  #grant(changes: Map<OwnerKey, Fragment | undefined>): void {
    for (const plan of this.#contest.takeTouched()) {
      const former = this.#verdicts.get(plan);
      const verdict = this.#contest.verdictOn(plan);
      if (former !== undefined && sameVerdict(former, verdict)) continue;
      this.#verdicts.set(plan, verdict);
      changes.set(ownerKey(plan.owner), fragmentOf(plan, verdict));
    }
  }

  #planNode({ node, bridgePorts }: Surroundings, changes: Map<OwnerKey, Fragment | undefined>): void {
    if (bridgePorts !== this.#bridgePorts) {
      const { owner, ...rest } = planBridgePorts(bridgePorts);
      changes.set(ownerKey(owner), bridgePorts.length === 0 ? undefined : { owner, ...rest });
      this.#bridgePorts = bridgePorts;
    }
    const from = [node, this.#needs.needs()];
    if (this.#nodeFragment !== undefined && sameList(this.#nodeFragment.from, from)) return;
    const fragment = planNode(node, this.#needs.needs(), this.#options);
    this.#nodeFragment = { from, fragment };
    changes.set(ownerKey(fragment.owner), fragment);
  }
}

/** Whether the plan would come out the same in these surroundings. Options change by the pools of load-balancer addresses alone. */
function fits(record: ServiceRecord, { services, occupied }: Surroundings, options: ServicesOptions): boolean {
  if (record.context !== services) return false;
  if (record.options !== options && record.service.loadBalancerIPs.length > 0) return false;
  return record.occupied === occupied || sameList(record.ownOccupied, occupiedOf(record.plan, occupied));
}

function occupiedOf(plan: ServicePlan | undefined, occupied: ReadonlySet<IpAddress>): readonly IpAddress[] {
  return plan?.askedAbout.filter(address => occupied.has(address)) ?? NO_ADDRESSES;
}

function sameVerdict(former: Verdict, now: Verdict): boolean {
  return sameList(former.granted, now.granted) && sameList(former.forbidden, now.forbidden);
}

function fragmentOf({ owner, entries, diagnostics }: ServicePlan, { granted, forbidden }: Verdict): Fragment {
  const own =
    forbidden.length === 0 ? entries : entries.filter(({ table, key }) => table !== 'virtualServer' || !forbidden.includes(key));
  return { owner, entries: granted.length === 0 ? own : [...own, ...granted.map(({ entry }) => entry)], diagnostics };
}
