/** Where the load-balancer status of Services is written to: the API server, or the daemon's own state where there is none. */
import type { ObjectKey } from '../cluster/kinds.ts';
import type { FairwayError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';

/** What the status of one Service is to say of our addresses. */
export interface StatusOrder {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  /** Another Service of the same name is not the one that is meant. */
  readonly uid: string;
  /** Ours, in their order; empty takes back what there is. */
  readonly addresses: readonly IpAddress[];
  /** Those that are ours to take away where they are not among `addresses`; all others were written by somebody else and stay. */
  readonly found: readonly IpAddress[];
}

/**
 * - `written`: the Service has it since this write.
 * - `unchanged`: it had it already. `version` of both is the `resourceVersion` of the Service with it.
 * - `gone`: there is no such Service, or its uid is another one.
 * - `withheld`: `mayWrite` said no; nothing was written.
 * - `refused`: nothing was written; `error` says why and what helps, `retryAfterMs` is 0 where nobody named a time.
 * - `unknown`: it may have been written, or be written later; later only while the Service is of the `version` that it was sent for.
 */
export type StatusOutcome =
  | { readonly kind: 'written' | 'unchanged'; readonly version: string }
  | { readonly kind: 'gone' | 'withheld' }
  | { readonly kind: 'refused'; readonly error: FairwayError; readonly retryAfterMs: number }
  | { readonly kind: 'unknown'; readonly error: FairwayError; readonly version: string };

export interface StatusPort {
  /**
   * Writes the status of one Service; one call at a time for each Service. `mayWrite` is asked right before each writing. Rejects only with the
   * signal's reason, and then nobody knows what was written.
   */
  write(order: StatusOrder, mayWrite: () => boolean, signal: AbortSignal): Promise<StatusOutcome>;
}
