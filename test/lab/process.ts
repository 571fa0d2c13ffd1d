/** A program running in one of the lab's namespaces. */
import type { Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { type Agent, type Exchange, LabError } from './agent.ts';

export interface ProgramOptions {
  /** Added to the agent's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Working directory; the repository's root unless told. */
  readonly directory?: string;
}

export interface LongLivedOptions extends ProgramOptions {
  /** Also copied there, byte for byte, as it arrives. */
  readonly copyTo?: { readonly stdout: Writable; readonly stderr: Writable };
  /** Told every line as it comes. */
  readonly onLine?: (line: OutputLine) => void;
}

/** One line a program wrote, without its line end. */
export interface OutputLine {
  /** When it arrived here, in milliseconds since the epoch. */
  readonly at: number;
  readonly stream: 'stdout' | 'stderr';
  readonly text: string;
}

/** A long-lived program, such as a daemon on a node. Its output is kept as lines from the start. */
export class LabProcess {
  readonly lines: OutputLine[] = [];
  /** The exit status, 128 + signal if one ended it. Rejects with LabGone if the place ends first. */
  readonly exited: Promise<number>;
  readonly #exchange: Exchange;
  readonly #argv: readonly string[];
  readonly #partial = { stdout: '', stderr: '' };
  readonly #decoders = { stdout: new StringDecoder(), stderr: new StringDecoder() };
  readonly #watchers = new Set<(line: OutputLine) => void>();
  #status: number | undefined;

  constructor(agent: Agent, namespace: string, argv: readonly string[], options: LongLivedOptions) {
    this.#argv = argv;
    if (options.onLine !== undefined) this.#watchers.add(options.onLine);
    const exited = Promise.withResolvers<number>();
    this.exited = exited.promise;
    // Whoever does not wait for the end is told by the next thing that fails.
    this.exited.catch(() => {});
    this.#exchange = agent.open('spawn', spawnFields(namespace, argv, options, 'pipe'), {
      told: (verb, fields) => {
        const bytes = fields[0] ?? Buffer.alloc(0);
        if (verb === 'out') {
          options.copyTo?.stdout.write(bytes);
          this.#take('stdout', bytes);
        }
        if (verb === 'err') {
          options.copyTo?.stderr.write(bytes);
          this.#take('stderr', bytes);
        }
        if (verb === 'exit') {
          this.#status = Number(String(bytes));
          for (const stream of ['stdout', 'stderr'] as const)
            if (this.#partial[stream] !== '') this.#take(stream, Buffer.from('\n'));
          this.#exchange.close();
          exited.resolve(this.#status);
        }
      },
      failed: exited.reject,
    });
  }

  /** Everything written so far, both streams in the order of arrival. */
  get output(): string {
    return this.lines.map(line => `${line.text}\n`).join('');
  }

  /** Whether it is still running, as far as is known here. */
  get running(): boolean {
    return this.#status === undefined;
  }

  /**
   * The first line that matches, among those already written and those to come. Rejects, with the last lines, when the time (milliseconds)
   * is over or the program ends.
   */
  async waitForLine(pattern: RegExp, limitMs: number): Promise<OutputLine> {
    const seen = this.lines.find(line => pattern.test(line.text));
    if (seen !== undefined) return seen;
    const found = Promise.withResolvers<OutputLine>();
    const watcher = (line: OutputLine): void => {
      if (pattern.test(line.text)) found.resolve(line);
    };
    const missing = (why: string): void => {
      const tail = this.lines.slice(-20).map(line => `  ${line.text}`);
      found.reject(new LabError([`no line ${pattern} from ${this.#argv.join(' ')}: ${why}`, ...tail].join('\n')));
    };
    const limit = setTimeout(() => missing(`${limitMs} ms passed`), limitMs);
    this.#watchers.add(watcher);
    this.exited.then(
      status => missing(`it ended with status ${status}`),
      (error: unknown) => missing(String(error)),
    );
    try {
      return await found.promise;
    } finally {
      clearTimeout(limit);
      this.#watchers.delete(watcher);
    }
  }

  /** Writes to its standard input. */
  write(bytes: string | Uint8Array): void {
    this.#exchange.send('stdin', bytes);
  }

  /** Ends its standard input. */
  endInput(): void {
    this.#exchange.send('eof');
  }

  /** Sends a signal, by name without SIG (`HUP`), to the program and its descendants. */
  signal(name: string): void {
    if (this.running) this.#exchange.send('signal', name);
  }

  /** SIGTERM, and its exit status. Rejects when it is still there after the time (milliseconds), and kills it then. */
  async stop(limitMs = 10_000): Promise<number> {
    this.signal('TERM');
    const late = Promise.withResolvers<never>();
    const limit = setTimeout(() => {
      this.signal('KILL');
      late.reject(new LabError(`${this.#argv.join(' ')} did not stop within ${limitMs} ms`));
    }, limitMs);
    try {
      return await Promise.race([this.exited, late.promise]);
    } finally {
      clearTimeout(limit);
    }
  }

  /** SIGKILL, and its exit status: 137 unless it had ended before. */
  async kill(): Promise<number> {
    this.signal('KILL');
    return await this.exited;
  }

  #take(stream: 'stdout' | 'stderr', bytes: Buffer): void {
    const pieces = (this.#partial[stream] + this.#decoders[stream].write(bytes)).split('\n');
    this.#partial[stream] = pieces.pop() ?? '';
    const at = Date.now();
    for (const piece of pieces) {
      const line = { at, stream, text: piece };
      this.lines.push(line);
      for (const watcher of this.#watchers) watcher(line);
    }
  }
}

/** A program that ran to its end. */
export interface ProgramResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever its exit status. Rejects only if the place ends. */
export async function runProgram(
  agent: Agent,
  namespace: string,
  argv: readonly string[],
  options: ProgramOptions & { readonly input?: string | Uint8Array } = {},
): Promise<ProgramResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const end = Promise.withResolvers<number>();
  const exchange = agent.open('spawn', spawnFields(namespace, argv, options, options.input === undefined ? 'empty' : 'pipe'), {
    told: (verb, fields) => {
      const bytes = fields[0] ?? Buffer.alloc(0);
      if (verb === 'out') stdout.push(bytes);
      if (verb === 'err') stderr.push(bytes);
      if (verb === 'exit') end.resolve(Number(String(bytes)));
    },
    failed: end.reject,
  });
  if (options.input !== undefined) {
    exchange.send('stdin', options.input);
    exchange.send('eof');
  }
  try {
    const status = await end.promise;
    return { status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  } finally {
    exchange.close();
  }
}

function spawnFields(namespace: string, argv: readonly string[], options: ProgramOptions, input: 'pipe' | 'empty'): string[] {
  const environment = Object.entries(options.environment ?? {}).map(([name, value]) => `${name}=${value}`);
  const directory = options.directory ?? `${import.meta.dirname}/../..`;
  return [namespace, directory, input, String(environment.length), ...environment, ...argv];
}
