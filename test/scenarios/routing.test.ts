import assert from 'node:assert/strict';
import type { Node } from '../../daemon/cluster/kinds.ts';
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import { type IpPrefix, mustParsePrefix } from '../../daemon/net/prefix.ts';
import { entry } from '../../daemon/reconcile/fragment.ts';
import { STAGES, type TableName } from '../../daemon/reconcile/tables.ts';
import { policyModule } from '../../modules/policy/module.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import { type RecordedApply, recordApplies, takeApplies } from '../fakes/applies.ts';
import { type RoutingWorld, startRoutingWorld } from '../fakes/daemon.ts';
import {
  farNode,
  hostFacts,
  hostLinks,
  ip,
  ips,
  learned,
  node,
  service,
  slice,
  terminatingEndpoint,
  unreadyEndpoint,
} from '../fixtures/cluster.ts';
import { policyOptions } from '../fixtures/policy-options.ts';
import { CNI_FILE, flagPeer } from '../fixtures/routing-options.ts';
import { POD_ROUTES } from '../fixtures/routing-scene.ts';

interface Watched extends RoutingWorld {
  readonly applies: RecordedApply[];
}

type Options = Partial<RoutingOptions>;
const IPV4_ONLY: Options = { families: { ipv4: 'on', ipv6: 'off' } };
const ROUTES = POD_ROUTES.filter(({ prefix }) => !prefix.includes(':'));
const FAR_TUNNEL = 'tun-64ece1459fa';
const FAR_ENTRIES = [`link ${FAR_TUNNEL}`, 'unicastRoute 254 10.244.4.0/24', 'unicastRoute 77 192.168.2.4/32'];

/** A daemon that has listed nodes 1, 2 and, across the router, 4; what neighbours tell is still to come. */
function started(options: Options = {}, nodes: readonly Node[] = [node(1), node(2), farNode(4)]): Watched {
  const world = startRoutingWorld({ ...IPV4_ONLY, ...options });
  list(world, nodes);
  return { ...world, applies: recordApplies(world.tables) };
}

function list({ source }: RoutingWorld, nodes: readonly Node[]): void {
  source.list('Node', nodes);
  source.list('Service', []);
  source.list('EndpointSlice', []);
}

/** Likewise, at rest: all neighbours have told what they have. What was written to come there is forgotten. */
async function atRest(options: Options = {}, nodes?: readonly Node[]): Promise<Watched> {
  const world = started(options, nodes);
  tell(world, ROUTES);
  await world.clock.advance(1000);
  takeApplies(world.applies);
  return world;
}

function tell({ daemon }: RoutingWorld, routes: readonly LearnedRoute[], isSettled = true): void {
  daemon.ribChanged(new Map(routes.map(route => [route.prefix, route])), isSettled);
}

function withdraw({ daemon }: RoutingWorld, ...prefixes: readonly string[]): void {
  daemon.ribChanged(new Map<IpPrefix, undefined>(prefixes.map(prefix => [mustParsePrefix(prefix), undefined])), true);
}

/** What was written since the last look, as `TABLE OP KEY`, whatever its order. */
function written({ applies }: Watched): readonly string[] {
  return takeApplies(applies)
    .flatMap(({ table, changes }) => changes.map(change => `${table} ${change}`))
    .sort();
}

function keys(world: RoutingWorld, ...tables: readonly TableName[]): readonly string[] {
  return tables.flatMap(table => [...world.tables[table].state.keys()].map(key => `${table} ${key}`)).sort();
}

const EARLIER_TUNNEL = 'tun-0123456789a';

/** Leaves in the kernel what an earlier run learned: the route to the neighbour's pods, and one to a node that is no more, with its tunnel. */
function leaveBehind({ tables }: RoutingWorld): void {
  const over = (
    link: string,
    gateway?: string,
  ): { link: string; gateway: ReturnType<typeof ip> | undefined; vxlanRemote: undefined } => ({
    link,
    gateway: gateway === undefined ? undefined : ip(gateway),
    vxlanRemote: undefined,
  });
  const left = [
    entry('unicastRoute', {
      table: 254,
      destination: mustParsePrefix('10.244.2.0/24'),
      nextHops: [over('eth0', '192.168.1.2')],
      source: ip('192.168.1.1'),
    }),
    entry('unicastRoute', {
      table: 254,
      destination: mustParsePrefix('10.244.9.0/24'),
      nextHops: [over(EARLIER_TUNNEL)],
      source: ip('192.168.1.1'),
    }),
    entry('unicastRoute', {
      table: 77,
      destination: mustParsePrefix('192.168.2.9/32'),
      nextHops: [over(EARLIER_TUNNEL)],
      source: undefined,
    }),
    entry('link', {
      name: EARLIER_TUNNEL,
      type: 'ipip',
      local: ip('192.168.1.1'),
      remote: ip('192.168.2.9'),
      guePort: undefined,
      mtu: 1480,
    }),
  ];
  for (const { table, key, value } of left) tables[table].state.set(key, value as never);
}

const LEFT = [
  `link ${EARLIER_TUNNEL}`,
  'unicastRoute 254 10.244.2.0/24',
  'unicastRoute 254 10.244.9.0/24',
  'unicastRoute 77 192.168.2.9/32',
];

describe('routes and tunnels of an earlier run', () => {
  it('stay while neighbours may still tell of them; what was not told again goes when all is told, routes before their tunnel', async () => {
    const world = started();
    leaveBehind(world);
    await world.clock.advance(60_000);
    assert.deepEqual(keys(world, 'unicastRoute', 'link'), [...LEFT, 'link kube-bridge'].sort());
    tell(world, ROUTES, false);
    await world.clock.advance(1000);
    assert.deepEqual(keys(world, 'unicastRoute', 'link'), [...LEFT, ...FAR_ENTRIES, 'link kube-bridge'].sort());
    assert.ok(
      world.tables.unicastRoute.written.every(change => !change.includes('10.244.2.0')),
      'what was right was not written',
    );
    takeApplies(world.applies);
    tell(world, [], true);
    await world.clock.advance(100);
    assert.deepEqual(takeApplies(world.applies), [
      { table: 'unicastRoute', changes: ['delete 254 10.244.9.0/24', 'delete 77 192.168.2.9/32'] },
      { table: 'link', changes: [`delete ${EARLIER_TUNNEL}`] },
    ]);
    await world.daemon.stop();
  });

  it('go at once where nobody is to be heard: --pod-routes=api without routers starts no BGP', async () => {
    const world = started({ podRoutes: 'api' });
    leaveBehind(world);
    await world.clock.advance(1000);
    assert.deepEqual(
      keys(world, 'unicastRoute', 'link'),
      ['link kube-bridge', ...FAR_ENTRIES, 'unicastRoute 254 10.244.2.0/24'].sort(),
    );
    assert.deepEqual(keys(world, 'bgpServer', 'bgpPolicy', 'bgpPath', 'bgpPeer'), []);
    assert.equal(world.bgp.needs, 0);
    await world.daemon.stop();
  });

  it('stay through the loss of the speaker, and go with it where nobody tells them again', async () => {
    const world = await atRest();
    const before = keys(world, 'unicastRoute', 'link');
    tell(world, [], false);
    await world.clock.advance(300_000);
    world.source.put(node(5));
    await world.clock.advance(1000);
    assert.deepEqual(keys(world, 'unicastRoute', 'link'), before);
    withdraw(world, '10.244.4.0/24');
    await world.clock.advance(100);
    assert.deepEqual(
      keys(world, 'unicastRoute', 'link'),
      before.filter(key => !FAR_ENTRIES.includes(key)),
    );
    await world.daemon.stop();
  });
});

describe('a session that is lost', () => {
  it('costs the routes over it, each one write, and nothing else', async () => {
    const world = await atRest();
    withdraw(world, '10.244.2.0/24');
    await world.clock.advance(10);
    assert.deepEqual(written(world), ['unicastRoute delete 254 10.244.2.0/24']);
    tell(world, ROUTES.slice(0, 1));
    await world.clock.advance(1000);
    assert.deepEqual(written(world), ['unicastRoute create 254 10.244.2.0/24']);
    await world.daemon.stop();
  });

  it('and flaps shares rounds, ends as it was told last, and leaves other routes alone', async () => {
    const world = await atRest();
    for (let flap = 0; flap < 100; flap++) {
      if (flap % 2 === 0) withdraw(world, '10.244.4.0/24');
      else tell(world, ROUTES);
      await world.clock.advance(5);
    }
    await world.clock.advance(2000);
    const changes = written(world);
    assert.ok(changes.length <= 60, `${changes.length} writes for 100 flaps in half a second`);
    assert.deepEqual(
      changes.filter(change => !/10\.244\.4\.0|192\.168\.2\.4|tun-/.test(change)),
      [],
    );
    for (const key of FAR_ENTRIES) assert.ok(keys(world, 'unicastRoute', 'link').includes(key), key);
    await world.daemon.stop();
  });

  it('of two equal ways leaves the other, in place', async () => {
    const world = await atRest();
    tell(world, [learned('10.9.0.0/16', '192.168.1.253', '192.168.1.254')]);
    await world.clock.advance(100);
    takeApplies(world.applies);
    tell(world, [learned('10.9.0.0/16', '192.168.1.254')]);
    await world.clock.advance(100);
    assert.deepEqual(written(world), ['unicastRoute update 254 10.9.0.0/16']);
    await world.daemon.stop();
  });

  it('and one that never comes up holds up nobody', async () => {
    const world = started({ peers: [flagPeer('192.168.1.254'), flagPeer('192.168.1.253')] });
    world.tables.bgpPeer.refused.set('192.168.1.254', 'no');
    await world.clock.advance(100);
    assert.deepEqual(keys(world, 'bgpPeer'), ['bgpPeer 192.168.1.2', 'bgpPeer 192.168.1.253', 'bgpPeer 192.168.2.4']);
    assert.ok(keys(world, 'cniConfig', 'bgpPath').includes('bgpPath 10.244.1.0/24'));
    await world.daemon.stop();
  });
});

describe('a speaker that starts again with nothing', () => {
  it('is given all in one round, paths before sessions, while the kernel keeps what it has', async () => {
    const world = await atRest();
    for (const name of ['bgpServer', 'bgpPolicy', 'bgpPath', 'bgpPeer'] as const) world.tables[name].state.clear();
    tell(world, [], false);
    world.daemon.speakerChanged();
    await world.clock.advance(100);
    assert.deepEqual(
      takeApplies(world.applies).map(({ table, changes }) => `${table}: ${changes.toSorted().join(', ')}`),
      [
        'bgpServer: create global',
        'bgpPolicy: create export, create import',
        'bgpPath: create 10.244.1.0/24',
        'bgpPeer: create 192.168.1.2, create 192.168.2.4',
      ],
    );
    await world.daemon.stop();
  });

  it('and refuses to start leaves everything but BGP at work', async () => {
    const world = started();
    world.tables.bgpServer.refused.set('global', 'address in use');
    await world.clock.advance(1000);
    assert.deepEqual(keys(world, 'bgpServer', 'bgpPolicy', 'bgpPath', 'bgpPeer'), []);
    assert.deepEqual(keys(world, 'rule'), ['rule 10.244.1.0/24 77']);
    assert.equal(world.log.matching(/address in use/).length, 1);
    world.tables.bgpServer.refused.clear();
    await world.clock.advance(70_000);
    assert.deepEqual(keys(world, 'bgpPeer'), ['bgpPeer 192.168.1.2', 'bgpPeer 192.168.2.4']);
    await world.daemon.stop();
  });
});

describe('BGP that nobody asks for any more', () => {
  it('takes what it told along, although a speaker that was stopped withdraws nothing', async () => {
    const router = node(1, { annotations: { 'kube-router.io/peers': '[{ remoteip: 192.168.1.254, remoteasn: 65000 }]' } });
    const world = await atRest({ podRoutes: 'api' }, [router, node(2)]);
    tell(world, [learned('10.9.0.0/16', '192.168.1.254')]);
    await world.clock.advance(100);
    assert.ok(keys(world, 'unicastRoute').includes('unicastRoute 254 10.9.0.0/16'));
    world.source.put(node(1));
    await world.clock.advance(10);
    tell(world, [], false);
    await world.clock.advance(1000);
    assert.deepEqual(keys(world, 'bgpServer', 'bgpPolicy', 'bgpPath', 'bgpPeer', 'unicastRoute'), [
      'unicastRoute 254 10.244.2.0/24',
    ]);
    await world.daemon.stop();
  });
});

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

describe('a daemon with all it wants', () => {
  it('writes nothing more for an hour, nor does another that starts after it', async () => {
    const first = await atRest({ peers: [flagPeer('192.168.1.254')] });
    await first.clock.advance(3_600_000);
    assert.deepEqual(written(first), []);
    await first.daemon.stop();
    const second = started({ peers: [flagPeer('192.168.1.254')] });
    for (const name of STAGES)
      for (const [key, value] of first.tables[name].state) second.tables[name].state.set(key, value as never);
    await second.clock.advance(1000);
    tell(second, ROUTES, true);
    await second.clock.advance(1000);
    assert.deepEqual(written(second), []);
    assert.ok(second.bgp.needs > 0);
    await second.daemon.stop();
  });
});
