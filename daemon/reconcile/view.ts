/** What the reconciler knows of each table, for whoever only looks: what is believed to be there, what is wanted there, by whom, and what did not take. */
import type { ErrorCode } from '../errors.ts';
import type { Change } from './driver.ts';
import type { ObjectRef } from './fragment.ts';
import type { Failure } from './outcome.ts';
import type { TableDefinition, TableName, TableTypes } from './tables.ts';

/** What a look at one table found to be done. */
export interface Examined<T> {
  readonly changes: readonly Change<T>[];
  /** What the tool would be given; '' where nothing is to be done. */
  readonly script: string;
}

/** What is to be done in one table, and whose wish that is. */
export interface TableChanges {
  readonly table: TableName;
  readonly changes: readonly OwnedChange[];
  readonly script: string;
  /** Why the table could not be read; then there are no changes, or all that is wanted where nothing can be there yet. */
  readonly unreadable: { readonly code: ErrorCode; readonly message: string } | undefined;
}

export interface OwnedChange {
  readonly op: Change<unknown>['op'];
  readonly key: string;
  /** As lines of the tools; none where it is not there, or is not to be. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Who wants it; none where it is to go. */
  readonly owners: readonly ObjectRef[];
}

/** One key of a table. At least one of `actual` and `wanted` is given. */
export interface ViewedEntry<T> {
  readonly key: string;
  /** As last read or written; undefined where it is not there. */
  readonly actual: T | undefined;
  /** Undefined where nobody wants it: it is about to go. */
  readonly wanted: T | undefined;
  /** The objects that want it, the one it is made for first. */
  readonly owners: readonly ObjectRef[];
  /** Why it is not as wanted, where a try failed. */
  readonly failure: Failure | undefined;
}

export interface TablesView {
  /** The tables that are looked after, in the order of their stages. Others are somebody else's: nothing is known of them. */
  readonly tables: readonly TableName[];
  entries<K extends TableName>(table: K): Iterable<ViewedEntry<TableTypes[K]>>;
  entry<K extends TableName>(table: K, key: string): ViewedEntry<TableTypes[K]> | undefined;
}

/** What makes `actual` as wanted, deletes last; what `mayStay` names is not deleted. */
export function changesBetween<T>(
  actual: ReadonlyMap<string, T>,
  keys: Iterable<string>,
  wanted: (key: string) => T | undefined,
  { same }: Pick<TableDefinition<T>, 'same'>,
  mayStay: (key: string) => boolean,
): readonly Change<T>[] {
  const changes: Change<T>[] = [];
  for (const key of keys) {
    const to = wanted(key);
    if (to === undefined) continue;
    const from = actual.get(key);
    if (from === undefined) changes.push({ op: 'create', key, to });
    else if (!same(from, to)) changes.push({ op: 'update', key, from, to });
  }
  for (const [key, from] of actual) if (wanted(key) === undefined && !mayStay(key)) changes.push({ op: 'delete', key, from });
  return changes;
}
