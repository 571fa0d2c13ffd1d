/** What one `iptables-save` shows of a predecessor, and the script that takes it away. Pure. */
import type { SavedRule, Traces } from './traces.ts';

/** What is there of one table. */
export interface TableLeftovers {
  readonly table: string;
  /** In built-in chains. */
  readonly rules: readonly SavedRule[];
  readonly chains: readonly string[];
  /** Chains that stay, since rules of others need them: `KUBE-MARK-MASQ: CNI-HOSTPORT-SETMARK jumps to it`. */
  readonly kept: readonly string[];
}

/** Of the table that is being read. */
interface Open {
  readonly table: string;
  readonly builtIn: Set<string>;
  readonly theirs: Set<string>;
  readonly rules: SavedRule[];
  /** Chains of theirs with the chains that they jump to. */
  readonly calls: Map<string, Set<string>>;
  /** Chains of theirs that rules of others jump to, with one that does. */
  readonly borrowers: Map<string, string>;
}

const OWN = 'FAIRWAY-';

/** Takes the lines of one family's `iptables-save`, and keeps nothing of the rules that are not theirs. */
export class LeftoverReader {
  readonly #traces: Traces;
  readonly #marks: ReadonlySet<number>;
  readonly #tables: TableLeftovers[] = [];
  readonly #ownChains = new Set<string>();
  readonly #unread: string[] = [];
  #open: Open | undefined;

  constructor(traces: Traces, marks: ReadonlySet<number>) {
    this.#traces = traces;
    this.#marks = marks;
  }

  line(line: string): void {
    if (line.startsWith('-A ')) this.#rule(line);
    else if (line.startsWith(':')) this.#chain(line);
    else if (line.startsWith('*')) this.#begin(line.slice(1));
    else if (line === 'COMMIT') this.#end();
    else {
      // The nft flavour leaves out a table that holds what only nft(8) can express.
      const [, name] = /^# Table [`'](\w+)' is incompatible/.exec(line) ?? [];
      if (name !== undefined) this.#unread.push(name);
    }
  }

  /** Tables with anything of theirs. */
  get tables(): readonly TableLeftovers[] {
    return this.#tables;
  }

  /** Chains of ours. */
  get ownChains(): ReadonlySet<string> {
    return this.#ownChains;
  }

  /** Tables that the tool could not show. */
  get unread(): readonly string[] {
    return this.#unread;
  }

  #begin(table: string): void {
    this.#open = {
      table,
      builtIn: new Set(),
      theirs: new Set(),
      rules: [],
      calls: new Map(),
      borrowers: new Map(),
    };
  }

  #chain(line: string): void {
    const [name = '', policy] = line.slice(1).split(' ', 2);
    const open = this.#open;
    if (open === undefined) return;
    if (policy !== '-') open.builtIn.add(name);
    else if (this.#traces.isChain(open.table, name)) open.theirs.add(name);
    else if (name.startsWith(OWN)) this.#ownChains.add(name);
  }

  #rule(line: string): void {
    const open = this.#open;
    if (open === undefined) return;
    const space = line.indexOf(' ', 3);
    const chain = space < 0 ? line.slice(3) : line.slice(3, space);
    const rule: SavedRule = { table: open.table, chain, text: space < 0 ? '' : line.slice(space + 1) };
    const target = jumpOf(rule.text);
    const isToTheirs = target !== undefined && open.theirs.has(target);
    if (open.theirs.has(chain)) {
      if (isToTheirs) open.calls.set(chain, (open.calls.get(chain) ?? new Set()).add(target));
      return;
    }
    const isLent = isToTheirs && this.#traces.lent.has(target);
    if (open.builtIn.has(chain) && ((isToTheirs && !isLent) || this.#traces.isRule(rule, this.#marks))) open.rules.push(rule);
    else if (isToTheirs) open.borrowers.set(target, chain);
  }

  #end(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined || (open.theirs.size === 0 && open.rules.length === 0)) return;
    const kept = this.#keptOf(open);
    this.#tables.push({
      table: open.table,
      rules: open.rules.filter(({ text }) => !kept.has(jumpOf(text) ?? '')),
      chains: [...open.theirs].filter(chain => !kept.has(chain)),
      kept: [...open.borrowers].map(([chain, by]) => `${chain}: rules of others use it, in ${by}`),
    });
  }

  /** What others use, what that jumps to, and what it is of no use without. */
  #keptOf({ borrowers, calls, theirs }: Open): ReadonlySet<string> {
    const kept = new Set<string>();
    const keep = (chain: string): void => {
      if (kept.has(chain) || !theirs.has(chain)) return;
      kept.add(chain);
      for (const next of [...(calls.get(chain) ?? []), ...(this.#traces.lent.get(chain) ?? [])]) keep(next);
    };
    for (const chain of borrowers.keys()) keep(chain);
    return kept;
  }
}

/** The chain or target of a rule; what stands in quotes (a comment) is none. */
export function jumpOf(text: string): string | undefined {
  const bare = text.includes('"') ? text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""') : text;
  return /(?:^| )-[jg] (\S+)/.exec(bare)?.[1];
}

/**
 * Input of `iptables-restore --noflush`. All of it is in force at once: first no packet comes to their chains any more, then these are emptied, then
 * deleted.
 */
export function scriptOf({ table, rules, chains }: TableLeftovers): string {
  return [
    `*${table}`,
    ...rules.map(({ chain, text }) => `-D ${chain} ${text}`),
    ...chains.map(chain => `:${chain} - [0:0]`),
    ...chains.map(chain => `-X ${chain}`),
    'COMMIT',
    '',
  ].join('\n');
}
