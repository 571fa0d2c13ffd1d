/** Writings of which nobody knows what became: as long as there is one, it may still land. */
import type { ObjectKey } from '../cluster/kinds.ts';
import type { StatusOutcome } from './status-port.ts';

export class LostWritings {
  /** By Service, the version that it can land on. */
  readonly #versions = new Map<ObjectKey, string>();
  #hasAborted = false;

  get mayLand(): boolean {
    return this.#hasAborted || this.#versions.size > 0;
  }

  /** What became of a writing, in the order in which they end: a later one of the same Service may tell what became of the former. */
  note(key: ObjectKey, outcome: StatusOutcome | 'aborted'): void {
    if (outcome === 'aborted') {
      this.#hasAborted = true;
      return;
    }
    switch (outcome.kind) {
      case 'unknown':
        this.#versions.set(key, outcome.version);
        return;
      case 'written':
      case 'gone':
        this.#versions.delete(key);
        return;
      case 'unchanged':
        // Of another version: it landed, or somebody else was faster.
        if (outcome.version !== this.#versions.get(key)) this.#versions.delete(key);
        return;
      case 'withheld':
      case 'refused':
        return;
    }
  }

  clear(): void {
    this.#versions.clear();
    this.#hasAborted = false;
  }
}
