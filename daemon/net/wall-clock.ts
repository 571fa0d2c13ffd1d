/** The wall clock, for comparison with what others write by theirs: gobgpd, the API server. */

/** Milliseconds since the epoch. */
export function wallNow(): number {
  return Date.now();
}
