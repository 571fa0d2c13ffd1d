/**
 * How long it takes from an event to all that it changed in force. An event whose changes could not be made is not in force when its round ends, but
 * when they are: a round that fails must not look fast.
 */
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import type { Failure } from '../reconcile/outcome.ts';

export interface LatencyOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** Milliseconds from the first event of a round to its changes in force; once a round, and once more where some came in later. */
  readonly onInForce: (milliseconds: number) => void;
}

export interface RoundEnd {
  /** Whether every module planned, and it is known of every table what is there: else nothing can be said of what the round's events changed. */
  readonly isComplete: boolean;
  /** The last failure of each entry that is not as wanted. */
  readonly failing: readonly Pick<Failure, 'table' | 'key' | 'count'>[];
}

interface Failing {
  readonly last: RoundEnd['failing'][number];
  /** When the event came that changed what is wanted of the entry, the first one since it was as wanted. */
  readonly since: Instant;
}

export class ProgrammingLatency {
  readonly #options: LatencyOptions;
  /** When the first event since the last round began came. */
  #changedAt: Instant | undefined;
  /** The same of the round under way, and of earlier ones that were not complete. */
  #roundOf: Instant | undefined;
  #failing = new Map<string, Failing>();

  constructor(options: LatencyOptions) {
    this.#options = options;
  }

  /** An event came. */
  changed(): void {
    this.#changedAt ??= this.#options.clock.now();
  }

  /** Nothing can be done about what came up to now, and nobody waits for it: the lists are not full yet. */
  forget(): void {
    this.#changedAt = undefined;
  }

  /** A round begins: it brings in what came up to now. */
  begin(): void {
    this.#roundOf ??= this.#changedAt;
    this.#changedAt = undefined;
  }

  end({ isComplete, failing }: RoundEnd): void {
    if (!isComplete) return;
    const { clock, onInForce } = this.#options;
    const now = clock.now();
    const before = this.#failing;
    this.#failing = new Map();
    let hasNewFailure = false;
    for (const last of failing) {
      const name = `${last.table} ${last.key}`;
      const earlier = before.get(name);
      // A change that failed before and again says nothing of this round's events.
      if (last.count === 1 && last !== earlier?.last) hasNewFailure = true;
      this.#failing.set(name, { last, since: earlier?.since ?? this.#roundOf ?? now });
    }
    const inForce = new Set([...before].flatMap(([name, { since }]) => (this.#failing.has(name) ? [] : [since])));
    if (this.#roundOf !== undefined && !hasNewFailure) inForce.add(this.#roundOf);
    for (const since of inForce) onInForce(now - since);
    this.#roundOf = undefined;
  }

  /** Milliseconds since the oldest event came whose changes are not in force; 0 where all are. */
  lag(): number {
    let oldest = Math.min(this.#changedAt ?? Infinity, this.#roundOf ?? Infinity);
    for (const { since } of this.#failing.values()) oldest = Math.min(oldest, since);
    return Number.isFinite(oldest) ? this.#options.clock.now() - oldest : 0;
  }
}
