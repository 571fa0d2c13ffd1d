/** The words that may lead the command line. */

export interface CommandDescription {
  readonly help: string;
  /** What may follow the word, as the help shows it; empty: nothing. */
  readonly operands: string;
  readonly built: boolean;
}

const command = (help: string, built: 'built' | 'planned', operands = ''): CommandDescription => ({
  help,
  operands,
  built: built === 'built',
});

export const COMMANDS = {
  run: command('Run the daemon; what happens without a command.', 'built'),
  plan: command('Print what would be changed, and change nothing.', 'built'),
  check: command('Print which tools and kernel facilities this host has.', 'built'),
  cleanup: command('Remove everything of ours from this host and exit.', 'built'),
  status: command('Print what the running daemon does and what it complains of.', 'planned'),
  why: command('Print how an object came to its kernel entries.', 'planned', 'OBJECT'),
  snapshot: command('Write what a bug report needs into a file.', 'planned', '[FILE]'),
} as const;

export type CommandName = keyof typeof COMMANDS;

export const COMMAND_NAMES = Object.keys(COMMANDS) as readonly CommandName[];

export function findCommand(word: string): CommandName | undefined {
  return Object.hasOwn(COMMANDS, word) ? (word as CommandName) : undefined;
}
