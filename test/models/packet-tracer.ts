/**
 * A packet's way through the filter table of a plan: what the kernel would do with the hooks, chains and sets that our planners emit
 * (iptables(8), ipset(8)), without a kernel. Whatever the kernel would refuse, or the tracer does not know, throws.
 */
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { type IptablesEntry, sameEntry } from '../../daemon/reconcile/tables.ts';
import { addressBits } from './address-bits.ts';
import { type ConnectionState, parseRule, type Rule, type RuleContext, type TracedPacket } from './rule-match.ts';
import { type SetLookup, setLookup } from './set-lookup.ts';

export type BuiltInChain = 'INPUT' | 'FORWARD' | 'OUTPUT';

export interface TracerPacket {
  readonly hook: BuiltInChain;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly transport:
    | { readonly protocol: 'TCP' | 'UDP' | 'SCTP'; readonly sourcePort?: number; readonly port: number }
    | { readonly protocol: 'ICMP'; readonly type: number; readonly code?: number };
  /** What connection tracking says; NEW unless given. */
  readonly state?: ConnectionState;
  /** The mark it comes with; 0 unless given. */
  readonly mark?: number;
  readonly inLink?: string;
  readonly outLink?: string;
}

export interface Walk {
  /** `fall through`: the hooks are done, and the rest of the built-in chain decides. */
  readonly verdict: 'accept' | 'drop' | 'reject' | 'fall through';
  /** `tcp-reset` ... of a reject, else ''. */
  readonly rejectWith: string;
  /** Prefixes of the NFLOG rules it met. */
  readonly logged: readonly string[];
  /** Rules that were looked at, those that did not match and the hooks among them. */
  readonly rules: number;
  /** The mark it leaves with. */
  readonly mark: number;
}

/** Called for every rule that is looked at. */
type Observer = (chain: string, rule: Rule, isMatch: boolean, mark: number) => void;

/** The longest chain name iptables takes. */
const LONGEST_NAME = 28;
/** More than any sane walk: chains that go round in a circle are refused by the kernel. */
const MOST_RULES = 100_000;

type Chains = ReadonlyMap<string, readonly Rule[]>;
type Hook = Extract<IptablesEntry, { kind: 'hook' }>;

export class PacketTracer {
  readonly #chains: Readonly<Record<Family, Chains>>;
  readonly #local: ReadonlySet<IpAddress>;
  readonly #bits = new Map<IpAddress, string>();

  /** @param localAddresses What the host takes for its own: `-m addrtype` LOCAL. */
  constructor(entries: Iterable<Entry>, localAddresses: Iterable<IpAddress>) {
    const unique = uniqueEntries(entries);
    const sets = setsOf(unique);
    this.#local = new Set(localAddresses);
    this.#chains = {
      ipv4: chainsOf(unique, { family: 'ipv4', sets }),
      ipv6: chainsOf(unique, { family: 'ipv6', sets }),
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
    const chains = this.#chains[seen.family];
    const logged: string[] = [];
    let rules = 0;
    let here = { chain: packet.hook as string, at: 0 };
    /** Where jumps came from; a goto leaves no trace, so that its chain returns where the one before it would have. */
    const callers: { chain: string; at: number }[] = [];
    const end = (verdict: Walk['verdict'], rejectWith = ''): Walk => ({ verdict, rejectWith, logged, rules, mark: seen.mark });
    for (;;) {
      const rule = chains.get(here.chain)?.[here.at];
      const returnsNow = rule === undefined;
      if (!returnsNow) {
        if (++rules > MOST_RULES) throw new Error(`chains go round in a circle at ${here.chain}`);
        const isMatch = rule.matches.every(match => match(seen));
        observe(here.chain, rule, isMatch, seen.mark);
        here = { chain: here.chain, at: here.at + 1 };
        if (!isMatch) continue;
      }
      const target = returnsNow ? ({ kind: 'return' } as const) : rule.target;
      switch (target.kind) {
        case 'none':
          break;
        case 'accept':
        case 'drop':
          return end(target.kind);
        case 'reject':
          return end('reject', target.with);
        case 'mark':
          seen.mark = ((seen.mark & ~target.mask) ^ target.value) >>> 0;
          break;
        case 'log':
          logged.push(target.prefix);
          break;
        case 'return': {
          const caller = callers.pop();
          if (caller === undefined) return end('fall through');
          here = caller;
          break;
        }
        case 'jump':
          callers.push(here);
          here = { chain: target.chain, at: 0 };
          break;
        case 'goto':
          here = { chain: target.chain, at: 0 };
          break;
      }
    }
  }

  #seen({ hook, source, destination, transport, state, mark, inLink, outLink }: TracerPacket): TracedPacket {
    const family = familyOf(source);
    if (familyOf(destination) !== family) throw new Error(`a packet of two families: ${source} ${destination}`);
    const isIcmp = transport.protocol === 'ICMP';
    return {
      family,
      source,
      destination,
      sourceBits: this.#bitsOf(source),
      destinationBits: this.#bitsOf(destination),
      protocol: isIcmp ? (family === 'ipv4' ? 'icmp' : 'ipv6-icmp') : LOWER[transport.protocol],
      sourcePort: isIcmp ? -1 : (transport.sourcePort ?? 40_000),
      destinationPort: isIcmp ? -1 : transport.port,
      icmpType: isIcmp ? transport.type : -1,
      icmpCode: isIcmp ? (transport.code ?? 0) : -1,
      state: state ?? 'NEW',
      isSourceLocal: this.#local.has(source),
      isDestinationLocal: this.#local.has(destination),
      inLink: inLink ?? (hook === 'OUTPUT' ? '' : 'kube-bridge'),
      outLink: outLink ?? (hook === 'INPUT' ? '' : 'kube-bridge'),
      mark: mark ?? 0,
    };
  }

  #bitsOf(address: IpAddress): string {
    const known = this.#bits.get(address);
    if (known !== undefined) return known;
    const bits = addressBits(address);
    this.#bits.set(address, bits);
    return bits;
  }
}

const LOWER = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

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

function setsOf(entries: readonly Entry[]): ReadonlyMap<string, SetLookup> {
  const sets = new Map<string, SetLookup>();
  for (const { table, value } of entries) {
    if (table === 'ipset' && value.kind === 'set') sets.set(value.name, setLookup(value));
  }
  for (const { table, value } of entries) {
    if (table !== 'ipset' || value.kind !== 'element') continue;
    const set = sets.get(value.set);
    if (set === undefined) throw new Error(`an element of no set: ${value.set} ${value.value}`);
    set.add(value.value);
  }
  return sets;
}

function chainsOf(entries: readonly Entry[], context: RuleContext): Chains {
  const chains = new Map<string, readonly Rule[]>();
  const hooks: Hook[] = [];
  for (const { table, value } of entries) {
    if (table !== 'iptables' || value.family !== context.family) continue;
    if (value.table !== 'filter') throw new Error(`the tracer knows the filter table only, not ${value.table}`);
    if (value.kind === 'hook') hooks.push(value);
    else {
      if (value.name.length > LONGEST_NAME) throw new Error(`chain name too long: ${value.name}`);
      chains.set(
        value.name,
        value.rules.map(rule => parseRule(rule, context)),
      );
    }
  }
  hooks.sort((a, b) => a.order - b.order);
  for (const from of ['INPUT', 'FORWARD', 'OUTPUT']) {
    const rules = hooks
      .filter(hook => hook.from === from)
      .map(({ match, to }) => parseRule(`${match} -j ${to}`.trimStart(), context));
    chains.set(from, rules);
  }
  for (const [name, rules] of chains) {
    for (const { target, text } of rules) {
      if ((target.kind === 'jump' || target.kind === 'goto') && !chains.has(target.chain)) {
        throw new Error(`no chain ${target.chain}: ${name} ${text}`);
      }
    }
  }
  return chains;
}
