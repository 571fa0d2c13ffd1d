/**
 * A packet's way through the filter table of a plan: what the kernel would do with the hooks, chains and sets that our planners emit
 * (iptables(8), ipset(8)), without a kernel. Whatever the kernel would refuse, or the tracer does not know, throws.
 */
import { chainsIn } from '../../daemon/explain/kernel-entries.ts';
import { type Chains, type Observer, type Walk, walkChains } from '../../daemon/explain/rule-chains.ts';
import { parseRule } from '../../daemon/explain/rule-match.ts';
import { type ConnectionState, type TracedPacket, type Transport, tracedPacket } from '../../daemon/explain/traced-packet.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { sameEntry } from '../../daemon/reconcile/tables.ts';
import { rememberedBits } from './address-bits.ts';
import { strictKernel } from './strict-kernel.ts';

export type { Walk } from '../../daemon/explain/rule-chains.ts';

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
  readonly #bitsOf = rememberedBits();

  /** @param localAddresses What the host takes for its own: `-m addrtype` LOCAL. */
  constructor(entries: Iterable<Entry>, localAddresses: Iterable<IpAddress>) {
    const unique = uniqueEntries(entries);
    for (const { table, value } of unique) {
      if (table === 'iptables' && value.table !== 'filter') {
        throw new Error(`the tracer knows the filter table only, not ${value.table}`);
      }
    }
    this.#local = new Set(localAddresses);
    const kernel = strictKernel(unique, this.#local);
    this.#chains = {
      ipv4: chainsIn(kernel, 'ipv4', 'filter', parseRule),
      ipv6: chainsIn(kernel, 'ipv6', 'filter', parseRule),
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
    const walk = walkChains(this.#chains[seen.family], packet.hook, seen, observe);
    if (walk.verdict === 'endless') throw new Error('chains go round in a circle');
    return walk;
  }

  #seen({ hook, source, destination, transport, state, mark, inLink, outLink }: TracerPacket): TracedPacket {
    return {
      ...tracedPacket(source, destination, transport, this.#bitsOf),
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
