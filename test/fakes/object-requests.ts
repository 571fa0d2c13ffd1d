/**
 * Requests for single objects, as an API server answers them: get, create, update, patch and delete with optimistic locking, the status
 * subresource and the field managers of `status.loadBalancer` (https://kubernetes.io/docs/reference/using-api/api-concepts/).
 */
import type { ApiObject, ObjectStore, ResourceName } from './object-store.ts';
import { faultOf } from './validation.ts';

/** What a path is about. */
export interface Place {
  readonly resource: ResourceName;
  readonly apiVersion: string;
  readonly kind: string;
  /** '' for all namespaces, and for what has none. */
  readonly namespace: string;
  /** '' for the collection. */
  readonly name: string;
  readonly subresource: string;
}

export interface ObjectRequest {
  readonly method: string;
  readonly url: URL;
  readonly body: string;
  readonly userAgent: string;
}

export interface Answer {
  readonly status: number;
  readonly json: string;
}

interface Kept {
  readonly resource: ResourceName;
  readonly kind: string;
  readonly scope: 'namespace' | 'cluster';
}

const KINDS: Readonly<Record<string, readonly Kept[]>> = {
  v1: [
    { resource: 'services', kind: 'Service', scope: 'namespace' },
    { resource: 'nodes', kind: 'Node', scope: 'cluster' },
    { resource: 'pods', kind: 'Pod', scope: 'namespace' },
    { resource: 'namespaces', kind: 'Namespace', scope: 'cluster' },
    { resource: 'configmaps', kind: 'ConfigMap', scope: 'namespace' },
    { resource: 'events', kind: 'Event', scope: 'namespace' },
  ],
  'discovery.k8s.io/v1': [{ resource: 'endpointslices', kind: 'EndpointSlice', scope: 'namespace' }],
  'networking.k8s.io/v1': [{ resource: 'networkpolicies', kind: 'NetworkPolicy', scope: 'namespace' }],
  'coordination.k8s.io/v1': [{ resource: 'leases', kind: 'Lease', scope: 'namespace' }],
};

/** Undefined where the path is about nothing that is kept here. */
export function placeOf(pathname: string): Place | undefined {
  const [, apiVersion = '', rest = ''] = /^\/(?:api|apis)\/((?:[^/]+\/)?v1)\/(.+)$/.exec(pathname) ?? [];
  const parts = rest.split('/').map(decodeURIComponent);
  const isNamespaced = parts[0] === 'namespaces' && parts.length > 2;
  const namespace = isNamespaced ? (parts[1] ?? '') : '';
  const [resource, name = '', subresource = ''] = isNamespaced ? parts.slice(2) : parts;
  const kept = KINDS[apiVersion]?.find(each => each.resource === resource);
  if (kept === undefined || (kept.scope === 'namespace' && name !== '' && namespace === '')) return undefined;
  return { resource: kept.resource, apiVersion, kind: kept.kind, namespace, name, subresource };
}

/** As RBAC names what is asked for. */
export function verbOf(method: string, { name }: Place, url: URL): string {
  if (method === 'GET' && name !== '') return 'get';
  if (method === 'GET') return url.searchParams.get('watch') === 'true' ? 'watch' : 'list';
  return { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method] ?? method.toLowerCase();
}

type Fields = Readonly<Record<string, unknown>>;

export class ObjectRequests {
  readonly #store: ObjectStore;
  readonly #now: () => number;

  /** @param now milliseconds since the epoch, for timestamps */
  constructor(store: ObjectStore, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  answer(place: Place, request: ObjectRequest): Answer {
    const { kind, namespace, name } = place;
    const current = this.#store.get(kind, namespace, name);
    if (request.method === 'POST') return this.#create(place, request);
    if (current === undefined) return refusal(404, `${place.resource} "${name}" not found`, 'NotFound');
    switch (request.method) {
      case 'GET':
        return granted(200, current);
      case 'PUT':
        return this.#replace(place, request, current, parsed(request.body));
      case 'PATCH':
        return this.#replace(place, request, current, merged(current, parsed(request.body)) as ApiObject);
      case 'DELETE':
        this.#store.delete(kind, namespace, name);
        return granted(200, { kind: 'Status', apiVersion: 'v1', status: 'Success' });
      default:
        return refusal(405, 'the server does not allow this method on the requested resource', 'MethodNotAllowed');
    }
  }

  #create(place: Place, { body }: ObjectRequest): Answer {
    const sent = parsed(body);
    const { kind, apiVersion, namespace } = place;
    const name = sent.metadata?.name ?? '';
    if (name === '' || (sent.metadata?.namespace ?? namespace) !== namespace)
      return refusal(422, 'metadata.name: Required value: name or generateName is required', 'Invalid');
    if (this.#store.get(kind, namespace, name) !== undefined)
      return refusal(409, `${place.resource} "${name}" already exists`, 'AlreadyExists');
    const metadata = { ...sent.metadata, namespace, uid: crypto.randomUUID(), creationTimestamp: this.#time() };
    const created = { ...sent, apiVersion, kind, metadata };
    const fault = faultOf(place.resource, created);
    if (fault !== undefined) return refusal(422, `${kind} "${name}" is invalid: ${fault}`, 'Invalid');
    this.#store.put(created);
    return granted(201, this.#store.get(kind, namespace, name) ?? {});
  }

  #replace(place: Place, request: ObjectRequest, current: ApiObject, sent: ApiObject): Answer {
    const { kind, namespace, name, resource, subresource } = place;
    const [was, asked] = [metadataOf(current), metadataOf(sent)];
    if (asked['uid'] !== undefined && asked['uid'] !== was['uid'])
      return refusal(409, `Precondition failed: UID in precondition: ${JSON.stringify(asked['uid'])}`, 'Conflict');
    const isConditional = asked['resourceVersion'] !== undefined && asked['resourceVersion'] !== '';
    if (!isConditional && resource === 'leases')
      return refusal(422, 'metadata.resourceVersion: Invalid value: 0x0: must be specified for an update', 'Invalid');
    if (isConditional && asked['resourceVersion'] !== was['resourceVersion']) {
      const remedy = 'the object has been modified; please apply your changes to the latest version and try again';
      return refusal(409, `Operation cannot be fulfilled on ${resource} "${name}": ${remedy}`, 'Conflict');
    }
    const kept = { uid: was['uid'], creationTimestamp: was['creationTimestamp'], managedFields: was['managedFields'] };
    const metadata = { ...(subresource === 'status' ? was : asked), ...kept, name, namespace } as ApiObject['metadata'] & object;
    // Each of the two writes its half only.
    const hasStatus = resource === 'services';
    const halves = subresource === 'status' ? { ...current, status: sent['status'] } : { ...sent };
    // A Service that stops being a load balancer loses its status.
    const isBalancer = fieldsOf(sent['spec'])['type'] === 'LoadBalancer';
    if (subresource === '' && hasStatus)
      Object.assign(halves, { status: isBalancer ? current['status'] : { ...fieldsOf(current['status']), loadBalancer: {} } });
    const next = { ...halves, apiVersion: place.apiVersion, kind, metadata };
    const fault = faultOf(resource, next);
    if (fault !== undefined) return refusal(422, `${kind} "${name}" is invalid: ${fault}`, 'Invalid');
    // What changes nothing is not written, and has no new version.
    if (sameButVersion(current, next)) return granted(200, current);
    this.#store.put(hasStatus ? this.#withManager(current, next, request) : next);
    return granted(200, this.#store.get(kind, namespace, name) ?? {});
  }

  /** Who last changed `status.loadBalancer.ingress` (an atomic list) owns it (server-side apply's books are kept for updates as well). */
  #withManager(current: ApiObject, next: ApiObject, { url, userAgent }: ObjectRequest): ApiObject {
    if (JSON.stringify(ingressOf(current)) === JSON.stringify(ingressOf(next))) return next;
    const manager = url.searchParams.get('fieldManager') ?? userAgent.split('/')[0] ?? '';
    const former = metadataOf(current)['managedFields'];
    const others = Array.isArray(former) ? (former as readonly Fields[]).filter(({ fieldsV1 }) => !ownsIngress(fieldsV1)) : [];
    const entry = {
      manager,
      operation: 'Update',
      apiVersion: 'v1',
      time: this.#time(),
      fieldsType: 'FieldsV1',
      fieldsV1: { 'f:status': { 'f:loadBalancer': { 'f:ingress': {} } } },
      subresource: 'status',
    };
    const owned = ingressOf(next) === undefined ? [] : [entry];
    return { ...next, metadata: { ...next.metadata, managedFields: [...others, ...owned] } as ApiObject['metadata'] & object };
  }

  #time(): string {
    return new Date(this.#now()).toISOString().replace(/\.[0-9]+Z$/, 'Z');
  }
}

export function refusal(code: number, message: string, reason: string): Answer {
  return granted(code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code });
}

function granted(status: number, object: object): Answer {
  return { status, json: JSON.stringify(object) };
}

function parsed(body: string): ApiObject {
  return JSON.parse(body) as ApiObject;
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function metadataOf(object: ApiObject): Fields {
  return fieldsOf(object.metadata);
}

function ingressOf(object: ApiObject): unknown {
  return fieldsOf(fieldsOf(object['status'])['loadBalancer'])['ingress'];
}

function ownsIngress(fieldsV1: unknown): boolean {
  return fieldsOf(fieldsOf(fieldsOf(fieldsV1)['f:status'])['f:loadBalancer'])['f:ingress'] !== undefined;
}

function sameButVersion(current: ApiObject, next: ApiObject): boolean {
  const bare = (object: ApiObject): string => canonical({ ...object, metadata: { ...metadataOf(object), resourceVersion: '' } });
  return bare(current) === bare(next);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** JSON Merge Patch (RFC 7386). */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result = new Map<string, unknown>(Object.entries(fieldsOf(target)));
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) result.delete(field);
    else result.set(field, merged(result.get(field), value));
  }
  return Object.fromEntries(result);
}
