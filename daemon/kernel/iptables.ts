/** The driver of the iptables table: both families, any flavour, our chains and hooks only. */
import { FairwayError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import type { ApplyResult, TableDriver } from '../reconcile/driver.ts';
import type { IptablesEntry, IptablesTable } from '../reconcile/tables.ts';
import type { Command, CommandResult, CommandRunner } from './command.ts';
import type { IptablesTools } from './iptables-flavour.ts';
import { dependentsOf, reasonOf, refusalOf, refused } from './iptables-refusal.ts';
import { IPTABLES_TABLES, type SavedHooks, SaveReader } from './iptables-save.ts';
import {
  type IptablesChange,
  impliedHooks,
  inDependencyOrder,
  iptablesScript,
  type ScriptLine,
  scriptText,
  subjectOf,
} from './iptables-script.ts';

export interface IptablesDriverOptions {
  readonly runner: CommandRunner;
  readonly tools: IptablesTools;
  /** Whether a chain is ours by its name. */
  readonly ownsChain: (name: string) => boolean;
  /** Hears the names of all other chains that a reading shows. */
  readonly onForeignChain?: ((name: string) => void) | undefined;
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Seconds to wait for other users of the xtables lock. */
const LOCK_WAIT_SECONDS = 5;

/** Runs of iptables-restore that one family may cost while refused entries are told apart from the rest. */
const ISOLATION_LIMIT = 64;

/**
 * Chains are replaced whole in one atomic `iptables-restore --noflush` per family; rules of others and their counters stay as they
 * are. Hooks stand at the head of their built-in chain, lowest order first. Missing, doubled, out of order among ourselves, or
 * altered: that is drift and reported. A foreign rule above ours is not: another program that insists on the head as well would
 * never let the two come to rest.
 */
export function iptablesDriver(options: IptablesDriverOptions): TableDriver<IptablesEntry> {
  return {
    async read(expected, signal) {
      const saved = await Promise.all(FAMILIES.map(family => save(options, family, signal)));
      return new Map(saved.flatMap(reader => (reader === undefined ? [] : [...reader.entries(expected)])));
    },
    async apply(changes, signal) {
      const failures = await Promise.all(
        FAMILIES.map(family => {
          const ofFamily = changes.filter(change => subjectOf(change).family === family);
          return new Restore(options, family, ofFamily).run(signal);
        }),
      );
      return { failed: new Map(failures.flatMap(failed => [...failed])) };
    },
    render(changes) {
      return FAMILIES.map(family => changes.filter(change => subjectOf(change).family === family))
        .filter(ofFamily => ofFamily.length > 0)
        .map(ofFamily => `# ${familyOfAll(ofFamily)}\n${scriptText(iptablesScript(ofFamily, impliedHooks(ofFamily)))}`)
        .join('');
    },
  };
}

function familyOfAll(changes: readonly IptablesChange[]): string {
  return changes.some(change => subjectOf(change).family === 'ipv6')
    ? 'ip6tables-restore --noflush'
    : 'iptables-restore --noflush';
}

/** Reads one family; undefined where it has no working tool, and so nothing of ours. */
async function save(options: IptablesDriverOptions, family: Family, signal: AbortSignal): Promise<SaveReader | undefined> {
  const tool = options.tools.byFamily[family];
  if (tool === undefined) return undefined;
  const reader = new SaveReader(family, options.ownsChain, options.onForeignChain);
  const result = await options.runner.lines({ argv: tool.save }, line => reader.line(line), signal);
  if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${tool.save.join(' ')}' failed: ${reasonOf(result)}`);
  return reader;
}

/** One apply of one family: the whole in one run, and where something is refused, what is left again without it. */
class Restore {
  readonly #options: IptablesDriverOptions;
  readonly #family: Family;
  readonly #changes: readonly IptablesChange[];
  readonly #failed = new Map<string, FairwayError>();
  /** Batches still to be run, in this order. */
  #batches: (readonly IptablesChange[])[];

  constructor(options: IptablesDriverOptions, family: Family, changes: readonly IptablesChange[]) {
    this.#options = options;
    this.#family = family;
    this.#changes = changes;
    this.#batches = [changes];
  }

  async run(signal: AbortSignal): Promise<ApplyResult['failed']> {
    const tool = this.#options.tools.byFamily[this.#family];
    if (tool === undefined) {
      const message = `iptables does not work for ${this.#family} on this host: ${this.#options.tools.reason}`;
      this.#failAll(this.#changes, () => new FairwayError('FW_CAPABILITY_KERNEL', message));
      return this.#failed;
    }
    for (let runs = 0; this.#batches.length > 0; runs++) {
      const batch = (this.#batches.shift() ?? []).filter(change => !this.#failed.has(change.key));
      if (batch.length === 0) continue;
      try {
        await this.#restore(tool.restore, batch, runs >= ISOLATION_LIMIT ? 'last run' : 'more runs', signal);
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        this.#failAll([batch, ...this.#batches].flat(), () => thrown);
        this.#batches = [];
      }
    }
    return this.#failed;
  }

  async #restore(
    restore: Command['argv'],
    batch: readonly IptablesChange[],
    patience: 'more runs' | 'last run',
    signal: AbortSignal,
  ): Promise<void> {
    const lines = iptablesScript(batch, await this.#hooksFor(batch, signal));
    const argv = [...restore, '--noflush', '-w', String(LOCK_WAIT_SECONDS)] as const;
    const result = await this.#options.runner.run({ argv, stdin: scriptText(lines) }, signal);
    if (result.status !== 0) this.#sort(result, lines, batch, patience);
  }

  /** Where hooks stand now, asked for only where some change. */
  async #hooksFor(batch: readonly IptablesChange[], signal: AbortSignal): Promise<SavedHooks> {
    if (!batch.some(change => subjectOf(change).kind === 'hook')) return new Map();
    const reader = await save(this.#options, this.#family, signal);
    return reader?.hooks ?? new Map();
  }

  /** Takes the refused out of the batch and puts the rest back in line. */
  #sort(
    result: CommandResult,
    lines: readonly ScriptLine[],
    batch: readonly IptablesChange[],
    patience: 'more runs' | 'last run',
  ): void {
    const refusal = refusalOf(result, lines, batch);
    if (refusal.of === 'tool') throw refusal.error;
    const ofTable = batch.filter(change => subjectOf(change).table === refusal.table);
    const later = batch.filter(change => isBehind(subjectOf(change).table, refusal.table));
    if (patience === 'last run' || refusal.of === 'table' || (refusal.of === 'commit' && ofTable.length === 1)) {
      this.#failAll(ofTable, change => refused(change, refusal.reason, undefined));
      this.#batches.unshift(later);
      return;
    }
    if (refusal.of === 'commit') {
      const ordered = inDependencyOrder(ofTable);
      const middle = Math.ceil(ordered.length / 2);
      this.#batches.unshift(ordered.slice(0, middle), [...ordered.slice(middle), ...later]);
      return;
    }
    this.#failAll(
      ofTable.filter(change => refusal.blamed.has(change.key)),
      change => refused(change, refusal.reason, refusal.blamed.get(change.key)),
    );
    this.#batches.unshift([...ofTable, ...later]);
  }

  #failAll(changes: readonly IptablesChange[], errorOf: (change: IptablesChange) => FairwayError): void {
    for (const change of changes) this.#failed.set(change.key, errorOf(change));
    const dependents = dependentsOf(this.#failed, this.#changes);
    for (const change of this.#changes) {
      const need = dependents.get(change.key);
      if (need !== undefined)
        this.#failed.set(change.key, refused(change, `it needs chain '${need}', which was refused`, undefined));
    }
  }
}

function isBehind(table: IptablesTable, other: IptablesTable): boolean {
  return IPTABLES_TABLES.indexOf(table) > IPTABLES_TABLES.indexOf(other);
}
