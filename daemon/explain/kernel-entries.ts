/** What is in the kernel, asked for entry by entry: never all of it. */
import type { Family, IpAddress } from '../net/address.ts';
import type { IptablesEntry, IptablesTable, TableName, TableTypes } from '../reconcile/tables.ts';
import { chainKey } from '../reconcile/tables.ts';
import type { Chains } from './rule-chains.ts';
import type { Rule } from './rule-match.ts';
import type { RuleContext } from './rule-target.ts';
import { type SetLookup, setLookup } from './set-lookup.ts';

export type Hook = Extract<IptablesEntry, { kind: 'hook' }>;

export interface KernelEntries {
  /** The entry of this key, where it is there. */
  get<K extends TableName>(table: K, key: string): TableTypes[K] | undefined;
  hooks(): readonly Hook[];
  /** Lengths of prefixes that may be in this set, the longest first. */
  lengthsIn(set: string): Iterable<number>;
  /** Whether the host takes packets to it for its own. */
  isLocal(address: IpAddress): boolean;
}

/** How a rule is read: {@link readRule}, or strictly. */
export type RuleReader = (text: string, context: RuleContext) => Rule;

export function setOf(entries: KernelEntries, name: string): SetLookup | undefined {
  const head = entries.get('ipset', name);
  if (head?.kind !== 'set') return undefined;
  return setLookup({
    head,
    element: element => {
      const entry = entries.get('ipset', `${name} ${element}`);
      return entry?.kind === 'element' ? entry.value : undefined;
    },
    lengths: () => entries.lengthsIn(name),
  });
}

/** The chains of one table, each read when a packet first comes to it. */
export function chainsIn(entries: KernelEntries, family: Family, table: IptablesTable, read: RuleReader): Chains {
  const known = new Map<string, readonly Rule[] | undefined>();
  const sets = new Map<string, SetLookup | undefined>();
  const chainOf = (name: string): readonly string[] | undefined => {
    const entry = entries.get('iptables', chainKey(family, table, name));
    return entry?.kind === 'chain' ? entry.rules : undefined;
  };
  const context: RuleContext = {
    family,
    table,
    setOf: name => {
      if (!sets.has(name)) sets.set(name, setOf(entries, name));
      return sets.get(name);
    },
    hasChain: name => chainOf(name) !== undefined,
  };
  const hooksOf = (from: string): readonly string[] =>
    entries
      .hooks()
      .filter(hook => hook.family === family && hook.table === table && hook.from === from)
      .sort((a, b) => a.order - b.order)
      .map(({ match, to }) => `${match} -j ${to}`.trimStart());
  return name => {
    if (!known.has(name)) {
      const texts = isBuiltIn(name) ? hooksOf(name) : chainOf(name);
      known.set(
        name,
        texts?.map(text => read(text, context)),
      );
    }
    return known.get(name);
  };
}

function isBuiltIn(chain: string): boolean {
  return ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].includes(chain);
}
