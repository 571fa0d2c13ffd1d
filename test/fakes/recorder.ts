/** What a source told, as the store would hold it, and a way to wait for it. */

import type { ClusterKinds, ClusterObject, Complaint, Kind, ObjectKey, SourceEvents } from '../../daemon/cluster/kinds.ts';
import { keyOf } from '../../daemon/cluster/kinds.ts';
import type { FirstListWay, ReflectorObserver, RelistReason } from '../../daemon/cluster/reflector.ts';
import type { FairwayError } from '../../daemon/errors.ts';

export class Recorder implements SourceEvents, ReflectorObserver {
  /** By `KIND KEY`. */
  readonly objects = new Map<string, ClusterObject>();
  readonly complaints = new Map<string, readonly Complaint[]>();
  readonly degradations = new Map<Kind, string>();
  /** Every reason a kind was ever degraded for. */
  readonly reasons: string[] = [];
  readonly lists: { readonly kind: Kind; readonly way: FirstListWay; readonly objects: number }[] = [];
  readonly relists: RelistReason[] = [];
  readonly failures: string[] = [];
  /** Calls of upsert, remove and reject, in order, as `upsert Service shop/web`. */
  readonly changes: string[] = [];
  readonly replaced: Kind[] = [];
  bookmarks = 0;
  watches = 0;
  /** Called before each upsert is recorded; may throw. */
  onUpsert: (object: ClusterObject) => void = () => undefined;
  #wake: () => void = () => undefined;

  /** Resolves as soon as the condition holds; mocha's timeout is the limit. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
  }

  keys(kind: Kind): readonly ObjectKey[] {
    return [...this.objects.values()].filter(object => object.kind === kind).map(object => keyOf(object.meta));
  }

  get(kind: Kind, key: ObjectKey): ClusterObject | undefined {
    return this.objects.get(`${kind} ${key}`);
  }

  upsert(object: ClusterObject, complaints: readonly Complaint[]): void {
    this.onUpsert(object);
    const id = `${object.kind} ${keyOf(object.meta)}`;
    this.objects.set(id, object);
    this.#complain(id, complaints);
    this.changes.push(`upsert ${id}`);
    this.#wake();
  }

  remove(kind: Kind, key: ObjectKey): void {
    this.objects.delete(`${kind} ${key}`);
    this.complaints.delete(`${kind} ${key}`);
    this.changes.push(`remove ${kind} ${key}`);
    this.#wake();
  }

  reject(kind: Kind, key: ObjectKey, complaints: readonly Complaint[]): void {
    this.objects.delete(`${kind} ${key}`);
    this.#complain(`${kind} ${key}`, complaints);
    this.changes.push(`reject ${kind} ${key}`);
    this.#wake();
  }

  replace<K extends Kind>(kind: K, objects: readonly { object: ClusterKinds[K]; complaints: readonly Complaint[] }[]): void {
    for (const [id, object] of this.objects) if (object.kind === kind) this.objects.delete(id);
    for (const id of this.complaints.keys()) if (id.startsWith(`${kind} `)) this.complaints.delete(id);
    for (const { object, complaints } of objects) {
      this.objects.set(`${kind} ${keyOf(object.meta)}`, object);
      this.#complain(`${kind} ${keyOf(object.meta)}`, complaints);
    }
    this.replaced.push(kind);
    this.#wake();
  }

  degraded(kind: Kind, trouble: FairwayError | undefined): void {
    const reason = trouble?.message;
    if (reason === undefined) this.degradations.delete(kind);
    else {
      this.degradations.set(kind, reason);
      this.reasons.push(reason);
    }
    this.#wake();
  }

  listed(kind: Kind, way: FirstListWay, objects: number): void {
    this.lists.push({ kind, way, objects });
    this.#wake();
  }

  watching(): void {
    this.watches++;
    this.#wake();
  }

  event(): void {
    this.#wake();
  }

  bookmark(): void {
    this.bookmarks++;
    this.#wake();
  }

  relist(_kind: Kind, reason: RelistReason): void {
    this.relists.push(reason);
    this.#wake();
  }

  failed(_kind: Kind, _code: string, message: string): void {
    this.failures.push(message);
    this.#wake();
  }

  #complain(id: string, complaints: readonly Complaint[]): void {
    if (complaints.length === 0) this.complaints.delete(id);
    else this.complaints.set(id, complaints);
  }
}
