/**
 * The chains of a plan in one table of iptables, and a packet's walk through them: what the kernel would do with hooks, chains and sets
 * (iptables(8), ipset(8)). Whatever the kernel would refuse throws.
 */
import type { IpAddress } from '../../daemon/net/address.ts';
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import type { IptablesEntry, IptablesTable } from '../../daemon/reconcile/tables.ts';
import { parseRule, type Rule } from './rule-match.ts';
import type { RuleContext } from './rule-target.ts';
import { type SetLookup, setLookup } from './set-lookup.ts';
import type { TracedPacket } from './traced-packet.ts';

export interface Walk {
  /** `fall through`: the hooks are done, and the rest of the built-in chain decides. */
  readonly verdict: 'accept' | 'drop' | 'reject' | 'new source' | 'fall through';
  /** `tcp-reset` ... of a reject, else ''. */
  readonly rejectWith: string;
  /** Of a new source; undefined for the address of the link. */
  readonly source: IpAddress | undefined;
  /** Prefixes of the NFLOG rules it met. */
  readonly logged: readonly string[];
  /** Rules that were looked at, those that did not match and the hooks among them. */
  readonly rules: number;
  /** The mark it leaves with. */
  readonly mark: number;
}

/** Called for every rule that is looked at. */
export type Observer = (chain: string, rule: Rule, isMatch: boolean, mark: number) => void;

/** By name, built-in ones too. */
export type Chains = ReadonlyMap<string, readonly Rule[]>;

type Hook = Extract<IptablesEntry, { kind: 'hook' }>;

/** The built-in chains of each table. */
const BUILT_IN: Readonly<Record<IptablesTable, readonly string[]>> = {
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
};

/** The longest chain name iptables takes. */
const LONGEST_NAME = 28;
/** More than any sane walk: chains that go round in a circle are refused by the kernel. */
const MOST_RULES = 100_000;

export function setsOf(entries: readonly Entry[]): ReadonlyMap<string, SetLookup> {
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

export function chainsOf(entries: readonly Entry[], context: RuleContext): Chains {
  const chains = new Map<string, readonly Rule[]>();
  const hooks: Hook[] = [];
  for (const { table, value } of entries) {
    if (table !== 'iptables' || value.family !== context.family || value.table !== context.table) continue;
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
  const stranger = hooks.find(({ from }) => !BUILT_IN[context.table].includes(from));
  if (stranger !== undefined) throw new Error(`no chain ${stranger.from} in table ${context.table}`);
  for (const from of BUILT_IN[context.table]) {
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

/** From the start of a chain; the packet's mark may be another afterwards. */
export function walkChains(chains: Chains, start: string, packet: TracedPacket, observe: Observer = () => {}): Walk {
  const logged: string[] = [];
  let rules = 0;
  let here = { chain: start, at: 0 };
  /** Where jumps came from; a goto leaves no trace, so that its chain returns where the one before it would have. */
  const callers: { chain: string; at: number }[] = [];
  const end = (verdict: Walk['verdict'], more: { rejectWith?: string; source?: IpAddress | undefined } = {}): Walk => ({
    verdict,
    rejectWith: '',
    source: undefined,
    ...more,
    logged,
    rules,
    mark: packet.mark,
  });
  for (;;) {
    const rule = chains.get(here.chain)?.[here.at];
    const returnsNow = rule === undefined;
    if (!returnsNow) {
      if (++rules > MOST_RULES) throw new Error(`chains go round in a circle at ${here.chain}`);
      const isMatch = rule.matches.every(match => match(packet));
      observe(here.chain, rule, isMatch, packet.mark);
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
        return end('reject', { rejectWith: target.with });
      case 'new source':
        return end('new source', { source: target.address });
      case 'mark':
        packet.mark = marked(packet.mark, target);
        break;
      case 'mapped mark':
        packet.mark = marked(packet.mark, target.markOf(packet) ?? { value: 0, mask: 0 });
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

/** `--set-xmark`, and marks of elements of sets. */
function marked(mark: number, { value, mask }: { readonly value: number; readonly mask: number }): number {
  return ((mark & ~mask) ^ value) >>> 0;
}
