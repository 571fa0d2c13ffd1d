/** What tables in memory were asked to do, batch by batch: in which order, and what went together. */
import { STAGES, type TableName } from '../../daemon/reconcile/tables.ts';
import type { FakeTable, FakeTables } from './tables.ts';

export interface RecordedApply {
  readonly table: TableName;
  /** Each as `create KEY`, in the order they were handed over. */
  readonly changes: readonly string[];
}

/** A list that grows with each batch from now on. */
export function recordApplies(tables: FakeTables): RecordedApply[] {
  const applies: RecordedApply[] = [];
  for (const name of STAGES) {
    // Each table takes changes of its own entries; a loop over all of them cannot say so.
    record(tables[name] as FakeTable<unknown>, changes => applies.push({ table: name, changes }));
  }
  return applies;
}

function record<T>(table: FakeTable<T>, note: (changes: readonly string[]) => void): void {
  const apply = table.apply.bind(table);
  table.apply = (changes, signal) => {
    note(changes.map(({ op, key }) => `${op} ${key}`));
    return apply(changes, signal);
  };
}

/** Takes what was recorded so far out of the list. */
export function takeApplies(applies: RecordedApply[]): readonly RecordedApply[] {
  return applies.splice(0);
}
