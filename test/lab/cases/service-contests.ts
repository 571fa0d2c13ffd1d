/**
 * Services that claim what another one has, or pass it on. Each story is a row of steps; a step is one apply (objects that come or change, and
 * Services that go, with their slices), and who answers then, at each address that the story is about.
 *
 * Who is right: of two Services over one address and port the older has it (semantics.md; the API server hands no cluster IP and no node port out
 * twice, and says nothing of external IPs). API, ServiceSpec.externalName: "No proxying will be involved." All else: what the objects say at that
 * moment, and nothing of what they said before.
 */

/** `first` has the endpoint pod-1-1, `second` pod-2-1. */
export type Contender = 'first' | 'second';
export const SERVERS: Readonly<Record<Contender, string>> = { first: 'pod-1-1', second: 'pod-2-1' };

/** A Service by the addresses it claims, of both families each. */
export interface Claim {
  readonly type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** Last part of the cluster IP. */
  readonly cluster?: number;
  readonly external?: number;
  readonly balancer?: number;
  readonly nodePort?: number;
  /** 80 unless told. */
  readonly port?: number;
  /** Days of its age. */
  readonly age?: number;
  readonly policy?: 'Local';
  /** Its slices are empty. */
  readonly endpoints?: 'none';
}

export interface Step {
  readonly title: string;
  readonly put?: Readonly<Partial<Record<Contender, Claim>>>;
  readonly remove?: readonly Contender[];
  /** By address: `cluster 1`, `external 1:81`, `node 30300`. From a pod and from outside alike. */
  readonly outcomes: Readonly<Record<string, string>>;
}

export interface Story {
  readonly title: string;
  readonly steps: readonly Step[];
}

const [FIRST, SECOND] = [SERVERS.first, SERVERS.second];

export const STORIES: readonly Story[] = [
  {
    title: 'one external IP and port for two: the older keeps it, the younger has it at once when that goes',
    steps: [
      { title: 'the younger alone', put: { second: { cluster: 2, external: 1, age: 1 } }, outcomes: { 'external 1': SECOND } },
      {
        title: 'the older comes',
        put: { first: { cluster: 1, external: 1, age: 9 } },
        outcomes: { 'external 1': FIRST, 'cluster 1': FIRST, 'cluster 2': SECOND },
      },
      { title: 'the older goes', remove: ['first'], outcomes: { 'external 1': SECOND, 'cluster 2': SECOND } },
      {
        title: 'the older comes again, with another port',
        put: { first: { cluster: 1, external: 1, port: 81, age: 9 } },
        outcomes: { 'external 1': SECOND, 'external 1:81': FIRST, 'cluster 1:81': FIRST },
      },
      {
        title: 'and takes the port',
        put: { first: { cluster: 1, external: 1, age: 9 } },
        outcomes: { 'external 1': FIRST, 'external 1:81': 'refused', 'cluster 1:81': 'refused' },
      },
      {
        title: 'and gives the address up',
        put: { first: { cluster: 1, age: 9 } },
        outcomes: { 'external 1': SECOND, 'cluster 1': FIRST },
      },
    ],
  },
  {
    title: 'an external IP of one is the load-balancer IP of the other',
    steps: [
      {
        title: 'both at once',
        put: {
          first: { type: 'LoadBalancer', cluster: 3, balancer: 130, age: 5 },
          second: { type: 'LoadBalancer', cluster: 4, balancer: 130, age: 7 },
        },
        outcomes: { 'balancer 130': SECOND, 'cluster 3': FIRST, 'cluster 4': SECOND },
      },
      { title: 'the older goes', remove: ['second'], outcomes: { 'balancer 130': FIRST } },
    ],
  },
  {
    title: 'a Service goes through all types and back',
    steps: [
      { title: 'ClusterIP', put: { first: { cluster: 5 } }, outcomes: { 'cluster 5': FIRST, 'node 30305': 'refused' } },
      {
        title: 'NodePort',
        put: { first: { type: 'NodePort', cluster: 5, nodePort: 30305 } },
        outcomes: { 'cluster 5': FIRST, 'node 30305': FIRST },
      },
      {
        title: 'LoadBalancer',
        put: { first: { type: 'LoadBalancer', cluster: 5, nodePort: 30305, balancer: 135 } },
        outcomes: { 'cluster 5': FIRST, 'node 30305': FIRST, 'balancer 135': FIRST },
      },
      {
        title: 'ExternalName',
        put: { first: { type: 'ExternalName' } },
        outcomes: { 'cluster 5': 'nobody', 'node 30305': 'refused', 'balancer 135': 'nobody' },
      },
      {
        title: 'LoadBalancer again, without node ports',
        put: { first: { type: 'LoadBalancer', cluster: 5, balancer: 135 } },
        outcomes: { 'cluster 5': FIRST, 'node 30305': 'refused', 'balancer 135': FIRST },
      },
      {
        title: 'NodePort again',
        put: { first: { type: 'NodePort', cluster: 5, nodePort: 30305 } },
        outcomes: { 'cluster 5': FIRST, 'node 30305': FIRST, 'balancer 135': 'nobody' },
      },
      {
        title: 'ClusterIP again',
        put: { first: { cluster: 5 } },
        outcomes: { 'cluster 5': FIRST, 'node 30305': 'refused', 'balancer 135': 'nobody' },
      },
    ],
  },
  {
    title: 'two Services swap their ports on one address',
    steps: [
      {
        title: 'at first',
        put: { first: { cluster: 6, external: 6, port: 80 }, second: { cluster: 7, external: 6, port: 81 } },
        outcomes: { 'external 6': FIRST, 'external 6:81': SECOND },
      },
      {
        title: 'in one apply',
        put: { first: { cluster: 6, external: 6, port: 81 }, second: { cluster: 7, external: 6, port: 80 } },
        outcomes: {
          'external 6': SECOND,
          'external 6:81': FIRST,
          'cluster 6:81': FIRST,
          'cluster 6': 'refused',
          'cluster 7': SECOND,
        },
      },
      {
        title: 'back in two: both on one port, of which the older has it',
        put: { first: { cluster: 6, external: 6, port: 80, age: 9 } },
        outcomes: { 'external 6': FIRST, 'external 6:81': 'refused' },
      },
      {
        title: 'and the second step',
        put: { second: { cluster: 7, external: 6, port: 81 } },
        outcomes: { 'external 6': FIRST, 'external 6:81': SECOND },
      },
    ],
  },
  {
    title: 'a cluster IP is handed out again at once',
    steps: [
      { title: 'the first has it', put: { first: { cluster: 8 } }, outcomes: { 'cluster 8': FIRST } },
      {
        title: 'deleted, and the second created, in one apply',
        put: { second: { cluster: 8 } },
        remove: ['first'],
        outcomes: { 'cluster 8': SECOND },
      },
      { title: 'and back', put: { first: { cluster: 8 } }, remove: ['second'], outcomes: { 'cluster 8': FIRST } },
    ],
  },
  {
    title: 'a node port moves from one Service to the other',
    steps: [
      {
        title: 'the first has it',
        put: {
          first: { type: 'NodePort', cluster: 9, nodePort: 30309 },
          second: { type: 'NodePort', cluster: 10, nodePort: 30310 },
        },
        outcomes: { 'node 30309': FIRST, 'node 30310': SECOND },
      },
      {
        title: 'swapped in one apply',
        put: {
          first: { type: 'NodePort', cluster: 9, nodePort: 30310 },
          second: { type: 'NodePort', cluster: 10, nodePort: 30309 },
        },
        outcomes: { 'node 30309': SECOND, 'node 30310': FIRST },
      },
      {
        title: 'the first becomes ClusterIP, the second takes its port',
        put: { first: { cluster: 9 }, second: { type: 'NodePort', cluster: 10, nodePort: 30310 } },
        outcomes: { 'node 30309': 'refused', 'node 30310': SECOND },
      },
      {
        title: 'the second goes',
        remove: ['second'],
        outcomes: { 'node 30309': 'refused', 'node 30310': 'refused', 'cluster 9': FIRST },
      },
    ],
  },
  {
    title: 'policies of one do not touch the other: the older Service is Local with no endpoint on this node',
    steps: [
      {
        title: 'both',
        put: { second: { cluster: 12, external: 11, age: 9, policy: 'Local' }, first: { cluster: 11, external: 11, age: 1 } },
        outcomes: { 'external 11': 'outside timeout, inside pod-2-1', 'cluster 11': FIRST, 'cluster 12': SECOND },
      },
      { title: 'the older goes', remove: ['second'], outcomes: { 'external 11': FIRST } },
    ],
  },
  {
    title: 'an older Service without endpoints refuses what it has; the younger does not step in',
    steps: [
      {
        title: 'both',
        put: { first: { cluster: 13, external: 13, age: 9 }, second: { cluster: 14, external: 13, age: 1, policy: 'Local' } },
        outcomes: { 'external 13': FIRST, 'cluster 13': FIRST, 'cluster 14': SECOND },
      },
      {
        title: 'the older loses its endpoints',
        put: { first: { cluster: 13, external: 13, age: 9, endpoints: 'none' } },
        outcomes: { 'external 13': 'refused', 'cluster 13': 'refused', 'cluster 14': SECOND },
      },
      {
        title: 'and has them again',
        put: { first: { cluster: 13, external: 13, age: 9 } },
        outcomes: { 'external 13': FIRST, 'cluster 13': FIRST },
      },
      {
        title: 'and goes: the younger is Local, and its endpoint is elsewhere',
        remove: ['first'],
        outcomes: { 'external 13': 'outside timeout, inside pod-2-1', 'cluster 14': SECOND },
      },
    ],
  },
];
