/** What lately happened, for whoever asks: the last round, and what others changed behind our back. */
import type { Instant } from '../net/instant.ts';
import type { Applied, Drift } from '../reconcile/outcome.ts';
import { type DriftLine, iso, type RoundLine } from './status.ts';

/** Drifts that are remembered one by one. */
const REMEMBERED = 20;

export class History {
  #rounds = 0;
  #last: RoundLine | undefined;
  #drifts = 0;
  #latest: readonly DriftLine[] = [];
  #changes = { created: 0, updated: 0, deleted: 0 };

  get rounds(): { readonly count: number; readonly last: RoundLine | undefined } {
    return { count: this.#rounds, last: this.#last };
  }

  /** The latest first. */
  get drift(): { readonly count: number; readonly latest: readonly DriftLine[] } {
    return { count: this.#drifts, latest: this.#latest };
  }

  applied({ creates, updates, deletes }: Applied): void {
    const { created, updated, deleted } = this.#changes;
    this.#changes = { created: created + creates, updated: updated + updates, deleted: deleted + deletes };
  }

  drifted(drift: readonly Drift[], now: Instant): void {
    this.#drifts += drift.length;
    const added = drift.slice(0, REMEMBERED).map(one => ({ ...one, at: iso(now) }));
    this.#latest = [...added, ...this.#latest].slice(0, REMEMBERED);
  }

  /** A round is over. */
  round(begun: Instant, ended: Instant): void {
    this.#rounds += 1;
    this.#last = { at: iso(ended), milliseconds: Math.round(ended - begun), ...this.#changes };
    this.#changes = { created: 0, updated: 0, deleted: 0 };
  }
}
