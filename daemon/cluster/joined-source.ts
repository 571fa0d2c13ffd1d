/** Several sources as one: each tells of kinds of its own. */
import type { ClusterSource, Kind, SourceEvents } from './kinds.ts';

export class JoinedSource implements ClusterSource {
  readonly #sources: readonly ClusterSource[];

  constructor(sources: readonly ClusterSource[]) {
    this.#sources = sources;
  }

  start(events: SourceEvents): void {
    for (const source of this.#sources) source.start(events);
  }

  async relist(kind: Kind): Promise<void> {
    await Promise.all(this.#sources.map(async source => source.relist?.(kind)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#sources.map(source => source.stop()));
  }
}
