/** What one Service wants, while it is gathered. */
import type { ServicePort, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import type { Vip } from '../../daemon/cluster/virtual-addresses.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { DIRECT_RETURN, markText, SERVICE_MARKS } from '../../daemon/net/marks.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { anyPrefixContains, hostPrefix, type IpPrefix, prefixFamily } from '../../daemon/net/prefix.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { elementText, halved } from '../../daemon/reconcile/set-element.ts';
import {
  type AddressListener,
  type Destination,
  LOCAL_TABLE,
  listenerKey,
  type Route,
  type VirtualServer,
} from '../../daemon/reconcile/tables.ts';
import type { ServicesContext } from './context.ts';
import { canTunnel, tunnelled } from './direct-return.ts';
import { type EndpointChoice, underPolicy } from './endpoints.ts';
import { type SetRole, setName, VIP_LINK } from './names.ts';
import type { Scheduling } from './scheduling.ts';

/** What becomes of a listener's new connections before IPVS (an element of a set), unless an older Service has the listener (`contest.ts`). */
export interface ListenerEntry {
  readonly listener: string;
  readonly entry: Entry;
}

const NO_DESTINATIONS: readonly Destination[] = [];

/** Each key once, the first entry stands. */
export class Draft {
  readonly #context: ServicesContext;
  readonly #scheduling: Scheduling;
  readonly #entries = new Map<string, Entry>();
  readonly #contested: ListenerEntry[] = [];
  readonly #listeners = new Set<string>();
  /** Virtual services by mark, by key: each may be what several addresses lead to. */
  readonly #marked = new Map<string, VirtualServer & { readonly addressedTo: AddressListener[] }>();
  readonly #dropped: string[] = [];
  readonly #taken = new Set<IpAddress>();

  constructor(context: ServicesContext, scheduling: Scheduling) {
    this.#context = context;
    this.#scheduling = scheduling;
  }

  /** Puts a virtual address on our link, behind the firewall. */
  take(address: IpAddress): void {
    this.#taken.add(address);
    this.#add(entry('address', { link: VIP_LINK, address }));
    const source = this.#context.routeSource[familyOf(address)];
    if (source !== undefined) this.#add(entry('route', routeOf(address, source)));
    this.#addElement('vips', familyOf(address), address);
  }

  /** Undefined where there is nothing to serve, or the Service has it already. */
  claim(where: Vip, number: number, { protocol }: ServicePort, choice: EndpointChoice | undefined): PlannedListener | undefined {
    const { address, family } = where;
    const listener: AddressListener = { by: 'address', protocol, address, port: number };
    const key = listenerKey(listener);
    if (choice === undefined || this.#listeners.has(key)) return undefined;
    this.#listeners.add(key);
    return { key, listener, choice, policy: where.policy, family, address, element: elementOf(address, protocol, number) };
  }

  /** By address and port, with address translation. */
  serve(planned: PlannedListener): void {
    const { listener, family } = planned;
    // Open in the firewall whatever the endpoints do, so that their coming and going writes nothing there.
    if (this.#taken.has(planned.address)) this.#addElement('vipPorts', family, planned.element);
    const destinations = this.#destinations(planned);
    if (destinations !== 'drop') this.#add(entry('virtualServer', { listener, ...this.#scheduling, destinations }));
    this.#addLocalEndpoints(planned);
  }

  /** By mark, and some of the destinations by tunnel; the pods of this node among them get the far end. */
  serveDirectly(planned: PlannedListener, mark: number, isNodeAddress: (address: IpAddress) => boolean): void {
    const { listener, choice, address } = planned;
    const destinations = this.#destinations(planned);
    // Another Service may have put the address on our link, behind the firewall.
    this.#addElement('vipPorts', planned.family, planned.element);
    // Without a number: brought here, and dropped here.
    this.#contend('direct', planned, markRemark(destinations === 'drop' ? DIRECT_RETURN : mark));
    if (destinations !== 'drop') this.#serveMarked(planned, mark, tunnelled(destinations, listener.port, isNodeAddress));
    this.#addLocalEndpoints(planned);
    for (const destination of choice.knownHere) {
      if (canTunnel(destination, listener.port, isNodeAddress))
        this.#add(entry('podTunnel', { pod: destination.address, vip: address }));
    }
  }

  /** For clients on this node, who are told apart by the mark, these destinations; with none they are refused as everybody is. */
  serveInside(planned: PlannedListener, mark: number, destinations: readonly Destination[]): void {
    if (destinations.length === 0 || !this.#context.sets[planned.family].includes('inside')) return;
    this.#serveMarked(planned, mark, destinations);
    this.#contend('inside', planned, markRemark(mark));
  }

  #serveMarked({ family, listener }: PlannedListener, mark: number, destinations: readonly Destination[]): void {
    const key = `${mark} ${family}`;
    const marked = this.#marked.get(key);
    if (marked !== undefined) marked.addressedTo.push(listener);
    else
      this.#marked.set(key, {
        listener: { by: 'mark', mark, family },
        ...this.#scheduling,
        destinations,
        addressedTo: [listener],
      });
  }

  /**
   * To all sources but these, where there are some. What the node itself sends comes from the virtual address where the node has that, else from an
   * address of its own.
   */
  close(planned: PlannedListener, sources: readonly IpPrefix[]): void {
    if (sources.length === 0) return;
    const { family, address } = planned;
    const open = sources.filter(source => prefixFamily(source) === family).flatMap(halved);
    const isOpenToNode = this.#context.nodeAddresses.some(one => anyPrefixContains(open, one));
    const own = this.#taken.has(address)
      ? [address]
      : [address, ...this.#context.nodeAddresses.filter(one => familyOf(one) === family)];
    const all = isOpenToNode ? [...open, ...own.map(hostPrefix)] : open;
    for (const source of new Set(all.map(elementText))) this.#contend('open', planned, `,${source}`);
    this.#contend('closed', planned);
  }

  add(entries: readonly Entry[]): void {
    for (const each of entries) this.#add(each);
  }

  entries(): readonly Entry[] {
    for (const server of this.#marked.values()) this.#add(entry('virtualServer', server));
    return [...this.#entries.values()];
  }

  contested(): readonly ListenerEntry[] {
    return this.#contested;
  }

  /** Listeners that have nothing to serve here, and do not refuse. */
  dropped(): readonly string[] {
    return this.#dropped;
  }

  listeners(): readonly string[] {
    return [...this.#listeners];
  }

  /** Without the set that drops, refusing is the closest that is left. */
  #destinations(planned: PlannedListener): readonly Destination[] | 'drop' {
    const destinations = underPolicy(planned.choice, planned.policy);
    if (destinations !== 'drop') {
      if (destinations.length === 0 && planned.listener.protocol === 'TCP') this.#contend('refused', planned);
      return destinations;
    }
    if (!this.#context.sets[planned.family].includes('dropped')) return NO_DESTINATIONS;
    this.#contend('dropped', planned);
    this.#dropped.push(planned.key);
    return 'drop';
  }

  /** IPVS refuses too where it has no destination, but with ICMP, which the kernel rations: all but a few clients would meet silence. */
  #contend(
    role: 'dropped' | 'refused' | 'inside' | 'direct' | 'closed' | 'open',
    { key, family, element }: PlannedListener,
    remark = '',
  ): void {
    if (!this.#context.sets[family].includes(role)) return;
    const value = `${element}${remark}`;
    this.#contested.push({ listener: key, entry: entry('ipset', { kind: 'element', set: setName(role, family), value }) });
  }

  #addLocalEndpoints({ choice, listener: { protocol }, family }: PlannedListener): void {
    for (const destination of choice.onThisNode) this.#addLocalEndpoint(destination, protocol, family);
    for (const { address, port } of choice.somewhere)
      this.#addElement('hairpin', family, `${elementOf(address, protocol, port)},${address}`);
  }

  /** An endpoint on the node's own address needs neither: packets to it never leave through POSTROUTING. */
  #addLocalEndpoint({ address, port: number }: Destination, protocol: Protocol, family: Family): void {
    if (this.#context.nodeAddresses.includes(address)) return;
    this.#addElement('hairpin', family, `${elementOf(address, protocol, number)},${address}`);
    this.#addElement('localPods', family, address);
  }

  #addElement(role: SetRole, family: Family, value: string): void {
    if (this.#context.sets[family].includes(role))
      this.#add(entry('ipset', { kind: 'element', set: setName(role, family), value }));
  }

  #add(wanted: Entry): void {
    const key = `${wanted.table} ${wanted.key}`;
    if (!this.#entries.has(key)) this.#entries.set(key, wanted);
  }
}

/** One address and port of a Service, and which endpoints there are for it. */
export interface PlannedListener {
  readonly key: string;
  readonly listener: AddressListener;
  readonly choice: EndpointChoice;
  readonly policy: TrafficPolicy;
  readonly family: Family;
  readonly address: IpAddress;
  /** As sets hold it. */
  readonly element: string;
}

function markRemark(mark: number): string {
  return ` skbmark ${markText(mark, SERVICE_MARKS)}`;
}

function elementOf(address: IpAddress, protocol: Protocol, port: number): string {
  return `${address},${protocol.toLowerCase()}:${port}`;
}

/** Connections from this node to the address come from `source`. */
function routeOf(address: IpAddress, source: IpAddress): Route {
  return { type: 'local', table: LOCAL_TABLE, destination: hostPrefix(address), link: VIP_LINK, source, standsFor: 'address' };
}
