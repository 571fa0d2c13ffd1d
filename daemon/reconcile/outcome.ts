/** What a round told of one table: what was written, what did not take, what others had changed. */
import type { FairwayError } from '../errors.ts';
import type { Instant } from '../net/instant.ts';
import type { Claim } from './claims.ts';
import type { TableName } from './tables.ts';

/** A change that did not take, and when it is tried again. */
export interface Failure {
  readonly table: TableName;
  readonly key: string;
  /** Whose wish failed; undefined for a delete. */
  readonly claim: Claim | undefined;
  readonly error: FairwayError;
  /** Failures in a row. */
  readonly count: number;
  readonly retryAt: Instant;
}

/** A difference between what we believed and what an audit found, and that no pending change explains. */
export interface Drift {
  readonly table: TableName;
  readonly key: string;
  readonly found: 'missing' | 'changed' | 'unexpected';
}

export interface Applied {
  readonly table: TableName;
  readonly creates: number;
  readonly updates: number;
  readonly deletes: number;
  /** How many of the changes, applied or not, had failed before. */
  readonly retries: number;
  readonly failures: readonly Failure[];
  readonly milliseconds: number;
}
