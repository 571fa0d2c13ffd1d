/** What `iptables-save` prints, reduced to our chains and the jumps to them. */
import { FairwayError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import { type IptablesEntry, type IptablesTable, TABLES } from '../reconcile/tables.ts';
import { type HookRule, parseHookRule, ruleIdentity } from './iptables-rule.ts';

/** The tables we write to, in the order of our scripts. */
export const IPTABLES_TABLES: readonly IptablesTable[] = ['filter', 'nat', 'mangle'];

/** The order reported of a hook that stands twice or behind one of a higher order: it equals no wanted one. */
export const OUT_OF_PLACE = -1;

/** A hook where it stands in its built-in chain. */
export interface SavedHook extends HookRule {
  /** 1 is the head of the chain, foreign rules counted. */
  readonly position: number;
  /** The rule as printed after `-A CHAIN `: what `-D` needs to delete this rule and no other. */
  readonly rule: string;
}

/** Our hooks by table and built-in chain (`nat POSTROUTING`), in the order of their positions. */
export type SavedHooks = ReadonlyMap<string, readonly SavedHook[]>;

type ChainEntry = Extract<IptablesEntry, { kind: 'chain' }>;

/** Takes the lines of one family's `iptables-save` one by one; foreign rules are counted and forgotten. */
export class SaveReader {
  readonly #family: Family;
  readonly #ownsChain: (name: string) => boolean;
  readonly #onForeignChain: (name: string) => void;
  readonly #chains: { readonly table: IptablesTable; readonly name: string; readonly rules: string[] }[] = [];
  readonly #hooks = new Map<string, SavedHook[]>();
  #table: IptablesTable | undefined;
  /** Rules of the current table by chain: of our chains the list, of built-in ones how many there were. */
  #own = new Map<string, string[]>();
  #builtIn = new Map<string, number>();

  constructor(family: Family, ownsChain: (name: string) => boolean, onForeignChain: (name: string) => void = () => undefined) {
    this.#family = family;
    this.#ownsChain = ownsChain;
    this.#onForeignChain = onForeignChain;
  }

  line(line: string): void {
    if (line.startsWith('-A ')) this.#rule(line);
    else if (line.startsWith(':')) this.#chain(line);
    else if (line.startsWith('*')) this.#enterTable(line.slice(1));
    else if (line.startsWith('#')) this.#remark(line);
  }

  get hooks(): SavedHooks {
    return this.#hooks;
  }

  /** Our entries; where one equals that of `expected`, the very object. */
  entries(expected: ReadonlyMap<string, IptablesEntry>): Map<string, IptablesEntry> {
    const found = new Map<string, IptablesEntry>();
    for (const { table, name, rules } of this.#chains) {
      const chain: ChainEntry = { kind: 'chain', family: this.#family, table, name, rules };
      const key = TABLES.iptables.key(chain);
      const other = expected.get(key);
      found.set(key, other?.kind === 'chain' && sameRules(rules, other.rules) ? other : chain);
    }
    for (const [chain, hooks] of this.#hooks) {
      const [table, from] = splitHookChain(chain);
      for (const { hook, order } of placed(hooks)) {
        const entry: IptablesEntry = { kind: 'hook', family: this.#family, table, from, to: hook.to, order, match: hook.match };
        const key = TABLES.iptables.key(entry);
        const other = expected.get(key);
        const isSame = other?.kind === 'hook' && other.order === order && ruleIdentity(other.match) === ruleIdentity(hook.match);
        found.set(key, isSame ? other : entry);
      }
    }
    return found;
  }

  #enterTable(name: string): void {
    this.#table = IPTABLES_TABLES.find(table => table === name);
    this.#own = new Map();
    this.#builtIn = new Map();
  }

  #chain(line: string): void {
    const [name = '', policy] = line.slice(1).split(' ', 2);
    if (this.#table === undefined) return;
    if (policy !== '-') this.#builtIn.set(name, 0);
    else if (this.#ownsChain(name)) {
      const rules: string[] = [];
      this.#own.set(name, rules);
      this.#chains.push({ table: this.#table, name, rules });
    } else this.#onForeignChain(name);
  }

  #rule(line: string): void {
    const space = line.indexOf(' ', 3);
    const name = space < 0 ? line.slice(3) : line.slice(3, space);
    const own = this.#own.get(name);
    const before = this.#builtIn.get(name);
    if (own !== undefined) own.push(space < 0 ? '' : line.slice(space + 1));
    else if (before !== undefined) {
      this.#builtIn.set(name, before + 1);
      this.#hook(name, before + 1, line.slice(space + 1));
    }
  }

  #hook(from: string, position: number, rule: string): void {
    const hook = parseHookRule(rule, this.#ownsChain);
    if (hook === undefined || this.#table === undefined) return;
    const chain = hookChain(this.#table, from);
    const hooks = this.#hooks.get(chain);
    const saved = { ...hook, position, rule };
    if (hooks === undefined) this.#hooks.set(chain, [saved]);
    else hooks.push(saved);
  }

  /** The nft flavour leaves out a table that holds what only nft(8) can express, and says so in a remark. */
  #remark(line: string): void {
    const [, name] = /^# Table [`'](\w+)' is incompatible/.exec(line) ?? [];
    if (IPTABLES_TABLES.some(table => table === name)) {
      throw new FairwayError(
        'FW_READ_UNPARSABLE',
        `table '${name}' (${this.#family}) holds rules that iptables-nft cannot show: move them to a table of another name with nft(8)`,
      );
    }
  }
}

/** How {@link SavedHooks} names a built-in chain. */
export function hookChain(table: IptablesTable, from: string): string {
  return `${table} ${from}`;
}

function splitHookChain(chain: string): readonly [IptablesTable, string] {
  const table = IPTABLES_TABLES.find(name => chain.startsWith(`${name} `)) ?? 'filter';
  return [table, chain.slice(table.length + 1)];
}

/** Hooks stand lowest order first; equal orders by the name of the chain they jump to. */
export function hookPrecedes(one: { order: number; to: string }, other: { order: number; to: string }): boolean {
  return one.order < other.order || (one.order === other.order && one.to < other.to);
}

/** One hook for each chain jumped to, with the order to report. */
function placed(hooks: readonly SavedHook[]): { readonly hook: SavedHook; readonly order: number }[] {
  const byTarget = new Map<string, { hook: SavedHook; order: number }>();
  let highest: { order: number; to: string } | undefined;
  for (const hook of hooks) {
    const first = byTarget.get(hook.to);
    if (first !== undefined) {
      first.order = OUT_OF_PLACE;
      continue;
    }
    const isInPlace = highest === undefined || hookPrecedes(highest, hook);
    if (isInPlace) highest = hook;
    byTarget.set(hook.to, { hook, order: isInPlace ? hook.order : OUT_OF_PLACE });
  }
  return [...byTarget.values()];
}

function sameRules(actual: readonly string[], expected: readonly string[]): boolean {
  return (
    actual.length === expected.length &&
    actual.every((rule, index) => {
      const other = expected[index] ?? '';
      return rule === other || ruleIdentity(rule) === ruleIdentity(other);
    })
  );
}
