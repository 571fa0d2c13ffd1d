/** Kubernetes objects for the lab: what an API server would hold about its nodes, pods and Services. */
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

/** The namespace of every Service and slice here. */
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

/** A manifest of these objects: one JSON document each, which is YAML. */
export function manifest(objects: Iterable<ApiObject>): string {
  return [...objects].map(object => `${JSON.stringify(object)}\n`).join('---\n');
}
