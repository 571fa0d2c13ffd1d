/** Orders that lack a right (403), and when each is tried again. */
import type { ObjectKey } from '../cluster/kinds.ts';

/** Milliseconds between tries of two of them. */
const PACE_MS = 100;

/**
 * Most often all lack the same right, and ten thousand that try by themselves are a burden; but it may be that of one namespace, so that the others are not
 * made to wait. So these take turns, and when one gets through, all that wait may.
 */
export class DeniedOrders {
  readonly #keys = new Set<ObjectKey>();
  /** When the last one has its turn. */
  #until = 0;

  /** Milliseconds until its turn. */
  turnOf(key: ObjectKey, now: number): number {
    this.#keys.add(key);
    this.#until = Math.max(now, this.#until) + PACE_MS;
    return this.#until - now;
  }

  /** This one got through: those that may be tried at once. */
  allowedBy(key: ObjectKey): readonly ObjectKey[] {
    if (!this.#keys.has(key)) return [];
    const all = [...this.#keys];
    this.clear();
    return all;
  }

  forget(key: ObjectKey): void {
    this.#keys.delete(key);
  }

  clear(): void {
    this.#keys.clear();
    this.#until = 0;
  }
}
