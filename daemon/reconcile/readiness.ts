/** Which changes of a table are made at one step of a round, and which of those have all they need. */
import type { Change } from './driver.ts';
import type { Requirement, TableDefinition, TableName } from './tables.ts';

/**
 * Which of the due changes one step of a round makes: `idle` those of entries that nothing uses now, so that nobody notices; `upserts` keep what
 * can only go late; `deletes` take that away as well; `everything` is upserts and deletes in one batch.
 */
export type Part = 'idle' | 'upserts' | 'deletes' | 'everything';

/** What other tables have to do with a change. */
export interface Surroundings {
  /** Whether an entry of another table is there. */
  readonly isThere: (requirement: Requirement) => boolean;
  /** Whether it is known at all what is there in another table. */
  readonly isKnown: (table: TableName) => boolean;
  /** Whether an entry that is there in another table cannot do without this key. */
  readonly isRequired: (key: string) => boolean;
  /** Whether such an entry is one that is to stay. */
  readonly isRequiredToStay: (key: string) => boolean;
}

/**
 * The changes that can be made now: with all that they need, there or among the changes themselves, or without what they can do without
 * ({@link TableDefinition.reduced}). The others wait.
 */
export function readyChanges<T>(
  changes: readonly Change<T>[],
  table: TableName,
  definition: TableDefinition<T>,
  { isThere, isKnown }: Pick<Surroundings, 'isThere' | 'isKnown'>,
): readonly Change<T>[] {
  for (let candidates = changes; ; ) {
    const batch = new Set(candidates.map(({ key }) => key));
    const isAvailable = (need: Requirement): boolean => isThere(need) || (need.table === table && batch.has(need.key));
    const ready = candidates.flatMap(change => withAvailable(change, definition, isAvailable, isKnown));
    // One that falls out may be what another needs.
    if (ready.length === candidates.length) return ready;
    const keys = new Set(ready.map(({ key }) => key));
    candidates = candidates.filter(({ key }) => keys.has(key));
  }
}

function withAvailable<T>(
  change: Change<T>,
  definition: TableDefinition<T>,
  isAvailable: Surroundings['isThere'],
  isKnown: Surroundings['isKnown'],
): readonly Change<T>[] {
  if (change.op === 'delete') return [change];
  const missing = definition.requires(change.to).filter(need => !isAvailable(need));
  if (missing.length === 0) return [change];
  // What cannot be seen may well be there: taking away what needs it would break what works.
  if (missing.some(({ table }) => !isKnown(table))) return [];
  const to = definition.reduced?.(change.to, isAvailable);
  if (to === undefined || (change.op === 'update' && definition.same(change.from, to))) return [];
  return [{ ...change, to }];
}
