/**
 * A folder of Kubernetes manifests as the source of the cluster's objects: bare metal without an API server, the demo, dry runs. The
 * folder is watched; polling catches what the file system does not tell. A file that cannot be read keeps what it last held.
 */
import { hash } from 'node:crypto';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { type Folder, type FolderFile, folderAt } from './folder.ts';
import type { ClusterSource, Complaint, Kind, SourceEvents } from './kinds.ts';
import { type DocumentContent, DocumentError, readDocument, readJson, splitDocuments } from './manifest-documents.ts';
import { type Projection, Projector } from './project.ts';
import { sameObject } from './same-object.ts';

export interface ManifestSourceOptions {
  /** `--manifests`. Files `*.yaml`, `*.yml` and `*.json` directly in it, hidden ones excepted. */
  readonly directory: string;
  /** The kinds that enabled modules read. */
  readonly kinds: readonly Kind[];
  readonly clock: Clock;
  /** Default: the folder on disk. */
  readonly folder?: Folder;
  /** Milliseconds between two looks at the folder when nothing was told of it. Default 1,000. */
  readonly pollMs?: number;
  /** Milliseconds of silence after a change before the folder is read: writers write in pieces. Default 20. */
  readonly settleMs?: number;
}

/** What a file held when it could last be read. */
interface ReadFile {
  readonly stamp: string;
  /** By the hash of the document's text, so that unchanged documents are not parsed again. */
  readonly documents: ReadonlyMap<string, ReadDocument>;
  readonly problems: readonly string[];
}

interface ReadDocument {
  readonly projections: readonly Projection[];
  readonly problems: readonly string[];
}

const [POLL_MS, SETTLE_MS] = [1000, 20];
/** Problems named in full in one message. */
const NAMED_PROBLEMS = 5;
/** Characters parsed between two turns of the event loop. */
const TURN_CHARACTERS = 20_000;

export class ManifestSource implements ClusterSource {
  readonly #options: ManifestSourceOptions;
  readonly #folder: Folder;
  readonly #projector = new Projector();
  readonly #stopped = new AbortController();
  readonly #files = new Map<string, ReadFile>();
  /** What the store was last told, by kind and key; undefined before the first full list. */
  #published: ReadonlyMap<string, Projection> | undefined;
  #degradation: string | undefined;
  #watcher: { close(): void } | undefined;
  #isDirty = false;
  #noticeChange: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ManifestSourceOptions) {
    this.#options = options;
    this.#folder = options.folder ?? folderAt(options.directory);
  }

  start(events: SourceEvents): void {
    this.#running = this.#run(events);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
    this.#watcher?.close();
  }

  async #run(events: SourceEvents): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      this.#isDirty = false;
      let files: readonly FolderFile[] | undefined;
      try {
        this.#watcher ??= this.#folder.watch(() => this.#changed());
        files = await this.#folder.list();
      } catch (error) {
        this.#unwatch();
        const remedy = 'what it held before stays; create the folder or correct --manifests';
        this.#degrade(events, `the manifest folder ${this.#folder.path} cannot be read: ${messageOf(error)}; ${remedy}`);
      }
      if (files !== undefined) await this.#take(files.filter(isManifest), events);
      await this.#untilChange();
    }
  }

  #changed(): void {
    this.#isDirty = true;
    this.#noticeChange();
  }

  /** A folder that was deleted and made again is another one to the file system. */
  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** Resolves when the folder has been quiet after a change, at the next poll, or at the stop. */
  async #untilChange(): Promise<void> {
    const { clock, pollMs = POLL_MS, settleMs = SETTLE_MS } = this.#options;
    const { signal } = this.#stopped;
    let cancelSettle = (): void => undefined;
    let cancelPoll = (): void => undefined;
    await new Promise<void>(resolve => {
      const wake = (): void => resolve();
      const settle = (): void => {
        cancelSettle();
        cancelSettle = clock.after(settleMs, wake);
      };
      cancelPoll = clock.after(pollMs, wake);
      signal.addEventListener('abort', wake, { once: true });
      this.#noticeChange = settle;
      if (this.#isDirty) settle();
      if (signal.aborted) wake();
    });
    this.#noticeChange = () => undefined;
    cancelPoll();
    cancelSettle();
  }

  async #take(files: readonly FolderFile[], events: SourceEvents): Promise<void> {
    const names = new Set(files.map(file => file.name));
    for (const name of this.#files.keys()) if (!names.has(name)) this.#files.delete(name);
    for (const file of files) await this.#read(file);
    if (this.#stopped.signal.aborted) return;
    const problems = files.flatMap(({ name }) => this.#files.get(name)?.problems ?? []);
    this.#publish(this.#winners(files), events);
    const more = problems.length > NAMED_PROBLEMS ? [`and ${problems.length - NAMED_PROBLEMS} more`] : [];
    this.#degrade(events, problems.length === 0 ? undefined : [...problems.slice(0, NAMED_PROBLEMS), ...more].join('; '));
  }

  async #read({ name, stamp }: FolderFile): Promise<void> {
    const former = this.#files.get(name);
    if (former?.stamp === stamp) return;
    const documents = former?.documents ?? new Map<string, ReadDocument>();
    try {
      const text = await this.#folder.read(name);
      const current = name.endsWith('.json') ? this.#readJsonFile(name, text) : await this.#readYaml(name, text, documents);
      this.#files.set(name, { stamp, documents: current, problems: [...current.values()].flatMap(({ problems }) => problems) });
    } catch (error) {
      const place = error instanceof DocumentError ? `${name}:${error.line}` : name;
      const stays = documents.size === 0 ? 'nothing of it is used' : 'what it held before stays';
      this.#files.set(name, { stamp, documents, problems: [`${place}: ${messageOf(error)}; ${stays} until it is corrected`] });
    }
  }

  #readJsonFile(name: string, text: string): ReadonlyMap<string, ReadDocument> {
    return new Map([[hash('sha256', text), this.#project(name, readJson(text, this.#options.kinds), name)]]);
  }

  async #readYaml(
    name: string,
    text: string,
    former: ReadonlyMap<string, ReadDocument>,
  ): Promise<ReadonlyMap<string, ReadDocument>> {
    const documents = new Map<string, ReadDocument>();
    let parsed = 0;
    for (const document of splitDocuments(text)) {
      const id = hash('sha256', document.text);
      const known = former.get(id);
      if (known === undefined || known.problems.length > 0) {
        const content = readDocument(document, this.#options.kinds);
        parsed += document.text.length;
        documents.set(id, this.#project(name, content, `${name}:${document.line}`));
      } else documents.set(id, known);
      if (parsed < TURN_CHARACTERS) continue;
      parsed = 0;
      await turnOfLoop();
    }
    return documents;
  }

  /**
   * An object without a name has no key to complain under, so it is a problem of the file. The clone is there because strings of the
   * parser are slices of the whole text, which one kept name would keep in memory.
   */
  #project(file: string, content: DocumentContent, place: string): ReadDocument {
    const problems = content.problems.map(problem => `${place}: ${problem}`);
    const projections: Projection[] = [];
    for (const { kind, raw } of content.objects) {
      const projection = this.#projector.project(kind, structuredClone(raw));
      const complaints = projection.complaints.map(complaint => ({ ...complaint, message: `${complaint.message} (in ${file})` }));
      if (projection.key.endsWith('?'))
        problems.push(...projection.complaints.map(({ message }) => `${place}: ${kind}: ${message}`));
      else projections.push({ ...projection, complaints });
    }
    return { projections, problems };
  }

  /** Each object once: of two with one name the first counts, and says so. */
  #winners(files: readonly FolderFile[]): ReadonlyMap<string, Projection> {
    const winners = new Map<string, Projection>();
    const fileOf = new Map<string, string>();
    for (const { name } of files) {
      for (const { projections } of this.#files.get(name)?.documents.values() ?? []) {
        for (const projection of projections) {
          const id = `${projection.kind} ${projection.key}`;
          const winner = winners.get(id);
          if (winner === undefined) fileOf.set(id, name);
          winners.set(id, winner === undefined ? projection : withDuplicate(winner, fileOf.get(id) ?? '', name));
        }
      }
    }
    return winners;
  }

  /** Only what differs from what was told before; everything the first time. */
  #publish(current: ReadonlyMap<string, Projection>, events: SourceEvents): void {
    const former = this.#published;
    this.#published = current;
    if (former === undefined) {
      for (const kind of this.#options.kinds)
        events.replace(kind, usable([...current.values()].filter(one => one.kind === kind)));
    }
    for (const [id, projection] of current) {
      const known = former?.get(id);
      if (known !== undefined && sameProjection(known, projection)) continue;
      const { kind, key, object, complaints } = projection;
      if (object === undefined) events.reject(kind, key, complaints);
      else if (former !== undefined) events.upsert(object, complaints);
    }
    for (const [id, { kind, key }] of former ?? []) if (!current.has(id)) events.remove(kind, key);
  }

  /** Which kinds a broken file would have held is not known, so it concerns all. */
  #degrade(events: SourceEvents, reason: string | undefined): void {
    if (this.#degradation === reason) return;
    this.#degradation = reason;
    const trouble = reason === undefined ? undefined : new FairwayError('FW_MANIFESTS', `manifests: ${reason}`);
    for (const kind of this.#options.kinds) events.degraded(kind, trouble);
  }
}

function isManifest({ name }: FolderFile): boolean {
  return /\.(ya?ml|json)$/.test(name) && !name.startsWith('.');
}

function sameProjection(a: Projection, b: Projection): boolean {
  return a === b || (sameObject(a.object, b.object) && sameObject(a.complaints, b.complaints));
}

function withDuplicate(winner: Projection, file: string, other: string): Projection {
  const where = file === other ? `twice in ${file}; the first one` : `also in ${other}; the one in ${file}`;
  const complaint: Complaint = {
    kind: winner.kind,
    key: winner.key,
    message: `metadata.name: there ${where} is used, remove one`,
  };
  return { ...winner, complaints: [...winner.complaints, complaint] };
}

function usable(
  projections: readonly Projection[],
): { object: NonNullable<Projection['object']>; complaints: readonly Complaint[] }[] {
  return projections.flatMap(({ object, complaints }) => (object === undefined ? [] : [{ object, complaints }]));
}
