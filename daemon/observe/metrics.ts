/** Prometheus metrics, prefix `kube_router_` where kube-router has one of that meaning, else `fairway_`. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Kind } from '../cluster/kinds.ts';
import type { FirstListWay, ReflectorObserver, RelistReason } from '../cluster/reflector.ts';
import type { Applied, Drift, Failure } from '../reconcile/outcome.ts';

export interface MetricsOptions {
  readonly version: string;
  /** Asked at each scrape. */
  readonly status: () => MetricsStatus;
}

export interface MetricsStatus {
  readonly tables: readonly { readonly table: string; readonly entries: number; readonly failures: number }[];
  readonly diagnostics: ReadonlyMap<string, number>;
}

/** Seconds: kube-router's end at 10, too coarse for a busy node and too short for a large one. */
const SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

export class Metrics implements ReflectorObserver {
  readonly registry = new Registry();
  readonly #changes: Counter<'table' | 'op'>;
  readonly #failures: Counter<'table'>;
  readonly #drift: Counter<'table' | 'found'>;
  readonly #applySeconds: Histogram<'table'>;
  readonly #planSeconds: Histogram<'module'>;
  readonly #latency: Histogram;
  readonly #spawns: Counter<'command'>;
  readonly #lists: Counter<'kind' | 'way'>;
  readonly #watches: Counter<'kind'>;
  readonly #events: Counter<'kind'>;
  readonly #relists: Counter<'kind' | 'reason'>;
  readonly #apiFailures: Counter<'kind' | 'code'>;

  constructor(options: MetricsOptions) {
    const registers = [this.registry];
    // Its loop monitor ticks at this many milliseconds: at the default of 10 it is nearly all that an idle daemon does.
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 500 });
    new Gauge({ name: 'kube_router_build_info', help: 'Always 1', labelNames: ['goversion', 'version'], registers }).set(
      { goversion: process.version, version: options.version },
      1,
    );
    const { status } = options;
    new Gauge({
      name: 'kube_router_controller_ipvs_services',
      help: 'IPVS services of this daemon',
      registers,
      collect() {
        this.set(status().tables.find(({ table }) => table === 'virtualServer')?.entries ?? 0);
      },
    });
    new Gauge({
      name: 'fairway_table_entries',
      help: 'Entries believed to be there, by table',
      labelNames: ['table'],
      registers,
      collect() {
        for (const { table, entries } of status().tables) this.set({ table }, entries);
      },
    });
    new Gauge({
      name: 'fairway_table_failing_entries',
      help: 'Entries that could not be brought in and are tried again, by table',
      labelNames: ['table'],
      registers,
      collect() {
        for (const { table, failures } of status().tables) this.set({ table }, failures);
      },
    });
    new Gauge({
      name: 'fairway_diagnostics',
      help: 'Diagnostics about objects, by code',
      labelNames: ['code'],
      registers,
      collect() {
        this.reset();
        for (const [code, count] of status().diagnostics) this.set({ code }, count);
      },
    });
    this.#changes = new Counter({
      name: 'fairway_changes_total',
      help: 'Entries changed',
      labelNames: ['table', 'op'],
      registers,
    });
    this.#failures = new Counter({ name: 'fairway_failures_total', help: 'Changes refused', labelNames: ['table'], registers });
    this.#drift = new Counter({
      name: 'fairway_drift_total',
      help: 'Entries an audit found changed behind our back',
      labelNames: ['table', 'found'],
      registers,
    });
    this.#applySeconds = new Histogram({
      name: 'fairway_apply_seconds',
      help: 'One batch of one table, tool included',
      labelNames: ['table'],
      buckets: SECONDS,
      registers,
    });
    this.#planSeconds = new Histogram({
      name: 'fairway_plan_seconds',
      help: 'One plan of one module',
      labelNames: ['module'],
      buckets: SECONDS,
      registers,
    });
    this.#latency = new Histogram({
      name: 'fairway_programming_latency_seconds',
      help: 'From the first event of a round to everything applied',
      buckets: SECONDS,
      registers,
    });
    this.#spawns = new Counter({ name: 'fairway_spawns_total', help: 'Tools run', labelNames: ['command'], registers });
    this.#lists = new Counter({
      name: 'fairway_api_lists_total',
      help: 'Full lists taken in',
      labelNames: ['kind', 'way'],
      registers,
    });
    this.#watches = new Counter({ name: 'fairway_api_watches_total', help: 'Watches begun', labelNames: ['kind'], registers });
    this.#events = new Counter({ name: 'fairway_api_events_total', help: 'Watch events', labelNames: ['kind'], registers });
    this.#relists = new Counter({
      name: 'fairway_api_relists_total',
      help: 'Lists taken again',
      labelNames: ['kind', 'reason'],
      registers,
    });
    this.#apiFailures = new Counter({
      name: 'fairway_api_failures_total',
      help: 'Lists and watches that failed',
      labelNames: ['kind', 'code'],
      registers,
    });
  }

  listed(kind: Kind, way: FirstListWay): void {
    this.#lists.inc({ kind, way });
  }

  watching(kind: Kind): void {
    this.#watches.inc({ kind });
  }

  event(kind: Kind): void {
    this.#events.inc({ kind });
  }

  bookmark(): void {
    // A bookmark is no event: it says that there was none.
  }

  relist(kind: Kind, reason: RelistReason): void {
    this.#relists.inc({ kind, reason });
  }

  failed(kind: Kind, code: string): void {
    this.#apiFailures.inc({ kind, code });
  }

  planned(module: string, milliseconds: number): void {
    this.#planSeconds.observe({ module }, milliseconds / 1000);
  }

  applied(applied: Applied): void {
    const { table } = applied;
    this.#changes.inc({ table, op: 'create' }, applied.creates);
    this.#changes.inc({ table, op: 'update' }, applied.updates);
    this.#changes.inc({ table, op: 'delete' }, applied.deletes);
    this.#failures.inc({ table }, applied.failures.length);
    this.#applySeconds.observe({ table }, applied.milliseconds / 1000);
  }

  drifted(drift: readonly Drift[]): void {
    for (const { table, found } of drift) this.#drift.inc({ table, found });
  }

  unreadable(failure: Failure): void {
    this.#failures.inc({ table: failure.table });
  }

  programmed(milliseconds: number): void {
    this.#latency.observe(milliseconds / 1000);
  }

  spawned(command: string): void {
    this.#spawns.inc({ command });
  }
}
