/** Waiting that a stop cuts short, and waits that differ from node to node. */
import type { Clock } from './clock.ts';

/** Resolves after the given milliseconds, or at once when the signal aborts. Never rejects. */
export function pause(clock: Clock, milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const wake = (): void => {
      cancel();
      signal.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = clock.after(milliseconds, wake);
    signal.addEventListener('abort', wake, { once: true });
  });
}

/** Why a signal aborted, as something to reject with. */
export function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error(String(reason));
}

/** Between 75 % and 125 % of the given milliseconds, so that many nodes do not come at once. `random` gives [0, 1). */
export function jittered(milliseconds: number, random: () => number): number {
  return milliseconds * (0.75 + random() * 0.5);
}
