/** A clock moved by hand. */
import type { Clock } from '../../daemon/net/clock.ts';
import { type Instant, instantOf } from '../../daemon/net/instant.ts';

interface Timer {
  readonly at: number;
  readonly fire: () => void;
}

export class ManualClock implements Clock {
  #now: number;
  #timers: Timer[] = [];

  constructor(now = 1_000_000) {
    this.#now = now;
  }

  now(): Instant {
    return instantOf(this.#now);
  }

  after(milliseconds: number, fire: () => void): () => void {
    const timer = { at: this.#now + milliseconds, fire };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter(other => other !== timer);
    };
  }

  /** Moves time on, timer by timer, and lets what each one starts come to rest. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter(other => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.fire();
      await settle();
    }
    this.#now = end;
  }
}

/** Runs what is due in the event loop until promises that need no time are done. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(resolve => setImmediate(resolve));
}
