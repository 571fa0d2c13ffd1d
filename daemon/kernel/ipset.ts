/** Sets of addresses and ports in the kernel through ipset(8). */
import { FairwayError, messageOf } from '../errors.ts';
import type { ApplyResult, Change, TableDriver } from '../reconcile/driver.ts';
import { type IpSetEntry, TABLES } from '../reconcile/tables.ts';
import type { CommandResult, CommandRunner } from './command.ts';
import {
  type CopyElements,
  describeCopy,
  type IpSet,
  ipSetLines,
  parseSaveLine,
  refusalOf,
  type ScriptLine,
} from './ipset-script.ts';

/** How many refused lines of one batch are found by leaving out one after another; beyond, the state tells what is left to do. */
const MAX_REFUSALS = 32;

/** How many of them may be elements of one set; beyond, what is still to be added to it is left out as a whole. */
const MAX_REFUSALS_OF_SET = 8;

/** Milliseconds `ipset restore` may take for one line, on top of a minute. */
const TIMEOUT_A_LINE_MS = 1;

export interface IpSetOptions {
  readonly runner: CommandRunner;
  /** Whether a set of this name is ours; all others are never read, so never changed. */
  owns(name: string): boolean;
}

type Entries = ReadonlyMap<string, IpSetEntry>;
type Failures = Map<string, FairwayError>;

export function ipsetDriver(options: IpSetOptions): TableDriver<IpSetEntry> {
  return new IpSetDriver(options);
}

class IpSetDriver implements TableDriver<IpSetEntry> {
  readonly #options: IpSetOptions;

  constructor(options: IpSetOptions) {
    this.#options = options;
  }

  async read(expected: Entries, signal: AbortSignal): Promise<Entries> {
    const found = new Map<string, IpSetEntry>();
    const ours = new Set<string>();
    const result = await this.#options.runner.lines(
      { argv: ['ipset', 'save'] },
      line => {
        const name = line.slice(line.indexOf(' ') + 1, line.indexOf(' ', line.indexOf(' ') + 1));
        if (line.startsWith('create ') && this.#options.owns(name)) ours.add(name);
        // Elements of sets of a type that is not ours, so of foreign sets, are skipped unread too.
        if (!ours.has(name)) return;
        const entry = parseSaveLine(line);
        if (entry === undefined) {
          ours.delete(name);
          return;
        }
        const key = TABLES.ipset.key(entry);
        const wanted = expected.get(key);
        found.set(key, wanted !== undefined && TABLES.ipset.same(entry, wanted) ? wanted : entry);
      },
      signal,
    );
    if (result.status !== 0) throw failedCommand('ipset save', result);
    return found;
  }

  render(changes: readonly Change<IpSetEntry>[]): string {
    return textOf(ipSetLines(changes, describeCopy));
  }

  /**
   * One `ipset restore -exist`. It stops at the first line refused and names its number: the change of that line is left out and the
   * rest runs again from the start, which does no harm. Each refusal costs one run, so the elements of a set that is full, missing or
   * not to be made are left out together.
   */
  async apply(changes: readonly Change<IpSetEntry>[], signal: AbortSignal): Promise<ApplyResult> {
    const failed: Failures = new Map();
    for (const change of changes) {
      const reason = refusedBeforehand(change);
      if (reason !== undefined) fail(failed, changes, change.key, refused(change.key, reason));
    }
    try {
      await this.#restore(changes, failed, signal);
    } catch (thrown) {
      if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
      for (const change of changes) if (!failed.has(change.key)) failed.set(change.key, thrown);
    }
    return { failed };
  }

  async #restore(changes: readonly Change<IpSetEntry>[], failed: Failures, signal: AbortSignal): Promise<void> {
    const copy = await this.#copier(changes, failed, signal);
    const refusalsOf = new Map<string, number>();
    for (let refusals = 0; ; refusals++) {
      const lines = ipSetLines(
        changes.filter(change => !failed.has(change.key)),
        copy,
      );
      if (lines.length === 0) return;
      const result = await this.#run(lines, signal);
      if (result.status === 0) return;
      const failure = failedCommand('ipset restore', result);
      const refusal = failure.code === 'FW_CAPABILITY_KERNEL' ? undefined : refusedLine(result, lines);
      if (refusal === undefined || refusals === MAX_REFUSALS) {
        // Lines just before a refused one may not have left the tool yet: without it they do.
        if (refusal !== undefined) await this.#run(lines.slice(0, refusal.index), signal);
        await this.#judge(changes, failed, failure, signal);
        return;
      }
      const error = refused(refusal.key, refusal.said);
      fail(failed, changes, refusal.key, error);
      const count = (refusalsOf.get(refusal.target) ?? 0) + 1;
      refusalsOf.set(refusal.target, count);
      if (count === MAX_REFUSALS_OF_SET || /Hash is full|name does not exist/.test(refusal.said)) {
        failFurther(failed, lines, refusal, error);
      }
    }
  }

  #run(lines: readonly ScriptLine[], signal: AbortSignal): Promise<CommandResult> {
    const timeoutMs = 60_000 + TIMEOUT_A_LINE_MS * lines.length;
    return this.#options.runner.run({ argv: ['ipset', 'restore', '-exist'], stdin: textOf(lines), timeoutMs }, signal);
  }

  /** What each set that is made anew holds now. */
  async #copier(changes: readonly Change<IpSetEntry>[], failed: Failures, signal: AbortSignal): Promise<CopyElements> {
    const elements = new Map<string, string[]>();
    for (const change of changes) {
      if (change.op !== 'update' || change.to.kind !== 'set' || failed.has(change.key)) continue;
      const values: string[] = [];
      const keep = (line: string): void => {
        const entry = parseSaveLine(line);
        if (entry?.kind === 'element') values.push(entry.value);
      };
      const result = await this.#options.runner.lines({ argv: ['ipset', 'save', change.to.name] }, keep, signal);
      if (result.status === 0) elements.set(change.to.name, values);
      else failed.set(change.key, refused(change.key, spoken(result)));
    }
    return (from, to) => (elements.get(from) ?? []).map(value => `add ${to} ${value}`);
  }

  /** Every change that is not as asked has failed. */
  async #judge(
    changes: readonly Change<IpSetEntry>[],
    failed: Failures,
    error: FairwayError,
    signal: AbortSignal,
  ): Promise<void> {
    if (error.code === 'FW_CAPABILITY_KERNEL') throw error;
    const actual = await this.read(new Map(), signal);
    for (const change of changes) {
      const there = actual.get(change.key);
      const isDone = change.op === 'delete' ? there === undefined : there !== undefined && TABLES.ipset.same(there, change.to);
      if (!isDone && !failed.has(change.key)) failed.set(change.key, error);
    }
  }
}

/** Fails a change and, where it is a set's, those of its elements: they cannot be as asked. */
function fail(failed: Failures, changes: readonly Change<IpSetEntry>[], key: string, error: FairwayError): void {
  failed.set(key, error);
  const isSet = changes.some(change => change.key === key && entryOf(change).kind === 'set');
  if (!isSet) return;
  for (const change of changes) {
    const entry = entryOf(change);
    if (entry.kind === 'element' && entry.set === key && !failed.has(change.key)) {
      failed.set(change.key, refused(change.key, `set ${key} is not as it should be`));
    }
  }
}

/** Fails all further lines of that command and set. */
function failFurther(failed: Failures, lines: readonly ScriptLine[], refusal: Refusal, error: FairwayError): void {
  for (const { key, text } of lines.slice(refusal.index + 1)) if (text.startsWith(`${refusal.target} `)) failed.set(key, error);
}

function entryOf(change: Change<IpSetEntry>): IpSetEntry {
  return change.op === 'delete' ? change.from : change.to;
}

function refusedBeforehand(change: Change<IpSetEntry>): string | undefined {
  if (change.op === 'delete') return undefined;
  const { to } = change;
  if (change.op === 'update' && change.from.kind === 'set' && to.kind === 'set' && !isSameShape(change.from, to)) {
    return (
      `it is there as ${shown(change.from)}, and no set can become another type (${shown(to)}): remove the rules that match on it ` +
      `(iptables-save | grep ${to.name}), then 'ipset destroy ${to.name}'; it is made anew at the next try`
    );
  }
  return refusalOf(to);
}

function isSameShape(left: IpSet, right: IpSet): boolean {
  return left.type === right.type && left.family === right.family;
}

function shown(set: IpSet): string {
  return `${set.type} of ${set.family}`;
}

function textOf(lines: readonly ScriptLine[]): string {
  return lines.map(line => `${line.text}\n`).join('');
}

interface Refusal {
  readonly key: string;
  readonly index: number;
  /** Command and set of the line: `add kube-router-svip`. */
  readonly target: string;
  readonly said: string;
}

/** The line the tool stopped at, where it says so: `ipset v7.17: Error in line 3: Hash is full, cannot add more elements`. */
function refusedLine(result: CommandResult, lines: readonly ScriptLine[]): Refusal | undefined {
  const match = /Error in line ([0-9]+): (.*)/.exec(result.stderr);
  const index = Number(match?.[1]) - 1;
  const line = lines[index];
  if (line === undefined) return undefined;
  const target = line.text.split(' ', 2).join(' ');
  const said = match?.[2] ?? '';
  const remedy = said.includes('set type not supported')
    ? " (load the module of that type, such as 'modprobe ip_set_hash_ip')"
    : '';
  return { key: line.key, index, target, said: `ipset said to '${line.text}': ${said}${remedy}` };
}

function spoken(result: CommandResult): string {
  return messageOf(result.stderr).replace(/^ipset v[0-9.]+: /, '') || `exit status ${result.status}`;
}

function refused(key: string, reason: string): FairwayError {
  return new FairwayError('FW_COMMAND_REFUSED', `ipset ${key}: ${reason}`);
}

function failedCommand(command: string, result: CommandResult): FairwayError {
  if (result.stderr.includes('Cannot open session to kernel')) {
    return new FairwayError(
      'FW_CAPABILITY_KERNEL',
      `the kernel has no ipset (${spoken(result)}): load it with 'modprobe ip_set', or use a kernel built with CONFIG_IP_SET`,
    );
  }
  return new FairwayError('FW_COMMAND_FAILED', `'${command}' ended with status ${result.status}: ${spoken(result)}`);
}
