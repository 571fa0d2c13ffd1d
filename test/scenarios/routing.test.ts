import assert from 'node:assert/strict';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import { entry } from '../../daemon/reconcile/fragment.ts';
import { STAGES } from '../../daemon/reconcile/tables.ts';
import { takeApplies } from '../fakes/applies.ts';
import type { RoutingWorld } from '../fakes/daemon.ts';
import { atRest, keys, ROUTES, started, tell, withdraw, written } from '../fakes/routing-world.ts';
import { ip, learned, node } from '../fixtures/cluster.ts';
import { flagPeer } from '../fixtures/routing-options.ts';

const FAR_TUNNEL = 'tun-64ece1459fa';
const FAR_ENTRIES = [`link ${FAR_TUNNEL}`, 'unicastRoute 254 10.244.4.0/24', 'unicastRoute 77 192.168.2.4/32'];

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
