/** When to look at a folder again: once it is quiet after a change, and now and then in any case, since some file systems tell of nothing. */
import type { Clock } from '../net/clock.ts';
import type { Folder } from './folder.ts';

export interface FolderChangesOptions {
  readonly folder: Folder;
  readonly clock: Clock;
  /** Milliseconds between two looks when nothing was told. Default 1,000. */
  readonly pollMs?: number | undefined;
  /** Milliseconds of silence after a change: writers write in pieces. Default 20. */
  readonly settleMs?: number | undefined;
}

const [POLL_MS, SETTLE_MS] = [1000, 20];

export class FolderChanges {
  readonly #options: FolderChangesOptions;
  #watcher: { close(): void } | undefined;
  #isDirty = false;
  #noticeChange: () => void = () => undefined;

  constructor(options: FolderChangesOptions) {
    this.#options = options;
  }

  /** To be called before each look: what changes from now on ends the next wait. */
  watch(): void {
    this.#isDirty = false;
    this.#watcher ??= this.#options.folder.watch(() => {
      this.#isDirty = true;
      this.#noticeChange();
    });
  }

  /** A folder that was deleted and made again is another one to the file system. */
  unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** Resolves when it is time to look, or at the stop. */
  async next(signal: AbortSignal): Promise<void> {
    const { clock, pollMs = POLL_MS, settleMs = SETTLE_MS } = this.#options;
    const due = Promise.withResolvers<undefined>();
    const wake = (): void => {
      due.resolve(undefined);
    };
    let cancelSettle = (): void => undefined;
    const settle = (): void => {
      cancelSettle();
      cancelSettle = clock.after(settleMs, wake);
    };
    const cancelPoll = clock.after(pollMs, wake);
    signal.addEventListener('abort', wake);
    this.#noticeChange = settle;
    if (this.#isDirty) settle();
    if (signal.aborted) wake();
    await due.promise;
    signal.removeEventListener('abort', wake);
    this.#noticeChange = () => undefined;
    cancelPoll();
    cancelSettle();
  }
}
