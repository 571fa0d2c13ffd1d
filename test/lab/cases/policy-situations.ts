/**
 * What NetworkPolicy means, situation by situation: a sentence of the Kubernetes documentation ("Network Policies", API reference
 * networking.k8s.io/v1), policies, and who reaches whom. Read a case against its sentence; the test does the rest.
 *
 * The cast, on two nodes:
 *
 * | name | pod | node | namespace | labels | named ports |
 * |---|---|---|---|---|---|
 * | server | pod-1-1 | node1 | lab | app: server | web 8080/TCP, web-udp 8080/UDP |
 * | near | pod-1-2 | node1 | lab | role: client, app: near | |
 * | guest | pod-1-3 | node1 | other | role: client | |
 * | far | pod-2-1 | node2 | lab | role: client | web 8081/TCP |
 * | plain | pod-2-2 | node2 | lab | tier: none | |
 * | stranger | pod-2-3 | node2 | other | app: server | web 9090/TCP |
 *
 * Namespace `lab` is labelled `team: a`, `other` is `team: b`. `node1`, `node2` and `ext` (an outside host) take part too. Ports: 8080,
 * 8081, 9090, on TCP, UDP and, where the kernel has it, SCTP, in both families.
 */

export type PodName = 'server' | 'near' | 'guest' | 'far' | 'plain' | 'stranger';
export type PartnerName = PodName | 'node1' | 'node2' | 'ext';
export type TransportName = 'tcp' | 'udp' | 'sctp';

/** Some flows: all that is not told is all there is. */
export interface Opening {
  readonly with: readonly PartnerName[] | 'anyone';
  readonly ports?: readonly number[];
  readonly transports?: readonly TransportName[];
  readonly families?: readonly ('ipv4' | 'ipv6')[];
}

export type Openings = Readonly<Partial<Record<PodName, readonly Opening[]>>>;

export interface Situation {
  readonly title: string;
  /** Quoted from the documentation, or said in its words. */
  readonly says: string;
  readonly policies: readonly {
    readonly namespace?: string;
    readonly spec: Readonly<Record<string, unknown>>;
  }[];
  /** Pods that are isolated for ingress, and what still gets in; a pod's own node and the pod itself always do. */
  readonly into?: Openings;
  /** Pods that are isolated for egress, and what still gets out. */
  readonly outOf?: Openings;
}

const SERVER = { matchLabels: { app: 'server' } };
const CLIENTS = { matchLabels: { role: 'client' } };
const NOTHING: readonly Opening[] = [];
const LAB: readonly PodName[] = ['server', 'near', 'far', 'plain'];

/** All pods of namespace `lab`, with the same openings. */
function everyPod(openings: readonly Opening[]): Openings {
  return { server: openings, near: openings, far: openings, plain: openings };
}

/** One rule for the server's ingress. */
function ingress(...rules: readonly Readonly<Record<string, unknown>>[]): Situation['policies'] {
  return [{ spec: { podSelector: SERVER, ingress: rules } }];
}

function egress(...rules: readonly Readonly<Record<string, unknown>>[]): Situation['policies'] {
  return [{ spec: { podSelector: SERVER, policyTypes: ['Egress'], egress: rules } }];
}

const ISOLATION: readonly Situation[] = [
  {
    title: 'no policy',
    says: 'By default, a pod is non-isolated for ingress and for egress; all connections are allowed.',
    policies: [],
  },
  {
    title: 'default deny of all ingress',
    says: 'An empty podSelector selects all pods in the namespace; no ingress rule allows nothing.',
    policies: [{ spec: { policyTypes: ['Ingress'] } }],
    into: everyPod(NOTHING),
  },
  {
    title: 'default deny of all egress',
    says: 'policyTypes Egress without egress rules: no pod of the namespace sends anything out.',
    policies: [{ spec: { policyTypes: ['Egress'] } }],
    outOf: everyPod(NOTHING),
  },
  {
    title: 'default deny of both',
    says: 'A policy may isolate for both directions.',
    policies: [{ spec: { policyTypes: ['Ingress', 'Egress'] } }],
    into: everyPod(NOTHING),
    outOf: everyPod(NOTHING),
  },
  {
    title: 'policyTypes left out, no rules',
    says: 'If no policyTypes are specified, Ingress will always be set, and Egress if the policy has any egress rules.',
    policies: [{ spec: {} }],
    into: everyPod(NOTHING),
  },
  {
    title: 'policyTypes left out, with egress rules',
    says: 'If no policyTypes are specified, Ingress will always be set, and Egress if the policy has any egress rules.',
    policies: [{ spec: { podSelector: SERVER, egress: [{ to: [{ podSelector: CLIENTS }] }] } }],
    into: { server: NOTHING },
    outOf: { server: [{ with: ['near', 'far'] }] },
  },
  {
    title: 'policyTypes Egress with ingress rules beside it',
    says: 'policyTypes decides which directions a policy covers.',
    policies: [{ spec: { podSelector: SERVER, policyTypes: ['Egress'], ingress: [{}], egress: [] } }],
    outOf: { server: NOTHING },
  },
  {
    title: 'allow all ingress',
    says: 'An empty rule allows everything.',
    policies: [{ spec: { ingress: [{}] } }],
  },
  {
    title: 'allow all egress',
    says: 'An empty rule allows everything.',
    policies: [{ spec: { policyTypes: ['Egress'], egress: [{}] } }],
  },
  {
    title: 'allow all beside default deny',
    says: 'Policies are additive: what one allows no other takes back.',
    policies: [{ spec: {} }, { spec: { ingress: [{}] } }],
  },
  {
    title: 'a policy of another namespace',
    says: 'A policy applies to pods of its own namespace only.',
    policies: [{ namespace: 'other', spec: { podSelector: SERVER } }],
    into: { stranger: NOTHING },
  },
  {
    title: 'a selector that matches nobody',
    says: 'podSelector chooses the pods a policy applies to.',
    policies: [{ spec: { podSelector: { matchLabels: { app: 'nobody' } } } }],
  },
  {
    title: 'several policies add up',
    says: 'The union of what the policies of a pod allow; the order does not matter.',
    policies: [
      { spec: { podSelector: SERVER, ingress: [{ from: [{ podSelector: CLIENTS }], ports: [{ port: 8080 }] }] } },
      { spec: { podSelector: SERVER, ingress: [{ from: [{ podSelector: { matchLabels: { tier: 'none' } } }] }] } },
    ],
    into: { server: [{ with: ['near', 'far'], ports: [8080], transports: ['tcp'] }, { with: ['plain'] }] },
  },
  {
    title: 'egress of the source and ingress of the destination',
    says: 'Both the egress policy on the source pod and the ingress policy on the destination pod need to allow the connection.',
    policies: [
      { spec: { podSelector: SERVER, ingress: [{ from: [{ podSelector: CLIENTS }] }] } },
      {
        spec: {
          podSelector: { matchLabels: { app: 'near' } },
          policyTypes: ['Egress'],
          egress: [{ to: [{ podSelector: CLIENTS }] }],
        },
      },
    ],
    into: { server: [{ with: ['near', 'far'] }] },
    outOf: { near: [{ with: ['far'] }] },
  },
];

const PEERS: readonly Situation[] = [
  {
    title: 'from pods with a label',
    says: 'podSelector selects pods in the same namespace as the policy.',
    policies: ingress({ from: [{ podSelector: CLIENTS }] }),
    into: { server: [{ with: ['near', 'far'] }] },
  },
  {
    title: 'from all pods of the own namespace',
    says: 'An empty podSelector selects all pods of the namespace.',
    policies: ingress({ from: [{ podSelector: {} }] }),
    into: { server: [{ with: LAB }] },
  },
  {
    title: 'from a namespace with a label',
    says: 'namespaceSelector alone allows all pods of the namespaces.',
    policies: ingress({ from: [{ namespaceSelector: { matchLabels: { team: 'b' } } }] }),
    into: { server: [{ with: ['guest', 'stranger'] }] },
  },
  {
    title: 'from all namespaces',
    says: 'An empty namespaceSelector selects all namespaces; hosts are in none.',
    policies: ingress({ from: [{ namespaceSelector: {} }] }),
    into: { server: [{ with: [...LAB, 'guest', 'stranger'] }] },
  },
  {
    title: 'from a namespace by its name',
    says: 'The label kubernetes.io/metadata.name is set on all namespaces.',
    policies: ingress({ from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'other' } } }] }),
    into: { server: [{ with: ['guest', 'stranger'] }] },
  },
  {
    title: 'pods and namespaces in one peer',
    says: 'A single item with both selects particular pods within particular namespaces.',
    policies: ingress({ from: [{ namespaceSelector: { matchLabels: { team: 'b' } }, podSelector: CLIENTS }] }),
    into: { server: [{ with: ['guest'] }] },
  },
  {
    title: 'pods and namespaces in two peers',
    says: 'Two items: pods of the own namespace with the label, or any pod of the namespaces.',
    policies: ingress({ from: [{ namespaceSelector: { matchLabels: { team: 'b' } } }, { podSelector: CLIENTS }] }),
    into: { server: [{ with: ['near', 'far', 'guest', 'stranger'] }] },
  },
  {
    title: 'matchExpressions In',
    says: 'In: the value is one of these.',
    policies: ingress({
      from: [{ podSelector: { matchExpressions: [{ key: 'role', operator: 'In', values: ['client', 'x'] }] } }],
    }),
    into: { server: [{ with: ['near', 'far'] }] },
  },
  {
    title: 'matchExpressions NotIn',
    says: 'NotIn also matches objects without the key.',
    policies: ingress({
      from: [{ podSelector: { matchExpressions: [{ key: 'role', operator: 'NotIn', values: ['client'] }] } }],
    }),
    into: { server: [{ with: ['plain'] }] },
  },
  {
    title: 'matchExpressions Exists',
    says: 'Exists: the key is there, whatever its value.',
    policies: ingress({ from: [{ podSelector: { matchExpressions: [{ key: 'tier', operator: 'Exists' }] } }] }),
    into: { server: [{ with: ['plain'] }] },
  },
  {
    title: 'matchExpressions DoesNotExist',
    says: 'DoesNotExist: the key is not there.',
    policies: ingress({ from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] } }] }),
    into: { server: [{ with: ['far', 'plain'] }] },
  },
  {
    title: 'matchLabels and matchExpressions together',
    says: 'All requirements must be satisfied.',
    policies: ingress({
      from: [{ podSelector: { matchLabels: { role: 'client' }, matchExpressions: [{ key: 'app', operator: 'Exists' }] } }],
    }),
    into: { server: [{ with: ['near'] }] },
  },
  {
    title: 'namespaceSelector with matchExpressions',
    says: 'namespaceSelector is a label selector like any other.',
    policies: ingress({
      from: [{ namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['b'] }] } }],
    }),
    into: { server: [{ with: LAB }] },
  },
  {
    title: 'peers that match nobody',
    says: 'Traffic is allowed that matches at least one peer.',
    policies: ingress({ from: [{ podSelector: { matchLabels: { role: 'nobody' } } }] }),
    into: { server: NOTHING },
  },
  {
    title: 'an empty list of peers',
    says: 'If from is empty or missing, the rule matches all sources.',
    policies: ingress({ from: [], ports: [{ port: 8081 }] }),
    into: { server: [{ with: 'anyone', ports: [8081], transports: ['tcp'] }] },
  },
  {
    title: 'egress to pods with a label',
    says: 'to selects destinations as from does sources.',
    policies: egress({ to: [{ podSelector: CLIENTS }] }),
    outOf: { server: [{ with: ['near', 'far'] }] },
  },
  {
    title: 'egress to another namespace',
    says: 'to selects destinations as from does sources.',
    policies: egress({ to: [{ namespaceSelector: { matchLabels: { team: 'b' } }, podSelector: SERVER }] }),
    outOf: { server: [{ with: ['stranger'] }] },
  },
];

const BLOCKS: readonly Situation[] = [
  {
    title: 'a block of one address',
    says: 'ipBlock selects IP CIDR ranges; one of a single pod allows that pod.',
    policies: ingress({ from: [{ ipBlock: { cidr: '10.244.2.11/32' } }, { ipBlock: { cidr: 'fd00:10:244:2::11/128' } }] }),
    into: { server: [{ with: ['far'] }] },
  },
  {
    title: 'a block of one family',
    says: 'A block of IPv4 says nothing of IPv6.',
    policies: ingress({ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }),
    into: { server: [{ with: 'anyone', families: ['ipv4'] }] },
  },
  {
    title: 'all of IPv6',
    says: '::/0 is every IPv6 address.',
    policies: ingress({ from: [{ ipBlock: { cidr: '::/0' } }] }),
    into: { server: [{ with: 'anyone', families: ['ipv6'] }] },
  },
  {
    title: 'an outside host by its block',
    says: 'These should be cluster-external IPs.',
    policies: ingress({ from: [{ ipBlock: { cidr: '10.10.1.0/24' } }, { ipBlock: { cidr: 'fd00:10:10:1::/64' } }] }),
    into: { server: [{ with: ['ext'] }] },
  },
  {
    title: 'the other node by its block',
    says: 'Another node is an address like any other.',
    policies: ingress({ from: [{ ipBlock: { cidr: '192.168.1.12/32' } }, { ipBlock: { cidr: 'fd00:192:168:1::12/128' } }] }),
    into: { server: [{ with: ['node2'] }] },
  },
  {
    title: 'a block with an exception',
    says: 'except: values that should not be included within the IP Block.',
    policies: ingress({
      from: [
        { ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.2.12/32'] } },
        { ipBlock: { cidr: 'fd00:10:244::/48', except: ['fd00:10:244:2::12/128'] } },
      ],
    }),
    into: { server: [{ with: ['near', 'guest', 'far', 'stranger'] }] },
  },
  {
    title: 'everything but a part',
    says: 'except within 0.0.0.0/0 and ::/0.',
    policies: ingress({
      from: [
        { ipBlock: { cidr: '0.0.0.0/0', except: ['10.244.0.0/16'] } },
        { ipBlock: { cidr: '::/0', except: ['fd00:10:244::/48'] } },
      ],
    }),
    into: { server: [{ with: ['node2', 'ext'] }] },
  },
  {
    title: 'an exception of one block inside another block',
    says: 'An exception belongs to its own block: what another block names is allowed.',
    policies: ingress({
      from: [
        { ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.2.0/24'] } },
        { ipBlock: { cidr: '10.244.2.11/32' } },
        { ipBlock: { cidr: 'fd00:10:244::/48', except: ['fd00:10:244:2::/64'] } },
        { ipBlock: { cidr: 'fd00:10:244:2::11/128' } },
      ],
    }),
    into: { server: [{ with: ['near', 'guest', 'far'] }] },
  },
  {
    title: 'two overlapping blocks, each with an exception',
    says: 'Peers are combined by a logical OR.',
    policies: ingress({
      from: [
        { ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.2.11/32'] } },
        { ipBlock: { cidr: '10.244.2.0/24', except: ['10.244.2.12/32'] } },
        { ipBlock: { cidr: 'fd00:10:244::/48', except: ['fd00:10:244:2::11/128'] } },
        { ipBlock: { cidr: 'fd00:10:244:2::/64', except: ['fd00:10:244:2::12/128'] } },
      ],
    }),
    into: { server: [{ with: ['near', 'guest', 'far', 'plain', 'stranger'] }] },
  },
  {
    title: 'blocks, pods and namespaces in one rule',
    says: 'Peers are combined by a logical OR.',
    policies: ingress({
      from: [
        { ipBlock: { cidr: '10.10.1.200/32' } },
        { ipBlock: { cidr: 'fd00:10:10:1::200/128' } },
        { podSelector: { matchLabels: { tier: 'none' } } },
        { namespaceSelector: { matchLabels: { team: 'b' } }, podSelector: SERVER },
      ],
    }),
    into: { server: [{ with: ['ext', 'plain', 'stranger'] }] },
  },
  {
    title: 'egress to a block',
    says: 'to may be a block.',
    policies: egress({ to: [{ ipBlock: { cidr: '10.10.1.0/24' } }, { ipBlock: { cidr: 'fd00:10:10:1::/64' } }] }),
    outOf: { server: [{ with: ['ext'] }] },
  },
  {
    title: 'egress to a block with an exception',
    says: 'to may be a block.',
    policies: egress({
      to: [
        { ipBlock: { cidr: '10.244.2.0/24', except: ['10.244.2.11/32'] } },
        { ipBlock: { cidr: 'fd00:10:244:2::/64', except: ['fd00:10:244:2::11/128'] } },
      ],
    }),
    outOf: { server: [{ with: ['plain', 'stranger'] }] },
  },
];

const PORTS: readonly Situation[] = [
  {
    title: 'a port of TCP, the default protocol',
    says: 'protocol defaults to TCP.',
    policies: ingress({ ports: [{ port: 8080 }] }),
    into: { server: [{ with: 'anyone', ports: [8080], transports: ['tcp'] }] },
  },
  {
    title: 'a port of UDP',
    says: 'protocol may be TCP, UDP or SCTP.',
    policies: ingress({ ports: [{ port: 8081, protocol: 'UDP' }] }),
    into: { server: [{ with: 'anyone', ports: [8081], transports: ['udp'] }] },
  },
  {
    title: 'a port of SCTP',
    says: 'protocol may be TCP, UDP or SCTP.',
    policies: ingress({ ports: [{ port: 8081, protocol: 'SCTP' }] }),
    into: { server: [{ with: 'anyone', ports: [8081], transports: ['sctp'] }] },
  },
  {
    title: 'a protocol without a port',
    says: 'If port is not given, this matches all port names and numbers of the protocol.',
    policies: ingress({ ports: [{ protocol: 'UDP' }] }),
    into: { server: [{ with: 'anyone', transports: ['udp'] }] },
  },
  {
    title: 'several ports',
    says: 'Ports are combined by a logical OR.',
    policies: ingress({ ports: [{ port: 8080 }, { port: 9090 }, { port: 8081, protocol: 'UDP' }] }),
    into: {
      server: [
        { with: 'anyone', ports: [8080, 9090], transports: ['tcp'] },
        { with: 'anyone', ports: [8081], transports: ['udp'] },
      ],
    },
  },
  {
    title: 'a range of ports',
    says: 'endPort: the range from port to endPort, inclusive.',
    policies: ingress({ ports: [{ port: 8080, endPort: 8081 }] }),
    into: { server: [{ with: 'anyone', ports: [8080, 8081], transports: ['tcp'] }] },
  },
  {
    title: 'a range of one port',
    says: 'endPort must be equal or greater than port.',
    policies: ingress({ ports: [{ port: 9090, endPort: 9090, protocol: 'UDP' }] }),
    into: { server: [{ with: 'anyone', ports: [9090], transports: ['udp'] }] },
  },
  {
    title: 'ports and peers',
    says: 'A rule allows traffic which matches both its ports and its from.',
    policies: ingress({ from: [{ podSelector: CLIENTS }], ports: [{ port: 8080 }] }),
    into: { server: [{ with: ['near', 'far'], ports: [8080], transports: ['tcp'] }] },
  },
  {
    title: 'two rules, each with its own port and peer',
    says: 'Rules are combined by a logical OR, ports and peers of different rules do not mix.',
    policies: ingress(
      { from: [{ podSelector: CLIENTS }], ports: [{ port: 8080 }] },
      { from: [{ podSelector: { matchLabels: { tier: 'none' } } }], ports: [{ port: 9090 }] },
    ),
    into: {
      server: [
        { with: ['near', 'far'], ports: [8080], transports: ['tcp'] },
        { with: ['plain'], ports: [9090], transports: ['tcp'] },
      ],
    },
  },
  {
    title: 'a named port',
    says: 'port may be the name of a port on the pod.',
    policies: ingress({ ports: [{ port: 'web' }] }),
    into: { server: [{ with: 'anyone', ports: [8080], transports: ['tcp'] }] },
  },
  {
    title: 'a named port with another number in every pod',
    says: 'The name is looked up in the pod that is the destination.',
    policies: [{ spec: { ingress: [{ ports: [{ port: 'web' }] }] } }],
    into: {
      server: [{ with: 'anyone', ports: [8080], transports: ['tcp'] }],
      near: NOTHING,
      far: [{ with: 'anyone', ports: [8081], transports: ['tcp'] }],
      plain: NOTHING,
    },
  },
  {
    title: 'a named port of UDP',
    says: 'A name belongs to a protocol.',
    policies: ingress({
      ports: [
        { port: 'web-udp', protocol: 'UDP' },
        { port: 'web', protocol: 'UDP' },
      ],
    }),
    into: { server: [{ with: 'anyone', ports: [8080], transports: ['udp'] }] },
  },
  {
    title: 'a named port that nobody has',
    says: 'A rule whose only port matches nothing allows nothing.',
    policies: ingress({ from: [{ podSelector: CLIENTS }], ports: [{ port: 'nobody' }] }),
    into: { server: NOTHING },
  },
  {
    title: 'a named port that nobody has beside a number',
    says: 'Ports are combined by a logical OR.',
    policies: ingress({ from: [{ podSelector: CLIENTS }], ports: [{ port: 'nobody' }, { port: 8081 }] }),
    into: { server: [{ with: ['near', 'far'], ports: [8081], transports: ['tcp'] }] },
  },
  {
    title: 'egress to a port',
    says: 'ports of egress are those of the destination.',
    policies: egress({ ports: [{ port: 8080 }] }),
    outOf: { server: [{ with: 'anyone', ports: [8080], transports: ['tcp'] }] },
  },
  {
    title: 'egress to a named port of chosen pods',
    says: 'The name is looked up in the pod that is the destination.',
    policies: egress({ to: [{ namespaceSelector: {} }], ports: [{ port: 'web' }] }),
    outOf: {
      server: [
        { with: ['far'], ports: [8081], transports: ['tcp'] },
        { with: ['stranger'], ports: [9090], transports: ['tcp'] },
      ],
    },
  },
  {
    title: 'egress to a named port within a block',
    says: 'The name is looked up in the pod that is the destination, however it was chosen.',
    policies: egress({
      to: [{ ipBlock: { cidr: '10.244.2.11/32' } }, { ipBlock: { cidr: 'fd00:10:244:2::11/128' } }],
      ports: [{ port: 'web' }],
    }),
    outOf: { server: [{ with: ['far'], ports: [8081], transports: ['tcp'] }] },
  },
  {
    title: 'egress to a named port of anyone',
    says: 'The name is looked up in the pod that is the destination.',
    policies: egress({ ports: [{ port: 'web' }] }),
    outOf: {
      server: [
        { with: ['far'], ports: [8081], transports: ['tcp'] },
        { with: ['stranger'], ports: [9090], transports: ['tcp'] },
      ],
    },
  },
];

const UNUSABLE: readonly Situation[] = [
  {
    title: 'an ingress rule that cannot be read',
    says: 'What cannot be understood opens nothing, and the pods it is about stay closed (API servers refuse it; a folder of manifests may hold it).',
    policies: ingress({ from: [{ ipBlock: { cidr: '10.244.2.300/32' } }] }, {}),
    into: { server: NOTHING },
  },
  {
    title: 'an ingress rule that cannot be read beside a policy that can',
    says: 'Policies are additive.',
    policies: [
      ...ingress({ ports: [{ port: 8081, endPort: 8080 }] }),
      { spec: { podSelector: SERVER, ingress: [{ from: [{ podSelector: CLIENTS }] }] } },
    ],
    into: { server: [{ with: ['near', 'far'] }] },
  },
];

export const SITUATIONS: readonly Situation[] = [...ISOLATION, ...PEERS, ...BLOCKS, ...PORTS, ...UNUSABLE];
