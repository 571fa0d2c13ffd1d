/** Which modules do not work as they should, why, and since when. */
import type { FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { TableStatus } from '../reconcile/reconciler.ts';
import type { ModuleHealth } from './health.ts';

export interface Evidence {
  readonly modules: readonly string[];
  readonly hasConverged: boolean;
  /** What the first round waits for, where that is known. */
  readonly awaited?: string | undefined;
  readonly planErrors: ReadonlyMap<string, FairwayError>;
  readonly tables: readonly TableStatus[];
  /** Kinds of objects that are not followed now, with the reason. */
  readonly sources: ReadonlyMap<string, string>;
}

export class Degradations {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #since = new Map<string, number>();

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  judge(evidence: Evidence): ReadonlyMap<string, ModuleHealth> {
    return new Map(evidence.modules.map(name => [name, this.#judged(name, evidence)]));
  }

  #judged(name: string, evidence: Evidence): ModuleHealth {
    const { awaited } = evidence;
    if (!evidence.hasConverged) return { state: 'starting', ...(awaited === undefined ? {} : { reason: awaited }) };
    const reason = reasonFor(name, evidence);
    if (reason === undefined) {
      this.#since.delete(name);
      return { state: 'ok' };
    }
    const since = this.#since.get(name) ?? this.#clock.now();
    this.#since.set(name, since);
    return { state: 'degraded', reason, since };
  }
}

function reasonFor(name: string, { planErrors, tables, sources }: Evidence): string | undefined {
  const planError = planErrors.get(name);
  if (planError !== undefined) return planError.message;
  const failures = tables.flatMap(table => table.failures).filter(({ claim }) => claim === undefined || claim.module === name);
  const first = tables.find(table => table.unreadable !== undefined)?.unreadable ?? failures[0];
  if (first !== undefined) return `${first.table} ${first.key}: ${first.error.message} (${failures.length} entries failing)`;
  const [kind, reason] = [...sources][0] ?? [];
  return kind === undefined ? undefined : `${kind}: ${reason ?? ''}`;
}
