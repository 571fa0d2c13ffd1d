/**
 * The cluster under network policy: namespaces of one shape, pods spread over them, policies as real clusters have them. All as the API
 * server sends it. `node1` is measured and has the first pods.
 *
 * | what | addresses |
 * |---|---|
 * | pods of node1 | 10.244.0.0/22, from 10.244.0.2 on |
 * | pods elsewhere | 10.128.0.0/10, those of the number they have |
 * | node1, and a host outside of the cluster that policies let pods talk to | 192.168.1.1, 192.168.1.100 |
 */
import type { ApiObject } from './cluster.ts';

export interface PolicyClusterSize {
  /** Pods of node1. */
  readonly localPods: number;
  /** All pods, those of node1 among them. */
  readonly pods: number;
  readonly namespaces: number;
  readonly policies: number;
}

export const NODE_NAME = 'node1';
export const NODE_ADDRESS = '192.168.1.1';
export const NODE_POD_CIDR = '10.244.0.0/22';
export const GATEWAY = '10.244.0.1';
export const OUTSIDE_ADDRESS = '192.168.1.100';
/** Every address in it is the outside host's too. */
export const OUTSIDE_RANGE = '10.9.0.0/16';
/** UDP, allowed to the outside host from every pod, and from the neighbouring namespaces' web pods to api pods. */
export const PROBE_PORT = 5000;

const CREATED = '2026-01-01T00:00:00Z';
const TIERS = ['api', 'web', 'job'] as const;
export type Tier = (typeof TIERS)[number];
const FIRST_LOCAL = 0x0af4_0002;
const FIRST_REMOTE = 0x0a80_0000;
const PODS_A_NODE = 100;

export function namespaceName(namespace: number): string {
  return `team-${String(namespace).padStart(3, '0')}`;
}

export function podAddress(pod: number, { localPods }: PolicyClusterSize): string {
  const value = pod < localPods ? FIRST_LOCAL + pod : FIRST_REMOTE + pod;
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

export function namespaceOf(pod: number, { namespaces }: PolicyClusterSize): number {
  return pod % namespaces;
}

/** Within its namespace a pod has the next tier. */
export function tierOf(pod: number, { namespaces }: PolicyClusterSize): Tier {
  return TIERS[Math.floor(pod / namespaces) % TIERS.length] ?? 'job';
}

/** The team is what policies of other namespaces choose it by. */
export function namespaceObject(namespace: number, team = `team-${namespace}`): ApiObject {
  const name = namespaceName(namespace);
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: metadata('', name, { team, stage: namespace % 2 === 0 ? 'live' : 'test', 'kubernetes.io/metadata.name': name }),
    spec: { finalizers: ['kubernetes'] },
    status: { phase: 'Active' },
  };
}

export function podLabels(pod: number, size: PolicyClusterSize): Readonly<Record<string, string>> {
  const tier = tierOf(pod, size);
  return {
    app: `app-${pod % 7}`,
    tier,
    'app.kubernetes.io/name': tier,
    'app.kubernetes.io/managed-by': 'Helm',
    'pod-template-hash': `7d4b9c6f${pod % 10}`,
  };
}

/** About 2 KB of text. `labels` are laid over those it has. */
export function podObject(pod: number, size: PolicyClusterSize, labels: Readonly<Record<string, string>> = {}): ApiObject {
  const namespace = namespaceName(namespaceOf(pod, size));
  const address = podAddress(pod, size);
  const node = pod < size.localPods ? 1 : 2 + Math.floor(pod / PODS_A_NODE);
  const hostIP = node === 1 ? NODE_ADDRESS : `192.168.${node >> 8}.${node & 255}`;
  const merged = { ...podLabels(pod, size), ...labels };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: metadata(namespace, `pod-${String(pod).padStart(5, '0')}`, merged),
    spec: {
      containers: [
        {
          name: 'main',
          image: 'registry.example.org/shop/main:1.2.3',
          env: ['LOG_LEVEL', 'DATABASE_URL', 'CACHE_URL', 'REGION'].map(name => ({ name, value: `${name.toLowerCase()}-value` })),
          ports: [
            { name: 'http', containerPort: 8080, protocol: 'TCP' },
            { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
          ],
          resources: { limits: { cpu: '1', memory: '512Mi' }, requests: { cpu: '100m', memory: '128Mi' } },
          livenessProbe: { httpGet: { path: '/healthz', port: 'http', scheme: 'HTTP' }, periodSeconds: 10, timeoutSeconds: 1 },
          volumeMounts: [{ name: 'kube-api-access', readOnly: true, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }],
        },
      ],
      nodeName: `node${node}`,
      restartPolicy: 'Always',
      serviceAccountName: 'default',
      tolerations: ['not-ready', 'unreachable'].map(key => ({
        effect: 'NoExecute',
        key: `node.kubernetes.io/${key}`,
        operator: 'Exists',
        tolerationSeconds: 300,
      })),
    },
    status: {
      phase: 'Running',
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map(type => ({
        type,
        status: 'True',
        lastTransitionTime: CREATED,
      })),
      hostIP,
      hostIPs: [{ ip: hostIP }],
      podIP: address,
      podIPs: [{ ip: address }],
      startTime: CREATED,
    },
  };
}

/** What varies between two versions of one policy. */
export interface PolicyVariation {
  /** Further UDP ports that web pods of the neighbouring namespaces may reach. */
  readonly ports: readonly number[];
}

type Rules = readonly object[];
interface PolicySpec {
  readonly podSelector: object;
  readonly ingress?: Rules;
  readonly egress?: Rules;
  readonly policyTypes: readonly string[];
}
type SpecOf = (namespace: number, size: PolicyClusterSize, variation: PolicyVariation) => PolicySpec;

const udp = (port: number): object => ({ protocol: 'UDP', port });
const tcp = (port: number | string, endPort?: number): object => ({ protocol: 'TCP', port, ...(endPort && { endPort }) });
const tier = (name: Tier): object => ({ matchLabels: { tier: name } });
const EVERYONE_HERE = { podSelector: {} };

/** One namespace's policies by name, the most usual first: a namespace with fewer has the first ones. */
const SPECS: Readonly<Record<string, SpecOf>> = {
  'default-deny': () => ({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] }),
  neighbours: (namespace, { namespaces }, { ports }) => ({
    podSelector: tier('api'),
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [
          {
            namespaceSelector: {
              matchExpressions: [
                { key: 'team', operator: 'In', values: [1, 2].map(next => `team-${(namespace + next) % namespaces}`) },
              ],
            },
            podSelector: tier('web'),
          },
        ],
        ports: [udp(PROBE_PORT), ...ports.map(udp), tcp('metrics')],
      },
    ],
  }),
  outside: () => ({
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [
      {
        to: [{ ipBlock: { cidr: '192.168.1.0/24', except: ['192.168.1.1/32'] } }, { ipBlock: { cidr: OUTSIDE_RANGE } }],
        ports: [udp(PROBE_PORT), tcp(443)],
      },
    ],
  }),
  'same-namespace': () => ({
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ from: [EVERYONE_HERE] }],
    egress: [{ to: [EVERYONE_HERE] }],
  }),
  dns: () => ({
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [
      {
        to: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'team-000' } },
            podSelector: { matchLabels: { app: 'app-1' } },
          },
        ],
        ports: [udp(53), tcp(53)],
      },
    ],
  }),
  'web-to-api': () => ({
    podSelector: tier('api'),
    policyTypes: ['Ingress'],
    ingress: [{ from: [{ podSelector: tier('web') }], ports: [tcp('http')] }],
  }),
  'api-to-job': () => ({
    podSelector: tier('job'),
    policyTypes: ['Ingress'],
    ingress: [{ from: [{ podSelector: tier('api') }], ports: [tcp(5432)] }],
  }),
  'load-balancers': () => ({
    podSelector: tier('web'),
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [{ ipBlock: { cidr: '203.0.113.0/24', except: ['203.0.113.64/26'] } }, { ipBlock: { cidr: '198.51.100.0/25' } }],
        ports: [tcp('http'), tcp(30_000, 30_999)],
      },
    ],
  }),
  'live-to-web': () => ({
    podSelector: tier('web'),
    policyTypes: ['Ingress'],
    ingress: [
      { from: [{ namespaceSelector: { matchLabels: { stage: 'live' } }, podSelector: tier('web') }], ports: [tcp('http')] },
    ],
  }),
  mail: () => ({
    podSelector: tier('job'),
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: '203.0.113.25/32' } }], ports: [tcp(25), tcp(587)] }],
  }),
};

export function policyObject(
  name: keyof typeof SPECS,
  namespace: number,
  size: PolicyClusterSize,
  variation: PolicyVariation = { ports: [] },
): ApiObject {
  const specOf = SPECS[name];
  if (specOf === undefined) throw new TypeError(`no policy ${name}`);
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: metadata(namespaceName(namespace), name, {}),
    spec: specOf(namespace, size, variation),
  };
}

/** As many as asked for: every namespace gets the first, then every one the second. */
function* policyObjects(size: PolicyClusterSize): Generator<ApiObject, void> {
  const names = Object.keys(SPECS);
  for (let policy = 0; policy < Math.min(size.policies, names.length * size.namespaces); policy++) {
    yield policyObject(names[Math.floor(policy / size.namespaces)] ?? '', policy % size.namespaces, size);
  }
}

/** node1, namespaces, policies, pods. */
export function* policyClusterObjects(size: PolicyClusterSize): Generator<ApiObject, void> {
  yield {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: metadata('', NODE_NAME, { 'kubernetes.io/hostname': NODE_NAME }),
    spec: { podCIDR: NODE_POD_CIDR, podCIDRs: [NODE_POD_CIDR] },
    status: { addresses: [{ type: 'InternalIP', address: NODE_ADDRESS }] },
  };
  for (let namespace = 0; namespace < size.namespaces; namespace++) yield namespaceObject(namespace);
  yield* policyObjects(size);
  for (let pod = 0; pod < size.pods; pod++) yield podObject(pod, size);
}

function metadata(namespace: string, name: string, labels: Readonly<Record<string, string>>): ApiObject['metadata'] {
  const place = namespace === '' ? {} : { namespace };
  const uid = `${namespace}-${name}`.slice(0, 36).padEnd(36, '0');
  const managedFields = [
    {
      apiVersion: 'v1',
      fieldsType: 'FieldsV1',
      fieldsV1: { 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {}, 'f:tier': {} } }, 'f:spec': { 'f:containers': {} } },
      manager: 'kube-controller-manager',
      operation: 'Update',
      time: CREATED,
    },
  ];
  const further: Record<string, unknown> = { uid, creationTimestamp: CREATED, managedFields };
  return { ...place, name, labels, ...further };
}
