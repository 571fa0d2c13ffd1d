/** Running a tool. The only place of the daemon that starts processes. */

export interface Command {
  /** Program (looked up in PATH and in the sbin folders) and its arguments; never a shell string. */
  readonly argv: readonly [string, ...string[]];
  readonly stdin?: string;
  /** Milliseconds until it is killed. Default 60,000. */
  readonly timeoutMs?: number;
}

export interface CommandResult {
  /** Exit status; 128 + signal number where a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Throws FW_CAPABILITY_TOOL_MISSING where there is no such program, FW_COMMAND_TIMEOUT past the limit; any exit status is a result. */
export interface CommandRunner {
  run(command: Command, signal: AbortSignal): Promise<CommandResult>;
  /** Runs a command and hands its standard output over in lines as it comes, for output too large to hold. */
  lines(command: Command, onLine: (line: string) => void, signal: AbortSignal): Promise<CommandResult>;
}
