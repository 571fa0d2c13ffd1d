/**
 * Direct server return (kube-router, docs/dsr.md): the endpoint gets the client's packet as it was and answers the client itself. So every
 * endpoint that is reached by tunnel sees the client's own address, wherever client, endpoint and the node that balances are; with address
 * translation most would see a node. Which endpoints answer is as for every Service (Kubernetes, "Virtual IPs and Service Proxies"): all ready
 * ones; with externalTrafficPolicy Local those of the node that balances for clients outside, and all of them for clients within the cluster.
 *
 * Nodes 1 to 3 run a daemon, node4 none: what it and its pod send to an external address comes to node1, by the router. Each row holds for TCP
 * and UDP over IPv4 and IPv6.
 */

/** Namespaces of `test/lab/addresses.ts`. */
export type Client = 'ext' | 'pod-1-1' | 'pod-1-2' | 'pod-3-2' | 'pod-4-1' | 'node1' | 'node3' | 'node4';

export const CLIENTS: Readonly<Record<Client, string>> = {
  ext: 'a host outside, balanced by node1',
  'pod-1-1': 'an endpoint, balanced by its node1',
  'pod-1-2': 'a pod next to an endpoint, balanced by its node1',
  'pod-3-2': 'a pod of another node, balanced by its node3',
  'pod-4-1': 'a pod of a node without a daemon, balanced by node1',
  node1: 'node1, which balances itself',
  node3: 'node3, which balances itself',
  node4: 'a node without a daemon, balanced by node1',
};

/** Whom an endpoint sees: the client, a node, or the virtual address itself. */
export type Seen = 'the client' | 'node1' | 'the address asked for';
/** Who answers, and whom each sees; no other answers. `refused`: at once, by RST or ICMP. `timeout`: dropped in silence. */
export type Outcome = Readonly<Record<string, Seen>> | 'refused' | 'timeout';

export interface DirectEndpoint {
  /** A pod, or a node (a pod with hostNetwork). */
  readonly host: 'pod-1-1' | 'pod-2-1' | 'pod-2-2' | 'pod-3-1' | 'node2';
  /** The port it listens at; the Service's own, 8080, unless told. */
  readonly port?: 9090;
  readonly isReady?: false;
}

export interface DirectService {
  readonly name: string;
  readonly title: string;
  readonly externalTrafficPolicy?: 'Local';
  readonly endpoints: readonly DirectEndpoint[];
  /** Only TCP, where an endpoint's server knows no other. */
  readonly transports?: readonly ['tcp'];
  readonly outcomes: Readonly<Partial<Record<Client, Outcome>>>;
}

const ALL: Outcome = { 'pod-1-1': 'the client', 'pod-2-1': 'the client', 'pod-3-1': 'the client' };
const BOTH: Outcome = { 'pod-1-1': 'the client', 'pod-2-1': 'the client' };
/** The address is the endpoint's own: what it sends there it gets. */
const ITSELF: Outcome = { 'pod-1-1': 'the address asked for' };

/** In the order of their addresses: the first has 203.0.113.10 and 2001:db8:203::10. */
export const DIRECT_SERVICES: readonly DirectService[] = [
  {
    name: 'web',
    title: 'all ready endpoints answer, and see the client',
    endpoints: [{ host: 'pod-1-1' }, { host: 'pod-2-1' }, { host: 'pod-3-1' }, { host: 'pod-2-2', isReady: false }],
    outcomes: {
      ext: ALL,
      'pod-1-1': ITSELF,
      'pod-1-2': ALL,
      'pod-3-2': ALL,
      'pod-4-1': ALL,
      node1: ALL,
      node3: ALL,
      node4: ALL,
    },
  },
  {
    name: 'mixed',
    title: 'an endpoint with another port, and one on its node’s network, are translated; the third is not',
    endpoints: [{ host: 'pod-1-1' }, { host: 'pod-2-2', port: 9090 }, { host: 'node2' }],
    transports: ['tcp'],
    outcomes: {
      ext: { 'pod-1-1': 'the client', 'pod-2-2:9090': 'node1', 'node2:8080': 'node1' },
      // Replies to pods of the node, and to the node, come by it anyhow: these keep their address.
      'pod-1-2': { 'pod-1-1': 'the client', 'pod-2-2:9090': 'the client', 'node2:8080': 'the client' },
      node1: { 'pod-1-1': 'the client', 'pod-2-2:9090': 'the client', 'node2:8080': 'the client' },
    },
  },
  {
    name: 'local',
    title: 'policy Local with an endpoint on node1',
    externalTrafficPolicy: 'Local',
    endpoints: [{ host: 'pod-1-1' }, { host: 'pod-2-1' }],
    outcomes: { ext: { 'pod-1-1': 'the client' }, 'pod-1-2': BOTH, 'pod-3-2': BOTH, node1: BOTH, node3: BOTH },
  },
  {
    name: 'elsewhere',
    title: 'policy Local without an endpoint on node1',
    externalTrafficPolicy: 'Local',
    endpoints: [{ host: 'pod-2-1' }],
    outcomes: {
      ext: 'timeout',
      'pod-1-2': { 'pod-2-1': 'the client' },
      'pod-3-2': { 'pod-2-1': 'the client' },
      node1: { 'pod-2-1': 'the client' },
    },
  },
  {
    name: 'none',
    title: 'no endpoint',
    endpoints: [],
    outcomes: {
      ext: 'refused',
      'pod-1-2': 'refused',
      'pod-3-2': 'refused',
      'pod-4-1': 'refused',
      node1: 'refused',
      node3: 'refused',
    },
  },
  {
    name: 'unready',
    title: 'no endpoint that is ready, policy Local',
    externalTrafficPolicy: 'Local',
    endpoints: [{ host: 'pod-1-1', isReady: false }],
    outcomes: { ext: 'refused', 'pod-1-2': 'refused', node1: 'refused' },
  },
];
