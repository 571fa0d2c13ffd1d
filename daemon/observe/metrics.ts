/** Prometheus metrics, prefix `kube_router_` where kube-router has one of that meaning, else `fairway_`. All are explained in docs/metrics.md. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { ERROR_CODES } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Applied, Drift, Failure } from '../reconcile/outcome.ts';
import type { TableName } from '../reconcile/tables.ts';
import { ApiMetrics } from './api-metrics.ts';
import { SECONDS } from './buckets.ts';
import { KubeRouterMetrics } from './kube-router-metrics.ts';
import { ProgrammingLatency } from './latency.ts';
import { type MetricsStatus, registerState } from './state-metrics.ts';

export interface MetricsOptions {
  readonly version: string;
  readonly clock: Pick<Clock, 'now'>;
  /** Milliseconds since the epoch. */
  readonly wallNow: () => number;
  /** Asked once a scrape. */
  readonly status: () => MetricsStatus;
}

/** Text of metrics that are too many to be kept, made as it is written. */
export interface BulkMetrics {
  /** Whole lines. Never throws. */
  pieces(): AsyncIterable<string>;
}

export class Metrics {
  readonly registry = new Registry();
  readonly kubeRouter = new KubeRouterMetrics(this.registry);
  readonly api: ApiMetrics;
  readonly latency: ProgrammingLatency;
  readonly #bulk: BulkMetrics[] = [];
  readonly #errors: Counter<'code'>;
  readonly #changes: Counter<'table' | 'op'>;
  readonly #retries: Counter<'table'>;
  readonly #failures: Counter<'table'>;
  readonly #drift: Counter<'table' | 'found'>;
  readonly #roundSeconds: Histogram;
  readonly #planSeconds: Histogram<'module'>;
  readonly #applySeconds: Histogram<'table'>;
  readonly #readSeconds: Histogram<'table'>;
  readonly #spawns: Counter<'command'>;

  constructor({ version, clock, wallNow, status }: MetricsOptions) {
    const { registry } = this;
    const registers = [registry];
    const buckets = [...SECONDS];
    // Its loop monitor ticks at this many milliseconds: at the default of 10 it is nearly all that an idle daemon does.
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 500 });
    new Gauge({
      name: 'kube_router_build_info',
      help: 'Always 1, with the versions of fairway and Node.js',
      labelNames: ['goversion', 'version'],
      registers,
    }).set({ goversion: process.version, version }, 1);
    registerState(registry, oncePerTurn(status), wallNow);
    this.#errors = new Counter({
      name: 'fairway_errors_total',
      help: 'What went wrong, by error code (docs/errors.md)',
      labelNames: ['code'],
      registers,
    });
    // Of a series that begins with its first error, Prometheus sees no increase.
    for (const code of Object.keys(ERROR_CODES)) this.#errors.inc({ code }, 0);
    this.api = new ApiMetrics({ registry, clock, onError: code => this.#errors.inc({ code }) });
    this.#changes = new Counter({
      name: 'fairway_changes_total',
      help: 'Entries changed, by table and operation',
      labelNames: ['table', 'op'],
      registers,
    });
    this.#retries = new Counter({
      name: 'fairway_retries_total',
      help: 'Changes tried again after a failure, by table',
      labelNames: ['table'],
      registers,
    });
    this.#failures = new Counter({
      name: 'fairway_failures_total',
      help: 'Changes refused and read-backs that failed, by table',
      labelNames: ['table'],
      registers,
    });
    this.#drift = new Counter({
      name: 'fairway_drift_total',
      help: 'Entries that an audit found changed behind our back, by table and by what was found',
      labelNames: ['table', 'found'],
      registers,
    });
    this.#roundSeconds = new Histogram({
      name: 'fairway_round_seconds',
      help: 'One round: read back what is in doubt, plan, apply',
      buckets,
      registers,
    });
    this.#planSeconds = new Histogram({
      name: 'fairway_plan_seconds',
      help: 'One plan of one module',
      labelNames: ['module'],
      buckets,
      registers,
    });
    this.#applySeconds = new Histogram({
      name: 'fairway_apply_seconds',
      help: 'One batch of one table, tool included',
      labelNames: ['table'],
      buckets,
      registers,
    });
    this.#readSeconds = new Histogram({
      name: 'fairway_read_seconds',
      help: 'One read-back of one table, comparison included',
      labelNames: ['table'],
      buckets,
      registers,
    });
    const latency = new Histogram({
      name: 'fairway_programming_latency_seconds',
      help: 'From the first event of a round to all that it changed in force; what fails counts when it is in force',
      buckets,
      registers,
    });
    this.latency = new ProgrammingLatency({ clock, onInForce: milliseconds => latency.observe(milliseconds / 1000) });
    const lag = (): number => this.latency.lag() / 1000;
    new Gauge({
      name: 'fairway_programming_lag_seconds',
      help: 'Time since the oldest event came whose changes are not in force; 0 where all are',
      registers,
      collect() {
        this.set(lag());
      },
    });
    this.#spawns = new Counter({
      name: 'fairway_spawns_total',
      help: 'Tools run, by command',
      labelNames: ['command'],
      registers,
    });
  }

  /** Behind all others on the page. */
  add(bulk: BulkMetrics): void {
    this.#bulk.push(bulk);
  }

  /** The page, piece by piece. */
  async *pieces(): AsyncIterable<string> {
    yield await this.registry.metrics();
    for (const bulk of this.#bulk) yield* bulk.pieces();
  }

  planned(module: string, milliseconds: number, changed: readonly TableName[]): void {
    this.#planSeconds.observe({ module }, milliseconds / 1000);
    this.kubeRouter.planned(module, milliseconds, changed);
  }

  planFailed(code: string): void {
    this.#errors.inc({ code });
  }

  applied(applied: Applied): void {
    const { table, failures, retries } = applied;
    this.#changes.inc({ table, op: 'create' }, applied.creates);
    this.#changes.inc({ table, op: 'update' }, applied.updates);
    this.#changes.inc({ table, op: 'delete' }, applied.deletes);
    this.#retries.inc({ table }, retries);
    this.#failures.inc({ table }, failures.length);
    for (const { error } of failures) this.#errors.inc({ code: error.code });
    this.#applySeconds.observe({ table }, applied.milliseconds / 1000);
    this.kubeRouter.applied(applied);
  }

  readBack(table: TableName, milliseconds: number): void {
    this.#readSeconds.observe({ table }, milliseconds / 1000);
  }

  drifted(drift: readonly Drift[]): void {
    for (const { table, found } of drift) this.#drift.inc({ table, found });
  }

  unreadable({ table, error }: Failure): void {
    this.#failures.inc({ table });
    this.#errors.inc({ code: error.code });
  }

  roundEnded(milliseconds: number): void {
    this.#roundSeconds.observe(milliseconds / 1000);
    this.kubeRouter.roundEnded();
  }

  spawned(command: string): void {
    this.#spawns.inc({ command });
  }
}

/** One answer for all gauges of a scrape, which are collected in one turn. */
function oncePerTurn<T>(ask: () => T): () => T {
  let answer: { readonly value: T } | undefined;
  return () => {
    if (answer === undefined) {
      answer = { value: ask() };
      queueMicrotask(() => {
        answer = undefined;
      });
    }
    return answer.value;
  };
}
