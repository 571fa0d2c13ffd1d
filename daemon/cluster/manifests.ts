/**
 * A folder of Kubernetes manifests as the source of the cluster's objects: bare metal without an API server, the demo, dry runs. The
 * folder is watched; polling catches what the file system does not tell. A file that cannot be read keeps what it last held.
 */
import { hash } from 'node:crypto';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { type Folder, type FolderFile, folderAt } from './folder.ts';
import { FolderChanges } from './folder-changes.ts';
import { type ClusterSource, type Complaint, type Kind, keyOf, type SourceEvents } from './kinds.ts';
import { type DocumentContent, readDocument, readJson, splitDocuments } from './manifest-documents.ts';
import { type Projection, Projector } from './project.ts';
import type { RawObject } from './raw-object.ts';
import { NODE_LEASES, type ObjectPlace } from './resources.ts';
import { sameObject } from './same-object.ts';
import { DocumentError } from './yaml.ts';

export interface ManifestSourceOptions {
  /** `--manifests`. Files `*.yaml`, `*.yml` and `*.json` directly in it, hidden ones excepted. */
  readonly directory: string;
  /** The kinds that enabled modules read. */
  readonly kinds: readonly Kind[];
  /** The one ConfigMap that is read, where that kind is. */
  readonly configMap?: ObjectPlace | undefined;
  readonly clock: Clock;
  /** Default: the folder on disk. */
  readonly folder?: Folder;
  /** As of {@link FolderChanges}. */
  readonly pollMs?: number;
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

/** Problems named in full in one message. */
const NAMED_PROBLEMS = 5;
/** Characters parsed between two turns of the event loop. */
const TURN_CHARACTERS = 20_000;

export class ManifestSource implements ClusterSource {
  readonly #options: ManifestSourceOptions;
  readonly #folder: Folder;
  readonly #changes: FolderChanges;
  readonly #projector = new Projector();
  readonly #stopped = new AbortController();
  readonly #files = new Map<string, ReadFile>();
  /** What the store was last told, by kind and key; undefined before the first full list. */
  #published: ReadonlyMap<string, Projection> | undefined;
  #degradation: string | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ManifestSourceOptions) {
    this.#options = options;
    this.#folder = options.folder ?? folderAt(options.directory);
    const { clock, pollMs, settleMs } = options;
    this.#changes = new FolderChanges({ folder: this.#folder, clock, pollMs, settleMs });
  }

  start(events: SourceEvents): void {
    this.#running = this.#run(events);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
    this.#changes.unwatch();
  }

  async #run(events: SourceEvents): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      let files: readonly FolderFile[] | undefined;
      try {
        this.#changes.watch();
        files = await this.#folder.list();
      } catch (error) {
        this.#changes.unwatch();
        const remedy = 'what it held before stays; create the folder or correct --manifests';
        this.#degrade(events, `the manifest folder ${this.#folder.path} cannot be read: ${messageOf(error)}; ${remedy}`);
      }
      if (files !== undefined) await this.#take(files.filter(isManifest), events);
      await this.#changes.next(this.#stopped.signal);
    }
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
      if (!this.#isAsked(kind, raw)) continue;
      const projection = this.#projector.project(kind, structuredClone(raw));
      const complaints = projection.complaints.map(complaint => ({ ...complaint, message: `${complaint.message} (in ${file})` }));
      if (projection.key.endsWith('?'))
        problems.push(...projection.complaints.map(({ message }) => `${place}: ${kind}: ${message}`));
      else projections.push({ ...projection, complaints });
    }
    return { projections, problems };
  }

  /** Of ConfigMaps and Leases there are others, which are nobody's business here. */
  #isAsked(kind: Kind, raw: RawObject): boolean {
    const { configMap } = this.#options;
    const key = this.#projector.keyOfRaw(kind, raw);
    if (kind === 'ConfigMap') return configMap === undefined || key === keyOf(configMap);
    return kind !== 'Lease' || key.startsWith(`${NODE_LEASES}/`);
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
