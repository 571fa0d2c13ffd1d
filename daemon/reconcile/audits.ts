/** When each table is read back to see what others changed: one after another, so that each has its turn once a period and never all at once. */
import type { Clock } from '../net/clock.ts';
import type { Reconciler } from './reconciler.ts';
import type { TableName } from './tables.ts';

export interface AuditsOptions {
  readonly reconciler: Pick<Reconciler, 'tables' | 'audit' | 'statusOf'>;
  readonly clock: Clock;
  /** Milliseconds between two read-backs of one table. */
  readonly periodMs: number;
  /** `adaptive`: a table whose reading takes long is read less often than that. */
  readonly pace: 'fixed' | 'adaptive';
  /** A table is in doubt: a round is asked for. */
  readonly onDue: () => void;
}

/** With the adaptive pace, reading a table back takes at most this share of the time. */
const SHARE = 0.0025;

export class Audits {
  readonly #options: AuditsOptions;
  #cancel: (() => void) | undefined;

  constructor(options: AuditsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#arm(0);
  }

  stop(): void {
    this.#cancel?.();
  }

  #arm(index: number): void {
    const { reconciler, clock, periodMs, onDue } = this.#options;
    const table = reconciler.tables[index % reconciler.tables.length];
    if (table === undefined) return;
    this.#cancel = clock.after(periodMs / reconciler.tables.length, () => {
      if (this.#isDue(table)) {
        reconciler.audit(table);
        onDue();
      }
      this.#arm(index + 1);
    });
  }

  #isDue(table: TableName): boolean {
    const { reconciler, clock, pace } = this.#options;
    if (pace === 'fixed') return true;
    const { readAt, readMs } = reconciler.statusOf(table);
    return readAt === undefined || clock.now() - readAt >= readMs / SHARE;
  }
}
