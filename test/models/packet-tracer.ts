/**
 * A packet's way through the filter table of a plan: what the kernel would do with the hooks, chains and sets that our planners emit
 * (iptables(8), ipset(8)), without a kernel. Whatever the kernel would refuse, or the tracer does not know, throws.
 */
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { sameEntry } from '../../daemon/reconcile/tables.ts';
import { type Chains, chainsOf, type Observer, setsOf, type Walk, walkChains } from './rule-chains.ts';
import { type ConnectionState, type TracedPacket, type Transport, tracedPacket } from './traced-packet.ts';

export type { Walk } from './rule-chains.ts';

export type BuiltInChain = 'INPUT' | 'FORWARD' | 'OUTPUT';

export interface TracerPacket {
  readonly hook: BuiltInChain;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly transport: Transport;
  /** What connection tracking says; NEW unless given. */
  readonly state?: ConnectionState;
  /** The mark it comes with; 0 unless given. */
  readonly mark?: number;
  readonly inLink?: string;
  readonly outLink?: string;
}

export class PacketTracer {
  readonly #chains: Readonly<Record<Family, Chains>>;
  readonly #local: ReadonlySet<IpAddress>;

  /** @param localAddresses What the host takes for its own: `-m addrtype` LOCAL. */
  constructor(entries: Iterable<Entry>, localAddresses: Iterable<IpAddress>) {
    const unique = uniqueEntries(entries);
    for (const { table, value } of unique) {
      if (table === 'iptables' && value.table !== 'filter') {
        throw new Error(`the tracer knows the filter table only, not ${value.table}`);
      }
    }
    const sets = setsOf(unique);
    this.#local = new Set(localAddresses);
    this.#chains = {
      ipv4: chainsOf(unique, { family: 'ipv4', table: 'filter', sets }),
      ipv6: chainsOf(unique, { family: 'ipv6', table: 'filter', sets }),
    };
  }

  walk(packet: TracerPacket): Walk {
    return this.#walk(packet, () => {});
  }

  /** One line a rule that was looked at, `+` where it matched. */
  explain(packet: TracerPacket): readonly string[] {
    const lines: string[] = [];
    const { verdict, mark } = this.#walk(packet, (chain, rule, isMatch, now) =>
      lines.push(`${isMatch ? '+' : ' '} ${chain} ${rule.text}${now === 0 ? '' : `   [mark 0x${now.toString(16)}]`}`),
    );
    return [...lines, `= ${verdict}, mark 0x${mark.toString(16)}`];
  }

  #walk(packet: TracerPacket, observe: Observer): Walk {
    const seen = this.#seen(packet);
    return walkChains(this.#chains[seen.family], packet.hook, seen, observe);
  }

  #seen({ hook, source, destination, transport, state, mark, inLink, outLink }: TracerPacket): TracedPacket {
    return {
      ...tracedPacket(source, destination, transport),
      state: state ?? 'NEW',
      isSourceLocal: this.#local.has(source),
      isDestinationLocal: this.#local.has(destination),
      inLink: inLink ?? (hook === 'OUTPUT' ? '' : 'kube-bridge'),
      outLink: outLink ?? (hook === 'INPUT' ? '' : 'kube-bridge'),
      mark: mark ?? 0,
    };
  }
}

/** Several owners may want one entry, then they must want the same. */
function uniqueEntries(entries: Iterable<Entry>): readonly Entry[] {
  const byKey = new Map<string, Entry>();
  for (const entry of entries) {
    const key = `${entry.table} ${entry.key}`;
    const other = byKey.get(key);
    // Of the same table by its key.
    if (other !== undefined && !sameEntry<never>(entry.table as never, other.value as never, entry.value as never)) {
      throw new Error(`wanted in two ways: ${key}`);
    }
    byKey.set(key, entry);
  }
  return [...byKey.values()];
}
