/**
 * When rounds run: a lone event starts one at once, events that come together share one, rounds never overlap, and the gap between
 * rounds grows with their length, so that under load they come in a few large batches and the tools are not started for every single event.
 */
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';

export interface SchedulerOptions {
  readonly clock: Clock;
  /** One round; returns when the next one is due without an event, undefined for never. Must not throw. */
  readonly round: () => Promise<Instant | undefined>;
}

/** Events of one burst arrive within this many milliseconds: a lone event waits no longer. */
const GATHER_MS = 2;
/** Gap between the end of one round and the start of the next: this share of the time that the round took, and in milliseconds within these. */
const GAP_SHARE = 0.25;
const GAP_LEAST_MS = 50;
const GAP_MOST_MS = 1000;

export class Scheduler {
  readonly #clock: Clock;
  readonly #round: () => Promise<Instant | undefined>;
  #isStopped = false;
  #isRunning = false;
  #isRequested = false;
  #earliest: number;
  #cancel: (() => void) | undefined;
  #idle: (() => void)[] = [];

  constructor(options: SchedulerOptions) {
    this.#clock = options.clock;
    this.#round = options.round;
    this.#earliest = 0;
  }

  /** Something changed: a round is to run soon. */
  request(): void {
    if (this.#isStopped || this.#isRequested) return;
    this.#isRequested = true;
    if (!this.#isRunning) this.#arm(Math.max(GATHER_MS, this.#earliest - this.#clock.now()));
  }

  /** Resolves when the round under way, if any, has ended; no other starts. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel?.();
    if (!this.#isRunning) return;
    await new Promise<void>(resolve => this.#idle.push(resolve));
  }

  /** Asked anew after a round: a request may have come meanwhile. */
  #hasRequest(): boolean {
    return this.#isRequested;
  }

  #arm(milliseconds: number): void {
    this.#cancel?.();
    this.#cancel = this.#clock.after(Math.max(0, milliseconds), () => void this.#run());
  }

  async #run(): Promise<void> {
    this.#isRequested = false;
    this.#isRunning = true;
    const start = this.#clock.now();
    const dueAt = await this.#round();
    this.#isRunning = false;
    const end = this.#clock.now();
    this.#earliest = end + Math.min(GAP_MOST_MS, Math.max(GAP_LEAST_MS, GAP_SHARE * (end - start)));
    if (this.#isStopped) {
      for (const resolve of this.#idle) resolve();
    } else if (this.#hasRequest()) {
      this.#arm(this.#earliest - end);
    } else if (dueAt !== undefined) {
      this.#arm(Math.max(this.#earliest, dueAt) - end);
    }
  }
}
