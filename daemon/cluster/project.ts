/**
 * API objects as they come (JSON or YAML of any shape) to the narrow types of `kinds.ts`. Nothing here throws: what is wrong in an
 * object is left out and becomes a complaint, and only an object without a usable name or purpose is no object at all.
 */
import { StringPool } from './intern.ts';
import type { ClusterKinds, ClusterObject, Complaint, Kind, ObjectKey, ObjectMeta } from './kinds.ts';
import { keyOf } from './kinds.ts';
import { projectAddressPools } from './project-address-pools.ts';
import { projectEndpointSlice } from './project-endpoint-slice.ts';
import { projectLease } from './project-lease.ts';
import { projectNamespace } from './project-namespace.ts';
import { projectNetworkPolicy } from './project-network-policy.ts';
import { projectNode } from './project-node.ts';
import { projectPod } from './project-pod.ts';
import { projectService } from './project-service.ts';
import { FieldReader, isAbsent, isRawObject, type RawObject } from './raw-object.ts';

/** What became of one API object. `object` is undefined where nothing of it can be used. */
export interface Projection<T extends ClusterObject = ClusterObject> {
  readonly kind: Kind;
  /** Where the name is missing: the namespace and `?`. */
  readonly key: ObjectKey;
  readonly object: T | undefined;
  readonly complaints: readonly Complaint[];
}

/** The API's kinds that are projected, with their groups: a manifest of another group's `Service` is not ours. */
export const API_VERSIONS: Readonly<Record<Kind, RegExp>> = {
  Service: /^v1$/,
  EndpointSlice: /^discovery\.k8s\.io\/v1(beta1)?$/,
  Node: /^v1$/,
  Pod: /^v1$/,
  Namespace: /^v1$/,
  NetworkPolicy: /^networking\.k8s\.io\/v1$/,
  ConfigMap: /^v1$/,
  Lease: /^coordination\.k8s\.io\/v1$/,
};

const IS_NAMESPACED: Readonly<Record<Kind, boolean>> = {
  Service: true,
  EndpointSlice: true,
  Node: false,
  Pod: true,
  Namespace: false,
  NetworkPolicy: true,
  ConfigMap: true,
  Lease: true,
};

/** Strings remembered per generation: node and port names, zones, namespaces, label keys of a large cluster. */
const POOL_CAPACITY = 20_000;

type ProjectKind<T extends ClusterObject> = (meta: ObjectMeta, raw: RawObject, read: FieldReader) => T | undefined;
const PROJECT: { readonly [K in Kind]: ProjectKind<ClusterKinds[K]> } = {
  Service: projectService,
  EndpointSlice: projectEndpointSlice,
  Node: projectNode,
  Pod: projectPod,
  Namespace: projectNamespace,
  NetworkPolicy: projectNetworkPolicy,
  ConfigMap: projectAddressPools,
  Lease: projectLease,
};

/** Projects the objects of one source; equal strings of all its objects are one string. */
export class Projector {
  readonly #pool = new StringPool(POOL_CAPACITY);

  /** The object as the modules see it, from whatever the source delivered under this kind. */
  project<K extends Kind>(kind: K, raw: unknown): Projection<ClusterKinds[K]> {
    const read = new FieldReader(kind, this.#pool);
    const whole = read.object(raw, 'object');
    const meta = projectMeta(kind, whole, read);
    if (meta === undefined) {
      const key = this.keyOfRaw(kind, raw);
      return { kind, key, object: undefined, complaints: read.complaints(key) };
    }
    const key = keyOf(meta);
    const object = PROJECT[kind](meta, whole, read);
    return { kind, key, object, complaints: read.complaints(key) };
  }

  /** The key of an object of which nothing else matters, such as a deleted one; `?` stands for a missing name. */
  keyOfRaw(kind: Kind, raw: unknown): ObjectKey {
    const meta = isRawObject(raw) && isRawObject(raw['metadata']) ? raw['metadata'] : {};
    const name = typeof meta['name'] === 'string' && meta['name'] !== '' ? meta['name'] : '?';
    return keyOf({ namespace: namespaceOf(kind, meta['namespace']), name });
  }
}

function namespaceOf(kind: Kind, namespace: unknown): string {
  if (!IS_NAMESPACED[kind]) return '';
  return typeof namespace === 'string' && namespace !== '' ? namespace : 'default';
}

/** Undefined, with a complaint, where the object has no usable name. */
function projectMeta(kind: Kind, raw: RawObject, read: FieldReader): ObjectMeta | undefined {
  const meta = read.object(raw['metadata'], 'metadata');
  const name = nameOf(meta['name'], 'metadata.name', read);
  const isPlaced =
    isAbsent(meta['namespace']) || meta['namespace'] === '' || nameOf(meta['namespace'], 'metadata.namespace', read);
  if (name === undefined || isPlaced === undefined) return undefined;
  return {
    namespace: read.string(namespaceOf(kind, meta['namespace']), 'metadata.namespace'),
    name,
    uid: typeof meta['uid'] === 'string' ? meta['uid'] : '',
    creationTimestamp: millisecondsOf(meta['creationTimestamp'], read),
  };
}

/** RFC 1123 names hold no slash; whatever else is odd about a name does no harm here. */
function nameOf(value: unknown, field: string, read: FieldReader): string | undefined {
  if (typeof value === 'string' && value !== '' && !value.includes('/')) return value;
  read.complain(field, value, 'the object is ignored; give it a name of lower-case letters, digits, "-" and "."');
  return undefined;
}

/** RFC 3339 text, as the API writes metav1.Time. */
function millisecondsOf(value: unknown, read: FieldReader): number {
  if (isAbsent(value)) return 0;
  const milliseconds = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  if (!Number.isNaN(milliseconds)) return milliseconds;
  read.complain('metadata.creationTimestamp', value, 'not an RFC 3339 time, taken as unknown');
  return 0;
}
