/** What the reconciler knows of each table, for whoever only looks: what is believed to be there, what is wanted there, by whom, and what did not take. */
import type { ObjectRef } from './fragment.ts';
import type { Failure } from './outcome.ts';
import type { TableName, TableTypes } from './tables.ts';

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
