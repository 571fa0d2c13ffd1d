/**
 * A file of named pools as the source of the kind ConfigMap: bare metal, or pools that configuration management writes. It is followed
 * live, and where it cannot be read, what it last held stays.
 */
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { type Folder, type FolderFile, folderOfFile } from './folder.ts';
import { FolderChanges } from './folder-changes.ts';
import { StringPool } from './intern.ts';
import type { AddressPools, ClusterSource, ObjectMeta, SourceEvents } from './kinds.ts';
import { addressPoolsOfText } from './project-address-pools.ts';
import { FieldReader } from './raw-object.ts';

export interface PoolsFileOptions {
  /** `--loadbalancer-pools`, absolute. */
  readonly path: string;
  readonly clock: Clock;
  /** Default: the file on disk. */
  readonly folder?: Folder;
  /** As of {@link FolderChanges}. */
  readonly pollMs?: number;
  readonly settleMs?: number;
}

const KEPT_STRINGS = 1000;

export class PoolsFileSource implements ClusterSource {
  readonly #meta: ObjectMeta;
  readonly #folder: Folder;
  readonly #changes: FolderChanges;
  readonly #strings = new StringPool(KEPT_STRINGS);
  readonly #stopped = new AbortController();
  /** Of the file as it was read last. */
  #stamp: string | undefined;
  #isListed = false;
  #trouble: string | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor({ path, clock, folder = folderOfFile(path), pollMs, settleMs }: PoolsFileOptions) {
    // The key of the object is the path: complaints name it.
    this.#meta = { namespace: '', name: path, uid: '', creationTimestamp: 0 };
    this.#folder = folder;
    this.#changes = new FolderChanges({ folder, clock, pollMs, settleMs });
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
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      // Its folder may have gone with it, and have come back as another one.
      if (this.#stamp === undefined) this.#changes.unwatch();
      this.#changes.watch();
      const [file] = await this.#folder.list();
      await this.#look(file, events);
      await this.#changes.next(signal);
    }
  }

  async #look(file: FolderFile | undefined, events: SourceEvents): Promise<void> {
    if (file === undefined) {
      this.#stamp = undefined;
      this.#fail('there is no such file', events);
      return;
    }
    if (file.stamp === this.#stamp) return;
    try {
      const text = await this.#folder.read(file.name);
      this.#stamp = file.stamp;
      this.#tell(text, events);
    } catch (error) {
      this.#fail(messageOf(error), events);
    }
  }

  #tell(text: string, events: SourceEvents): void {
    if (this.#stopped.signal.aborted) return;
    const read = new FieldReader('ConfigMap', this.#strings);
    const object = addressPoolsOfText(this.#meta, text, 'the file', read);
    const complaints = read.complaints(this.#meta.name);
    if (this.#isListed) events.upsert(object, complaints);
    else events.replace('ConfigMap', [{ object, complaints }]);
    this.#isListed = true;
    if (this.#trouble !== undefined) events.degraded('ConfigMap', undefined);
    this.#trouble = undefined;
  }

  #fail(reason: string, events: SourceEvents): void {
    if (this.#stopped.signal.aborted) return;
    if (!this.#isListed) events.replace('ConfigMap', [{ object: this.#unknown(), complaints: [] }]);
    this.#isListed = true;
    if (this.#trouble === reason) return;
    this.#trouble = reason;
    const remedy = 'the pools it held before stay; write it, with "pools: []" for none, or correct --loadbalancer-pools';
    events.degraded('ConfigMap', new FairwayError('FW_POOLS_FILE', `pools file ${this.#meta.name}: ${reason}; ${remedy}`));
  }

  /** Nothing waits for a file that may never come, and nobody takes it for one without pools. */
  #unknown(): AddressPools {
    return { kind: 'ConfigMap', meta: this.#meta, pools: [], unreadable: undefined, incomplete: [] };
  }
}
