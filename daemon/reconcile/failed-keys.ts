/** The keys of a table whose last change failed, and when each is to be tried again. */
import type { Instant } from '../net/instant.ts';
import type { Failure } from './outcome.ts';

export class FailedKeys {
  readonly #failures = new Map<string, Failure>();
  /** Keys whose time has come, but whose change waits for something else: no time makes them due. */
  readonly #waiting = new Set<string>();

  get(key: string): Failure | undefined {
    return this.#failures.get(key);
  }

  all(): readonly Failure[] {
    return [...this.#failures.values()];
  }

  note(failure: Failure): void {
    this.#failures.set(failure.key, failure);
    this.#waiting.delete(failure.key);
  }

  forget(key: string): void {
    this.#failures.delete(key);
    this.#waiting.delete(key);
  }

  /** The key's turn came, and its change may have to wait. */
  took(key: string): void {
    if (this.#failures.has(key)) this.#waiting.add(key);
  }

  /** When the next ones are due without an event. */
  retryTimes(): readonly Instant[] {
    return this.all()
      .filter(({ key }) => !this.#waiting.has(key))
      .map(({ retryAt }) => retryAt);
  }

  /** One goes again that failed before: what was in its way may have been in the way of others, whose time is further off. */
  retrySoon(now: Instant, except: readonly Failure[]): void {
    for (const failure of this.all()) {
      if (!except.includes(failure) && failure.retryAt > now) this.#failures.set(failure.key, { ...failure, retryAt: now });
    }
  }
}
