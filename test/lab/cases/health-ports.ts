/**
 * What a load balancer gets at `spec.healthCheckNodePort`. API: "External systems (e.g. load-balancers) can use this port to determine if a given node
 * holds endpoints for this service or not." As kube-proxy answers (pkg/proxy/healthcheck): 200 with endpoints on the node that are ready, 503 without;
 * KEP-1669: endpoints that terminate do not count, so that load balancers turn away while those still serve.
 */
type Condition = 'ready' | 'unready' | 'terminating, serving';

export interface HealthCase {
  readonly title: string;
  readonly endpoints: readonly (readonly [pod: string, Condition])[];
  /** On node1; the weight of X-Load-Balancing-Endpoint-Weight is the same number. */
  readonly localEndpoints: number;
  readonly status: 200 | 503;
}

export const HEALTH_CASES: readonly HealthCase[] = [
  { title: 'no endpoint at all', endpoints: [], localEndpoints: 0, status: 503 },
  { title: 'endpoints of other nodes', endpoints: [['pod-2-1', 'ready']], localEndpoints: 0, status: 503 },
  {
    title: 'one here, one elsewhere',
    endpoints: [
      ['pod-1-1', 'ready'],
      ['pod-2-1', 'ready'],
    ],
    localEndpoints: 1,
    status: 200,
  },
  {
    title: 'two here',
    endpoints: [
      ['pod-1-1', 'ready'],
      ['pod-1-2', 'ready'],
    ],
    localEndpoints: 2,
    status: 200,
  },
  {
    title: 'one ready here, one terminates and still serves',
    endpoints: [
      ['pod-1-1', 'ready'],
      ['pod-1-2', 'terminating, serving'],
    ],
    localEndpoints: 1,
    status: 200,
  },
  {
    title: 'the only one terminates and still serves',
    endpoints: [['pod-1-1', 'terminating, serving']],
    localEndpoints: 0,
    status: 503,
  },
  { title: 'the only one here is not ready', endpoints: [['pod-1-1', 'unready']], localEndpoints: 0, status: 503 },
];

/**
 * The daemon's own pages, by what is told of its Node. KEP-3836: /healthz fails for a Node that is being deleted, by its deletionTimestamp or the
 * taint ToBeDeletedByClusterAutoscaler; /livez does not, so that nothing restarts the daemon for it.
 */
export interface LeavingCase {
  readonly title: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly pages: Readonly<Record<'/healthz' | '/livez' | '/readyz', 200 | 503>>;
}

const STAYS = { '/healthz': 200, '/livez': 200, '/readyz': 200 } as const;
const LEAVES = { ...STAYS, '/healthz': 503 } as const;

export const LEAVING_CASES: readonly LeavingCase[] = [
  { title: 'a Node as any', metadata: {}, spec: {}, pages: STAYS },
  {
    title: 'the taint of the cluster autoscaler',
    metadata: {},
    spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', value: '1760000000', effect: 'NoSchedule' }] },
    pages: LEAVES,
  },
  {
    title: 'another taint',
    metadata: {},
    spec: { taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }], unschedulable: true },
    pages: STAYS,
  },
  { title: 'a deletionTimestamp', metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' }, spec: {}, pages: LEAVES },
  { title: 'neither any more', metadata: {}, spec: {}, pages: STAYS },
];
