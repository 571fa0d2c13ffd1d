import assert from 'node:assert/strict';
import type { NetworkPolicy, Pod } from '../../../daemon/cluster/kinds.ts';
import {
  blockPeer,
  cidrs,
  containerPort,
  direction,
  ip,
  ips,
  namespace,
  networkPolicy,
  pod,
  podPeer,
  policyPort,
  policyRule,
  requirement,
  selector,
  unusableDirection,
} from '../../fixtures/cluster.ts';
import { type Packet, type Verdict, verdictOf, type World } from '../../models/policy-reference.ts';

const DB = pod('db', '10.244.1.5', { labels: { role: 'db' }, namedPorts: [containerPort('redis', 6379)] });
const FRONTEND = pod('frontend', '10.244.2.5', { labels: { role: 'frontend' } });
const OTHER = pod('other/p', '10.244.2.6', { labels: { role: 'frontend' } });

function world(policies: readonly NetworkPolicy[], deviations: Partial<World> = {}): World {
  return {
    nodeName: 'node-1',
    nodeAddresses: ips('192.168.1.1'),
    hostAddresses: ips('127.0.0.1', '192.168.1.1', '10.244.1.1', '10.96.0.10'),
    podCIDRs: cidrs('10.244.1.0/24'),
    pods: [DB, FRONTEND, OTHER],
    namespaces: [namespace('default'), namespace('other', { project: 'myproject' })],
    policies,
    families: ['ipv4', 'ipv6'],
    defaultDeny: false,
    serviceRanges: cidrs('10.96.0.0/16'),
    serviceListeners: [],
    endpoints: [{ address: ip('10.244.1.5'), protocol: 'TCP', port: 6379 }],
    nodePorts: { first: 30_000, last: 32_767 },
    ...deviations,
  };
}

/** TCP that is forwarded, to port 6379 unless said otherwise. */
function packet(source: string, destination: string, deviations: Partial<Packet> & { readonly port?: number } = {}): Packet {
  const { port = 6379, ...fields } = deviations;
  return {
    path: 'forwarded',
    source: ip(source),
    destination: ip(destination),
    transport: { protocol: 'TCP', port },
    ...fields,
  };
}

function verdicts(at: World, packets: readonly Packet[]): readonly Verdict[] {
  return packets.map(each => verdictOf(at, each));
}

/** The example of the Kubernetes documentation, "The NetworkPolicy resource". */
const EXAMPLE = networkPolicy('test-network-policy', {
  podSelector: selector({ role: 'db' }),
  ingress: direction(
    policyRule({
      peers: [
        blockPeer('172.17.0.0/16', '172.17.1.0/24'),
        podPeer(undefined, selector({ project: 'myproject' })),
        podPeer(selector({ role: 'frontend' })),
      ],
      ports: [policyPort(6379)],
    }),
  ),
  egress: direction(policyRule({ peers: [blockPeer('10.0.0.0/24')], ports: [policyPort(5978)] })),
});

describe('the reference model of network policy', () => {
  it("reads the documentation's own example as its text explains it", () => {
    const at = world([EXAMPLE]);
    const packets = ['172.17.0.9', '172.17.2.1', '172.17.1.1', '10.244.2.5', '10.244.2.6', '10.244.2.7'];
    assert.deepEqual(
      verdicts(
        at,
        packets.map(source => packet(source, '10.244.1.5')),
      ),
      ['allow', 'allow', 'deny', 'allow', 'allow', 'deny'],
    );
    assert.equal(verdictOf(at, packet('10.244.2.5', '10.244.1.5', { port: 80 })), 'deny');
    assert.equal(verdictOf(at, packet('10.244.1.5', '10.0.0.9', { port: 5978 })), 'allow');
    assert.equal(verdictOf(at, packet('10.244.1.5', '10.0.1.9', { port: 5978 })), 'deny');
  });

  it('leaves open what no policy selects, and is additive where several do', () => {
    const closed = networkPolicy('closed', { podSelector: selector({ role: 'db' }) });
    const open = networkPolicy('open', { ingress: direction(policyRule()) });
    const it_ = packet('8.8.8.8', '10.244.1.5');
    assert.deepEqual(
      [[], [closed], [closed, open]].map(policies => verdictOf(world(policies), it_)),
      ['allow', 'deny', 'allow'],
    );
    assert.equal(verdictOf(world([closed]), packet('10.244.1.5', '8.8.8.8')), 'allow');
    const elsewhere = networkPolicy('closed', { podSelector: selector({ role: 'frontend' }) });
    assert.equal(verdictOf(world([elsewhere]), packet('8.8.8.8', '10.244.2.5')), 'allow');
  });

  it('closes what a policy says in a way nobody can read', () => {
    const unreadable = networkPolicy('m', { ingress: unusableDirection() });
    assert.equal(verdictOf(world([unreadable]), packet('10.244.2.5', '10.244.1.5')), 'deny');
    assert.equal(verdictOf(world([unreadable]), packet('10.244.1.5', '10.244.2.5')), 'allow');
  });

  it('takes a named port for what the destination declares, and for nothing where it declares none', () => {
    const named = (name: string): World =>
      world([networkPolicy('m', { ingress: direction(policyRule({ ports: [{ match: 'name', protocol: 'TCP', name }] })) })]);
    assert.deepEqual(
      ['redis', 'nobody'].map(name => verdictOf(named(name), packet('8.8.8.8', '10.244.1.5'))),
      ['allow', 'deny'],
    );
    assert.equal(verdictOf(named('redis'), packet('8.8.8.8', '10.244.1.5', { port: 80 })), 'deny');
  });

  it('lets the node to its pods, a pod to itself, and ICMP that connections need', () => {
    const at = world([networkPolicy('m', { ingress: direction(), egress: direction() })]);
    const cases: readonly (readonly [Packet, Verdict])[] = [
      [packet('192.168.1.1', '10.244.1.5', { path: 'from-node' }), 'allow'],
      [packet('192.168.1.2', '10.244.1.5'), 'deny'],
      [packet('10.244.1.5', '10.244.1.5', { path: 'balanced' }), 'allow'],
      [packet('10.244.1.5', '192.168.1.1', { path: 'to-node' }), 'deny'],
      [packet('10.244.1.5', '192.168.1.1', { path: 'to-node', port: 30_080 }), 'allow'],
      [packet('10.244.1.5', '10.96.0.10', { path: 'to-node' }), 'allow'],
      [packet('10.244.1.5', '10.244.2.5', { path: 'balanced' }), 'deny'],
      [packet('8.8.8.8', '10.244.1.5', { transport: { protocol: 'ICMP', type: 3 } }), 'allow'],
      [packet('8.8.8.8', '10.244.1.5', { transport: { protocol: 'ICMP', type: 13 } }), 'deny'],
    ];
    for (const [each, expected] of cases) assert.equal(verdictOf(at, each), expected, JSON.stringify(each));
  });

  it('knows the youngest of several pods with one address, and none that is finished or of the host', () => {
    const fromFrontend = networkPolicy('m', {
      podSelector: selector({ role: 'db' }),
      ingress: direction(policyRule({ peers: [podPeer(selector({ role: 'frontend' }))] })),
    });
    const stranger = (deviations: Partial<Pod> & { readonly age?: number }): Pod =>
      pod('stranger', '10.244.2.5', { age: 1, ...deviations });
    const verdictWith = (third: Pod): Verdict =>
      verdictOf(world([fromFrontend], { pods: [DB, FRONTEND, third] }), packet('10.244.2.5', '10.244.1.5'));
    assert.equal(verdictWith(stranger({})), 'deny');
    assert.equal(verdictWith(stranger({ age: -1 })), 'allow');
    assert.equal(verdictWith(stranger({ finished: true })), 'allow');
    assert.equal(verdictWith(stranger({ hostNetwork: true })), 'allow');
  });

  it('knows of a namespace without its object nothing but the name', () => {
    const verdictFor = (...requirements: Parameters<typeof requirement>[]): Verdict => {
      const namespaces = selector({}, ...requirements.map(parts => requirement(...parts)));
      const ingress = direction(policyRule({ peers: [podPeer(undefined, namespaces)] }));
      return verdictOf(
        world([networkPolicy('m', { ingress })], { namespaces: [namespace('default')] }),
        packet('10.244.2.6', '10.244.1.5'),
      );
    };
    assert.equal(verdictFor(), 'allow');
    assert.equal(verdictFor(['kubernetes.io/metadata.name', 'In', 'other']), 'allow');
    assert.equal(verdictFor(['kubernetes.io/metadata.name', 'In', 'default']), 'deny');
    assert.equal(verdictFor(['project', 'NotIn', 'x']), 'deny');
    assert.equal(verdictFor(['project', 'DoesNotExist']), 'deny');
  });

  it('closes with --netpol-default-deny addresses that no pod is known of, but not to the node', () => {
    const at = world([], { defaultDeny: true });
    const cases: readonly (readonly [Packet, Verdict])[] = [
      [packet('8.8.8.8', '10.244.1.9'), 'deny'],
      [packet('10.244.1.9', '8.8.8.8'), 'deny'],
      [packet('10.244.1.9', '192.168.1.1', { path: 'to-node' }), 'deny'],
      [packet('192.168.1.1', '10.244.1.9', { path: 'from-node' }), 'allow'],
      [packet('10.244.1.1', '10.244.1.1', { path: 'to-node' }), 'allow'],
      [packet('8.8.8.8', '10.244.1.5'), 'allow'],
      [packet('8.8.8.8', '10.244.2.9'), 'allow'],
    ];
    for (const [each, expected] of cases) assert.equal(verdictOf(at, each), expected, JSON.stringify(each));
  });
});
