/**
 * The table of the load-balancer addresses of Services: what is there is what Services show, and what is to be written is handed over to a queue, since an
 * API server may take its time. Until a Service shows what was handed over for it, that counts as there.
 */
import { refusedWith } from '../cluster/api-objects.ts';
import { keyOf, type ObjectKey, type Service } from '../cluster/kinds.ts';
import { isWrittenByUs } from '../cluster/our-writing.ts';
import { patched } from '../cluster/patched-map.ts';
import type { HandedOverStatus } from '../cluster/snapshot.ts';
import { isNewerVersion } from '../cluster/watch-event.ts';
import type { FairwayError } from '../errors.ts';
import { type IpAddress, sameAddresses } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import type { Backoff } from '../reconcile/backoff.ts';
import type { ApplyResult, Change, TableDriver } from '../reconcile/driver.ts';
import type { ServiceStatus } from '../reconcile/service-tables.ts';
import { DeniedOrders } from './denied-orders.ts';
import { LostWritings } from './lost-writings.ts';
import { OrderQueue, type Verdict } from './order-queue.ts';
import type { StatusOrder, StatusOutcome, StatusPort } from './status-port.ts';

/** For metrics and Events. */
export interface StatusObserver {
  written(order: StatusOrder): void;
  /** Tried again later. */
  failed(order: StatusOrder, error: FairwayError): void;
}

export interface StatusWriterOptions {
  readonly port: StatusPort;
  /** Asked right before each writing. */
  readonly mayWrite: () => boolean;
  /** As they are known now. */
  readonly services: () => ReadonlyMap<ObjectKey, Service>;
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly observer: StatusObserver;
  /** What is told of handed-over statuses changed: a try failed, or one succeeded after that. */
  readonly onChange: () => void;
}

interface HandedOver {
  readonly order: StatusOrder;
  readonly status: HandedOverStatus;
  /** A try went wrong in a way that leaves open whether it was, or will be, written. */
  readonly mayLand: boolean;
}

/** Requests under way at a time. */
const CONCURRENCY = 8;
const NOTHING_FAILED: ApplyResult = { failed: new Map() };

export class StatusWriter implements TableDriver<ServiceStatus> {
  readonly #options: StatusWriterOptions;
  readonly #queue: OrderQueue<StatusOrder>;
  readonly #handed = new Map<ObjectKey, HandedOver>();
  readonly #denied = new DeniedOrders();
  readonly #stopped = new AbortController();
  #shared: ReadonlyMap<ObjectKey, HandedOverStatus> = new Map();
  /** What is not in `#shared` yet. */
  #unshared = new Map<ObjectKey, HandedOverStatus | undefined>();
  /** Somebody else writes while not. */
  #isOpen = false;
  readonly #lost = new LostWritings();

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    const { clock, backoff } = options;
    const carryOut = (key: string, order: StatusOrder): Promise<Verdict> => this.#carryOut(key, order);
    this.#queue = new OrderQueue({ clock, backoff, concurrency: CONCURRENCY, carryOut });
  }

  /** The same object as long as nothing in it changed. */
  handedOver(): ReadonlyMap<ObjectKey, HandedOverStatus> {
    if (this.#unshared.size > 0) {
      this.#shared = patched(this.#shared, this.#unshared);
      this.#unshared = new Map();
    }
    return this.#shared;
  }

  /** Orders that are not carried out yet. */
  get pending(): number {
    return this.#queue.size;
  }

  /** From now on what is handed over is written; nothing of before counts. */
  open(): void {
    this.#isOpen = true;
    this.#lost.clear();
    this.#denied.clear();
    for (const key of [...this.#handed.keys()]) this.#forget(key);
  }

  /** Somebody else writes from now on: what was not sent is forgotten. What runs is let end, and tells then what became of it. */
  close(): void {
    this.#isOpen = false;
    this.#queue.clear();
    for (const [key, { status, mayLand }] of this.#handed)
      if (status.version === undefined && !mayLand && !this.#queue.isRunning(key)) this.#forget(key);
  }

  /** Resolves when nothing is under way. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  /** Lets what is under way end. Says whether something may still be written after that. */
  async stop(limitMs: number): Promise<'settled' | 'unsettled'> {
    this.close();
    const cancel = this.#options.clock.after(limitMs, () => this.#stopped.abort(new Error('stopped')));
    await this.#queue.idle();
    cancel();
    return this.#lost.mayLand ? 'unsettled' : 'settled';
  }

  /** Forgets what Services show by now, and what was for Services that are gone. */
  seen(services: ReadonlyMap<ObjectKey, Service>): void {
    for (const [key, { status }] of this.#handed) {
      const service = services.get(key);
      const isGone = service?.meta.uid !== status.uid;
      if (isGone) this.#queue.drop(key);
      if (isGone || shows(service, status)) this.#forget(key);
    }
  }

  read(expected: ReadonlyMap<string, ServiceStatus>): Promise<ReadonlyMap<string, ServiceStatus>> {
    const found = new Map<string, ServiceStatus>();
    for (const [key, service] of this.#options.services()) {
      const entry = this.#entryOf(service, expected.get(key), this.#handed.get(key)?.status);
      if (entry !== undefined) found.set(key, entry);
    }
    return Promise.resolve(found);
  }

  /**
   * What stands there, as far as it is ours. Where nobody wants anything of a Service (any more), the whole status is ours if we, an earlier run or
   * kube-router wrote it: so it is taken back from a Service that is no load balancer any more.
   */
  #entryOf(
    service: Service,
    expected: ServiceStatus | undefined,
    handed: HandedOverStatus | undefined,
  ): ServiceStatus | undefined {
    const { uid } = service.meta;
    const wanted = expected?.uid === uid ? expected : undefined;
    if (handed?.uid === uid) return entryFor(service, handed.addresses, wanted);
    const { ingressIPs = [] } = service.loadBalancer ?? {};
    if (wanted === undefined)
      return mayBeTakenBack(service) && isWrittenByUs(service.loadBalancer)
        ? entryFor(service, ingressIPs, undefined)
        : undefined;
    return entryFor(service, oursOf(ingressIPs, wanted), wanted);
  }

  /** Hands over; what becomes of it is told by {@link handedOver}. */
  apply(changes: readonly Change<ServiceStatus>[]): Promise<ApplyResult> {
    const services = this.#options.services();
    for (const change of changes) {
      const order = orderOf(change);
      const service = services.get(change.key);
      if (!this.#isOpen || service?.meta.uid !== order.uid) continue;
      // What is not there yet is not to come any more.
      if (change.op !== 'delete' || mayBeTakenBack(service) || this.#handed.has(change.key)) this.#handOver(order, service);
    }
    return Promise.resolve(NOTHING_FAILED);
  }

  render(changes: readonly Change<ServiceStatus>[]): string {
    const lines = changes.map(change => {
      const { namespace, name, addresses, found } = orderOf(change);
      return `service ${namespace}/${name} loadBalancer ${addresses.join(' ') || 'none'} in place of ${found.join(' ') || 'none'}`;
    });
    return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
  }

  #handOver(order: StatusOrder, service: Service): void {
    const former = this.#handed.get(order.key);
    if (former === undefined || former.order.uid !== order.uid) {
      if (sameAddresses(oursOf(service.loadBalancer?.ingressIPs ?? [], order), order.addresses)) return;
      this.#take(order, false);
      return;
    }
    // Under way, or written and not seen yet: as it is wanted now.
    if (sameAddresses(former.order.addresses, order.addresses)) return;
    const found = [...new Set([...order.found, ...former.order.found, ...former.order.addresses])];
    this.#take({ ...order, found }, former.mayLand);
  }

  #take(order: StatusOrder, mayLand: boolean): void {
    const { uid, addresses, found } = order;
    const status: HandedOverStatus = { uid, addresses, inPlaceOf: found, version: undefined, trouble: undefined };
    this.#note(order.key, { order, status, mayLand });
    this.#queue.put(order.key, order);
  }

  async #carryOut(key: ObjectKey, order: StatusOrder): Promise<Verdict> {
    const { port, mayWrite, observer } = this.#options;
    const outcome = await port
      .write(order, () => this.#isOpen && mayWrite(), this.#stopped.signal)
      .catch((): 'aborted' => 'aborted');
    this.#lost.note(key, outcome);
    if (outcome !== 'aborted') {
      if (outcome.kind === 'written') observer.written(order);
      if (outcome.kind === 'refused' || outcome.kind === 'unknown') observer.failed(order, outcome.error);
    }
    const handed = this.#handed.get(key);
    // A newer order has taken its place, or its Service went.
    if (handed?.order !== order) {
      const mayLand = outcome === 'aborted' || outcome.kind === 'unknown';
      if (handed !== undefined && mayLand) this.#note(key, { ...handed, mayLand });
      else if (!this.#isOpen) this.#forget(key);
      return 'done';
    }
    return outcome === 'aborted' ? 'done' : this.#conclude(key, handed, outcome);
  }

  #conclude(key: ObjectKey, handed: HandedOver, outcome: StatusOutcome): Verdict {
    switch (outcome.kind) {
      case 'written':
      case 'unchanged':
        this.#queue.hasten(this.#denied.allowedBy(key));
        this.#tell(key, {
          order: handed.order,
          status: {
            uid: handed.status.uid,
            addresses: handed.status.addresses,
            version: outcome.version,
            trouble: undefined,
          },
          mayLand: false,
        });
        return 'done';
      case 'gone':
        // The watch will say so too; where it has, nothing is left to wait for.
        if (this.#options.services().get(key)?.meta.uid !== handed.order.uid) this.#forget(key);
        return 'done';
      case 'withheld':
        return this.#again(key, handed, { again: 'this', waitMs: 0 });
      case 'refused': {
        const { error, retryAfterMs } = outcome;
        this.#tell(key, { ...handed, status: { ...handed.status, trouble: error.message } });
        if (refusedWith(error) === 403)
          return this.#again(key, handed, { again: 'this', waitMs: this.#denied.turnOf(key, this.#options.clock.now()) });
        const isCommon = retryAfterMs > 0 || error.code === 'FW_API_UNREACHABLE';
        return this.#again(key, handed, { again: isCommon ? 'all' : 'this', waitMs: retryAfterMs });
      }
      case 'unknown': {
        const next = { ...handed, status: { ...handed.status, trouble: outcome.error.message }, mayLand: true };
        this.#tell(key, next);
        return this.#again(key, next, { again: 'all', waitMs: 0 });
      }
    }
  }

  /** Not where somebody else writes by now: then what cannot land any more is forgotten. */
  #again(key: ObjectKey, { mayLand }: HandedOver, verdict: Verdict): Verdict {
    if (this.#isOpen) return verdict;
    if (!mayLand) this.#forget(key);
    return 'done';
  }

  #tell(key: ObjectKey, handed: HandedOver): void {
    const before = this.#handed.get(key)?.status.trouble;
    this.#note(key, handed);
    if (before !== handed.status.trouble) this.#options.onChange();
  }

  #note(key: ObjectKey, handed: HandedOver): void {
    this.#handed.set(key, handed);
    this.#unshared.set(key, handed.status);
  }

  #forget(key: ObjectKey): void {
    this.#denied.forget(key);
    if (this.#handed.delete(key)) this.#unshared.set(key, undefined);
  }
}

/** From one that still is a load balancer, though not ours any more (its class), its next controller takes over what there is. */
function mayBeTakenBack({ type }: Service): boolean {
  return type !== 'LoadBalancer';
}

/** What it is to be, and what of it may be taken away. */
function orderOf(change: Change<ServiceStatus>): StatusOrder {
  const entry = change.op === 'delete' ? change.from : change.to;
  const before = change.op === 'create' ? [] : change.from.addresses;
  const { namespace, name, uid } = entry;
  const addresses = change.op === 'delete' ? [] : entry.addresses;
  return { key: keyOf(entry), namespace, name, uid, addresses, found: [...new Set([...entry.found, ...before])] };
}

/** Of what stands there, what is wanted or may be taken away. */
function oursOf(
  ingress: readonly IpAddress[],
  { addresses, found }: { readonly addresses: readonly IpAddress[]; readonly found: readonly IpAddress[] },
): readonly IpAddress[] {
  return ingress.filter(address => addresses.includes(address) || found.includes(address));
}

/** The wanted entry itself where the addresses are its; undefined for none. */
function entryFor(
  { meta: { namespace, name, uid } }: Service,
  addresses: readonly IpAddress[],
  wanted: ServiceStatus | undefined,
): ServiceStatus | undefined {
  if (wanted !== undefined && sameAddresses(wanted.addresses, addresses)) return wanted;
  if (addresses.length === 0) return undefined;
  return { namespace, name, uid, addresses, found: addresses };
}

/** Whether the Service as it is known is as it was after the writing, or later. */
function shows({ loadBalancer }: Service, { version }: HandedOverStatus): boolean {
  if (version === undefined) return false;
  // No load balancer and no address: what was planned for was one, so this is later.
  if (loadBalancer === undefined || loadBalancer.resourceVersion === version) return true;
  return !isNewerVersion(version, loadBalancer.resourceVersion);
}
