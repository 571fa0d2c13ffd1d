/** A full list while it is being collected: nothing of it is seen before all of it is there. */
import type { ClusterObject, Complaint, Kind, ObjectKey, SourceEvents } from './kinds.ts';
import { ListSplitter } from './list-splitter.ts';
import type { Projection, Projector } from './project.ts';
import { isRawObject } from './raw-object.ts';
import type { Resource } from './resources.ts';
import { protocolTrouble, Trouble } from './trouble.ts';
import { versionOf } from './watch-event.ts';

export class FirstList {
  readonly #kind: Kind;
  readonly #projector: Projector;
  #projections = new Map<ObjectKey, Projection>();

  constructor(options: { readonly kind: Kind; readonly projector: Projector }) {
    this.#kind = options.kind;
    this.#projector = options.projector;
  }

  get size(): number {
    return this.#projections.size;
  }

  add(raw: unknown): void {
    const projection = this.#projector.project(this.#kind, raw);
    this.#projections.set(projection.key, projection);
  }

  delete(raw: unknown): void {
    this.#projections.delete(this.#projector.keyOfRaw(this.#kind, raw));
  }

  clear(): void {
    this.#projections.clear();
  }

  /** Replaces what was known of the kind, in one call; then names the objects that cannot be used. */
  publish(events: SourceEvents): void {
    const usable: { object: ClusterObject; complaints: readonly Complaint[] }[] = [];
    const unusable: Projection[] = [];
    for (const projection of this.#projections.values()) {
      if (projection.object === undefined) unusable.push(projection);
      else usable.push({ object: projection.object, complaints: projection.complaints });
    }
    events.replace(this.#kind, usable);
    for (const { key, complaints } of unusable) events.reject(this.#kind, key, complaints);
  }
}

/** Objects per page. Old servers answer `resourceVersion=0` from their cache and send all in one page; that is read the same way. */
const PAGE = '500';

export interface PageSource {
  open<T>(query: Readonly<Record<string, string>>, read: (body: AsyncIterable<Buffer>) => Promise<T>): Promise<T>;
  readonly list: FirstList;
  /** resourceVersion to ask for: `0` for what the server has cached, '' for the newest. */
  readonly version: string;
  readonly resource: Resource;
  /** Told the bytes handled, so that other work gets its turn. */
  turn(bytes: number): Promise<void>;
}

/**
 * Reads all pages into the list and gives the resourceVersion to watch from: the first page's, since later pages may be newer.
 * Where the continue token expires on the way, everything is asked for once more in one go.
 */
export async function readPages(source: PageSource): Promise<string> {
  const { list, version: asked } = source;
  let version = '';
  let query: Record<string, string> = { limit: PAGE, ...(asked === '' ? {} : { resourceVersion: asked }) };
  for (;;) {
    try {
      const page = await source.open(query, body => readPage(body, source));
      version ||= page.version;
      if (page.continue === '') return version;
      query = { limit: PAGE, continue: page.continue };
    } catch (error) {
      if (!(error instanceof Trouble && error.kind === 'gone' && query['continue'] !== undefined)) throw error;
      list.clear();
      version = '';
      query = {};
    }
  }
}

async function readPage(body: AsyncIterable<Buffer>, source: PageSource): Promise<{ version: string; continue: string }> {
  const splitter = new ListSplitter();
  for await (const piece of body) {
    for (const item of splitter.push(piece)) {
      source.list.add(JSON.parse(item));
      await source.turn(item.length);
    }
  }
  const envelope = envelopeOf(splitter);
  const version = versionOf(envelope);
  if (version === '') throw protocolTrouble(`list ${source.resource.name}: what the API server sent is no whole list`);
  const meta = isRawObject(envelope) ? envelope['metadata'] : undefined;
  const token = isRawObject(meta) ? meta['continue'] : undefined;
  return { version, continue: typeof token === 'string' ? token : '' };
}

function envelopeOf(splitter: ListSplitter): unknown {
  try {
    return splitter.envelope();
  } catch {
    return undefined;
  }
}
