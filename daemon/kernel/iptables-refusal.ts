/** What `iptables-restore` says when it refuses, and whom that blames. */
import { FairwayError } from '../errors.ts';
import { type IptablesTable, TABLES } from '../reconcile/tables.ts';
import type { CommandResult } from './command.ts';
import { hookRule } from './iptables-rule.ts';
import { type IptablesChange, type ScriptLine, subjectOf } from './iptables-script.ts';

/** Why a script was refused. Tables before the refused one are in force, those after it were not looked at. */
export type Refusal =
  /** Nothing was looked at: the tool itself cannot work, or another holds its lock. */
  | { readonly of: 'tool'; readonly error: FairwayError }
  /** The table is not there: whatever is wanted of it fails alike. */
  | { readonly of: 'table'; readonly table: IptablesTable; readonly reason: string }
  /** These entries (by key) are at fault. */
  | {
      readonly of: 'entries';
      readonly table: IptablesTable;
      readonly reason: string;
      readonly blamed: ReadonlyMap<string, string>;
    }
  /** One or more entries of the table are at fault; the tool does not know which (the legacy flavour at its commit). */
  | { readonly of: 'commit'; readonly table: IptablesTable; readonly reason: string };

/** Reads a failed run. `blamed` maps keys to the line of the script that was refused. */
export function refusalOf(result: CommandResult, lines: readonly ScriptLine[], changes: readonly IptablesChange[]): Refusal {
  const reason = reasonOf(result);
  if (isLockHeld(result)) {
    const message = `another program holds the xtables lock (/run/xtables.lock), see who by lsof or fuser; tried again: ${reason}`;
    return { of: 'tool', error: new FairwayError('FW_COMMAND_TIMEOUT', message) };
  }
  const named = [...result.stderr.matchAll(/\bline:? ([0-9]+)/g)].flatMap(([, number]) => lines[Number(number) - 1] ?? []);
  const first = named[0];
  if (first === undefined)
    return { of: 'tool', error: new FairwayError('FW_COMMAND_FAILED', `iptables-restore failed: ${reason}`) };
  const { table } = first;
  if (first.at === 'table') return { of: 'table', table, reason };
  const blamed = new Map<string, string>();
  for (const line of named) if (line.at === 'entry' && line.table === table) blamed.set(line.key, line.text);
  if (blamed.size === 0) blameCallers(reason, table, changes, blamed);
  return blamed.size > 0 ? { of: 'entries', table, reason, blamed } : { of: 'commit', table, reason };
}

/** The nft flavour finds a missing chain at its commit and names the chain, not the line. */
function blameCallers(
  reason: string,
  table: IptablesTable,
  changes: readonly IptablesChange[],
  blamed: Map<string, string>,
): void {
  const [, missing] = /Chain '([^']+)' does not exist/.exec(reason) ?? [];
  if (missing === undefined) return;
  const jumps = (text: string): boolean => text.endsWith(` ${missing}`) && / ?-[jg] \S+$/.test(text);
  for (const change of changes) {
    const entry = subjectOf(change);
    if (change.op === 'delete' || entry.table !== table) continue;
    const rule = entry.kind === 'chain' ? entry.rules.find(jumps) : [hookRule(entry)].find(jumps);
    if (rule !== undefined) blamed.set(change.key, rule);
  }
}

/** Whether the tool gave up waiting for the lock that all programs of the legacy flavour share. */
export function isLockHeld({ stderr }: CommandResult): boolean {
  return /xtables lock|xtables\.lock.*temporarily/.test(stderr);
}

/** What the tool said, without its name, its version and its advice. */
export function reasonOf(result: CommandResult): string {
  const said = result.stderr
    .split('\n')
    .map(line => line.replace(/^ip6?tables\S*( v\S+ \([a-z_]+\))?: ?/, '').trim())
    .filter(line => line !== '' && !/^(Try [`']|Error occurred at line|# Warning:)/.test(line))
    .join('; ')
    .replace(/\.$/, '');
  return said === '' ? `exit status ${result.status}` : said;
}

/** The error of one entry. `line` is the line of the script at fault, where that is known. */
export function refused(change: IptablesChange, reason: string, line: string | undefined): FairwayError {
  const entry = subjectOf(change);
  const subject = entry.kind === 'chain' ? `chain '${entry.name}'` : `jump from '${entry.from}' to '${entry.to}'`;
  const at = line === undefined ? '' : `, at '${line}'`;
  return new FairwayError(
    'FW_COMMAND_REFUSED',
    `${subject} of table '${entry.table}' (${entry.family}) was refused${at}: ${reason}`,
  );
}

/** The changes that cannot be made because a chain they jump to could not be created. */
export function dependentsOf(
  failed: ReadonlyMap<string, unknown>,
  changes: readonly IptablesChange[],
): ReadonlyMap<string, string> {
  const missing = new Set(changes.filter(change => change.op === 'create' && failed.has(change.key)).map(change => change.key));
  const dependents = new Map<string, string>();
  for (let grew = true; grew; ) {
    grew = false;
    for (const change of changes) {
      if (change.op === 'delete' || failed.has(change.key) || dependents.has(change.key)) continue;
      const need = TABLES.iptables.requires(change.to).find(({ table, key }) => table === 'iptables' && missing.has(key));
      if (need === undefined) continue;
      dependents.set(change.key, need.key);
      if (change.op === 'create') missing.add(change.key);
      grew = true;
    }
  }
  return dependents;
}
