/**
 * A cluster in which load-balancer addresses are handed out: Services at an API server, and allocators that see them late, write to them with and without
 * luck, lose the lead and get it back. One step at a time, so that a property test chooses what happens in which order.
 */
import type { AddressPools, Namespace, Node, ObjectKey, Service } from '../../daemon/cluster/kinds.ts';
import { keyOf } from '../../daemon/cluster/kinds.ts';
import { patched } from '../../daemon/cluster/patched-map.ts';
import type { HandedOverStatus, Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { Plan } from '../../daemon/reconcile/module.ts';
import type { ServiceStatus } from '../../daemon/reconcile/service-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import { type LbAllocatorModule, lbAllocatorModule } from '../../modules/lb-allocator/module.ts';
import type { LbAllocatorOptions } from '../../modules/lb-allocator/options.ts';
import { CREATED, snapshot } from '../fixtures/cluster.ts';

export type Luck = 'written' | 'refused' | 'lost reply' | 'lost request';

/** The API server: what Services are. */
export class ServiceApi {
  #version = 10;
  services: ReadonlyMap<ObjectKey, Service> = new Map();

  /** What the owner writes; of the status he writes nothing. A Service that stops being of its type loses it, where the server does so. */
  apply(service: Service): void {
    const key = keyOf(service.meta);
    const former = this.services.get(key);
    const loadBalancer =
      service.loadBalancer === undefined
        ? undefined
        : {
            ...service.loadBalancer,
            ingressIPs: former?.loadBalancer?.ingressIPs ?? [],
            writtenBy: former?.loadBalancer?.writtenBy ?? '',
            writtenAt: former?.loadBalancer?.writtenAt ?? 0,
          };
    const uid = former?.meta.uid ?? `${service.meta.uid}-${this.#version}`;
    this.#put({ ...service, meta: { ...service.meta, uid }, loadBalancer });
  }

  remove(key: ObjectKey): void {
    this.#version++;
    this.services = patched(this.services, new Map([[key, undefined]]));
  }

  writeStatus(key: ObjectKey, addresses: readonly IpAddress[], writtenBy: string): void {
    const service = this.services.get(key);
    if (service?.loadBalancer === undefined) return;
    const loadBalancer = { ...service.loadBalancer, ingressIPs: addresses, writtenBy, writtenAt: CREATED + this.#version };
    this.#put({ ...service, loadBalancer });
  }

  versionOf(key: ObjectKey): string {
    return this.services.get(key)?.loadBalancer?.resourceVersion ?? '';
  }

  #put(service: Service): void {
    const resourceVersion = `${++this.#version}`;
    const { loadBalancer } = service;
    const stored = { ...service, loadBalancer: loadBalancer && { ...loadBalancer, resourceVersion } };
    this.services = patched(this.services, new Map([[keyOf(service.meta), stored]]));
  }
}

interface Order {
  readonly uid: string;
  readonly addresses: readonly IpAddress[];
  readonly found: readonly IpAddress[];
}

export interface Surroundings {
  readonly nodes: readonly Node[];
  readonly namespaces: readonly Namespace[];
  readonly pools: AddressPools | undefined;
}

/** One node's allocator with its view, its belief of what it wrote, and its queue of writes. */
export class Allocator {
  readonly #api: ServiceApi;
  readonly #options: LbAllocatorOptions;
  module: LbAllocatorModule;
  isLeader = false;
  services: ReadonlyMap<ObjectKey, Service> = new Map();
  handedOver: ReadonlyMap<ObjectKey, HandedOverStatus> = new Map();
  readonly #believed = new Map<ObjectKey, ServiceStatus>();
  readonly #orders = new Map<ObjectKey, Order>();

  constructor(api: ServiceApi, options: LbAllocatorOptions) {
    this.#api = api;
    this.#options = options;
    this.module = lbAllocatorModule(options);
  }

  /** Everything as after a start or a takeover: listed anew, nothing on its way. */
  lead(isLeader: boolean): void {
    this.isLeader = isLeader;
    this.handedOver = new Map();
    this.#believed.clear();
    this.#orders.clear();
    if (isLeader) this.services = this.#api.services;
  }

  restart(): void {
    this.module = lbAllocatorModule(this.#options);
    this.lead(this.isLeader);
  }

  /** The watch brings one Service up to date. */
  see(key: ObjectKey): void {
    const service = this.#api.services.get(key);
    if (service === this.services.get(key)) return;
    this.services = patched(this.services, new Map([[key, service]]));
    const status = this.handedOver.get(key);
    const isShown =
      status?.version !== undefined && Number(status.version) <= Number(service?.loadBalancer?.resourceVersion ?? '0');
    if (service === undefined || isShown) this.#note(key, undefined);
  }

  get unseen(): readonly ObjectKey[] {
    const keys = new Set([...this.services.keys(), ...this.#api.services.keys()]);
    return [...keys].filter(key => this.services.get(key) !== this.#api.services.get(key));
  }

  get ordered(): readonly ObjectKey[] {
    return [...this.#orders.keys()];
  }

  snapshot({ nodes, namespaces, pools }: Surroundings): Snapshot {
    const leadership = this.isLeader ? ({ isLeader: true } as const) : ({ isLeader: false, reason: 'another leads' } as const);
    return {
      ...snapshot({ nodes, namespaces, ...(pools === undefined ? {} : { addressPools: pools }) }),
      services: this.services,
      allocation: { leadership, handedOver: this.handedOver },
    };
  }

  /** What the driver does with a plan: what differs from the belief is ordered. */
  apply(plan: Plan): void {
    if (plan.undecided?.includes('serviceStatus')) return;
    const wanted = new Map<ObjectKey, ServiceStatus>();
    for (const { entries } of plan.fragments.values())
      for (const item of entries) if (item.table === 'serviceStatus') wanted.set(item.key, item.value);
    for (const [key, status] of wanted) {
      const believed = this.#believed.get(key);
      if (believed === undefined || !TABLES.serviceStatus.same(believed, status)) this.#order(key, status);
      this.#believed.set(key, status);
    }
    for (const [key, status] of this.#believed) {
      if (wanted.has(key)) continue;
      this.#order(key, { ...status, addresses: [], found: [...status.addresses, ...status.found] });
      this.#believed.delete(key);
    }
  }

  /** One write of the queue. A leader whose time ran out writes nothing. */
  write(key: ObjectKey, luck: Luck): void {
    const order = this.#orders.get(key);
    const status = this.handedOver.get(key);
    if (order === undefined || !this.isLeader) return;
    const service = this.#api.services.get(key);
    if (service === undefined || service.meta.uid !== order.uid) {
      this.#orders.delete(key);
      this.#note(key, undefined);
      return;
    }
    if (luck === 'refused' || luck === 'lost request') {
      const trouble = luck === 'refused' ? `403 for ${key}` : 'no answer';
      if (status !== undefined) this.#note(key, { ...status, trouble });
      return;
    }
    const has = service.loadBalancer?.ingressIPs ?? [];
    const others = has.filter(address => !order.found.includes(address) && !order.addresses.includes(address));
    const wanted = [...order.addresses, ...others];
    if (wanted.join() !== has.join()) this.#api.writeStatus(key, wanted, 'fairway');
    // The writer asks again where it does not know what became of its write.
    if (luck === 'lost reply') return;
    this.#orders.delete(key);
    if (status !== undefined) this.#note(key, { ...status, version: this.#api.versionOf(key), trouble: undefined });
    if (this.services.get(key) === this.#api.services.get(key)) this.#note(key, undefined);
  }

  #order(key: ObjectKey, { uid, addresses, found }: Order): void {
    const former = this.#orders.get(key);
    const status = this.handedOver.get(key);
    const merged = former?.uid === uid ? [...former.found, ...former.addresses] : [];
    const unseen = status?.uid === uid ? status.addresses : [];
    const inPlaceOf = [...new Set([...merged, ...unseen, ...found])];
    this.#orders.set(key, { uid, addresses, found: inPlaceOf });
    this.#note(key, { uid, addresses, inPlaceOf, version: undefined, trouble: undefined });
  }

  #note(key: ObjectKey, status: HandedOverStatus | undefined): void {
    this.handedOver = patched(this.handedOver, new Map([[key, status]]));
  }
}
