/** Orders carried out in the background: some at a time, one at a time for each key, the newest in place of those that wait, and again after a failure. */
import type { Clock } from '../net/clock.ts';
import type { Backoff } from '../reconcile/backoff.ts';

/**
 * `again`: it failed. `waitMs` is the least time to wait, and `whom` who waits it: where the server itself is in trouble, or asks to be left alone, no
 * other order fares better.
 */
export type Verdict = 'done' | { readonly again: 'this' | 'all'; readonly waitMs: number };

export interface OrderQueueOptions<O> {
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly concurrency: number;
  /** Never rejects. */
  readonly carryOut: (key: string, order: O) => Promise<Verdict>;
}

interface Slot<O> {
  order: O;
  state: 'queued' | 'running' | 'waiting';
  /** Arrived while the order ran. */
  next: O | undefined;
  failures: number;
  cancelWait: () => void;
}

export class OrderQueue<O> {
  readonly #options: OrderQueueOptions<O>;
  readonly #slots = new Map<string, Slot<O>>();
  /** Keys of those that may run, the oldest first. */
  readonly #ready = new Set<string>();
  readonly #idle = new Set<() => void>();
  #running = 0;
  /** Failures in a row that were everybody's. */
  #commonFailures = 0;
  #isHeld = false;
  #cancelHold: () => void = () => undefined;

  constructor(options: OrderQueueOptions<O>) {
    this.#options = options;
  }

  /** Orders that are not carried out yet. */
  get size(): number {
    return this.#slots.size;
  }

  /** In place of the former order of the key; one that runs is let run first. */
  put(key: string, order: O): void {
    const slot = this.#slots.get(key);
    if (slot?.state === 'running') {
      slot.next = order;
      return;
    }
    slot?.cancelWait();
    this.#slots.set(key, { order, state: 'queued', next: undefined, failures: 0, cancelWait: () => undefined });
    this.#ready.add(key);
    this.#pump();
  }

  /** What was in the way of these is gone: they need not wait for their time. */
  hasten(keys: Iterable<string>): void {
    for (const key of keys) {
      const slot = this.#slots.get(key);
      if (slot?.state !== 'waiting') continue;
      slot.cancelWait();
      slot.state = 'queued';
      this.#ready.add(key);
    }
    this.#pump();
  }

  /** Forgets what does not run yet. */
  drop(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    slot.next = undefined;
    if (slot.state === 'running') return;
    slot.cancelWait();
    this.#slots.delete(key);
    this.#ready.delete(key);
  }

  isRunning(key: string): boolean {
    return this.#slots.get(key)?.state === 'running';
  }

  /** Forgets all that does not run. */
  clear(): void {
    for (const key of [...this.#slots.keys()]) this.drop(key);
    this.#cancelHold();
    this.#isHeld = false;
    this.#commonFailures = 0;
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    while (this.#running > 0) await new Promise<void>(resolve => this.#idle.add(resolve));
  }

  #pump(): void {
    while (this.#running < this.#options.concurrency && !this.#isHeld) {
      const [key] = this.#ready;
      const slot = key === undefined ? undefined : this.#slots.get(key);
      if (key === undefined || slot === undefined) return;
      this.#ready.delete(key);
      slot.state = 'running';
      this.#running++;
      void this.#options.carryOut(key, slot.order).then(verdict => {
        this.#running--;
        this.#settle(key, slot, verdict);
        this.#pump();
        if (this.#running === 0) this.#tellIdle();
      });
    }
  }

  #tellIdle(): void {
    for (const wake of this.#idle) wake();
    this.#idle.clear();
  }

  #settle(key: string, slot: Slot<O>, verdict: Verdict): void {
    const { next } = slot;
    if (verdict !== 'done' && verdict.again === 'all') this.#hold(verdict.waitMs);
    else this.#commonFailures = 0;
    if (verdict === 'done' || next !== undefined) this.#slots.delete(key);
    if (next !== undefined) this.put(key, next);
    else if (verdict !== 'done') this.#wait(key, slot, verdict);
  }

  #wait(key: string, slot: Slot<O>, { waitMs }: Exclude<Verdict, 'done'>): void {
    const { clock, backoff } = this.#options;
    slot.failures++;
    slot.state = 'waiting';
    slot.cancelWait = clock.after(Math.max(waitMs, backoff.delay(slot.failures)), () => {
      slot.state = 'queued';
      this.#ready.add(key);
      this.#pump();
    });
  }

  #hold(waitMs: number): void {
    const { clock, backoff } = this.#options;
    if (this.#isHeld) return;
    this.#commonFailures++;
    this.#isHeld = true;
    this.#cancelHold = clock.after(Math.max(waitMs, backoff.delay(this.#commonFailures)), () => {
      this.#isHeld = false;
      this.#pump();
    });
  }
}
