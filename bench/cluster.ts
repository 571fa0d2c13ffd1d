/**
 * The cluster that is measured: as many Services as asked for, each with one port and one slice of ten endpoints, as the API server sends
 * them (with the managedFields that make up a fifth of their text).
 *
 * | what | addresses |
 * |---|---|
 * | cluster IP of Service `svc-N` | 10.96.0.0/13, from 10.96.1.0 on |
 * | endpoints (nobody answers there) | 10.128.0.0/10 |
 * | Service `probe`, whose endpoints are pods of the lab | 10.95.0.1 |
 */

export const ENDPOINTS_PER_SERVICE = 10;
export const PROBE_ADDRESS = '10.95.0.1';
export const PROBE_PORT = 80;
export const TARGET_PORT = 8080;

/** The endpoints are spread over so many nodes; the one that is measured, node1, has every hundredth. */
const NODES = 100;

const CREATED = '2026-01-01T00:00:00Z';
const FIRST_CLUSTER_IP = 0x0a60_0100;
const FIRST_ENDPOINT = 0x0a80_0000;
/** Endpoints of further generations of a Service, for events that bring a new one. */
const FIRST_CHANGED_ENDPOINT = 0x0ab0_0000;

export interface ApiMetadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** An API object as far as a fake API server or a projector needs to know it. */
export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ApiMetadata;
  readonly [field: string]: unknown;
}

function dotted(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

export function clusterIp(service: number): string {
  return dotted(FIRST_CLUSTER_IP + service);
}

/** The address of one endpoint; `generation` above 0 gives addresses that no Service had before. */
export function endpointAddress(service: number, endpoint: number, generation = 0): string {
  if (generation > 0) return dotted(FIRST_CHANGED_ENDPOINT + generation);
  return dotted(FIRST_ENDPOINT + service * ENDPOINTS_PER_SERVICE + endpoint);
}

/** One `ipvsadm -R` line for each entry that these Services become in the kernel. */
export function* restoreLines(services: number): Generator<string, void> {
  for (let service = 0; service < services; service++) {
    const listener = `${clusterIp(service)}:${PROBE_PORT}`;
    yield `-A -t ${listener} -s rr\n`;
    for (let endpoint = 0; endpoint < ENDPOINTS_PER_SERVICE; endpoint++) {
      yield `-a -t ${listener} -r ${endpointAddress(service, endpoint)}:${TARGET_PORT} -m -w 1\n`;
    }
  }
}

export function serviceObject(name: string, address: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(name, name, { app: name }),
    spec: {
      clusterIP: address,
      clusterIPs: [address],
      internalTrafficPolicy: 'Cluster',
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      ports: [{ name: 'http', port: PROBE_PORT, protocol: 'TCP', targetPort: TARGET_PORT }],
      selector: { app: name },
      sessionAffinity: 'None',
      type: 'ClusterIP',
    },
    status: { loadBalancer: {} },
  };
}

/** An endpoint as a slice names it. */
export interface SliceEndpoint {
  readonly address: string;
  readonly nodeName: string;
}

export function sliceObject(service: string, endpoints: readonly SliceEndpoint[]): ApiObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    addressType: 'IPv4',
    metadata: metadata(`${service}-abcde`, service, {
      app: service,
      'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
      'kubernetes.io/service-name': service,
    }),
    endpoints: endpoints.map(({ address, nodeName }, index) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName,
      targetRef: { kind: 'Pod', name: `${service}-7d4b9c6f5-${index}`, namespace: 'default', uid: uid(`${service}${index}`) },
      zone: 'zone-a',
    })),
    ports: [{ name: 'http', port: TARGET_PORT, protocol: 'TCP' }],
  };
}

export function nodeObject(number: number, address: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `node${number}`, labels: { 'kubernetes.io/hostname': `node${number}` } },
    spec: { podCIDR: `10.244.${number}.0/24`, podCIDRs: [`10.244.${number}.0/24`] },
    status: { addresses: [{ type: 'InternalIP', address }] },
  };
}

export function serviceName(service: number): string {
  return `svc-${String(service).padStart(5, '0')}`;
}

/** The slice of a Service; with a generation, one endpoint of it, on another node than node1, is new. */
export function sliceOf(service: number, generation = 0): ApiObject {
  const endpoints = Array.from({ length: ENDPOINTS_PER_SERVICE }, (_, endpoint) => ({
    address: endpointAddress(service, endpoint, endpoint === 1 ? generation : 0),
    nodeName: `node${((service * ENDPOINTS_PER_SERVICE + endpoint) % NODES) + 1}`,
  }));
  return sliceObject(serviceName(service), endpoints);
}

/** Service after Service, each followed by its slice. */
export function* clusterObjects(services: number): Generator<ApiObject, void> {
  for (let service = 0; service < services; service++) {
    yield serviceObject(serviceName(service), clusterIp(service));
    yield sliceOf(service);
  }
}

function metadata(name: string, owner: string, labels: Readonly<Record<string, string>>): ApiMetadata & Record<string, unknown> {
  return {
    name,
    namespace: 'default',
    labels,
    uid: uid(name),
    creationTimestamp: CREATED,
    generation: 1,
    managedFields: [
      {
        apiVersion: 'v1',
        fieldsType: 'FieldsV1',
        fieldsV1: {
          'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } },
          'f:spec': { 'f:ports': {}, 'f:selector': { 'f:app': {} } },
        },
        manager: 'kube-controller-manager',
        operation: 'Update',
        time: CREATED,
      },
    ],
    annotations: { 'example.org/team': owner },
  };
}

/** Shaped like a UUID, the same for the same text. */
function uid(text: string): string {
  let hash = 0;
  for (const character of text) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  const hex = hash.toString(16).padStart(8, '0');
  return `${hex}-0000-4000-8000-${hex}0000`;
}
