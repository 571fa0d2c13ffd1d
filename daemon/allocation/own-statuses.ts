/**
 * The status of LoadBalancer Services without an API server: what would stand there stands in a book of ours. Services from the folder are shown with
 * the addresses that the book has for them, so that all who read Services see them as they would see a status. What a manifest itself says of its
 * status stays, and is another's.
 */
import {
  type ClusterObject,
  type ClusterSource,
  type Complaint,
  type Kind,
  keyOf,
  type LoadBalancer,
  type ObjectKey,
  type Service,
  type SourceEvents,
} from '../cluster/kinds.ts';
import { type IpAddress, sameAddresses } from '../net/address.ts';
import { KeptBook, type KeptBookOptions } from './kept-book.ts';
import type { StatusOrder, StatusOutcome, StatusPort } from './status-port.ts';

export interface OwnStatusesOptions extends KeptBookOptions {
  /** The folder of manifests. */
  readonly source: ClusterSource;
  /** Milliseconds since the epoch. */
  readonly wallNow: () => number;
}

/** A Service as the source told it last. */
interface Told {
  readonly service: Service & { readonly loadBalancer: LoadBalancer };
  readonly complaints: readonly Complaint[];
  /** The `resourceVersion` that it was shown with. */
  readonly version: number;
}

const NO_ADDRESSES: readonly IpAddress[] = [];

/** Resolves once it is known what earlier runs handed out. Never rejects. */
export async function openOwnStatuses(options: OwnStatusesOptions): Promise<OwnStatuses> {
  return new OwnStatuses(options, await KeptBook.open(options));
}

/** The source with the addresses, and the port that writes them. */
export class OwnStatuses implements ClusterSource, StatusPort {
  readonly #options: OwnStatusesOptions;
  readonly #book: KeptBook;
  /** The Services of type LoadBalancer that there are. */
  readonly #told = new Map<ObjectKey, Told>();
  /**
   * Services that the book knows and the folder does not: deleted while no daemon ran, of another type, or in a file that cannot be read just now. They
   * have their addresses again when they return, unless somebody else got them meanwhile.
   */
  readonly #absent: Set<ObjectKey>;
  /** `resourceVersion` of whatever is shown next. */
  #version = 1;
  #events: SourceEvents | undefined;

  constructor(options: OwnStatusesOptions, book: KeptBook) {
    this.#options = options;
    this.#book = book;
    this.#absent = new Set(book.keys());
  }

  start(events: SourceEvents): void {
    this.#events = events;
    this.#options.source.start({
      upsert: (object, complaints) => {
        events.upsert(this.#shown(object, complaints), complaints);
      },
      remove: (kind, key) => {
        this.#forget(kind, key);
        events.remove(kind, key);
      },
      reject: (kind, key, complaints) => {
        this.#forget(kind, key);
        events.reject(kind, key, complaints);
      },
      replace: (kind, objects) => {
        if (kind === 'Service') for (const key of [...this.#told.keys()]) this.#forget(kind, key);
        events.replace(
          kind,
          objects.map(({ object, complaints }) => ({ object: this.#shown(object, complaints), complaints })),
        );
      },
      degraded: (kind, trouble) => {
        events.degraded(kind, trouble);
      },
    });
  }

  /** Whoever writes by this port is to have ended. */
  async stop(): Promise<void> {
    await this.#options.source.stop();
    await this.#book.close();
  }

  /** In force, and shown, when it returns; nothing of it can fail. */
  write(order: StatusOrder, mayWrite: () => boolean, _signal: AbortSignal): Promise<StatusOutcome> {
    return Promise.resolve(this.#write(order, mayWrite));
  }

  #write({ key, uid, addresses }: StatusOrder, mayWrite: () => boolean): StatusOutcome {
    const told = this.#told.get(key);
    if (told === undefined) return this.#takeBack(key, addresses, mayWrite);
    if (told.service.meta.uid !== uid) return { kind: 'gone' };
    const wanted = without(addresses, told.service.loadBalancer.ingressIPs);
    if (sameAddresses(this.#book.get(key)?.addresses ?? NO_ADDRESSES, wanted))
      return { kind: 'unchanged', version: String(told.version) };
    if (!mayWrite()) return { kind: 'withheld' };
    this.#takeFromAbsent(wanted);
    this.#enter(key, wanted);
    this.#version++;
    this.#events?.upsert(this.#shown(told.service, told.complaints), told.complaints);
    return { kind: 'written', version: String(this.#version) };
  }

  /** Where no API server is, nobody deletes the status along with the Service. */
  #takeBack(key: ObjectKey, addresses: readonly IpAddress[], mayWrite: () => boolean): StatusOutcome {
    if (addresses.length === 0 && this.#absent.has(key)) {
      if (!mayWrite()) return { kind: 'withheld' };
      this.#enter(key, NO_ADDRESSES);
    }
    return { kind: 'gone' };
  }

  #enter(key: ObjectKey, addresses: readonly IpAddress[]): void {
    if (addresses.length > 0) this.#book.set(key, { addresses, writtenAt: this.#options.wallNow() });
    else {
      this.#book.delete(key);
      this.#absent.delete(key);
    }
  }

  /** An address of a Service that is not there is free; when it returns it must not claim what another was given. */
  #takeFromAbsent(addresses: readonly IpAddress[]): void {
    for (const key of [...this.#absent]) {
      const entry = this.#book.get(key);
      if (entry === undefined || !entry.addresses.some(address => addresses.includes(address))) continue;
      const left = without(entry.addresses, addresses);
      if (left.length > 0) this.#book.set(key, { ...entry, addresses: left });
      else this.#enter(key, left);
    }
  }

  #forget(kind: Kind, key: ObjectKey): void {
    if (kind !== 'Service') return;
    this.#told.delete(key);
    if (this.#book.get(key) !== undefined) this.#absent.add(key);
  }

  /** The object as it is shown; a Service of type LoadBalancer is remembered. */
  #shown<T extends ClusterObject>(object: T, complaints: readonly Complaint[]): T {
    if (object.kind !== 'Service') return object;
    const key = keyOf(object.meta);
    if (!isBalanced(object)) {
      this.#forget('Service', key);
      return object;
    }
    this.#told.set(key, { service: object, complaints, version: this.#version });
    this.#absent.delete(key);
    return { ...object, ...this.#fieldsOf(object) };
  }

  #fieldsOf(service: Told['service']): Pick<Service, 'loadBalancer' | 'loadBalancerIPs'> {
    const { loadBalancer, loadBalancerIPs, isClosed } = service;
    const entry = this.#book.get(keyOf(service.meta));
    const resourceVersion = String(this.#version);
    if (entry === undefined) return { loadBalancer: { ...loadBalancer, resourceVersion }, loadBalancerIPs };
    const own = without(entry.addresses, loadBalancer.ingressIPs);
    // One writer has the whole list: beside addresses of the manifest ours are known by their pool alone.
    const writer = loadBalancer.ingressIPs.length === 0 ? { writtenBy: 'fairway', writtenAt: entry.writtenAt } : {};
    return {
      loadBalancer: { ...loadBalancer, ...writer, ingressIPs: [...loadBalancer.ingressIPs, ...own], resourceVersion },
      loadBalancerIPs: isClosed ? loadBalancerIPs : [...loadBalancerIPs, ...own],
    };
  }
}

function isBalanced(service: Service): service is Told['service'] {
  return service.type === 'LoadBalancer' && service.loadBalancer !== undefined;
}

function without(addresses: readonly IpAddress[], others: readonly IpAddress[]): readonly IpAddress[] {
  return others.length === 0 ? addresses : addresses.filter(address => !others.includes(address));
}
