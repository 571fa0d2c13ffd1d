/**
 * What becomes of the first packet of a connection in a kernel that is as a plan of Services wants it: its way through the tables mangle, filter
 * and nat, IPVS in between. The order is the kernel's (include/uapi/linux/netfilter_ipv4.h, net/netfilter/ipvs/ip_vs_core.c):
 *
 * | packet | way |
 * |---|---|
 * | arrives | mangle PREROUTING, then for a local address: mangle INPUT, filter INPUT, IPVS |
 * | of the node itself | mangle OUTPUT, IPVS; if IPVS leaves it, filter OUTPUT, nat POSTROUTING, and for a local address back in as one that arrives |
 * | balanced to an endpoint elsewhere or in a pod | as the node's own once more, but for IPVS: mangle OUTPUT, filter OUTPUT, nat POSTROUTING |
 * | arrives, and is balanced to the node's own address | it is there: no chain any more |
 */
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import {
  type Destination,
  destinationKey,
  type IptablesTable,
  listenerKey,
  type VirtualServer,
} from '../../daemon/reconcile/tables.ts';
import { type Chains, chainsOf, setsOf, type Walk, walkChains } from './rule-chains.ts';
import { type TracedPacket, tracedPacket } from './traced-packet.ts';

/** The first packet of a connection. */
export interface Opening {
  /** Address of the client, or the node itself, whose address its kernel chooses. */
  readonly from: IpAddress | 'this node';
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: Protocol;
  /** The mark it has from elsewhere; 0 unless given. */
  readonly mark?: number;
}

/** Of each endpoint that may get the connection (`address port`) the client's address as it sees it; or what else happens. */
export type Outcome = 'refused' | 'dropped' | 'left alone' | ReadonlyMap<string, IpAddress>;

export interface KernelHost {
  /** On its links, apart from what the plan puts there. */
  readonly addresses: readonly IpAddress[];
  /** Its address on the link to other nodes: the source where nothing says otherwise. */
  readonly primary: Readonly<Record<Family, IpAddress>>;
}

const TABLES: readonly IptablesTable[] = ['mangle', 'filter', 'nat'];

type Ruleset = Readonly<Record<IptablesTable, Chains>>;

export class ServiceKernel {
  readonly #primary: KernelHost['primary'];
  readonly #local: Set<IpAddress>;
  readonly #servers = new Map<string, VirtualServer>();
  /** Bits of the mark with which a packet of the family is for this host, whatever its address. */
  readonly #deliveries: Record<Family, number> = { ipv4: 0, ipv6: 0 };
  readonly #rulesets: Readonly<Record<Family, Ruleset>>;
  /** Sources that the routes of local addresses name. */
  readonly #routeSources = new Map<string, IpAddress>();

  constructor(fragments: Iterable<Fragment>, { addresses, primary }: KernelHost) {
    this.#primary = primary;
    this.#local = new Set(addresses);
    const entries = oldestOfEach(fragments);
    for (const { table, key, value } of entries) {
      if (table === 'address') this.#local.add(value.address);
      if (table === 'markDelivery') this.#deliveries[value.family] |= value.mark;
      if (table === 'virtualServer') this.#servers.set(key, checked(value));
      if (table === 'route' && value.source !== undefined) this.#routeSources.set(value.destination, value.source);
    }
    const sets = setsOf(entries);
    const rulesetOf = (family: Family): Ruleset => {
      const chains = TABLES.map(table => [table, chainsOf(entries, { family, table, sets })] as const);
      return Object.fromEntries(chains) as Ruleset;
    };
    this.#rulesets = { ipv4: rulesetOf('ipv4'), ipv6: rulesetOf('ipv6') };
  }

  outcomeOf({ from, address, port, protocol, mark = 0 }: Opening): Outcome {
    const isOwn = from === 'this node';
    const source = isOwn ? this.#sourceTowards(address) : from;
    const packet = { ...tracedPacket(source, address, { protocol, port }), mark };
    return isOwn ? this.#leave(packet) : this.#arrive(packet);
  }

  /** To an address of its own the host connects from that very address, unless the route says otherwise. */
  #sourceTowards(address: IpAddress): IpAddress {
    if (!this.#local.has(address)) return this.#primary[familyOf(address)];
    return this.#routeSources.get(hostPrefix(address)) ?? address;
  }

  #arrive(packet: TracedPacket): Outcome {
    const stopped = this.#stopped(packet, 'mangle', 'PREROUTING');
    if (stopped !== undefined) return stopped;
    if (!this.#local.has(packet.destination) && (packet.mark & this.#deliveries[packet.family]) === 0) return 'left alone';
    const stoppedInside = this.#stopped(packet, 'mangle', 'INPUT') ?? this.#stopped(packet, 'filter', 'INPUT');
    if (stoppedInside !== undefined) return stoppedInside;
    const server = this.#serverFor(packet);
    if (server === undefined) return 'left alone';
    return this.#balanced(server, packet, destination =>
      this.#local.has(destination.address) ? packet.source : this.#sent(translated(packet, destination), ['mangle', 'filter']),
    );
  }

  #leave(packet: TracedPacket): Outcome {
    const stopped = this.#stopped(packet, 'mangle', 'OUTPUT');
    if (stopped !== undefined) return stopped;
    const server = this.#serverFor(packet);
    if (server !== undefined) {
      // IPVS sends on by itself what is for elsewhere, from the start of OUTPUT; what is for this host goes on where it was.
      return this.#balanced(server, packet, destination =>
        this.#sent(translated(packet, destination), this.#local.has(destination.address) ? ['filter'] : ['mangle', 'filter']),
      );
    }
    const stoppedThere = this.#stopped(packet, 'filter', 'OUTPUT');
    if (stoppedThere !== undefined) return stoppedThere;
    if (!this.#local.has(packet.destination)) return 'left alone';
    const source = this.#sourceBehind(packet);
    return this.#arrive({ ...tracedPacket(source, packet.destination, transportOf(packet)), mark: packet.mark });
  }

  /** By mark first: the whole mark, and only services of the packet's family. */
  #serverFor({ mark, family, protocol, destination, destinationPort }: TracedPacket): VirtualServer | undefined {
    const byMark = mark === 0 ? undefined : this.#servers.get(listenerKey({ by: 'mark', mark, family }));
    if (byMark !== undefined) return byMark;
    return this.#servers.get(
      listenerKey({ by: 'address', protocol: UPPER[protocol], address: destination, port: destinationPort }),
    );
  }

  /** `sourceAt`: what the endpoint sees as the client, undefined where it gets nothing. By tunnel it gets the packet as it came. */
  #balanced(
    { destinations }: VirtualServer,
    packet: TracedPacket,
    sourceAt: (destination: Destination) => IpAddress | undefined,
  ): Outcome {
    // New connections go to none of weight 0.
    const open = destinations.filter(({ weight }) => weight > 0);
    if (open.length === 0) return 'refused';
    const reached = new Map<string, IpAddress>();
    for (const destination of open) {
      const isTunnelled = destination.forwarding === 'tunnel';
      const source = isTunnelled ? packet.source : sourceAt(destination);
      const port = isTunnelled ? packet.destinationPort : destination.port;
      if (source !== undefined) reached.set(`${destination.address} ${port}`, source);
    }
    return reached.size > 0 ? reached : 'dropped';
  }

  #sent(packet: TracedPacket, tables: readonly IptablesTable[]): IpAddress | undefined {
    if (tables.some(table => this.#stopped(packet, table, 'OUTPUT') !== undefined)) return undefined;
    // Its way is looked for anew (ip_route_me_harder): by such a mark it comes back to this host, and never arrives.
    if (!this.#local.has(packet.destination) && (packet.mark & this.#deliveries[packet.family]) !== 0) return undefined;
    return this.#sourceBehind(packet);
  }

  #sourceBehind(packet: TracedPacket): IpAddress {
    if (this.#stopped(packet, 'mangle', 'POSTROUTING') !== undefined) throw new Error('dropped in POSTROUTING');
    const walk = this.#walk(packet, 'nat', 'POSTROUTING');
    return walk.verdict === 'new source' ? (walk.source ?? this.#primary[packet.family]) : packet.source;
  }

  #stopped(packet: TracedPacket, table: IptablesTable, chain: string): 'dropped' | 'refused' | undefined {
    const { verdict } = this.#walk(packet, table, chain);
    if (verdict === 'drop') return 'dropped';
    return verdict === 'reject' ? 'refused' : undefined;
  }

  /** The packet's mark may be another afterwards. */
  #walk(packet: TracedPacket, table: IptablesTable, chain: string): Walk {
    return walkChains(this.#rulesets[packet.family][table], chain, packet);
  }
}

const UPPER = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as Readonly<Record<TracedPacket['protocol'], Protocol>>;

function transportOf(packet: TracedPacket): { readonly protocol: Protocol; readonly port: number } {
  return { protocol: UPPER[packet.protocol], port: packet.destinationPort };
}

/** As IPVS sends it on: to the endpoint, with the client's address and the mark as they are. */
function translated(packet: TracedPacket, { address, port, forwarding }: Destination): TracedPacket {
  if (forwarding !== 'masquerade') throw new Error(`the tracer knows address translation only, not ${forwarding}`);
  const { protocol } = transportOf(packet);
  return { ...tracedPacket(packet.source, address, { protocol, port }), mark: packet.mark, balanced: 'MASQ' };
}

function checked(server: VirtualServer): VirtualServer {
  const { listener, destinations } = server;
  const family = listener.by === 'mark' ? listener.family : familyOf(listener.address);
  if (listener.by === 'mark' && listener.mark === 0) throw new Error('a virtual service of mark 0');
  if (destinations.some(({ address }) => familyOf(address) !== family)) throw new Error(`${listenerKey(listener)}: two families`);
  if (new Set(destinations.map(destinationKey)).size < destinations.length) {
    throw new Error(`${listenerKey(listener)}: a destination twice`);
  }
  return server;
}

/** As the reconciler decides where owners want one key: the oldest has it. */
function oldestOfEach(fragments: Iterable<Fragment>): readonly Entry[] {
  const byAge = [...fragments].sort((a, b) => a.owner.since - b.owner.since || (ownerKey(a.owner) < ownerKey(b.owner) ? -1 : 1));
  const wanted = new Map<string, Entry>();
  for (const entry of byAge.flatMap(({ entries }) => entries)) {
    const key = `${entry.table} ${entry.key}`;
    if (!wanted.has(key)) wanted.set(key, entry);
  }
  return [...wanted.values()];
}
