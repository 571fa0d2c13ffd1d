/** One `ip -force -batch -`: many changes of links and addresses for one process. */
import { FairwayError } from '../errors.ts';
import type { ApplyResult, Change } from '../reconcile/driver.ts';
import type { CommandRunner } from './command.ts';

/** Lines of a batch for one change. */
export type BatchLines = readonly string[];

export interface Batch<T> {
  readonly runner: CommandRunner;
  /** The lines for one change; throws nothing. */
  readonly linesOf: (change: Change<T>) => BatchLines;
  /** Whether what `read` found makes the change superfluous. */
  readonly isDone: (change: Change<T>, found: ReadonlyMap<string, T>) => boolean;
  readonly read: (signal: AbortSignal) => Promise<ReadonlyMap<string, T>>;
  /** Names a change in an error message: `address 10.0.0.1 on 'kube-dummy-if'`. */
  readonly nameOf: (entry: T) => string;
}

/** Milliseconds a batch may take: a fixed part, and one for each line (deleting IPv6 addresses grows with how many there are). */
const TIME_LIMIT = { fixed: 60_000, perLine: 20 };

/** The kernel's own limit (IFNAMSIZ), and no character that would end the word or the line of a batch. */
const LINK_NAME = /^[^\s/]{1,15}$/;

/**
 * Applies changes and judges by state: where ip says that all went well it did; else what is there is read back, and a change that
 * is in force (an address that was there already) has not failed whatever was said of it.
 */
export async function applyBatch<T>(batch: Batch<T>, changes: readonly Change<T>[], signal: AbortSignal): Promise<ApplyResult> {
  const failed = new Map<string, FairwayError>();
  if (changes.length === 0) return { failed };
  const lines = changes.flatMap(change => batch.linesOf(change).map(text => ({ change, text })));
  const stdin = lines.map(({ text }) => `${text}\n`).join('');
  try {
    const timeoutMs = TIME_LIMIT.fixed + TIME_LIMIT.perLine * lines.length;
    const result = await batch.runner.run({ argv: ['ip', '-force', '-batch', '-'], stdin, timeoutMs }, signal);
    if (result.status === 0) return { failed };
    const said = new Map<string, string>();
    for (const [number, reason] of failuresOf(result.stderr)) {
      const key = lines[number - 1]?.change.key;
      if (key !== undefined) said.set(key, reason);
    }
    const found = await batch.read(signal);
    for (const change of changes) {
      if (batch.isDone(change, found)) continue;
      const reason = said.get(change.key) ?? lastLine(result.stderr);
      failed.set(change.key, refused(change.op, batch.nameOf(change.op === 'delete' ? change.from : change.to), reason));
    }
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
    for (const change of changes) failed.set(change.key, thrown);
  }
  return { failed };
}

/** Takes out the changes whose link name no batch can carry: ip ends at once at a line that it cannot read. */
export function withUsableLinks<T>(
  changes: readonly Change<T>[],
  linkOf: (entry: T) => string,
): { readonly usable: readonly Change<T>[]; readonly failed: Map<string, FairwayError> } {
  const failed = new Map<string, FairwayError>();
  const usable = changes.filter(change => {
    const name = linkOf(change.op === 'delete' ? change.from : change.to);
    if (LINK_NAME.test(name)) return true;
    const message = `${JSON.stringify(name)} cannot name a link: 1 to 15 characters, no space and no slash`;
    failed.set(change.key, new FairwayError('FW_COMMAND_REFUSED', message));
    return false;
  });
  return { usable, failed };
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

function lastLine(stderr: string): string {
  return stderr.trim().split('\n').at(-1) ?? '';
}

function refused(op: Change<unknown>['op'], name: string, reason: string): FairwayError {
  const remedies: readonly (readonly [RegExp, string])[] = [
    [/Operation not permitted/, ' (it needs CAP_NET_ADMIN)'],
    [/Permission denied/, ' (IPv6 is disabled on the link: see net.ipv6.conf.*.disable_ipv6)'],
    [/Unknown device type|Operation not supported/, ' (the kernel lacks the dummy module)'],
    [/File exists/, ' (something else of that name is there: rename or delete it)'],
  ];
  const remedy = remedies.find(([pattern]) => pattern.test(reason))?.[1] ?? '';
  return new FairwayError('FW_COMMAND_REFUSED', `${op} of ${name} was refused: ${reason}${remedy}`);
}
