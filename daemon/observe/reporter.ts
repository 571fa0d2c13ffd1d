/** Tells the log and the metrics what the reconcile loop did: once per change of state, never once per retry. */
import type { FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Diagnostic } from '../reconcile/fragment.ts';
import type { Applied, Drift, Failure } from '../reconcile/outcome.ts';
import type { ReconcileObserver } from '../reconcile/reconciler.ts';
import type { TableName } from '../reconcile/tables.ts';
import { History } from './history.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** Keys named in one line of the log; a flushed table of thousands is told by its number. */
const NAMED = 5;

/** What is handed over here is told of each when it is done, and where somebody else leads by then it never is. */
const TOLD_ONE_BY_ONE: ReadonlySet<TableName> = new Set<TableName>(['serviceStatus']);

export class Reporter implements ReconcileObserver {
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #clock: Pick<Clock, 'now'>;
  /** For whoever asks. */
  readonly history = new History();
  /** What is wrong now, by where: message as last logged. */
  readonly #standing = new Map<string, string>();
  #diagnostics: ReadonlySet<string> = new Set();

  constructor(log: Log, metrics: Metrics, clock: Pick<Clock, 'now'>) {
    this.#log = log;
    this.#metrics = metrics;
    this.#clock = clock;
  }

  planned(module: string, milliseconds: number, changed: readonly TableName[]): void {
    this.#metrics.planned(module, milliseconds, changed);
    this.#resolved(`plan ${module}`);
  }

  planFailed(module: string, error: FairwayError): void {
    this.#metrics.planFailed(error.code);
    this.#stands(`plan ${module}`, error.message, error.code);
  }

  applied(applied: Applied): void {
    this.#metrics.applied(applied);
    this.history.applied(applied);
    const { table, creates, updates, deletes, failures } = applied;
    if (creates + updates + deletes > 0 && !TOLD_ONE_BY_ONE.has(table)) {
      this.#log.info(`${table} changed`, {
        created: creates,
        updated: updates,
        deleted: deletes,
        ms: Math.round(applied.milliseconds),
      });
    }
    for (const failure of failures.filter(isOfItsTable))
      this.#stands(`${table} ${failure.key}`, describeFailure(failure), failure.error.code);
  }

  readBack(table: TableName, milliseconds: number): void {
    this.#metrics.readBack(table, milliseconds);
  }

  drifted(drift: readonly Drift[]): void {
    this.#metrics.drifted(drift);
    this.history.drifted(drift, this.#clock.now());
    const named = drift.slice(0, NAMED).map(({ key, found }) => `${key} (${found})`);
    const more = drift.length > NAMED ? ` and ${drift.length - NAMED} more` : '';
    this.#log.warn(`${drift[0]?.table ?? ''} was changed behind our back and is repaired: ${named.join(', ')}${more}`);
  }

  unreadable(failure: Failure): void {
    this.#metrics.unreadable(failure);
    if (!isOfItsTable(failure)) return;
    this.#stands(`read ${failure.table}`, `${failure.table} cannot be read: ${failure.error.message}`, failure.error.code);
  }

  /** Compares with what stood wrong before: what no longer does is told, once. */
  settled(failures: readonly Failure[], unreadable: readonly Failure[], diagnostics: readonly Diagnostic[]): void {
    const present = new Set([
      ...failures.map(({ table, key }) => `${table} ${key}`),
      ...unreadable.map(({ table }) => `read ${table}`),
    ]);
    for (const where of this.#standing.keys()) {
      if (!where.startsWith('plan ') && !where.startsWith('source ') && !present.has(where)) this.#resolved(where);
    }
    this.#tellDiagnostics(diagnostics);
  }

  /** A source of the cluster's objects is not up to date, or is again. */
  source(name: string, trouble: FairwayError | undefined): void {
    if (trouble === undefined) this.#resolved(`source ${name}`);
    else this.#stands(`source ${name}`, trouble.message, trouble.code);
  }

  #tellDiagnostics(diagnostics: readonly Diagnostic[]): void {
    const now = new Map(diagnostics.map(diagnostic => [`${diagnostic.code} ${diagnostic.message}`, diagnostic]));
    for (const [text, diagnostic] of now) {
      if (!this.#diagnostics.has(text)) this.#log.warn(diagnostic.message, { code: diagnostic.code });
    }
    for (const text of this.#diagnostics) if (!now.has(text)) this.#log.info(`no longer: ${text}`);
    this.#diagnostics = new Set(now.keys());
  }

  #stands(where: string, message: string, code: string): void {
    if (this.#standing.get(where) === message) return;
    this.#standing.set(where, message);
    this.#log.error(message, { code });
  }

  #resolved(where: string): void {
    if (this.#standing.delete(where)) this.#log.info(`well again: ${where}`);
  }
}

/** A speaker that is lost fails four tables at once; who looks after it tells of it, once. */
function isOfItsTable({ error }: Failure): boolean {
  return error.code !== 'FW_BGP_UNREACHABLE';
}

function describeFailure(failure: Failure): string {
  const owner = failure.claim?.owner;
  const whose = owner === undefined ? '' : ` of ${owner.kind} ${owner.key}`;
  return `${failure.table} ${failure.key}${whose}: ${failure.error.message}`;
}
