/** How a table is read and written: one thin driver per tool. No retry, no logging, no memory of what is there. */
import type { FairwayError } from '../errors.ts';

export type Change<T> =
  | { readonly op: 'create'; readonly key: string; readonly to: T }
  | { readonly op: 'update'; readonly key: string; readonly from: T; readonly to: T }
  | { readonly op: 'delete'; readonly key: string; readonly from: T };

/** What became of the changes: every key not named in `failed` is as it was asked to be. */
export interface ApplyResult {
  readonly failed: ReadonlyMap<string, FairwayError>;
}

export interface TableDriver<T> {
  /**
   * What is there and ours, keyed as in `TABLES`. Where it equals the entry of `expected`, that very object may be returned (it costs
   * no memory and compares by identity). Foreign entries never appear. Throws a FairwayError where the tool cannot be asked.
   */
  read(expected: ReadonlyMap<string, T>, signal: AbortSignal): Promise<ReadonlyMap<string, T>>;
  /**
   * Applies the changes in one batch, in any order that is safe within the table. One refused entry never stops another. Never
   * throws for what the tool says; does for an aborted signal. No tool's exit status is trusted more than its state.
   */
  apply(changes: readonly Change<T>[], signal: AbortSignal): Promise<ApplyResult>;
  /** Pure: the script that {@link apply} hands to the tool; goldens, dry run and log show the same text. */
  render(changes: readonly Change<T>[]): string;
}
