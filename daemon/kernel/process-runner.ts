/** Processes for real: no shell, the C locale, a time limit always. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Command, CommandResult, CommandRunner } from './command.ts';

/** Milliseconds a command may take where it says nothing itself. */
const DEFAULT_TIMEOUT_MS = 60_000;

/** Folders where Debian keeps these tools and that a service's PATH often lacks. */
const SBIN_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Which Debian package brings a tool; one that is not listed is taken to be its own package. */
const PACKAGE_OF: ReadonlyMap<string, string> = new Map([
  ['ip', 'iproute2'],
  ['bridge', 'iproute2'],
  ['modprobe', 'kmod'],
  ['sysctl', 'procps'],
  ['nsenter', 'util-linux'],
  ['systemd-notify', 'systemd'],
  ...['iptables', 'ip6tables'].flatMap(tool =>
    ['', '-save', '-restore'].flatMap(suffix =>
      ['', '-legacy', '-nft'].map(flavour => [`${tool}${flavour}${suffix}`, 'iptables'] as const),
    ),
  ),
]);

export interface ProcessRunnerOptions {
  /** The environment the tools inherit, with LC_ALL and PATH replaced. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Hears of every process that is about to start: metrics count them. */
  readonly onSpawn?: (argv: readonly string[]) => void;
  /** Hears of every process that ended, in whatever way, and after how many milliseconds. */
  readonly onEnd?: (command: Command, milliseconds: number) => void;
}

/** The runner that starts processes. An aborted signal kills the process and throws the signal's reason. */
export function processRunner(options: ProcessRunnerOptions): CommandRunner {
  const environment = {
    ...options.environment,
    LC_ALL: 'C',
    PATH: programFolders(options.environment),
  };
  const start = async (command: Command, onStdout: (text: string) => void, signal: AbortSignal): Promise<CommandResult> => {
    signal.throwIfAborted();
    options.onSpawn?.(command.argv);
    const since = options.clock.now();
    try {
      return await new Run(command, environment, onStdout).finished(options.clock, signal);
    } finally {
      options.onEnd?.(command, options.clock.now() - since);
    }
  };
  return {
    async run(command, signal) {
      const pieces: string[] = [];
      const result = await start(command, text => pieces.push(text), signal);
      return { ...result, stdout: pieces.join('') };
    },
    async lines(command, onLine, signal) {
      const splitter = lineSplitter(onLine);
      const result = await start(command, text => splitter.push(text), signal);
      splitter.end();
      return result;
    },
  };
}

/** Cuts text that comes in pieces into lines without their newline. */
export function lineSplitter(onLine: (line: string) => void): { push(text: string): void; end(): void } {
  let rest = '';
  return {
    push(text) {
      let from = 0;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
        onLine(rest === '' ? text.slice(from, end) : rest + text.slice(from, end));
        rest = '';
        from = end + 1;
      }
      if (from < text.length) rest += text.slice(from);
    },
    end() {
      if (rest !== '') onLine(rest);
      rest = '';
    },
  };
}

class Run {
  readonly #command: Command;
  readonly #child: ChildProcess;
  readonly #errors: string[] = [];
  /** Why the process must end before it wants to; what is thrown once it is gone. */
  #stopped: { readonly reason: unknown } | undefined;

  constructor(command: Command, environment: NodeJS.ProcessEnv, onStdout: (text: string) => void) {
    this.#command = command;
    this.#child = this.#begin(environment);
    // Where open files have run out there is a child without pipes, and an event that tells why.
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      // What a reader throws must end the run, not the daemon.
      try {
        onStdout(text);
      } catch (thrown) {
        this.#stop(thrown);
      }
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#errors.push(text));
    // A tool that stops at a bad line leaves our text unread (EPIPE): its status and stderr tell the story.
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stdin?.end(command.stdin ?? '');
  }

  /** Some failures are thrown (ENOMEM), others are told by an event. */
  #begin(environment: NodeJS.ProcessEnv): ChildProcess {
    const [program, ...args] = this.#command.argv;
    try {
      return spawn(program, args, { env: environment, stdio: 'pipe' });
    } catch (thrown) {
      throw cannotStart(this.#command.argv, thrown);
    }
  }

  async finished(clock: Clock, signal: AbortSignal): Promise<CommandResult> {
    const limit = this.#command.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const cancel = clock.after(limit, () =>
      this.#stop(new FairwayError('FW_COMMAND_TIMEOUT', `${this.#shown()} did not end within ${limit} ms and was killed`)),
    );
    const abort = (): void => this.#stop(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      const status = await this.#closed();
      if (this.#stopped !== undefined) throw this.#stopped.reason;
      return { status, stdout: '', stderr: this.#errors.join('') };
    } finally {
      cancel();
      signal.removeEventListener('abort', abort);
    }
  }

  /** Resolves with the exit status when the process is gone and both its outputs are read. */
  #closed(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', error => reject(cannotStart(this.#command.argv, error)));
      this.#child.once('close', (status, signal) => resolve(status ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    });
  }

  #stop(reason: unknown): void {
    this.#stopped ??= { reason };
    this.#child.kill('SIGKILL');
    // A grandchild may hold the pipes open: nothing it says is waited for.
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    this.#child.stdin?.destroy();
  }

  #shown(): string {
    return shown(this.#command.argv);
  }
}

function shown(argv: Command['argv']): string {
  return `'${argv.join(' ')}'`;
}

/** What stands in the way of a new process (fork(2), pipe(2)), and what to raise. */
const SHORTAGES: Readonly<Record<string, string>> = {
  EAGAIN:
    'no further process is allowed: raise TasksMax of the unit, pids.max of the container or ulimit -u, or find who uses them up',
  ENOMEM: 'there is no memory for a process: raise the memory limit, or find who uses it up',
  EMFILE: 'we have as many files open as we may: raise LimitNOFILE of the unit or ulimit -n',
  ENFILE: 'the host has as many files open as it may: raise the sysctl fs.file-max',
};

/** The error of a program that could not be started. */
export function cannotStart(argv: Command['argv'], thrown: unknown): FairwayError {
  const [program] = argv;
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  if (code === 'ENOENT') {
    return new FairwayError(
      'FW_CAPABILITY_TOOL_MISSING',
      `'${program}' is not installed: install the Debian package '${packageOf(program)}'`,
      { cause: thrown },
    );
  }
  const shortage = SHORTAGES[code];
  const remedy = shortage === undefined ? '' : `; ${shortage}`;
  return new FairwayError('FW_COMMAND_FAILED', `${shown(argv)} cannot be started: ${messageOf(thrown)}${remedy}`, {
    cause: thrown,
  });
}

/** The Debian package that brings a tool. */
export function packageOf(program: string): string {
  return PACKAGE_OF.get(program) ?? program;
}

/** Folders that programs are looked up in, as in $PATH. */
export function programFolders(environment: ProcessRunnerOptions['environment']): string {
  const path = environment['PATH'] ?? '/usr/bin:/bin';
  const folders = path.split(':').filter(folder => folder !== '');
  return [...folders, ...SBIN_FOLDERS.filter(folder => !folders.includes(folder))].join(':');
}
