/** A module: a pure function from a snapshot to fragments. */
import type { Kind } from '../cluster/kinds.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import type { AllocatorSummary } from './allocator-summary.ts';
import type { Fragment, OwnerKey } from './fragment.ts';
import type { TableName } from './tables.ts';

export interface Plan {
  readonly fragments: ReadonlyMap<OwnerKey, Fragment>;
  /** Tables of which it is not known in full yet what is wanted: until it is, nothing in them is deleted. None unless told. */
  readonly undecided?: readonly TableName[];
}

/**
 * Planning may remember earlier results to return the same fragment (`===`) for the same inputs, and nothing else: planning from
 * nothing gives an equal plan. No clock, no randomness, no input but the snapshot and what the constructor was given.
 */
export interface Module {
  readonly name: string;
  /** The kinds of objects it reads: only these are listed and watched. */
  readonly reads: readonly Kind[];
  /** The tables it may want entries of. What no enabled module writes to is somebody else's: it is neither read nor changed. */
  readonly writes: readonly TableName[];
  plan(snapshot: Snapshot): Plan;
  /** Of the allocator of load-balancer addresses: how far the pools are used up by the last plan; undefined while another node hands them out. */
  summary?(): AllocatorSummary | undefined;
}

/** The kinds of objects that at least one of the modules reads. */
export function kindsRead(modules: readonly Module[]): readonly Kind[] {
  return [...new Set(modules.flatMap(module => module.reads))];
}
