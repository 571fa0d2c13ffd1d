/** Which changes of a table have all they need. */
import type { Change } from './driver.ts';
import type { Requirement, TableDefinition, TableName } from './tables.ts';

/**
 * The changes that can be made now: with all that they need, there or among the changes themselves, or without what they can do without
 * ({@link TableDefinition.reduced}). The others wait.
 */
export function readyChanges<T>(
  changes: readonly Change<T>[],
  table: TableName,
  definition: TableDefinition<T>,
  isThere: (need: Requirement) => boolean,
): readonly Change<T>[] {
  for (let candidates = changes; ; ) {
    const batch = new Set(candidates.map(({ key }) => key));
    const isAvailable = (need: Requirement): boolean => isThere(need) || (need.table === table && batch.has(need.key));
    const ready = candidates.flatMap(change => withAvailable(change, definition, isAvailable));
    // One that falls out may be what another needs.
    if (ready.length === candidates.length) return ready;
    const keys = new Set(ready.map(({ key }) => key));
    candidates = candidates.filter(({ key }) => keys.has(key));
  }
}

function withAvailable<T>(
  change: Change<T>,
  definition: TableDefinition<T>,
  isAvailable: (need: Requirement) => boolean,
): readonly Change<T>[] {
  if (change.op === 'delete' || definition.requires(change.to).every(isAvailable)) return [change];
  const to = definition.reduced?.(change.to, isAvailable);
  if (to === undefined || (change.op === 'update' && definition.same(change.from, to))) return [];
  return [{ ...change, to }];
}
