/**
 * What gobgpd writes to its log file, followed. A file and not a pipe: gobgpd must outlive us, and Go ends a process that writes to a pipe without a reader.
 */
import { type FileHandle, open, stat, truncate } from 'node:fs/promises';
import type { Clock } from '../net/clock.ts';
import type { ProcessLog } from './process.ts';

/** One line of gobgpd's JSON, less the fields nobody needs. None of those that are kept ever holds a password. */
export interface GobgpdLine {
  readonly level: 'warning' | 'error' | 'fatal' | 'panic';
  readonly message: string;
  readonly topic: string;
  readonly key: string;
  readonly error: string;
}

/** Bytes after which the file begins anew, once it is read. */
const FILE_LIMIT = 1_048_576;
const READ_BYTES = 65_536;

/** The lines at warn and above of one file, each once, from the end it has when it is first looked at. */
export class GobgpdLogFile {
  readonly #path: string;
  readonly #onLine: (line: GobgpdLine) => void;
  #offset: number | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #reading: Promise<void> = Promise.resolve();

  constructor(path: string, onLine: (line: GobgpdLine) => void) {
    this.#path = path;
    this.#onLine = onLine;
  }

  /** Reads what is new. Never rejects: a log that cannot be read stops nothing. */
  read(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#read()).catch(() => undefined);
    return this.#reading;
  }

  async #read(): Promise<void> {
    const size = await stat(this.#path).then(
      stats => stats.size,
      () => 0,
    );
    this.#offset ??= size;
    if (size < this.#offset) this.#offset = 0;
    if (size > this.#offset) await this.#readFrom(this.#offset);
    if (this.#offset < FILE_LIMIT) return;
    // gobgpd appends, so its next line begins the file.
    await truncate(this.#path);
    this.#offset = 0;
  }

  async #readFrom(offset: number): Promise<void> {
    const file: FileHandle = await open(this.#path, 'r');
    try {
      const buffer = Buffer.alloc(READ_BYTES);
      for (let at = offset; ; ) {
        const { bytesRead } = await file.read(buffer, 0, READ_BYTES, at);
        if (bytesRead === 0) return;
        at += bytesRead;
        this.#offset = at;
        this.#take(buffer.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  }

  #take(piece: Buffer): void {
    const bytes = Buffer.concat([this.#rest, piece]);
    const end = bytes.lastIndexOf(0x0a) + 1;
    this.#rest = bytes.subarray(end);
    for (const line of bytes.toString('utf8', 0, end).split('\n')) {
      const parsed = parseGobgpdLine(line);
      if (parsed !== undefined) this.#onLine(parsed);
    }
  }
}

/** Undefined for what is below warn, and for the many lines of a Go stack after the first, which says what happened. */
export function parseGobgpdLine(line: string): GobgpdLine | undefined {
  if (/^(panic|fatal error): /.test(line)) return { level: 'panic', message: line, topic: '', key: '', error: '' };
  if (!line.startsWith('{')) return undefined;
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    return undefined;
  }
  const text = (name: string): string => {
    const value: unknown = typeof fields === 'object' && fields !== null ? Reflect.get(fields, name) : undefined;
    return typeof value === 'string' ? value : '';
  };
  const level = text('level');
  if (level !== 'warning' && level !== 'error' && level !== 'fatal' && level !== 'panic') return undefined;
  return { level, message: text('msg'), topic: text('Topic'), key: text('Key'), error: text('Error') || text('Err') };
}

/** Milliseconds in which one message of gobgpd is told once. */
const REPEAT_MS = 60_000;
/** Messages remembered; beyond, all are forgotten. */
const REMEMBERED = 1_000;

/** Hands lines to our log, the same one once a minute. */
export class GobgpdLineTeller {
  readonly #log: ProcessLog;
  readonly #clock: Clock;
  readonly #told = new Map<string, { readonly at: number; repeated: number }>();

  constructor(log: ProcessLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  tell({ level, message, topic, key, error }: GobgpdLine): void {
    const identity = JSON.stringify([level, message, topic, key]);
    const before = this.#told.get(identity);
    const now = this.#clock.now();
    if (before !== undefined && now - before.at < REPEAT_MS) {
      before.repeated++;
      return;
    }
    if (this.#told.size >= REMEMBERED) this.#told.clear();
    this.#told.set(identity, { at: now, repeated: 0 });
    const fields = {
      ...(topic === '' ? {} : { topic }),
      ...(key === '' ? {} : { key }),
      ...(error === '' ? {} : { error }),
      ...(before === undefined || before.repeated === 0 ? {} : { repeated: before.repeated }),
    };
    if (level === 'warning') this.#log.warn(`gobgpd: ${message}`, fields);
    else this.#log.error(`gobgpd: ${message}`, fields);
  }
}
