/**
 * The book in its file. What is written into it is in force at once, and in the file a moment later: ten thousand Services at a first start are a few
 * writes. The file is no condition for anything: without it addresses are handed out too, though the next daemon will not know them.
 */
import type { ObjectKey } from '../cluster/kinds.ts';
import { type ErrorCode, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { Log } from '../observe/log.ts';
import { type BookEntry, parseBook, renderBook } from './book.ts';

/** The place of the book; `lastingFile` of the kernel's room is one. */
export interface BookFile {
  readonly path: string;
  /** Where {@link setAside} puts it. */
  readonly asidePath: string;
  /** Undefined where there is none. Rejects where it cannot be read. */
  read(): Promise<string | undefined>;
  /** In one piece. Rejects where it cannot be written. */
  write(text: string): Promise<void>;
  /** Moves it away, that it is not written over. */
  setAside(): Promise<void>;
}

export interface KeptBookOptions {
  readonly file: BookFile;
  readonly clock: Clock;
  readonly log: Log;
}

const CODE: ErrorCode = 'FW_STATE_FILE';
/** Milliseconds between two writes. */
const GAP_MS = 200;
/** Milliseconds until a write that failed is tried again. */
const RETRY_MS = 30_000;
/** Faults named in one message. */
const NAMED_FAULTS = 3;

export class KeptBook {
  readonly #options: KeptBookOptions;
  readonly #entries = new Map<ObjectKey, BookEntry>();
  readonly #closing = new AbortController();
  /** There is text in the file that nobody has read: it is set aside before the first write. */
  #hasUnread = false;
  #isUnsaved = false;
  #isFailing = false;
  #saving: Promise<void> | undefined;

  private constructor(options: KeptBookOptions) {
    this.#options = options;
  }

  /** The book as an earlier daemon left it. What of it cannot be read is told, and begins anew. Never rejects. */
  static async open(options: KeptBookOptions): Promise<KeptBook> {
    const opened = new KeptBook(options);
    await opened.#read();
    return opened;
  }

  get(key: ObjectKey): BookEntry | undefined {
    return this.#entries.get(key);
  }

  keys(): Iterable<ObjectKey> {
    return this.#entries.keys();
  }

  set(key: ObjectKey, entry: BookEntry): void {
    this.#entries.set(key, entry);
    this.#changed();
  }

  delete(key: ObjectKey): void {
    if (this.#entries.delete(key)) this.#changed();
  }

  /** Resolves when the file has what the book has, or cannot have it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#saving;
  }

  #changed(): void {
    this.#isUnsaved = true;
    this.#saving ??= this.#save();
  }

  async #save(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#closing;
    while (this.#isUnsaved) {
      this.#isUnsaved = false;
      const isSaved = await this.#write();
      if (!isSaved) this.#isUnsaved = true;
      if (!isSaved && signal.aborted) break;
      await pause(clock, isSaved ? GAP_MS : RETRY_MS, signal);
    }
    this.#saving = undefined;
  }

  async #read(): Promise<void> {
    const { file } = this.#options;
    try {
      const text = await file.read();
      if (text === undefined) return;
      const { book, faults } = parseBook(text);
      for (const [key, entry] of book) this.#entries.set(key, entry);
      if (faults.length > 0) this.#begunAnew(faultsText(faults));
    } catch (thrown) {
      this.#begunAnew(messageOf(thrown));
    }
  }

  #begunAnew(why: string): void {
    const { file } = this.#options;
    this.#hasUnread = true;
    this.#tell(
      `load-balancer addresses of an earlier run cannot be read from ${file.path}: ${why}. Their Services get addresses anew. ` +
        `Before it is written over, the file is kept as ${file.asidePath}: to have the old addresses back, stop fairway, correct that file and move it to ${file.path}.`,
    );
  }

  /** Whether the file has what the book has. */
  async #write(): Promise<boolean> {
    const { file, log } = this.#options;
    try {
      if (this.#hasUnread) await file.setAside();
      this.#hasUnread = false;
      await file.write(renderBook(this.#entries));
    } catch (thrown) {
      if (!this.#isFailing)
        this.#tell(
          `load-balancer addresses cannot be written to ${file.path}: ${messageOf(thrown)}. They are in force, but after a restart Services may get ` +
            'others. Make its folder writable, with some space free; this is tried again twice a minute.',
        );
      this.#isFailing = true;
      return false;
    }
    if (this.#isFailing) log.info(`load-balancer addresses are written to ${file.path} again`);
    this.#isFailing = false;
    return true;
  }

  #tell(message: string): void {
    this.#options.log.error(message, { code: CODE });
  }
}

function faultsText(faults: readonly string[]): string {
  const more = faults.length > NAMED_FAULTS ? [`and ${faults.length - NAMED_FAULTS} more`] : [];
  return [...faults.slice(0, NAMED_FAULTS), ...more].join('; ');
}
