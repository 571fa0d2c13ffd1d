/** Kubernetes objects for the lab: what an API server would hold about its nodes, pods, Services and policies. */
import type { Addresses, LabNode, LabPod } from './addresses.ts';

export type Family = keyof Addresses;
export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** An API object; what is in it beyond its name is the test's business, nonsense included. */
export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly creationTimestamp?: string;
  };
  readonly [field: string]: unknown;
}

export interface Conditions {
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
}

/** The namespace of every object here that has one and is not told another. */
export const NAMESPACE = 'lab';

/** A Node with an InternalIP and a pod CIDR of each family. */
export function nodeObject(node: LabNode): ApiObject {
  const { ipv4, ipv6 } = node.addresses;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node.name },
    spec: { podCIDRs: [node.podCidrs.ipv4, node.podCidrs.ipv6] },
    status: {
      addresses: [
        { type: 'InternalIP', address: ipv4 },
        { type: 'InternalIP', address: ipv6 },
      ],
    },
  };
}

export interface ServiceExtras {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly creationTimestamp?: string;
  /** Load-balancer addresses of its status. */
  readonly loadBalancerIPs?: readonly string[];
}

/** A Service with this spec. */
export function service(name: string, spec: Readonly<Record<string, unknown>>, extras: ServiceExtras = {}): ApiObject {
  const { annotations, creationTimestamp, loadBalancerIPs } = extras;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: NAMESPACE,
      ...(annotations === undefined ? {} : { annotations }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
    spec,
    ...(loadBalancerIPs === undefined ? {} : { status: { loadBalancer: { ingress: loadBalancerIPs.map(ip => ({ ip })) } } }),
  };
}

export interface SlicePort {
  readonly name?: string;
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
  readonly port: number | null;
}

/** An endpoint as a slice lists it. */
export interface SliceEndpoint {
  readonly addresses: readonly string[];
  readonly nodeName?: string;
  readonly conditions?: Conditions;
  readonly hints?: Hints;
}

/** For which consumers an endpoint is meant. */
export interface Hints {
  readonly forNodes?: readonly { readonly name: string }[];
  readonly forZones?: readonly { readonly name: string }[];
}

/** A pod as an endpoint; ready unless told. */
export function endpoint(pod: LabPod, family: Family = 'ipv4', conditions: Conditions = { ready: true }): SliceEndpoint {
  return { addresses: [pod.addresses[family]], nodeName: pod.node, conditions };
}

/** A slice of a Service. Its name is the Service's with a suffix: several slices need several suffixes. */
export function slice(
  of: string,
  ports: readonly SlicePort[],
  endpoints: readonly SliceEndpoint[],
  options: { readonly family?: Family; readonly suffix?: string } = {},
): ApiObject {
  const { family = 'ipv4', suffix = family } = options;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${of}-${suffix}`, namespace: NAMESPACE, labels: { 'kubernetes.io/service-name': of } },
    addressType: family === 'ipv4' ? 'IPv4' : 'IPv6',
    ports,
    endpoints,
  };
}

export interface NamedPort {
  readonly name: string;
  readonly port: number;
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
}

export interface PodExtras {
  readonly labels?: Readonly<Record<string, string>>;
  readonly namespace?: string;
  readonly namedPorts?: readonly NamedPort[];
  readonly creationTimestamp?: string;
  /** Added to spec and status, or in place of what is there. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
}

/** What a Pod needs of a lab's pod. */
export type PodPlace = Pick<LabPod, 'name' | 'node' | 'addresses'>;

/** A running Pod with an address of each family. */
export function podObject(pod: PodPlace, extras: PodExtras = {}): ApiObject {
  const { labels = {}, namespace = NAMESPACE, namedPorts = [], creationTimestamp, spec = {}, status = {} } = extras;
  const { ipv4, ipv6 } = pod.addresses;
  const ports = namedPorts.map(({ name, port, protocol = 'TCP' }) => ({ name, containerPort: port, protocol }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: pod.name, namespace, labels, ...(creationTimestamp === undefined ? {} : { creationTimestamp }) },
    spec: { nodeName: pod.node, containers: [{ name: 'main', ports }], ...spec },
    status: { phase: 'Running', podIP: ipv4, podIPs: [{ ip: ipv4 }, { ip: ipv6 }], ...status },
  };
}

/** A Namespace with these labels and the one that an API server gives it. */
export function namespaceObject(name: string, labels: Readonly<Record<string, string>> = {}): ApiObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { 'kubernetes.io/metadata.name': name, ...labels } } };
}

/** A NetworkPolicy with this spec; without `podSelector` it selects every pod of its namespace. */
export function networkPolicyObject(
  name: string,
  spec: Readonly<Record<string, unknown>>,
  extras: { readonly namespace?: string } = {},
): ApiObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: extras.namespace ?? NAMESPACE },
    spec: { podSelector: {}, ...spec },
  };
}

/** A manifest of these objects: one JSON document each, which is YAML. */
export function manifest(objects: Iterable<ApiObject>): string {
  return [...objects].map(object => `${JSON.stringify(object)}\n`).join('---\n');
}
