/** Waiting and limits by the clock that is given, cut short by a signal. */
import type { Clock } from '../net/clock.ts';

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * A controller that aborts with the outer signal, and its release. `AbortSignal.any` would leave a mark on the outer signal with every call, and ours
 * live as long as the daemon.
 */
export function nestedAbort(signal: AbortSignal): { readonly inner: AbortController; readonly release: () => void } {
  const inner = new AbortController();
  const abort = (): void => {
    inner.abort(signal.reason);
  };
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return { inner, release: () => signal.removeEventListener('abort', abort) };
}

/** Calls with a signal that aborts with the outer one, or after the given milliseconds. */
export async function limited<T>(
  clock: Clock,
  milliseconds: number,
  signal: AbortSignal,
  call: (limited: AbortSignal) => Promise<T>,
): Promise<T> {
  const { inner, release } = nestedAbort(signal);
  const cancel = clock.after(milliseconds, () => {
    inner.abort(new Error(`no answer within ${milliseconds} ms`));
  });
  try {
    return await call(inner.signal);
  } finally {
    cancel();
    release();
  }
}

/** Waits between tries: the first, doubling to the longest. */
export class Waits {
  readonly #first: number;
  readonly #longest: number;
  #next: number;

  /** In milliseconds. */
  constructor({ first, longest }: { readonly first: number; readonly longest: number }) {
    this.#first = first;
    this.#longest = longest;
    this.#next = first;
  }

  /** How long to wait now; the next wait is longer. */
  next(): number {
    const now = this.#next;
    this.#next = Math.min(now * 2, this.#longest);
    return now;
  }

  reset(): void {
    this.#next = this.#first;
  }
}
