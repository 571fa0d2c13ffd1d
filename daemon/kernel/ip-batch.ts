/** One `ip -force -batch -`: many changes of links, addresses, routes and rules for one process. */
import { FairwayError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import type { ApplyResult, Change } from '../reconcile/driver.ts';
import type { CommandRunner } from './command.ts';

/** Lines of a batch for one change. */
export type BatchLines = readonly string[];

export interface Batch<T, Found = T> {
  readonly runner: CommandRunner;
  /** Of all lines, where ip cannot tell it from the line; undefined where it can. */
  readonly family?: Family;
  /** The lines for one change; throws nothing. */
  readonly linesOf: (change: Change<T>) => BatchLines;
  /** Whether what `read` found makes the change superfluous. */
  readonly isDone: (change: Change<T>, found: ReadonlyMap<string, Found>) => boolean;
  readonly read: (signal: AbortSignal) => Promise<ReadonlyMap<string, Found>>;
  /** Names a change in an error message: `address 10.0.0.1 on 'kube-dummy-if'`. */
  readonly nameOf: (entry: T) => string;
  /** What to do about a reason, in brackets behind it; undefined where there is nothing to say but what is said of all tables. */
  readonly remedyOf?: (entry: T, reason: string) => string | undefined;
}

/** Milliseconds a batch may take: a fixed part, and one for each line (deleting IPv6 addresses grows with how many there are). */
const TIME_LIMIT = { fixed: 60_000, perLine: 20 };

/** The kernel's own limit (IFNAMSIZ), and no character that would end the word or the line of a batch. */
const LINK_NAME = /^[^\s/]{1,15}$/;

/**
 * Applies changes and judges by state: where ip says that all went well it did; else what is there is read back, and a change that
 * is in force (an address that was there already) has not failed whatever was said of it.
 */
export async function applyBatch<T, Found = T>(
  batch: Batch<T, Found>,
  changes: readonly Change<T>[],
  signal: AbortSignal,
): Promise<ApplyResult> {
  const failed = new Map<string, FairwayError>();
  try {
    for (let due = changes; due.length > 0; ) due = await applyRun(batch, due, failed, signal);
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
    for (const change of changes) if (!failed.has(change.key)) failed.set(change.key, thrown);
  }
  return { failed };
}

/**
 * One process; returns the changes it did not come to. There are some only where ip ended at a line it could not read, in spite of `-force` (a next
 * hop by a link that is gone): that is the first that is neither in force nor was refused by its number.
 */
async function applyRun<T, Found>(
  batch: Batch<T, Found>,
  changes: readonly Change<T>[],
  failed: Map<string, FairwayError>,
  signal: AbortSignal,
): Promise<readonly Change<T>[]> {
  const lines = changes.flatMap(change => batch.linesOf(change).map(text => ({ change, text })));
  const stdin = textOf(lines.map(({ text }) => text));
  const timeoutMs = TIME_LIMIT.fixed + TIME_LIMIT.perLine * lines.length;
  const argv = ['ip', ...(batch.family === 'ipv6' ? ['-6'] : []), '-force', '-batch', '-'] as const;
  const result = await batch.runner.run({ argv, stdin, timeoutMs }, signal);
  if (result.status === 0) return [];
  const said = new Map<string, string>();
  for (const [number, reason] of failuresOf(result.stderr)) {
    const key = lines[number - 1]?.change.key;
    // What follows from the first refusal (a link that was not made cannot be set up) says less.
    if (key !== undefined && !said.has(key)) said.set(key, reason);
  }
  const found = await batch.read(signal);
  for (const [index, change] of changes.entries()) {
    if (batch.isDone(change, found)) continue;
    const reason = said.get(change.key);
    failed.set(change.key, refused(batch, change, reason ?? lastWords(result.stderr)));
    if (reason === undefined && result.status === UNREAD_LINE) return changes.slice(index + 1);
  }
  return [];
}

/** Exit status of ip at a line it cannot read: `exit(-1)`. */
const UNREAD_LINE = 255;

/** Takes out the changes whose link name no batch can carry: ip ends at once at a line that it cannot read. */
export function withUsableLinks<T>(
  changes: readonly Change<T>[],
  linkOf: (entry: T) => string | readonly string[],
): { readonly usable: readonly Change<T>[]; readonly failed: Map<string, FairwayError> } {
  const failed = new Map<string, FairwayError>();
  const usable = changes.filter(change => {
    const name = [linkOf(change.op === 'delete' ? change.from : change.to)].flat().find(link => !LINK_NAME.test(link));
    if (name === undefined) return true;
    const message = `${JSON.stringify(name)} cannot name a link: 1 to 15 characters, no space and no slash`;
    failed.set(change.key, new FairwayError('FW_COMMAND_REFUSED', message));
    return false;
  });
  return { usable, failed };
}

/** The text of a batch. */
export function textOf(lines: BatchLines): string {
  return lines.map(line => `${line}\n`).join('');
}

/** What was said of each line, by its number: ip prints the reason, then `Command failed -:7`. */
export function failuresOf(stderr: string): ReadonlyMap<number, string> {
  const failures = new Map<number, string>();
  let reasons: string[] = [];
  for (const line of stderr.split('\n')) {
    const [, number] = /^Command failed -:([0-9]+)$/.exec(line) ?? [];
    if (number === undefined) {
      if (line.trim() !== '') reasons.push(line.trim());
      continue;
    }
    const reason = reasons.join('; ').replace('RTNETLINK answers: ', '');
    // Of several lines with one number the first tells the cause.
    if (!failures.has(Number(number))) failures.set(Number(number), reason === '' ? 'ip gave no reason' : reason);
    reasons = [];
  }
  return failures;
}

/** What was said after the last refusal that has a number. */
function lastWords(stderr: string): string {
  const words = stderr.trim().split('\n');
  return words.slice(words.findLastIndex(line => line.startsWith('Command failed ')) + 1).join('; ') || (words.at(-1) ?? '');
}

function refused<T, Found>(batch: Batch<T, Found>, change: Change<T>, reason: string): FairwayError {
  const entry = change.op === 'delete' ? change.from : change.to;
  const remedies: readonly (readonly [RegExp, string])[] = [
    [/Operation not permitted/, 'it needs CAP_NET_ADMIN'],
    [/Permission denied/, 'IPv6 is disabled on the link: see net.ipv6.conf.*.disable_ipv6'],
    [/File exists/, 'something else of that name is there: rename or delete it'],
  ];
  const remedy = batch.remedyOf?.(entry, reason) ?? remedies.find(([pattern]) => pattern.test(reason))?.[1];
  const text = `${change.op} of ${batch.nameOf(entry)} was refused: ${reason}`;
  return new FairwayError('FW_COMMAND_REFUSED', remedy === undefined ? text : `${text} (${remedy})`);
}
