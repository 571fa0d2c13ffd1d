/**
 * What becomes of the first packet of a connection in a kernel with given entries: its way through the tables mangle, filter and nat, IPVS in
 * between. The order is the kernel's (include/uapi/linux/netfilter_ipv4.h, net/netfilter/ipvs/ip_vs_core.c):
 *
 * | packet | way |
 * |---|---|
 * | arrives | mangle PREROUTING, then for a local address: mangle INPUT, filter INPUT, IPVS; for another: mangle and filter FORWARD, nat POSTROUTING |
 * | of the node itself | mangle OUTPUT, IPVS; if IPVS leaves it, filter OUTPUT, nat POSTROUTING, and for a local address back in as one that arrives |
 * | balanced to an endpoint elsewhere or in a pod | as the node's own once more, but for IPVS: mangle OUTPUT, filter OUTPUT, nat POSTROUTING |
 * | arrives, and is balanced to the node's own address | it is there: no chain any more |
 */
import type { Family, IpAddress } from '../net/address.ts';
import { DIRECT_RETURN } from '../net/marks.ts';
import type { Protocol } from '../net/port.ts';
import { type Destination, type IptablesTable, listenerKey, type VirtualServer } from '../reconcile/tables.ts';
import { chainsIn, type KernelEntries, type RuleReader } from './kernel-entries.ts';
import { type Chains, type Walk, walkChains } from './rule-chains.ts';
import type { Rule } from './rule-match.ts';
import { addressed, type TracedPacket } from './traced-packet.ts';

/** A rule that took the packet, or of which it is not known whether it would. */
export interface MetRule {
  readonly chain: string;
  readonly rule: Rule;
}

/** A packet's walk from one built-in chain. */
export interface Passage {
  readonly table: IptablesTable;
  readonly hook: string;
  readonly packet: TracedPacket;
  readonly walk: Walk;
  readonly met: readonly MetRule[];
}

export type Stop = 'dropped' | 'refused';

/** What becomes of a packet that IPVS gives to one destination. */
export interface Way {
  readonly destination: Destination;
  /** As it arrives there; by tunnel the port is that of the listener. */
  readonly port: number;
  /** The client's address as the endpoint sees it. */
  readonly source: IpAddress;
  readonly stopped: Stop | undefined;
  readonly passages: readonly Passage[];
}

export type Fate = { readonly passages: readonly Passage[] } & (
  | { readonly kind: 'stopped'; readonly how: Stop }
  /** The host itself has it. */
  | { readonly kind: 'delivered' }
  /** It leaves by a link, with that source. */
  | { readonly kind: 'sent'; readonly source: IpAddress }
  | { readonly kind: 'balanced'; readonly server: VirtualServer; readonly ways: readonly Way[] }
);

export interface PathHost {
  /** Its address on the link to other nodes: the source where nothing says otherwise. */
  primary(family: Family): IpAddress;
  /** The link that leads to an address; '' where it is not known. */
  linkTo(address: IpAddress): string;
}

/** Where a packet is looked at, with what was met so far. */
interface Place {
  readonly packet: TracedPacket;
  readonly passages: Passage[];
}

export class PacketPath {
  readonly #entries: KernelEntries;
  readonly #host: PathHost;
  readonly #read: RuleReader;
  readonly #chains: Readonly<Record<Family, Partial<Record<IptablesTable, Chains>>>> = { ipv4: {}, ipv6: {} };

  constructor(entries: KernelEntries, host: PathHost, read: RuleReader) {
    this.#entries = entries;
    this.#host = host;
    this.#read = read;
  }

  /** By the link that the packet says. */
  arrive(packet: TracedPacket): Fate {
    return this.#arrive({ packet: this.#placed(packet), passages: [] });
  }

  leave(packet: TracedPacket): Fate {
    return this.#leave({ packet: this.#placed(packet), passages: [] });
  }

  #placed(packet: TracedPacket): TracedPacket {
    const { source, destination } = packet;
    return {
      ...packet,
      isSourceLocal: this.#entries.isLocal(source),
      isDestinationLocal: this.#entries.isLocal(destination),
      outLink: this.#host.linkTo(destination),
    };
  }

  #arrive(place: Place): Fate {
    const { packet, passages } = place;
    const stopped = this.#stopped(place, 'mangle', 'PREROUTING');
    if (stopped !== undefined) return { kind: 'stopped', how: stopped, passages };
    if (!packet.isDestinationLocal && !this.#isForThisHost(packet)) return this.#forward(place);
    const inside: Place = { packet: { ...packet, outLink: '' }, passages };
    const stoppedInside = this.#stopped(inside, 'mangle', 'INPUT') ?? this.#stopped(inside, 'filter', 'INPUT');
    if (stoppedInside !== undefined) return { kind: 'stopped', how: stoppedInside, passages };
    const server = this.#serverFor(inside.packet);
    if (server === undefined) return { kind: 'delivered', passages };
    return this.#balanced(server, inside, destination =>
      this.#entries.isLocal(destination.address)
        ? { source: packet.source, stopped: undefined, passages: [] }
        : this.#sent(translated(inside.packet, destination), ['mangle', 'filter']),
    );
  }

  #forward(place: Place): Fate {
    const { passages } = place;
    const stopped = this.#stopped(place, 'mangle', 'FORWARD') ?? this.#stopped(place, 'filter', 'FORWARD');
    if (stopped !== undefined) return { kind: 'stopped', how: stopped, passages };
    return this.#out({ packet: { ...place.packet, inLink: '' }, passages });
  }

  #out(place: Place): Fate {
    const { passages } = place;
    const { source, stopped } = this.#behind(place);
    return stopped === undefined ? { kind: 'sent', source, passages } : { kind: 'stopped', how: stopped, passages };
  }

  #leave(place: Place): Fate {
    const { packet, passages } = place;
    const stopped = this.#stopped(place, 'mangle', 'OUTPUT');
    if (stopped !== undefined) return { kind: 'stopped', how: stopped, passages };
    const server = this.#serverFor(packet);
    if (server !== undefined) {
      // IPVS sends on by itself what is for elsewhere, from the start of OUTPUT; what is for this host goes on where it was.
      return this.#balanced(server, place, destination =>
        this.#sent(
          translated(packet, destination),
          this.#entries.isLocal(destination.address) ? ['filter'] : ['mangle', 'filter'],
        ),
      );
    }
    const stoppedThere = this.#stopped(place, 'filter', 'OUTPUT');
    if (stoppedThere !== undefined) return { kind: 'stopped', how: stoppedThere, passages };
    const out = this.#out(place);
    if (out.kind !== 'sent' || !packet.isDestinationLocal) return out;
    return this.#arrive({ packet: { ...this.#placed(addressed(packet, { source: out.source })), inLink: 'lo' }, passages });
  }

  #isForThisHost({ mark, family }: TracedPacket): boolean {
    return (mark & DIRECT_RETURN) !== 0 && this.#entries.get('markDelivery', `${family} ${DIRECT_RETURN}`) !== undefined;
  }

  /** By mark first: the whole mark, and only services of the packet's family. */
  #serverFor({ mark, family, protocol, destination, destinationPort }: TracedPacket): VirtualServer | undefined {
    const byMark = mark === 0 ? undefined : this.#entries.get('virtualServer', listenerKey({ by: 'mark', mark, family }));
    if (byMark !== undefined) return byMark;
    const upper = UPPER[protocol];
    if (upper === undefined) return undefined;
    return this.#entries.get(
      'virtualServer',
      listenerKey({ by: 'address', protocol: upper, address: destination, port: destinationPort }),
    );
  }

  /** By tunnel an endpoint gets the packet as it came. New connections go to none of weight 0. */
  #balanced(
    server: VirtualServer,
    { packet, passages }: Place,
    wayTo: (destination: Destination) => Pick<Way, 'source' | 'stopped' | 'passages'>,
  ): Fate {
    const ways = server.destinations
      .filter(({ weight }) => weight > 0)
      .map((destination): Way => {
        const isTranslated = destination.forwarding === 'masquerade';
        const way = isTranslated ? wayTo(destination) : { source: packet.source, stopped: undefined, passages: [] };
        return { destination, port: isTranslated ? destination.port : packet.destinationPort, ...way };
      });
    return { kind: 'balanced', server, ways, passages };
  }

  #sent(packet: TracedPacket, tables: readonly IptablesTable[]): Pick<Way, 'source' | 'stopped' | 'passages'> {
    const passages: Passage[] = [];
    const place: Place = { packet: { ...this.#placed(packet), inLink: '' }, passages };
    for (const table of tables) {
      const stopped = this.#stopped(place, table, 'OUTPUT');
      if (stopped !== undefined) return { source: packet.source, stopped, passages };
    }
    // Its way is looked for anew (ip_route_me_harder): by such a mark it comes back to this host, and never arrives.
    if (!place.packet.isDestinationLocal && this.#isForThisHost(place.packet))
      return { source: packet.source, stopped: 'dropped', passages };
    return { ...this.#behind(place), passages };
  }

  #behind(place: Place): Pick<Way, 'source' | 'stopped'> {
    const { packet } = place;
    const stopped = this.#stopped(place, 'mangle', 'POSTROUTING');
    if (stopped !== undefined) return { source: packet.source, stopped };
    const walk = this.#walk(place, 'nat', 'POSTROUTING');
    const source = walk.verdict === 'new source' ? (walk.source ?? this.#host.primary(packet.family)) : packet.source;
    return { source, stopped: undefined };
  }

  #stopped(place: Place, table: IptablesTable, chain: string): Stop | undefined {
    const { verdict } = this.#walk(place, table, chain);
    if (verdict === 'drop') return 'dropped';
    return verdict === 'reject' ? 'refused' : undefined;
  }

  /** The packet's mark may be another afterwards. */
  #walk({ packet, passages }: Place, table: IptablesTable, hook: string): Walk {
    const met: MetRule[] = [];
    const walk = walkChains(this.#chainsOf(packet.family, table), hook, packet, (chain, rule, isMatch) => {
      if (isMatch || rule.target.kind === 'unknown') met.push({ chain, rule });
    });
    passages.push({ table, hook, packet, walk, met });
    return walk;
  }

  #chainsOf(family: Family, table: IptablesTable): Chains {
    const known = this.#chains[family];
    known[table] ??= chainsIn(this.#entries, family, table, this.#read);
    return known[table];
  }
}

const UPPER: Readonly<Partial<Record<TracedPacket['protocol'], Protocol>>> = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' };

/** Elements by which a rule took the packet, or by whose lack it did not. */
export function elementsBy({ sets }: Rule, packet: TracedPacket): readonly { readonly set: string; readonly element: string }[] {
  return sets.flatMap(({ set, sides }) => {
    const element = set.find(packet, sides);
    return element === undefined ? [] : [{ set: set.head.name, element }];
  });
}

/** As IPVS sends it on: to the endpoint, with the client's address and the mark as they are. */
function translated(packet: TracedPacket, { address, port }: Destination): TracedPacket {
  return { ...addressed(packet, { destination: address }), destinationPort: port, balanced: 'MASQ' };
}
