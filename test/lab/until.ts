/** Waiting for a state of the lab that nothing announces. */
import { setTimeout as pause } from 'node:timers/promises';
import { LabError } from './agent.ts';

/**
 * Looks until what is seen satisfies; gives what was seen then. Rejects with LabError, telling what was seen last, after the time
 * (milliseconds) is over.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T>,
  satisfies: (seen: T) => boolean,
  limitMs = 30_000,
): Promise<T> {
  const begin = performance.now();
  for (;;) {
    const seen = await look();
    if (satisfies(seen)) return seen;
    if (performance.now() - begin > limitMs) {
      const shown = typeof seen === 'string' ? seen : JSON.stringify(seen, undefined, 1);
      throw new LabError(`not within ${limitMs} ms: ${what}. Seen last:\n${shown}`);
    }
    await pause(25);
  }
}
