/** The words that may lead the command line. */
import type { FlagName } from './options.ts';

export interface CommandDescription {
  readonly help: string;
  /** What may follow the word, as the help shows it; empty: nothing. */
  readonly operands: string;
}

const command = (help: string, operands = ''): CommandDescription => ({ help, operands });

export const COMMANDS = {
  run: command('Run the daemon; what happens without a command.'),
  plan: command(
    'Print what would be changed, and change nothing: of the running daemon, or of one with the flags given. Exit status 2 where something would.',
  ),
  check: command('Print what this host lacks for the daemon, with the remedies.'),
  cleanup: command('Remove everything of ours from this host and exit.'),
  status: command('Print what the running daemon does and what it complains of.'),
  why: command(
    'Print what becomes of a packet on this node: from and to a pod, node, Service or address; PORT as 80, udp/53, a name or icmp. Exit status 1 where it does not get there.',
    'SRC DST PORT',
  ),
  snapshot: command('Write what a bug report needs into a file, without secrets.', '[FILE]'),
  profile: command('Write a profile of the running daemon into a file: its CPU time or its heap.', 'cpu|heap [FILE]'),
} as const;

export type CommandName = keyof typeof COMMANDS;

export const COMMAND_NAMES = Object.keys(COMMANDS) as readonly CommandName[];

export function findCommand(word: string): CommandName | undefined {
  return Object.hasOwn(COMMANDS, word) ? (word as CommandName) : undefined;
}

/** Flags that say how a command asks and prints, and nothing of what a daemon does. */
const OF_COMMANDS: ReadonlySet<FlagName> = new Set<FlagName>(['output', 'socket', 'hostname-override', 'v', 'log-format']);

/** Whether a plan is asked of the daemon that runs: no flag says what else would be planned for. */
export function asksDaemon(explicit: ReadonlySet<FlagName>): boolean {
  return [...explicit].every(flag => OF_COMMANDS.has(flag));
}
