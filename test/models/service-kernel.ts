/** What becomes of the first packet of a connection in a kernel that is as a plan of Services wants it. Whatever the kernel would refuse throws. */
import { type Fate, PacketPath, type Stop } from '../../daemon/explain/packet-path.ts';
import { parseRule } from '../../daemon/explain/rule-match.ts';
import { tracedPacket } from '../../daemon/explain/traced-packet.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { destinationKey, listenerKey, type VirtualServer } from '../../daemon/reconcile/tables.ts';
import { rememberedBits } from './address-bits.ts';
import { strictKernel } from './strict-kernel.ts';

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
export type Outcome = Stop | 'left alone' | ReadonlyMap<string, IpAddress>;

export interface KernelHost {
  /** On its links, apart from what the plan puts there. */
  readonly addresses: readonly IpAddress[];
  /** Its address on the link to other nodes: the source where nothing says otherwise. */
  readonly primary: Readonly<Record<Family, IpAddress>>;
}

export class ServiceKernel {
  readonly #primary: KernelHost['primary'];
  readonly #local: Set<IpAddress>;
  readonly #path: PacketPath;
  /** Sources that the routes of local addresses name. */
  readonly #routeSources = new Map<string, IpAddress>();
  readonly #bitsOf = rememberedBits();

  constructor(fragments: Iterable<Fragment>, { addresses, primary }: KernelHost) {
    this.#primary = primary;
    this.#local = new Set(addresses);
    const entries = oldestOfEach(fragments);
    for (const { table, value } of entries) {
      if (table === 'address') this.#local.add(value.address);
      if (table === 'virtualServer') check(value);
      if (table === 'route' && value.source !== undefined) this.#routeSources.set(value.destination, value.source);
    }
    const host = { primary: (family: Family) => primary[family], linkTo: () => '' };
    this.#path = new PacketPath(strictKernel(entries, this.#local), host, parseRule);
  }

  outcomeOf({ from, address, port, protocol, mark = 0 }: Opening): Outcome {
    const isOwn = from === 'this node';
    const source = isOwn ? this.#sourceTowards(address) : from;
    const packet = { ...tracedPacket(source, address, { protocol, port }, this.#bitsOf), mark };
    return outcomeOf(isOwn ? this.#path.leave(packet) : this.#path.arrive(packet));
  }

  /** To an address of its own the host connects from that very address, unless the route says otherwise. */
  #sourceTowards(address: IpAddress): IpAddress {
    if (!this.#local.has(address)) return this.#primary[familyOf(address)];
    return this.#routeSources.get(hostPrefix(address)) ?? address;
  }
}

function outcomeOf(fate: Fate): Outcome {
  switch (fate.kind) {
    case 'stopped':
      return fate.how;
    case 'delivered':
    case 'sent':
      return 'left alone';
    case 'balanced': {
      if (fate.ways.length === 0) return 'refused';
      const reached = fate.ways.filter(({ stopped }) => stopped === undefined);
      return reached.length === 0
        ? 'dropped'
        : new Map(reached.map(({ destination, port, source }) => [`${destination.address} ${port}`, source]));
    }
  }
}

function check({ listener, destinations }: VirtualServer): void {
  const family = listener.by === 'mark' ? listener.family : familyOf(listener.address);
  if (listener.by === 'mark' && listener.mark === 0) throw new Error('a virtual service of mark 0');
  if (destinations.some(({ address }) => familyOf(address) !== family)) throw new Error(`${listenerKey(listener)}: two families`);
  if (destinations.some(({ forwarding }) => forwarding === 'route')) throw new Error(`${listenerKey(listener)}: direct routing`);
  if (new Set(destinations.map(destinationKey)).size < destinations.length) {
    throw new Error(`${listenerKey(listener)}: a destination twice`);
  }
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
