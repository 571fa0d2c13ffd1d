/** The wall clock, for comparison with what gobgpd writes by it. */

/** Milliseconds since the epoch. */
export function wallNow(): number {
  return Date.now();
}
