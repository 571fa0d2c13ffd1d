/**
 * Putting virtual services together from what is printed of them, one destination at a time, and handing back the expected object
 * where all of it is as expected: an audit of 100,000 destinations that finds nothing new leaves nothing behind in memory.
 */
import { mustParseAddress } from '../net/address.ts';
import { anyPrefixContains, type IpPrefix } from '../net/prefix.ts';
import type { Destination, Forwarding, VirtualServer } from '../reconcile/tables.ts';
import { destinationKey, listenerKey, sameVirtualService } from '../reconcile/tables.ts';

/** From so many destinations on, a service's are looked up in a map. */
const MAP_FROM = 24;

/** A virtual service without its destinations. */
export type VirtualService = Omit<VirtualServer, 'destinations'>;

export class VirtualServerAssembly {
  readonly #expected: ReadonlyMap<string, VirtualServer>;
  readonly #excluded: readonly IpPrefix[];
  readonly #servers = new Map<string, VirtualServer>();
  /** The service being read; undefined at the start and while the lines belong to a foreign one. */
  #service: VirtualService | undefined;
  #key = '';
  #wanted: VirtualServer | undefined;
  #wantedByKey: ReadonlyMap<string, Destination> | undefined;
  #found: Destination[] = [];
  #isAsWanted = true;

  /** Services on addresses inside `excluded` are foreign and left out. */
  constructor(expected: ReadonlyMap<string, VirtualServer>, excluded: readonly IpPrefix[]) {
    this.#expected = expected;
    this.#excluded = excluded;
  }

  /** A service begins, and the one before is whole. Gives its key. */
  begin(service: VirtualService): string {
    this.#close();
    const { listener } = service;
    this.#key = listenerKey(listener);
    const isForeign =
      listener.by === 'address' && this.#excluded.length > 0 && anyPrefixContains(this.#excluded, listener.address);
    this.#service = isForeign ? undefined : service;
    this.#wanted = isForeign ? undefined : this.#expected.get(this.#key);
    this.#isAsWanted = this.#wanted !== undefined && sameService(service, this.#wanted);
    this.#wantedByKey = undefined;
    return this.#key;
  }

  /** One destination of the service begun last. The address may be in any notation. */
  destination(address: string, port: number, weight: number, forwarding: Forwarding): void {
    if (this.#service === undefined) return;
    const wanted = this.#find(address, port);
    if (wanted !== undefined && wanted.weight === weight && wanted.forwarding === forwarding) {
      this.#found.push(wanted);
      return;
    }
    const canonical = mustParseAddress(address);
    if (canonical !== address) {
      this.destination(canonical, port, weight, forwarding);
      return;
    }
    this.#isAsWanted = false;
    this.#found.push({ address: canonical, port, weight, forwarding });
  }

  /** All services, keyed by `listenerKey`. */
  end(): ReadonlyMap<string, VirtualServer> {
    this.#close();
    return this.#servers;
  }

  #find(address: string, port: number): Destination | undefined {
    const destinations = this.#wanted?.destinations;
    if (destinations === undefined) return undefined;
    if (destinations.length < MAP_FROM) return destinations.find(known => known.port === port && known.address === address);
    this.#wantedByKey ??= new Map(destinations.map(known => [destinationKey(known), known]));
    return this.#wantedByKey.get(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
  }

  #close(): void {
    const service = this.#service;
    if (service === undefined) return;
    const wanted = this.#wanted;
    if (wanted !== undefined && this.#isAsWanted && this.#found.length === wanted.destinations.length) {
      this.#servers.set(this.#key, wanted);
      this.#found.length = 0;
    } else {
      this.#servers.set(this.#key, { ...service, destinations: this.#found });
      this.#found = [];
    }
    this.#service = undefined;
  }
}

function sameService(found: VirtualService, wanted: VirtualServer): boolean {
  return sameVirtualService({ ...found, destinations: [] }, { ...wanted, schedulerFlags: visibleFlags(wanted) });
}

/** `ipvsadm -Sn` never prints flag-3 of `sh` and `mh`, to which it means nothing. */
function visibleFlags(server: VirtualServer): readonly string[] {
  return server.scheduler === 'sh' || server.scheduler === 'mh'
    ? server.schedulerFlags.filter(flag => flag !== 'flag-3')
    : server.schedulerFlags;
}
