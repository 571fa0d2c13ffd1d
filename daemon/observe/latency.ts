/**
 * How long it takes from an event to all that it changed in force. An event whose changes could not be made is not in force when its round ends, but
 * when they are: a round that fails must not look fast.
 */
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';

export interface LatencyOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** Milliseconds from the first event of a round to its changes in force; once a round, and once more where some came in later. */
  readonly onInForce: (milliseconds: number) => void;
}

export interface RoundEnd {
  /** Whether every module planned, and it is known of every table what is there: else nothing can be said of what the round's events changed. */
  readonly isComplete: boolean;
  /** Entries that are not as wanted because a change failed, each by a name of its own. */
  readonly failing: readonly string[];
}

export class ProgrammingLatency {
  readonly #options: LatencyOptions;
  /** When the first event since the last round began came. */
  #changedAt: Instant | undefined;
  /** The same of the round under way, and of earlier ones that were not complete. */
  #roundOf: Instant | undefined;
  /** Failing entries, with when the event came that changed what is wanted of them. */
  #failing = new Map<string, Instant>();

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
    this.#failing = new Map(failing.map(entry => [entry, before.get(entry) ?? this.#roundOf ?? now]));
    const since = new Set([...before].flatMap(([entry, at]) => (this.#failing.has(entry) ? [] : [at])));
    const hasNewFailure = failing.some(entry => !before.has(entry));
    if (this.#roundOf !== undefined && !hasNewFailure) since.add(this.#roundOf);
    for (const at of since) onInForce(now - at);
    this.#roundOf = undefined;
  }

  /** Milliseconds since the oldest event came whose changes are not in force; 0 where all are. */
  lag(): number {
    const oldest = Math.min(this.#changedAt ?? Infinity, this.#roundOf ?? Infinity, ...new Set(this.#failing.values()));
    return Number.isFinite(oldest) ? this.#options.clock.now() - oldest : 0;
  }
}
