/** What the daemon says of itself when asked: one value, as JSON for programs and as text for people. Pure. */

import type { PoolUsage } from '../reconcile/allocator-summary.ts';
import type { Diagnostic } from '../reconcile/fragment.ts';
import type { Drift } from '../reconcile/outcome.ts';
import type { TableStatus } from '../reconcile/reconciler.ts';
import type { Health } from './health.ts';

/** Times are ISO 8601 in UTC. */
export interface StatusReport {
  readonly version: string;
  readonly node: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly at: string;
  /** Every enabled module has converged once. */
  readonly isReady: boolean;
  readonly isLive: boolean;
  readonly isNodeLeaving: boolean;
  readonly modules: readonly ModuleLine[];
  readonly cluster: readonly KindLine[];
  readonly rounds: { readonly count: number; readonly last: RoundLine | undefined };
  readonly tables: readonly TableLine[];
  readonly failures: readonly FailureLine[];
  /** What others changed behind our back, the latest first; the older ones are only counted. */
  readonly drift: { readonly count: number; readonly latest: readonly DriftLine[] };
  readonly diagnostics: readonly { readonly code: string; readonly object: string; readonly message: string }[];
  /** Undefined where no BGP is spoken. */
  readonly bgp: { readonly neighbors: readonly NeighborLine[]; readonly trouble: string | undefined } | undefined;
  /** Absent where no allocator of load-balancer addresses runs. */
  readonly loadBalancer?: LoadBalancerLines;
  /** What else an operator should know: traces of other software on this node. */
  readonly remarks: readonly string[];
}

export interface ModuleLine {
  readonly name: string;
  readonly state: 'starting' | 'ok' | 'degraded';
  readonly reason: string | undefined;
  readonly since: string | undefined;
}

export interface KindLine {
  readonly kind: string;
  readonly objects: number;
  /** Whether the first full list is in. */
  readonly isListed: boolean;
  /** Why it is not followed now, if so. */
  readonly trouble: string | undefined;
}

export interface RoundLine {
  readonly at: string;
  readonly milliseconds: number;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
}

export interface TableLine {
  readonly table: string;
  readonly entries: number;
  readonly wanted: number;
  readonly failing: number;
  /** When it was last read back. */
  readonly readAt: string | undefined;
  readonly readMilliseconds: number;
  /** Why it cannot be read, if so. */
  readonly unreadable: string | undefined;
}

export interface FailureLine {
  readonly table: string;
  readonly key: string;
  readonly object: string | undefined;
  readonly code: string;
  readonly message: string;
  /** In a row. */
  readonly tries: number;
  readonly retryAt: string;
}

export interface NeighborLine {
  readonly address: string;
  readonly asn: number;
  /** Of the session (RFC 4271, 8.2.2). */
  readonly state: string;
  /** Prefixes. */
  readonly received: number;
  readonly advertised: number;
}

export interface LoadBalancerLines {
  /** Whether addresses are handed out here, or why not. */
  readonly leadership: string;
  /** Who holds the Lease of the election, as the Lease names him; undefined where nobody does, or there is no election. */
  readonly holder: string | undefined;
  /** None where another allocator hands out addresses. */
  readonly pools: readonly PoolUsage[];
  /** Services that wait for an address; which and why is among the diagnostics. */
  readonly waiting: number;
}

export interface DriftLine extends Drift {
  readonly at: string;
}

export function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

export function moduleLines(health: Health): readonly ModuleLine[] {
  return [...health.modules].map(([name, module]) => ({
    name,
    state: module.state,
    reason: module.state === 'ok' ? undefined : module.reason,
    since: module.state === 'degraded' ? iso(module.since) : undefined,
  }));
}

export function tableLines(tables: readonly TableStatus[]): readonly TableLine[] {
  return tables.map(({ table, entries, wanted, failures, readAt, readMs, unreadable }) => ({
    table,
    entries,
    wanted,
    failing: failures.length,
    readAt: readAt === undefined ? undefined : iso(readAt),
    readMilliseconds: Math.round(readMs),
    unreadable: unreadable?.error.message,
  }));
}

/** Failures told one by one; of a flood these are enough to see what it is. */
const TOLD_FAILURES = 50;

export function failureLines(tables: readonly TableStatus[]): readonly FailureLine[] {
  return tables
    .flatMap(({ failures }) => failures)
    .slice(0, TOLD_FAILURES)
    .map(({ table, key, claim, error, count, retryAt }) => ({
      table,
      key,
      object: claim === undefined ? undefined : `${claim.owner.kind} ${claim.owner.key}`,
      code: error.code,
      message: error.message,
      tries: count,
      retryAt: iso(retryAt),
    }));
}

export function diagnosticLines(diagnostics: readonly Diagnostic[]): StatusReport['diagnostics'] {
  return diagnostics.map(({ code, object, message }) => ({ code, object: `${object.kind} ${object.key}`, message }));
}
