/** The API server as a source: one reflector per kind that is read, all over one transport. */
import type { Clock } from '../net/clock.ts';
import type { ClusterSource, Kind, SourceEvents } from './kinds.ts';
import { Projector } from './project.ts';
import { REFLECTOR_TIMINGS, Reflector, type ReflectorObserver, type ReflectorTimings } from './reflector.ts';
import { type ObjectPlace, resourceOf } from './resources.ts';
import type { ApiTransport } from './transport.ts';

export interface ApiSourceOptions {
  /** The kinds that enabled modules read; nothing else is listed or watched. */
  readonly kinds: readonly Kind[];
  /** The one ConfigMap that is read, where that kind is. */
  readonly configMap?: ObjectPlace | undefined;
  /** Closed by `stop`. */
  readonly transport: ApiTransport;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly observer: ReflectorObserver;
  readonly timings?: Partial<ReflectorTimings>;
}

export class ApiSource implements ClusterSource {
  readonly #options: ApiSourceOptions;
  readonly #stopped = new AbortController();
  readonly #reflectors = new Map<Kind, Reflector>();
  #running: readonly Promise<void>[] = [];

  constructor(options: ApiSourceOptions) {
    this.#options = options;
  }

  start(events: SourceEvents): void {
    const { kinds, configMap, transport, clock, random, observer } = this.#options;
    const projector = new Projector();
    const timings = { ...REFLECTOR_TIMINGS, ...this.#options.timings };
    this.#running = kinds.map(kind => {
      const resource = resourceOf(kind, configMap);
      const reflector = new Reflector({ kind, resource, transport, projector, events, clock, random, observer, timings });
      this.#reflectors.set(kind, reflector);
      return reflector.run(this.#stopped.signal);
    });
  }

  relist(kind: Kind): Promise<void> {
    const reflector = this.#reflectors.get(kind);
    return reflector?.relist() ?? Promise.reject(new Error(`${kind} is not read`));
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('stopped'));
    await Promise.all(this.#running);
    this.#options.transport.close();
  }
}
