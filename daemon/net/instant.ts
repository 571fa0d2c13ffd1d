/** Points in time, so that a planner never reads a clock. */

declare const instant: unique symbol;

/** Milliseconds since the Unix epoch, by the daemon's clock. */
export type Instant = number & { readonly [instant]: true };

export function instantOf(milliseconds: number): Instant {
  return milliseconds as Instant;
}

/** The first of several points in time; undefined where there is none. */
export function earliest(instants: readonly Instant[]): Instant | undefined {
  return instants.length === 0 ? undefined : instants.reduce((first, next) => instantOf(Math.min(first, next)));
}
