/** The log: one line per state change, none per step. winston does the formatting; this wrapper keeps silent levels free. */
import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import winston from 'winston';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
export type LogFormat = 'text' | 'json';
/** Values shown after the message as `key=value`. */
export type Fields = Readonly<Record<string, string | number | boolean>>;

export interface Log {
  error(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  debug(message: string, fields?: Fields): void;
}

export interface LogOptions {
  /** kube-router's `--v`: 0 shows state changes, 1 and more what led to them. */
  readonly verbosity: number;
  readonly format: LogFormat;
  /** File descriptor that lines are written to, at once: no line is lost at exit. */
  readonly descriptor: number;
  /** Told each line too. */
  readonly onLine?: (line: string) => void;
}

/** Lines that a bug report shows. */
const REMEMBERED = 500;

/** The last lines of a log. */
export class RecentLines {
  readonly #lines: string[] = [];
  #next = 0;

  add(line: string): void {
    this.#lines[this.#next] = line;
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  /** The oldest first. */
  get all(): readonly string[] {
    return this.#lines.length < REMEMBERED
      ? this.#lines
      : [...this.#lines.slice(this.#next), ...this.#lines.slice(0, this.#next)];
  }
}

const RANK: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

export function createLog(options: LogOptions): Log {
  const limit = options.verbosity > 0 ? RANK.debug : RANK.info;
  const logger = winston.createLogger({
    level: 'debug',
    format: winston.format.combine(winston.format.timestamp(), options.format === 'json' ? winston.format.json() : textFormat()),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston declares its transports as interfaces
    transports: [new winston.transports.Stream({ stream: descriptorStream(options) })],
  });
  // A disabled level must cost nothing: winston itself takes two microseconds to find out.
  const at =
    (level: LogLevel) =>
    (message: string, fields: Fields = {}): void => {
      if (RANK[level] <= limit) logger.log(level, message, fields);
    };
  return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
}

const LETTER: Readonly<Record<string, string>> = { error: 'E', warn: 'W', info: 'I', debug: 'D' };

function textFormat(): winston.Logform.Format {
  return winston.format.printf(({ level, message, timestamp, ...fields }) => {
    const shown = Object.entries(fields).map(([key, value]) => ` ${key}=${quoted(value)}`);
    return `${String(timestamp)} ${LETTER[level] ?? level} ${inOneLine(String(message))}${shown.join('')}`;
  });
}

function quoted(value: unknown): string {
  const text = String(value);
  return inOneLine(/[\s"=]/.test(text) ? JSON.stringify(text) : text);
}

/** Users write annotations: what they write there must neither look like a line of ours nor speak to the terminal of who reads it. */
function inOneLine(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\u2028\u2029]/gu,
    found => ESCAPES[found] ?? `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Writes each line at once; winston's own console transport buffers and can lose the last lines. */
function descriptorStream({ descriptor, onLine }: LogOptions): Writable {
  return new Writable({
    write(line: Buffer, _encoding, done) {
      onLine?.(line.toString('utf8').trimEnd());
      try {
        writeSync(descriptor, line);
      } catch (thrown) {
        // A full pipe (EAGAIN) or a reader that went away (EPIPE) must not end the daemon: the line is lost, the work goes on.
        if (!isWriteRefusal(thrown)) throw thrown;
      }
      done();
    },
  });
}

function isWriteRefusal(thrown: unknown): boolean {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  return code === 'EAGAIN' || code === 'EPIPE' || code === 'EIO' || code === 'ENOSPC';
}
