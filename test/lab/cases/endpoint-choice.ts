/**
 * Which endpoints answer. Each case is a Service with a cluster IP, an external IP and a node port, all of them on TCP port 80 and UDP port 80,
 * and the outcome of connections through node1. `cluster` is what pods and the node itself get at the cluster IP, `external` what a host
 * outside gets at the external IP and at node1's node port, `inside` what pods and the node itself get there (Kubernetes: externalTrafficPolicy
 * is about traffic from outside; for the cluster's own it is as with policy Cluster).
 *
 * Outcomes: the pods that answer, all of them and no other; `refused` at once (TCP reset or ICMP error); `timeout`: dropped in silence.
 */

/** A pod of the lab and its conditions as the API writes them; unset ones are absent. */
export interface CaseEndpoint {
  readonly pod: 'pod-1-1' | 'pod-1-2' | 'pod-2-1' | 'pod-3-1';
  readonly is: 'ready' | 'unknown' | 'not ready' | 'terminating, serving' | 'terminating';
}

export interface EndpointCase {
  readonly title: string;
  readonly internalTrafficPolicy?: 'Local';
  readonly externalTrafficPolicy?: 'Local';
  readonly annotations?: Readonly<Record<string, string>>;
  readonly endpoints: readonly CaseEndpoint[];
  readonly cluster: string;
  readonly external: string;
  /** As `external` unless told. */
  readonly inside?: string;
}

function at(pod: CaseEndpoint['pod'], is: CaseEndpoint['is'] = 'ready'): CaseEndpoint {
  return { pod, is };
}

export const ENDPOINT_CASES: readonly EndpointCase[] = [
  {
    title: 'ready endpoints everywhere, policy Cluster',
    endpoints: [at('pod-1-1'), at('pod-2-1'), at('pod-3-1')],
    cluster: 'pod-1-1 pod-2-1 pod-3-1',
    external: 'pod-1-1 pod-2-1 pod-3-1',
  },
  {
    title: 'an endpoint whose readiness is not told counts as ready',
    endpoints: [at('pod-1-1', 'unknown'), at('pod-2-1')],
    cluster: 'pod-1-1 pod-2-1',
    external: 'pod-1-1 pod-2-1',
  },
  {
    title: 'one of two is not ready',
    endpoints: [at('pod-1-1', 'not ready'), at('pod-2-1')],
    cluster: 'pod-2-1',
    external: 'pod-2-1',
  },
  {
    title: 'none is ready',
    endpoints: [at('pod-1-1', 'not ready'), at('pod-2-1', 'not ready')],
    cluster: 'refused',
    external: 'refused',
  },
  {
    title: 'no endpoint at all',
    endpoints: [],
    cluster: 'refused',
    external: 'refused',
  },
  {
    title: 'no endpoint at all, both policies Local',
    internalTrafficPolicy: 'Local',
    externalTrafficPolicy: 'Local',
    endpoints: [],
    cluster: 'refused',
    external: 'refused',
  },
  {
    title: 'one ready, one terminates and still serves',
    endpoints: [at('pod-1-1', 'terminating, serving'), at('pod-2-1')],
    cluster: 'pod-2-1',
    external: 'pod-2-1',
  },
  {
    title: 'all terminate, some still serve',
    endpoints: [at('pod-1-1', 'terminating, serving'), at('pod-2-1', 'terminating, serving'), at('pod-3-1', 'terminating')],
    cluster: 'pod-1-1 pod-2-1',
    external: 'pod-1-1 pod-2-1',
  },
  {
    title: 'all terminate, none serves',
    endpoints: [at('pod-1-1', 'terminating'), at('pod-2-1', 'terminating')],
    cluster: 'refused',
    external: 'refused',
  },
  {
    title: 'externalTrafficPolicy Local, endpoints here and elsewhere',
    externalTrafficPolicy: 'Local',
    endpoints: [at('pod-1-1'), at('pod-1-2'), at('pod-2-1')],
    cluster: 'pod-1-1 pod-1-2 pod-2-1',
    external: 'pod-1-1 pod-1-2',
    inside: 'pod-1-1 pod-1-2 pod-2-1',
  },
  {
    title: 'externalTrafficPolicy Local, endpoints elsewhere only',
    externalTrafficPolicy: 'Local',
    endpoints: [at('pod-2-1'), at('pod-3-1')],
    cluster: 'pod-2-1 pod-3-1',
    external: 'timeout',
    inside: 'pod-2-1 pod-3-1',
  },
  {
    title: 'externalTrafficPolicy Local, the endpoint here is not ready',
    externalTrafficPolicy: 'Local',
    endpoints: [at('pod-1-1', 'not ready'), at('pod-2-1')],
    cluster: 'pod-2-1',
    external: 'timeout',
    inside: 'pod-2-1',
  },
  {
    title: 'externalTrafficPolicy Local, the endpoint here terminates and still serves, one elsewhere is ready',
    externalTrafficPolicy: 'Local',
    endpoints: [at('pod-1-1', 'terminating, serving'), at('pod-2-1')],
    cluster: 'pod-2-1',
    external: 'pod-1-1',
    inside: 'pod-2-1',
  },
  {
    title: 'internalTrafficPolicy Local, endpoints here and elsewhere',
    internalTrafficPolicy: 'Local',
    endpoints: [at('pod-1-1'), at('pod-2-1')],
    cluster: 'pod-1-1',
    external: 'pod-1-1 pod-2-1',
  },
  {
    title: 'internalTrafficPolicy Local, endpoints elsewhere only',
    internalTrafficPolicy: 'Local',
    endpoints: [at('pod-2-1')],
    cluster: 'timeout',
    external: 'pod-2-1',
  },
  {
    title: 'annotation service.local, endpoints here and elsewhere',
    annotations: { 'kube-router.io/service.local': 'true' },
    endpoints: [at('pod-1-1'), at('pod-2-1')],
    cluster: 'pod-1-1',
    external: 'pod-1-1',
    inside: 'pod-1-1 pod-2-1',
  },
  {
    title: 'annotation service.local, endpoints elsewhere only',
    annotations: { 'kube-router.io/service.local': 'true' },
    endpoints: [at('pod-2-1')],
    cluster: 'timeout',
    external: 'timeout',
    inside: 'pod-2-1',
  },
];
