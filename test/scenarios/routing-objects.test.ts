import assert from 'node:assert/strict';
import type { Node } from '../../daemon/cluster/kinds.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import { policyModule } from '../../modules/policy/module.ts';
import { recordApplies, takeApplies } from '../fakes/applies.ts';
import { type RoutingWorld, startRoutingWorld } from '../fakes/daemon.ts';
import { atRest, IPV4_ONLY, keys, list, type Options, type Watched, withdraw, written } from '../fakes/routing-world.ts';
import {
  farNode,
  hostFacts,
  hostLinks,
  ips,
  node,
  service,
  slice,
  terminatingEndpoint,
  unreadyEndpoint,
} from '../fixtures/cluster.ts';
import { policyOptions } from '../fixtures/policy-options.ts';
import { CNI_FILE, flagPeer } from '../fixtures/routing-options.ts';

const FAR_TUNNEL = 'tun-64ece1459fa';

describe('annotations of our own node while the daemon runs', () => {
  const peers = (...entries: readonly string[]): Node =>
    node(1, { annotations: { 'kube-router.io/peers': `[${entries.join(', ')}]` } });
  const ONE = '{ remoteip: 192.168.1.251, remoteasn: 65000 }';
  const TWO = '{ remoteip: 192.168.1.252, remoteasn: 65000 }';

  it('a router comes, is broken by an edit, and comes back: its session and the policy are written, no other session is', async () => {
    const world = await atRest({}, [peers(ONE), node(2), farNode(4)]);
    world.source.put(peers(ONE, TWO));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPeer create 192.168.1.252', 'bgpPolicy update export']);
    world.source.put(peers(ONE, '{ remoteip: 192.168.1.252, remoteasn: 65000, password: "not base64" }'));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPeer delete 192.168.1.252', 'bgpPolicy update export']);
    assert.equal(world.log.matching(/entry 2 has a password that is not text in base64/).length, 1);
    assert.equal(world.log.matching(/not base64/).length, 0, 'what is no password is not shown either');
    world.source.put(peers(ONE, TWO));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPeer create 192.168.1.252', 'bgpPolicy update export']);
    assert.deepEqual(world.daemon.diagnostics(), []);
    await world.daemon.stop();
  });

  it('a password is set, changed and taken away: one session is written each time', async () => {
    const world = await atRest({}, [peers(ONE, TWO), node(2), farNode(4)]);
    for (const password of ['Zmlyc3Q=', 'c2Vjb25k', '""']) {
      world.source.put(peers(ONE, `{ remoteip: 192.168.1.252, remoteasn: 65000, password: ${password} }`));
      await world.clock.advance(1000);
      assert.deepEqual(written(world), ['bgpPeer update 192.168.1.252'], password);
    }
    assert.equal(world.tables.bgpPeer.state.get('192.168.1.252')?.password.reveal(), '');
    await world.daemon.stop();
  });

  it('communities and a reflector role touch policies; the role of another node touches the session with it', async () => {
    const world = await atRest({ peers: [flagPeer('192.168.1.254')] });
    world.source.put(node(1, { annotations: { 'kube-router.io/node.bgp.communities': 'no-export' } }));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPolicy update export']);
    world.source.put(node(1, { annotations: { 'kube-router.io/rr.server': '42' } }));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPolicy update export']);
    world.source.put(node(2, { annotations: { 'kube-router.io/rr.client': '42' } }));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPeer update 192.168.1.2']);
    await world.daemon.stop();
  });
});

describe('another node', () => {
  it('that comes has its session and its elements; its routes come when it tells them', async () => {
    const world = await atRest();
    world.source.put(node(5));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), [
      'bgpPeer create 192.168.1.5',
      'ipset create kube-router-node-ips 192.168.1.5',
      'ipset create kube-router-pod-subnets 10.244.5.0/24',
    ]);
    await world.daemon.stop();
  });

  it('that is deleted loses its session and its elements in one round, and its routes with what the speaker tells then', async () => {
    const world = await atRest();
    world.source.remove('Node', 'node-4');
    withdraw(world, '10.244.4.0/24');
    await world.clock.advance(10);
    assert.deepEqual(written(world), [
      'bgpPeer delete 192.168.2.4',
      'ipset delete kube-router-node-ips 192.168.2.4',
      'ipset delete kube-router-pod-subnets 10.244.4.0/24',
      `link delete ${FAR_TUNNEL}`,
      'unicastRoute delete 254 10.244.4.0/24',
      'unicastRoute delete 77 192.168.2.4/32',
    ]);
    await world.daemon.stop();
  });

  it('that is deleted with --pod-routes=api loses everything in one round', async () => {
    const world = await atRest({ podRoutes: 'api' });
    world.source.remove('Node', 'node-4');
    await world.clock.advance(10);
    assert.deepEqual(written(world), [
      'ipset delete kube-router-node-ips 192.168.2.4',
      'ipset delete kube-router-pod-subnets 10.244.4.0/24',
      `link delete ${FAR_TUNNEL}`,
      'unicastRoute delete 254 10.244.4.0/24',
      'unicastRoute delete 77 192.168.2.4/32',
    ]);
    await world.daemon.stop();
  });

  it('that gets another pod CIDR with --pod-routes=api is one route less and one more', async () => {
    const world = await atRest({ podRoutes: 'api', egress: false });
    world.source.put(farNode(4, { podCIDRs: [mustParsePrefix('10.250.0.0/24')] }));
    await world.clock.advance(10);
    assert.deepEqual(written(world), ['unicastRoute create 254 10.250.0.0/24', 'unicastRoute delete 254 10.244.4.0/24']);
    await world.daemon.stop();
  });
});

describe('a node without pod CIDR', () => {
  it('announces none, writes no CNI file and says so; both come with it', async () => {
    const world = await atRest({ policyFirst: false }, [node(1, { podCIDRs: [] }), node(2), farNode(4)]);
    assert.deepEqual(keys(world, 'bgpPath', 'cniConfig', 'rule'), []);
    assert.deepEqual(keys(world, 'bgpPeer').length, 2, 'it hears where pods of others are all the same');
    assert.equal(world.log.matching(/Node node-1 has no pod CIDR/).length, 1);
    world.source.put(node(1));
    await world.clock.advance(10);
    assert.deepEqual(keys(world, 'bgpPath', 'cniConfig', 'rule'), [
      'bgpPath 10.244.1.0/24',
      `cniConfig ${CNI_FILE}`,
      'rule 10.244.1.0/24 77',
    ]);
    await world.daemon.stop();
  });
});

describe('an address of a Service', () => {
  const ANNOUNCE: Options = {
    advertise: { clusterIP: true, externalIP: true, loadBalancerIP: true },
    peers: [flagPeer('192.168.1.254')],
  };
  const LOCAL = service('web', { externalIPs: ips('203.0.113.7'), externalTrafficPolicy: 'Local' });
  const EXTERNAL = 'bgpPath 203.0.113.7/32';

  it('is announced when slices come: one Service without any stops no other', async () => {
    const world = await atRest(ANNOUNCE);
    world.source.put(service('bare', { clusterIPs: ips('10.96.0.11') }), service('web'), slice('web', ['10.244.2.5']));
    await world.clock.advance(100);
    assert.deepEqual(written(world), ['bgpPath create 10.96.0.10/32']);
    world.source.put(slice('bare', ['10.244.2.6']));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['bgpPath create 10.96.0.11/32']);
    await world.daemon.stop();
  });

  it('is withdrawn within 10 ms when its last local endpoint becomes unready, terminates or goes, and comes back with it', async () => {
    for (const last of [[unreadyEndpoint('10.244.1.5')], [], ['10.244.2.5'], undefined] as const) {
      const world = await atRest(ANNOUNCE);
      world.source.put(LOCAL, slice('web', ['10.244.1.5', '10.244.1.6']));
      await world.clock.advance(1000);
      takeApplies(world.applies);
      world.source.put(slice('web', [unreadyEndpoint('10.244.1.5'), terminatingEndpoint('10.244.1.6')]));
      await world.clock.advance(1000);
      assert.deepEqual(written(world), [], 'one that still serves while it terminates keeps it');
      if (last === undefined) world.source.remove('EndpointSlice', 'default/web-1');
      else world.source.put(slice('web', [...last], { family: 'ipv4' }));
      await world.clock.advance(10);
      assert.ok(written(world).includes('bgpPath delete 203.0.113.7/32'));
      world.source.put(slice('web', ['10.244.1.7']));
      await world.clock.advance(1000);
      assert.ok(keys(world, 'bgpPath').includes(EXTERNAL));
      await world.daemon.stop();
    }
  });

  it('is withdrawn when the Service is deleted together with its slices, in whatever order that is told', async () => {
    const steps = [
      ({ source }: RoutingWorld) => source.remove('EndpointSlice', 'default/web-1'),
      ({ source }: RoutingWorld) => source.remove('Service', 'default/web'),
    ];
    for (const order of [steps, steps.toReversed()]) {
      for (const pause of [0, 1000]) {
        const world = await atRest(ANNOUNCE);
        world.source.put(LOCAL, slice('web', ['10.244.1.5']));
        await world.clock.advance(1000);
        takeApplies(world.applies);
        for (const step of order) {
          step(world);
          await world.clock.advance(pause);
        }
        await world.clock.advance(10);
        assert.deepEqual(written(world), ['bgpPath delete 10.96.0.10/32', 'bgpPath delete 203.0.113.7/32']);
        await world.daemon.stop();
      }
    }
  });
});

describe('the CNI file', () => {
  const BRIDGE = 'kube-bridge';
  const POLICY_HOOK = 'ipv4 filter FORWARD -> FAIRWAY-POLICY-FORWARD';
  const ROUTING_HOOK = 'ipv4 filter FORWARD -> FAIRWAY-ROUTING';

  function withPolicies(): Watched {
    const world = startRoutingWorld(IPV4_ONLY, {
      host: hostFacts({ links: hostLinks('lo', 'eth0') }),
      others: [policyModule(policyOptions({ families: { ipv4: 'on', ipv6: 'off' } }))],
    });
    list(world, [node(1), node(2)]);
    for (const kind of ['Pod', 'Namespace', 'NetworkPolicy'] as const) world.source.list(kind, []);
    return { ...world, applies: recordApplies(world.tables) };
  }

  it('is written in the first round, after bridge, forwarding and policies', async () => {
    const world = withPolicies();
    await world.clock.advance(100);
    const order = takeApplies(world.applies).map(({ table }) => table);
    assert.ok(
      order.indexOf('cniConfig') > order.lastIndexOf('iptables') && order.indexOf('iptables') > order.indexOf('link'),
      order.join(),
    );
    assert.equal(world.tables.cniConfig.written.length, 1);
    await world.daemon.stop();
  });

  for (const [what, table, key] of [
    ['the judgement of policies', 'iptables', POLICY_HOOK],
    ['what forwards for pods', 'iptables', ROUTING_HOOK],
    ['their bridge', 'link', BRIDGE],
  ] as const) {
    it(`waits for ${what}: pods do not start before it is in force`, async () => {
      const world = withPolicies();
      world.tables[table].refused.set(key, 'the kernel says no');
      await world.clock.advance(300_000);
      assert.deepEqual(world.tables.cniConfig.written, []);
      world.tables[table].refused.clear();
      await world.clock.advance(70_000);
      assert.deepEqual(world.tables.cniConfig.written, [`create ${CNI_FILE}`]);
      await world.daemon.stop();
    });
  }

  it('stays as it is when policies cannot be changed for a while', async () => {
    const world = withPolicies();
    await world.clock.advance(100);
    world.tables.iptables.broken = 'iptables is gone';
    await world.clock.advance(300_000);
    assert.deepEqual(world.tables.cniConfig.written, [`create ${CNI_FILE}`]);
    assert.deepEqual(keys(world, 'cniConfig'), [`cniConfig ${CNI_FILE}`]);
    await world.daemon.stop();
  });
});
