/** One part of taking a predecessor's traces away: what it needs, and what it gives. */
import type { CommandRunner } from '../kernel/command.ts';
import type { IpPrefix } from '../net/prefix.ts';

/** Tools, and what the configuration says of things that look like a predecessor's. */
export interface Ground {
  readonly runner: CommandRunner;
  /** Virtual services on addresses in here belong to others (`--excluded-cidrs`). */
  readonly excludedCidrs: readonly IpPrefix[];
  readonly overlayEncapPort: number;
}

export class Swept {
  readonly #removed = new Map<string, number>();
  readonly #left: string[] = [];

  /** So many of a kind, in the plural. */
  removed(kind: string, count: number): void {
    if (count > 0) this.#removed.set(kind, (this.#removed.get(kind) ?? 0) + count);
  }

  /** Something of theirs is still there: which, and why. */
  remains(what: string): void {
    this.#left.push(what);
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#removed;
  }

  get left(): readonly string[] {
    return this.#left;
  }
}
