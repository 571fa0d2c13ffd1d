/** A source of cluster objects that a test drives by hand. */

import type { ClusterKinds, ClusterObject, ClusterSource, Kind, SourceEvents } from '../../daemon/cluster/kinds.ts';
import { FairwayError } from '../../daemon/errors.ts';

export class FakeSource implements ClusterSource {
  #events: SourceEvents | undefined;

  start(events: SourceEvents): void {
    this.#events = events;
  }

  stop(): Promise<void> {
    this.#events = undefined;
    return Promise.resolve();
  }

  /** The first or a later full list of a kind. */
  list<K extends Kind>(kind: K, objects: readonly ClusterKinds[K][]): void {
    this.#running().replace(
      kind,
      objects.map(object => ({ object, complaints: [] })),
    );
  }

  put(...objects: readonly ClusterObject[]): void {
    for (const object of objects) this.#running().upsert(object, []);
  }

  remove(kind: Kind, key: string): void {
    this.#running().remove(kind, key);
  }

  fails(kind: Kind, reason: string | undefined): void {
    this.#running().degraded(kind, reason === undefined ? undefined : new FairwayError('FW_API_UNREACHABLE', reason));
  }

  #running(): SourceEvents {
    if (this.#events === undefined) throw new Error('the source is not started');
    return this.#events;
  }
}
