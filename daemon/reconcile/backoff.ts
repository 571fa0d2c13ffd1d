/** When to try again what failed: 0.5 s, doubling to 60 s, spread by a fifth so that many failures do not come back as one. */

export interface Backoff {
  /** Milliseconds to wait after the given number of failures in a row (1 or more). */
  delay(failures: number): number;
}

const FIRST_MS = 500;
const LIMIT_MS = 60_000;
const SPREAD = 0.2;

/** @param random a source of numbers in [0, 1) */
export function exponentialBackoff(random: () => number): Backoff {
  return {
    delay(failures) {
      const full = Math.min(LIMIT_MS, FIRST_MS * 2 ** Math.min(failures - 1, 20));
      return full * (1 - SPREAD + 2 * SPREAD * random());
    },
  };
}
