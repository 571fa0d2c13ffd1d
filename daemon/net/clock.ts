/** Time as a constructor parameter: the daemon has one clock, tests move theirs by hand. */
import { type Instant, instantOf } from './instant.ts';

export interface Clock {
  now(): Instant;
  /** Calls `fire` once after `milliseconds`; the returned function cancels it. */
  after(milliseconds: number, fire: () => void): () => void;
}

/** The machine's own clock. */
export function systemClock(): Clock {
  return {
    // Epoch at start plus monotonic time: a step of the wall clock moves no deadline.
    now: () => instantOf(performance.timeOrigin + performance.now()),
    after(milliseconds, fire) {
      const timer = setTimeout(fire, milliseconds);
      return () => {
        clearTimeout(timer);
      };
    },
  };
}
