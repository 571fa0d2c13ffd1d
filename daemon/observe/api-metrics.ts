/** Metrics of the watches on the API server. */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Kind } from '../cluster/kinds.ts';
import type { FirstListWay, ReflectorObserver, RelistReason } from '../cluster/reflector.ts';
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';

export interface ApiMetricsOptions {
  readonly registry: Registry;
  readonly clock: Pick<Clock, 'now'>;
  /** A list or watch failed, with this code. */
  readonly onError: (code: string) => void;
}

export class ApiMetrics implements ReflectorObserver {
  readonly #options: ApiMetricsOptions;
  readonly #lists: Counter<'kind' | 'way'>;
  readonly #watches: Counter<'kind'>;
  readonly #events: Counter<'kind'>;
  readonly #relists: Counter<'kind' | 'reason'>;
  readonly #failures: Counter<'kind' | 'code'>;
  readonly #heardAt = new Map<Kind, Instant>();

  constructor(options: ApiMetricsOptions) {
    this.#options = options;
    const registers = [options.registry];
    this.#lists = new Counter({
      name: 'fairway_api_lists_total',
      help: 'Full lists taken in, by kind and by how they came',
      labelNames: ['kind', 'way'],
      registers,
    });
    this.#watches = new Counter({
      name: 'fairway_api_watches_total',
      help: 'Watches begun, by kind',
      labelNames: ['kind'],
      registers,
    });
    this.#events = new Counter({
      name: 'fairway_api_events_total',
      help: 'Watch events, by kind',
      labelNames: ['kind'],
      registers,
    });
    this.#relists = new Counter({
      name: 'fairway_api_relists_total',
      help: 'Lists taken again, by kind and reason',
      labelNames: ['kind', 'reason'],
      registers,
    });
    this.#failures = new Counter({
      name: 'fairway_api_failures_total',
      help: 'Lists and watches that failed, by kind and error code',
      labelNames: ['kind', 'code'],
      registers,
    });
    // Not a timestamp: the wall clock of a node may jump, and this must not.
    const silence = (): readonly (readonly [Kind, number])[] => this.#silence();
    new Gauge({
      name: 'fairway_api_silence_seconds',
      help: 'Time since the API server last told something of a kind: an object, a list, or (once a minute) that nothing changed',
      labelNames: ['kind'],
      registers,
      collect() {
        for (const [kind, seconds] of silence()) this.set({ kind }, seconds);
      },
    });
  }

  listed(kind: Kind, way: FirstListWay): void {
    this.#heard(kind);
    this.#lists.inc({ kind, way });
  }

  watching(kind: Kind): void {
    this.#watches.inc({ kind });
  }

  event(kind: Kind): void {
    this.#heard(kind);
    this.#events.inc({ kind });
  }

  bookmark(kind: Kind): void {
    this.#heard(kind);
  }

  relist(kind: Kind, reason: RelistReason): void {
    this.#relists.inc({ kind, reason });
  }

  failed(kind: Kind, code: string): void {
    this.#failures.inc({ kind, code });
    this.#options.onError(code);
    // A kind that never answered is silent since it was first asked.
    if (!this.#heardAt.has(kind)) this.#heard(kind);
  }

  #heard(kind: Kind): void {
    this.#heardAt.set(kind, this.#options.clock.now());
  }

  #silence(): readonly (readonly [Kind, number])[] {
    const now = this.#options.clock.now();
    return [...this.#heardAt].map(([kind, at]) => [kind, (now - at) / 1000]);
  }
}
