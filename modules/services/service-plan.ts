/** All that one Service wants: virtual servers, its virtual addresses, and their places in the sets. */
import { type EndpointSlice, keyOf, type Service, type ServicePort } from '../../daemon/cluster/kinds.ts';
import { familiesOf, type Objection, policiesOf, type Vip, vipsOf } from '../../daemon/cluster/virtual-addresses.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Diagnostic, type Entry, entry, type ObjectRef } from '../../daemon/reconcile/fragment.ts';
import { type Destination, type Listener, LOCAL_TABLE, listenerKey, type Route } from '../../daemon/reconcile/tables.ts';
import type { ServicesContext } from './context.ts';
import { chooseEndpoints, type EndpointChoice, underPolicy } from './endpoints.ts';
import { type SetRole, setName, VIP_LINK } from './names.ts';
import type { ServicesOptions } from './options.ts';
import { type Scheduling, schedulingOf } from './scheduling.ts';
import { unsupportedFeatures } from './unsupported.ts';

/** A listener whose new connections end before IPVS, dropped or refused, unless an older Service has it (`contest.ts`). */
export interface Drop {
  readonly listener: string;
  readonly entry: Entry;
}

export interface ServicePlan {
  readonly owner: ObjectRef;
  /** All but those of {@link drops}. */
  readonly entries: readonly Entry[];
  readonly drops: readonly Drop[];
  /** Keys of all listeners it claims, served or dropped. */
  readonly listeners: readonly string[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Values of `service.kubernetes.io/service-proxy-name` that are ours. */
const OUR_PROXY_NAMES: readonly string[] = ['', 'kube-router', 'fairway'];
const NO_DESTINATIONS: readonly Destination[] = [];

/** Services without virtual addresses, and those another proxy serves, are none of ours. */
export function isServed(service: Service): boolean {
  return service.type !== 'ExternalName' && !service.headless && OUR_PROXY_NAMES.includes(service.proxyName);
}

/** The plan of a Service for which {@link isServed} holds. `occupied`: addresses that must not be taken, see `occupiedAddresses`. */
export function planService(
  service: Service,
  slices: readonly EndpointSlice[],
  context: ServicesContext,
  options: ServicesOptions,
  occupied: ReadonlySet<IpAddress>,
): ServicePlan {
  const owner: ObjectRef = { kind: 'Service', key: keyOf(service.meta), since: service.meta.creationTimestamp };
  const diagnostics: Diagnostic[] = [];
  const scheduling = schedulingOf(service, owner, diagnostics);
  const { policies, objections } = policiesOf(service);
  const addresses = vipsOf(service, policies, options);
  const told = (objection: Objection): Diagnostic => ({ ...objection, object: owner });
  diagnostics.push(...[...objections, ...addresses.objections].map(told), ...unsupportedFeatures(service, owner));
  const { vips } = addresses;
  const draft = new Draft(context, scheduling);
  const served = service.ports.length === 0 ? [] : vips.filter(vip => context.families.includes(vip.family));
  for (const vip of served) {
    if (context.hasVipLink && !occupied.has(vip.address)) draft.take(vip.address);
  }
  const families = familiesOf(service);
  const nodePortAddresses = context.nodePortAddresses.filter(address => families?.has(familyOf(address)) ?? true);
  for (const port of service.ports) {
    const choices = choicesOf(slices, port, context);
    for (const vip of served) draft.listen(vip, port.port, port, choices[vip.family]);
    const { nodePort } = port;
    if (nodePort === undefined) continue;
    for (const address of nodePortAddresses) {
      const family = familyOf(address);
      draft.listen({ address, family, policy: policies.external }, nodePort, port, choices[family]);
    }
  }
  return { owner, entries: draft.entries(), drops: draft.drops(), listeners: draft.listeners(), diagnostics };
}

/** The choice of each served family; all listeners of a port share its arrays. */
function choicesOf(
  slices: readonly EndpointSlice[],
  port: ServicePort,
  context: ServicesContext,
): Readonly<Partial<Record<Family, EndpointChoice>>> {
  return Object.fromEntries(context.families.map(family => [family, chooseEndpoints(slices, port, family, context.nodeName)]));
}

/** Entries while they are gathered; each key once, the first one stands. */
class Draft {
  readonly #context: ServicesContext;
  readonly #scheduling: Scheduling;
  readonly #entries = new Map<string, Entry>();
  readonly #drops: Drop[] = [];
  readonly #listeners = new Set<string>();
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

  listen(where: Omit<Vip, 'origins'>, number: number, port: ServicePort, choice: EndpointChoice | undefined): void {
    const listener: Listener = { by: 'address', protocol: port.protocol, address: where.address, port: number };
    const key = listenerKey(listener);
    if (choice === undefined || this.#listeners.has(key)) return;
    this.#listeners.add(key);
    const element = `${where.address},${port.protocol.toLowerCase()}:${number}`;
    // Open in the firewall whatever the endpoints do, so that their coming and going writes nothing there.
    if (this.#taken.has(where.address)) this.#addElement('vipPorts', where.family, element);
    const destinations = this.#destinations(choice, where, key, element);
    if (destinations === 'drop') return;
    if (destinations.length === 0 && port.protocol === 'TCP') this.#end('refused', where.family, key, element);
    this.#add(entry('virtualServer', { listener, ...this.#scheduling, destinations }));
    for (const destination of choice.onThisNode) this.#addLocalEndpoint(destination, port, where.family);
  }

  entries(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  drops(): readonly Drop[] {
    return this.#drops;
  }

  listeners(): readonly string[] {
    return [...this.#listeners];
  }

  /** Without the set that drops, refusing is the closest that is left. */
  #destinations(
    choice: EndpointChoice,
    where: Omit<Vip, 'origins'>,
    listener: string,
    element: string,
  ): readonly Destination[] | 'drop' {
    const destinations = underPolicy(choice, where.policy);
    if (destinations !== 'drop') return destinations;
    if (!this.#context.sets[where.family].includes('dropped')) return NO_DESTINATIONS;
    this.#end('dropped', where.family, listener, element);
    return 'drop';
  }

  /** IPVS refuses too where it has no destination, but with ICMP, which the kernel rations: all but a few clients would meet silence. */
  #end(role: 'dropped' | 'refused', family: Family, listener: string, element: string): void {
    if (!this.#context.sets[family].includes(role)) return;
    this.#drops.push({ listener, entry: entry('ipset', { kind: 'element', set: setName(role, family), value: element }) });
  }

  /** An endpoint on the node's own address needs neither: packets to it never leave through POSTROUTING. */
  #addLocalEndpoint({ address, port: number }: Destination, { protocol }: ServicePort, family: Family): void {
    if (this.#context.nodeAddresses.includes(address)) return;
    this.#addElement('hairpin', family, `${address},${protocol.toLowerCase()}:${number},${address}`);
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

/** Connections from this node to the address come from `source`. */
function routeOf(address: IpAddress, source: IpAddress): Route {
  return { type: 'local', table: LOCAL_TABLE, destination: hostPrefix(address), link: VIP_LINK, source, standsFor: 'address' };
}
