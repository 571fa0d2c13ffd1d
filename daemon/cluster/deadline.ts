/** A time limit that is cheap to extend. */
import type { Clock } from '../net/clock.ts';

/** Expires once, `milliseconds` after it was made or last extended. */
export class Deadline {
  readonly #clock: Clock;
  readonly #milliseconds: number;
  readonly #expire: () => void;
  #extendedAt: number;
  #cancel: () => void;

  constructor(clock: Clock, milliseconds: number, expire: () => void) {
    this.#clock = clock;
    this.#milliseconds = milliseconds;
    this.#expire = expire;
    this.#extendedAt = clock.now();
    this.#cancel = clock.after(milliseconds, () => this.#check());
  }

  /** Begins anew. Costs reading the clock: the timer is moved only when it fires. */
  extend(): void {
    this.#extendedAt = this.#clock.now();
  }

  cancel(): void {
    this.#cancel();
  }

  #check(): void {
    const left = this.#extendedAt + this.#milliseconds - this.#clock.now();
    // A clock that was set back must not keep a dead connection for hours.
    if (left <= 0 || left > this.#milliseconds) this.#expire();
    else this.#cancel = this.#clock.after(left, () => this.#check());
  }
}
