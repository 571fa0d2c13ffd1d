/**
 * The one cache of cluster objects that all modules share. Snapshots are versions of its maps that share what they have in common: one
 * never changes, and the next costs what was changed.
 */

import type { FairwayError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { Instant } from '../net/instant.ts';
import {
  type AddressPools,
  type ClusterKinds,
  type ClusterObject,
  type Complaint,
  type EndpointSlice,
  type Kind,
  keyOf,
  type Namespace,
  type NetworkPolicy,
  type Node,
  type ObjectKey,
  type Pod,
  type Service,
  type SourceEvents,
} from './kinds.ts';
import { lastGoodPools } from './last-good-pools.ts';
import type { NodeViewer } from './node-view.ts';
import { patched } from './patched-map.ts';
import { PodsByAddress } from './pods-by-address.ts';
import { sameObject } from './same-object.ts';
import { type HostFacts, NO_ALLOCATION, NO_RIB, type NodeView, type Rib, type Snapshot } from './snapshot.ts';

/** A map whose versions, once handed out, never change; the next version costs what was changed since. */
class SharedMap<V extends object> {
  #shared: ReadonlyMap<string, V> = new Map();
  #changes = new Map<string, V | undefined>();

  /** The map as it is now, for good. */
  share(): ReadonlyMap<string, V> {
    if (this.#changes.size > 0) {
      this.#shared = patched(this.#shared, this.#changes);
      this.#changes = new Map();
    }
    return this.#shared;
  }

  get(key: string): V | undefined {
    return this.#changes.has(key) ? this.#changes.get(key) : this.#shared.get(key);
  }

  set(key: string, value: V): void {
    this.#changes.set(key, value);
  }

  /** False where the key was not there. */
  delete(key: string): boolean {
    if (this.get(key) === undefined) return false;
    this.#changes.set(key, undefined);
    return true;
  }
}

/** What of a snapshot is told by others than sources and host. */
export type Beside = Partial<Pick<Snapshot, 'silentNodes' | 'allocation'>>;

/** Heartbeats change nothing that a planner reads, as long as they come: `heartbeats.ts` listens to them. */
const NO_OBJECTS: ReadonlyMap<ObjectKey, ClusterObject> = new Map();
const NO_NODES: ReadonlySet<string> = new Set();

export interface StoreOptions {
  /** The kinds that enabled modules read. */
  readonly kinds: readonly Kind[];
  readonly nodeViewer: NodeViewer;
  /** Called after each change of an object; not for changes that no module could see. */
  readonly onChange: () => void;
}

export class Store implements SourceEvents {
  readonly #kinds: readonly Kind[];
  readonly #nodeViewer: NodeViewer;
  readonly #onChange: () => void;
  readonly #services = new SharedMap<Service>();
  readonly #slices = new Map<ObjectKey, EndpointSlice>();
  readonly #slicesOf = new SharedMap<readonly EndpointSlice[]>();
  readonly #nodes = new SharedMap<Node>();
  readonly #pods = new SharedMap<Pod>();
  readonly #namespaces = new SharedMap<Namespace>();
  readonly #networkPolicies = new SharedMap<NetworkPolicy>();
  /** At most the one that is asked for. */
  readonly #addressPools = new Map<ObjectKey, AddressPools>();
  readonly #complaints = new Map<string, readonly Complaint[]>();
  readonly #degraded = new Map<Kind, string>();
  readonly #listed = new Set<Kind>();
  #revision = 0;
  /** From the first time that it is asked for. */
  #podsByAddress: PodsByAddress | undefined;

  constructor(options: StoreOptions) {
    this.#kinds = options.kinds;
    this.#nodeViewer = options.nodeViewer;
    this.#onChange = options.onChange;
  }

  /** True once every kind that is read has had its first full list. */
  isSynced(): boolean {
    return this.unlisted().length === 0;
  }

  /** Kinds whose first full list is still awaited. */
  unlisted(): readonly Kind[] {
    return this.#kinds.filter(kind => !this.#listed.has(kind));
  }

  /** True once the first full list of the kind is there; never of one that nobody reads. */
  isListed(kind: Kind): boolean {
    return this.#listed.has(kind);
  }

  /** What is wrong in single objects, in no order. */
  complaints(): readonly Complaint[] {
    return [...this.#complaints.values()].flat();
  }

  /** Why a kind is not up to date, by kind. */
  degradations(): ReadonlyMap<Kind, string> {
    return this.#degraded;
  }

  size(kind: Kind): number {
    return this.#all(kind).size;
  }

  /** This node as the next snapshot has it. */
  nodeView(host: HostFacts): NodeView {
    return this.#nodeViewer.view(this.#nodes.share(), host);
  }

  /** Pods that have the address and have not ended: of the host's network there may be several. */
  podsAt(address: IpAddress): readonly Pod[] {
    if (this.#podsByAddress === undefined) {
      this.#podsByAddress = new PodsByAddress();
      for (const pod of this.#pods.share().values()) this.#podsByAddress.replace(undefined, pod);
    }
    return this.#podsByAddress.at(address);
  }

  services(): Snapshot['services'] {
    return this.#services.share();
  }

  snapshot(now: Instant, host: HostFacts, rib: Rib = NO_RIB, beside: Beside = {}): Snapshot {
    const nodes = this.#nodes.share();
    return {
      revision: this.#revision,
      now,
      node: this.#nodeViewer.view(nodes, host),
      nodes,
      services: this.#services.share(),
      endpointSlicesOf: this.#slicesOf.share(),
      pods: this.#pods.share(),
      namespaces: this.#namespaces.share(),
      networkPolicies: this.#networkPolicies.share(),
      addressPools: this.#addressPools.values().next().value,
      host,
      rib,
      silentNodes: beside.silentNodes ?? NO_NODES,
      allocation: beside.allocation ?? NO_ALLOCATION,
    };
  }

  upsert(object: ClusterObject, complaints: readonly Complaint[]): void {
    this.#note(object.kind, keyOf(object.meta), complaints);
    if (this.#put(object)) this.#changed();
  }

  remove(kind: Kind, key: ObjectKey): void {
    this.#note(kind, key, []);
    if (this.#drop(kind, key)) this.#changed();
  }

  reject(kind: Kind, key: ObjectKey, complaints: readonly Complaint[]): void {
    this.#note(kind, key, complaints);
    if (this.#drop(kind, key)) this.#changed();
  }

  replace<K extends Kind>(kind: K, objects: readonly { object: ClusterKinds[K]; complaints: readonly Complaint[] }[]): void {
    const gone = new Set(this.#all(kind).keys());
    this.#forgetComplaints(kind);
    let hasChanged = !this.#listed.has(kind);
    this.#listed.add(kind);
    for (const { object, complaints } of objects) {
      const key = keyOf(object.meta);
      gone.delete(key);
      this.#note(kind, key, complaints);
      hasChanged = this.#put(object) || hasChanged;
    }
    for (const key of gone) hasChanged = this.#drop(kind, key) || hasChanged;
    if (hasChanged) this.#changed();
  }

  degraded(kind: Kind, trouble: FairwayError | undefined): void {
    if (trouble === undefined) this.#degraded.delete(kind);
    else this.#degraded.set(kind, trouble.message);
  }

  #changed(): void {
    this.#revision++;
    this.#onChange();
  }

  #note(kind: Kind, key: ObjectKey, complaints: readonly Complaint[]): void {
    if (complaints.length === 0) this.#complaints.delete(`${kind} ${key}`);
    else this.#complaints.set(`${kind} ${key}`, complaints);
  }

  #forgetComplaints(kind: Kind): void {
    for (const name of this.#complaints.keys()) if (name.startsWith(`${kind} `)) this.#complaints.delete(name);
  }

  #all(kind: Kind): ReadonlyMap<ObjectKey, ClusterObject> {
    switch (kind) {
      case 'Service':
        return this.#services.share();
      case 'EndpointSlice':
        return this.#slices;
      case 'Node':
        return this.#nodes.share();
      case 'Pod':
        return this.#pods.share();
      case 'Namespace':
        return this.#namespaces.share();
      case 'NetworkPolicy':
        return this.#networkPolicies.share();
      case 'ConfigMap':
        return this.#addressPools;
      case 'Lease':
        return NO_OBJECTS;
    }
  }

  #get(kind: Kind, key: ObjectKey): ClusterObject | undefined {
    switch (kind) {
      case 'Service':
        return this.#services.get(key);
      case 'EndpointSlice':
        return this.#slices.get(key);
      case 'Node':
        return this.#nodes.get(key);
      case 'Pod':
        return this.#pods.get(key);
      case 'Namespace':
        return this.#namespaces.get(key);
      case 'NetworkPolicy':
        return this.#networkPolicies.get(key);
      case 'ConfigMap':
        return this.#addressPools.get(key);
      case 'Lease':
        return undefined;
    }
  }

  /** False where the object is as it was: the one we have keeps its identity, and no planner looks at it again. */
  #put(object: ClusterObject): boolean {
    const key = keyOf(object.meta);
    if (sameObject(this.#get(object.kind, key), object)) return false;
    switch (object.kind) {
      case 'Service':
        this.#services.set(key, object);
        return true;
      case 'EndpointSlice': {
        const former = this.#slices.get(key);
        if (former !== undefined && former.serviceKey !== object.serviceKey) this.#unlink(former);
        this.#slices.set(key, object);
        this.#link(object);
        return true;
      }
      case 'Node':
        this.#nodes.set(key, object);
        return true;
      case 'Pod':
        this.#podsByAddress?.replace(this.#pods.get(key), object);
        this.#pods.set(key, object);
        return true;
      case 'Namespace':
        this.#namespaces.set(key, object);
        return true;
      case 'NetworkPolicy':
        this.#networkPolicies.set(key, object);
        return true;
      case 'ConfigMap': {
        const former = this.#addressPools.get(key);
        const pools = lastGoodPools(former, object);
        if (sameObject(former, pools)) return false;
        this.#addressPools.set(key, pools);
        return true;
      }
      case 'Lease':
        return false;
    }
  }

  #drop(kind: Kind, key: ObjectKey): boolean {
    switch (kind) {
      case 'Service':
        return this.#services.delete(key);
      case 'EndpointSlice': {
        const slice = this.#slices.get(key);
        if (slice === undefined) return false;
        this.#slices.delete(key);
        this.#unlink(slice);
        return true;
      }
      case 'Node':
        return this.#nodes.delete(key);
      case 'Pod':
        this.#podsByAddress?.replace(this.#pods.get(key), undefined);
        return this.#pods.delete(key);
      case 'Namespace':
        return this.#namespaces.delete(key);
      case 'NetworkPolicy':
        return this.#networkPolicies.delete(key);
      case 'ConfigMap':
        return this.#addressPools.delete(key);
      case 'Lease':
        return false;
    }
  }

  #link(slice: EndpointSlice): void {
    const others = this.#siblings(slice);
    const slices = [...others, slice].sort((a, b) => (a.meta.name < b.meta.name ? -1 : 1));
    this.#slicesOf.set(slice.serviceKey, slices);
  }

  #unlink(slice: EndpointSlice): void {
    const others = this.#siblings(slice);
    if (others.length === 0) this.#slicesOf.delete(slice.serviceKey);
    else this.#slicesOf.set(slice.serviceKey, others);
  }

  #siblings(slice: EndpointSlice): readonly EndpointSlice[] {
    const all = this.#slicesOf.get(slice.serviceKey) ?? [];
    return all.filter(other => other.meta.name !== slice.meta.name);
  }
}
