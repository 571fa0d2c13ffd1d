/** Sets of a predecessor, once its rules are gone: nft tables too, which hold whole rule sets. */
import { FairwayError, messageOf } from '../errors.ts';
import type { CommandResult } from '../kernel/command.ts';
import type { Ground, Swept } from './sweeping.ts';
import type { Traces } from './traces.ts';

/** Destroys the sets that `isTheirs`. One that rules still match on stays: a rule of somebody else does. */
export async function sweepSets(
  { runner }: Ground,
  isTheirs: (name: string) => boolean,
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  const sets: { readonly name: string; references: number }[] = [];
  const onLine = (line: string): void => {
    const [, field = '', value = ''] = /^(Name|References): (.*)$/.exec(line) ?? [];
    if (field === 'Name') sets.push({ name: value, references: 0 });
    const last = sets.at(-1);
    if (field === 'References' && last !== undefined) last.references = Number(value);
  };
  // Headers alone: what a set holds does not matter.
  const result = await absent(() => runner.lines({ argv: ['ipset', 'list', '-terse'] }, onLine, signal), signal);
  if (result === undefined) return;
  if (result.status !== 0) {
    if (!result.stderr.includes('Cannot open session to kernel')) swept.remains(`sets: ${messageOf(result.stderr)}`);
    return;
  }
  const theirs = sets.filter(({ name }) => isTheirs(name));
  for (const { name } of theirs.filter(({ references }) => references > 0))
    swept.remains(`set ${name}: rules of others match on it`);
  let due = theirs.filter(({ references }) => references === 0).map(({ name }) => name);
  while (due.length > 0) {
    const stdin = due.map(name => `destroy ${name}\n`).join('');
    const { status, stderr } = await runner.run({ argv: ['ipset', 'restore'], stdin }, signal);
    // It stops at the line that is refused; those before it are done.
    const stopped = status === 0 ? due.length : Number(/Error in line ([0-9]+)/.exec(stderr)?.[1] ?? 1) - 1;
    swept.removed('sets', stopped);
    const refused = due[stopped];
    if (refused !== undefined) swept.remains(`set ${refused}: ${messageOf(stderr)}`);
    due = due.slice(stopped + 1);
  }
}

/** Deletes their tables of nftables, all at once. */
export async function sweepNftTables({ runner }: Ground, traces: Traces, swept: Swept, signal: AbortSignal): Promise<void> {
  const there = await nftTables({ runner }, traces, signal);
  if (there === 'nft is missing') {
    swept.remains(
      `nftables: nobody looked for the tables ${traces.nftTables.join(' and ')}: install the Debian package 'nftables'`,
    );
    return;
  }
  if (there.length === 0) return;
  const stdin = there.map(table => `delete table ${table}\n`).join('');
  const { status, stderr } = await runner.run({ argv: ['nft', '-f', '-'], stdin }, signal);
  if (status === 0) swept.removed('nftables tables', there.length);
  else swept.remains(`nftables tables ${there.join(' and ')}: ${messageOf(stderr)}`);
}

/** Their tables that are there. A kernel without nftables has none. */
export async function nftTables(
  { runner }: Pick<Ground, 'runner'>,
  traces: Pick<Traces, 'nftTables'>,
  signal: AbortSignal,
): Promise<readonly string[] | 'nft is missing'> {
  const result = await absent(() => runner.run({ argv: ['nft', 'list', 'tables'] }, signal), signal);
  if (result === undefined) return 'nft is missing';
  return traces.nftTables.filter(table => result.stdout.split('\n').includes(`table ${table}`));
}

/** Undefined where the tool is not installed. */
async function absent(run: () => Promise<CommandResult>, signal: AbortSignal): Promise<CommandResult | undefined> {
  try {
    return await run();
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof FairwayError) || thrown.code !== 'FW_CAPABILITY_TOOL_MISSING') throw thrown;
    return undefined;
  }
}
