/** The storage under the fake API server: objects of the watched kinds with one revision for all, a log of changes, compaction. */
import type { Selectable } from './selection.ts';

/** Any API object; only these fields mean something to the server. */
export interface ApiObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly name?: string; readonly namespace?: string; readonly labels?: Readonly<Record<string, string>> };
  readonly [field: string]: unknown;
}

export type ResourceName =
  | 'services'
  | 'endpointslices'
  | 'nodes'
  | 'pods'
  | 'namespaces'
  | 'networkpolicies'
  | 'configmaps'
  | 'leases'
  | 'events';

export interface Change {
  readonly revision: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly stored: Stored;
  /** What was there before it. */
  readonly former: Stored | undefined;
}

/** An object as it is sent: its text is made once. */
export interface Stored extends Selectable {
  readonly key: string;
  readonly json: string;
  readonly revision: number;
}

export const RESOURCE_OF_KIND: Readonly<Record<string, ResourceName>> = {
  Service: 'services',
  EndpointSlice: 'endpointslices',
  Node: 'nodes',
  Pod: 'pods',
  Namespace: 'namespaces',
  NetworkPolicy: 'networkpolicies',
  ConfigMap: 'configmaps',
  Lease: 'leases',
  Event: 'events',
};

interface Table {
  readonly objects: Map<string, Stored>;
  changes: Change[];
}

export class ObjectStore {
  readonly #tables: Readonly<Record<ResourceName, Table>> = {
    services: { objects: new Map(), changes: [] },
    endpointslices: { objects: new Map(), changes: [] },
    nodes: { objects: new Map(), changes: [] },
    pods: { objects: new Map(), changes: [] },
    namespaces: { objects: new Map(), changes: [] },
    networkpolicies: { objects: new Map(), changes: [] },
    configmaps: { objects: new Map(), changes: [] },
    leases: { objects: new Map(), changes: [] },
    events: { objects: new Map(), changes: [] },
  };
  readonly #listeners = new Set<(resource: ResourceName, change: Change) => void>();
  #revision = 1000;
  #compacted = 1000;

  get revision(): number {
    return this.#revision;
  }

  /** Revisions up to this one can no longer be watched from. */
  get compacted(): number {
    return this.#compacted;
  }

  /** Stores the object under its kind and name, as it is, plus its resourceVersion. Gives its revision. */
  put(object: ApiObject): number {
    const resource = resourceOf(object);
    const table = this.#tables[resource];
    const key = keyOf(object.metadata?.namespace, object.metadata?.name);
    const former = table.objects.get(key);
    const stored = this.#stored(object, key);
    table.objects.set(key, stored);
    const type = former === undefined ? 'ADDED' : 'MODIFIED';
    this.#record(resource, { revision: stored.revision, type, stored, former });
    return stored.revision;
  }

  /** Does nothing where there is no such object. */
  delete(kind: string, namespace: string, name: string): number {
    const resource = resourceOf({ kind });
    const key = keyOf(namespace, name);
    const former = this.#tables[resource].objects.get(key);
    if (former === undefined) return this.#revision;
    this.#tables[resource].objects.delete(key);
    const last = this.#stored(JSON.parse(former.json) as ApiObject, key);
    this.#record(resource, { revision: last.revision, type: 'DELETED', stored: last, former });
    return last.revision;
  }

  get(kind: string, namespace: string, name: string): ApiObject | undefined {
    const stored = this.#tables[resourceOf({ kind })].objects.get(keyOf(namespace, name));
    return stored === undefined ? undefined : (JSON.parse(stored.json) as ApiObject);
  }

  /** A gap in the numbers, as changes of other kinds make them. */
  advance(): number {
    return ++this.#revision;
  }

  /** Forgets the log: watches from before now get 410. */
  compact(): void {
    this.#compacted = this.#revision;
    for (const table of Object.values(this.#tables)) table.changes = [];
  }

  /** In the order of their keys, as etcd lists them. */
  list(resource: ResourceName): readonly Stored[] {
    return [...this.#tables[resource].objects.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  changesSince(resource: ResourceName, revision: number): readonly Change[] {
    return this.#tables[resource].changes.filter(change => change.revision > revision);
  }

  onChange(listener: (resource: ResourceName, change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #record(resource: ResourceName, change: Change): void {
    this.#tables[resource].changes.push(change);
    for (const listener of this.#listeners) listener(resource, change);
  }

  #stored(object: ApiObject, key: string): Stored {
    const revision = ++this.#revision;
    const metadata = object.metadata === undefined ? undefined : { ...object.metadata, resourceVersion: String(revision) };
    const json = JSON.stringify({ ...object, metadata });
    return { key, json, labels: object.metadata?.labels ?? {}, fields: fieldsOf(object), revision };
  }
}

/** What a field selector may ask of the object. A real server makes every new Pod Pending. */
function fieldsOf({ kind, metadata, status, involvedObject }: ApiObject): Readonly<Record<string, string>> {
  const names = { 'metadata.name': metadata?.name ?? '', 'metadata.namespace': metadata?.namespace ?? '' };
  if (kind === 'Event' && typeof involvedObject === 'object' && involvedObject !== null) {
    const involved = Object.entries(involvedObject).map(([field, value]) => [`involvedObject.${field}`, String(value)] as const);
    return { ...names, ...Object.fromEntries(involved) };
  }
  if (kind !== 'Pod') return names;
  const phase: unknown = typeof status === 'object' && status !== null ? Reflect.get(status, 'phase') : undefined;
  return { ...names, 'status.phase': typeof phase === 'string' ? phase : 'Pending' };
}

function resourceOf(object: ApiObject): ResourceName {
  const resource = RESOURCE_OF_KIND[object.kind ?? ''];
  if (resource === undefined) throw new TypeError(`the fake API server keeps no ${JSON.stringify(object.kind)}`);
  return resource;
}

function keyOf(namespace: string | undefined, name: string | undefined): string {
  return `${namespace ?? ''}/${name ?? ''}`;
}
