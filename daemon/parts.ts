/** What the daemon is made of, and what it shows: the types at which it meets those who make it and who ask it. */
import type { ClusterSource } from './cluster/kinds.ts';
import type { Allocation, HostFacts, Snapshot } from './cluster/snapshot.ts';
import type { Clock } from './net/clock.ts';
import type { Log } from './observe/log.ts';
import type { Metrics } from './observe/metrics.ts';
import type { Backoff } from './reconcile/backoff.ts';
import type { Diagnostic } from './reconcile/fragment.ts';
import type { Module } from './reconcile/module.ts';
import type { Drivers } from './reconcile/reconciler.ts';
import type { TablesView } from './reconcile/view.ts';

export interface DaemonParts {
  readonly nodeName: string;
  readonly modules: readonly Module[];
  /** `--loadbalancer-pools`. */
  readonly poolsKey: string;
  readonly drivers: Drivers;
  readonly source: ClusterSource;
  /** Undefined where no module speaks BGP. */
  readonly bgp: BgpControl | undefined;
  /** Likewise, load-balancer addresses are handed out. */
  readonly allocation?: AllocationControl | undefined;
  /** The host as it is at the start; later pictures come through {@link Daemon.hostChanged}. */
  readonly host: HostFacts;
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly breathe: () => Promise<void>;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Milliseconds between two read-backs of one table. */
  readonly auditPeriodMs: number;
  /** `adaptive`: a table whose reading takes long is read less often than that. */
  readonly auditPace: 'fixed' | 'adaptive';
  /** Milliseconds after which a first list that has not come is told. */
  readonly cacheSyncTimeoutMs: number;
  /** Whether what is known of Services, their endpoints and Nodes may be out of date. */
  readonly onSight?: (isBlind: boolean) => void;
  /** After every round. */
  readonly onSettled?: () => void;
}

/** The speaker as far as the daemon decides about it. */
export interface BgpControl {
  /** Somebody wants to speak BGP: called again and again, while that is so. */
  need(): void;
}

/** Who hands out load-balancer addresses, as far as the daemon has to do with it; what is new there comes through `Daemon.allocationChanged`. */
export interface AllocationControl {
  /** After the first round: who does not know the Services yet would be elected and hand out nothing. */
  start(): void;
  state(): Allocation;
  /** Before each plan, the Services as they are known: what they show is handed over no more. */
  seen(services: Snapshot['services']): void;
}

export interface DaemonView {
  readonly snapshot: Snapshot;
  readonly tables: TablesView;
  readonly diagnostics: readonly Diagnostic[];
  readonly moduleNames: readonly string[];
}
