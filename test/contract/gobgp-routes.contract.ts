// Runs as root in the lab's guest, or in a network namespace of a machine that has gobgpd: `unshare -n` around mocha.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { SpeakerEvents } from '../../daemon/bgp/speaker.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import { exporting, GobgpWorld, importing, never, path, peerAt, SERVER, statement, TELL_OURS, WE } from '../fakes/gobgp-world.ts';
import { BGP_PORT, type Gobgpd } from '../fakes/gobgpd.ts';
import { address } from '../fixtures/bgp.ts';
import { until } from '../lab/until.ts';

describe('gobgpd 3, by what neighbours hear,', function () {
  this.timeout(60_000);
  const world = new GobgpWorld();
  before(() => GobgpWorld.prepare());
  afterEach(() => world.end());

  it('tells each what it may hear of, and our marks to no one', async () => {
    await world.fresh();
    const fabric = await world.neighbor('198.51.100.2', { families: ['ipv4', 'ipv6'] });
    const node = await world.neighbor('198.51.100.3', { asn: WE.asn });
    await world.speaker.addPeer(peerAt('198.51.100.2', { families: ['ipv4', 'ipv6'] }), { isRestarting: false }, never);
    await world.speaker.addPeer(peerAt('198.51.100.3', { asn: WE.asn }), { isRestarting: false }, never);
    await world.speaker.addPaths(
      [
        path('10.1.0.0/24'),
        path('10.96.0.1/32', { audience: 'fabric' }),
        path('fd00:10:1::/64'),
        path('10.2.0.0/24', { nextHop: address('198.51.100.50') }),
      ],
      never,
    );
    await world.ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
    await Promise.all([world.established('198.51.100.2'), world.established('198.51.100.3')]);
    await pause(500);
    assert.equal(await world.prefixesOf(fabric), '', 'nothing before there is a policy');

    const toFabric = { neighbors: [address('198.51.100.2')], origin: 'local' } as const;
    await world.speaker.setPolicy(
      exporting([
        statement(
          { ...toFabric, audience: 'fabric' },
          { setCommunities: [65_000 * 65_536 + 7], prepend: { asn: 64_999, times: 2 } },
        ),
        statement({ ...toFabric, audience: 'everyone' }, { setCommunities: [], nextHopSelf: true }),
        statement({ origin: 'local', audience: 'everyone' }),
      ]),
      never,
    );
    await world.told(fabric, '10.1.0.0/24 10.2.0.0/24 10.96.0.1/32');
    await world.told(fabric, 'fd00:10:1::/64', 'ipv6');
    await world.told(node, '10.1.0.0/24 10.2.0.0/24');
    const seen = await fabric.rib();
    assert.deepEqual(seen['10.96.0.1/32'], {
      nextHop: WE.address,
      asPath: [64_999, 64_999, WE.asn],
      communities: [65_000 * 65_536 + 7],
      isStale: false,
    });
    assert.deepEqual(seen['10.1.0.0/24'], { nextHop: WE.address, asPath: [WE.asn], communities: [], isStale: false });
    assert.equal(seen['10.2.0.0/24']?.nextHop, WE.address, 'our end of the session');
    const atNode = await node.rib();
    assert.deepEqual(atNode['10.2.0.0/24'], { nextHop: '198.51.100.50', asPath: [], communities: [], isStale: false });

    await world.speaker.setPolicy(exporting([], 'accept'), never);
    await world.told(node, '10.1.0.0/24 10.2.0.0/24 10.9.0.0/24 10.96.0.1/32');
    assert.deepEqual((await node.rib())['10.96.0.1/32']?.communities, []);
    await until(
      'no community is left',
      async () => (await fabric.rib())['10.96.0.1/32']?.communities,
      seenNow => seenNow?.length === 0,
      3_000,
    );
    assert.equal((await fabric.rib('ipv6'))['fd00:10:1::/64']?.nextHop, 'fd00:1::1');
  });

  it('withdraws what a new policy rejects, from those alone whom it concerns, and ends no session', async () => {
    await world.fresh();
    const [one, two] = [await world.neighbor('198.51.100.2'), await world.neighbor('198.51.100.3')];
    await world.speaker.setPolicy(TELL_OURS, never);
    for (const at of ['198.51.100.2', '198.51.100.3']) await world.speaker.addPeer(peerAt(at), { isRestarting: false }, never);
    await world.speaker.addPaths([path('10.1.0.0/24'), path('10.96.0.1/32', { audience: 'fabric' })], never);
    await world.ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
    await Promise.all([
      world.told(one, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32', 'ipv4', 25_000),
      world.told(two, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32', 'ipv4', 25_000),
    ]);
    const uptimes = [await world.uptimeOf('198.51.100.2'), await world.uptimeOf('198.51.100.3')];

    await world.speaker.setPolicy(
      exporting([statement({ neighbors: [address('198.51.100.3')] }), statement({ origin: 'local', audience: 'everyone' })]),
      never,
    );
    await world.told(one, '10.1.0.0/24');
    await world.told(two, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32');
    await world.speaker.deletePolicy('export', never);
    await world.told(one, '');
    await world.told(two, '');
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.told(one, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32');
    assert.deepEqual([await world.uptimeOf('198.51.100.2'), await world.uptimeOf('198.51.100.3')], uptimes);
    assert.equal((await world.speaker.localPaths(never)).length, 2);
    assert.equal((await world.speaker.peerStatus(never))[0]?.advertised, 3);

    await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
    await until(
      'it is taken in',
      () => world.speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never),
      found => found.length === 1,
      3_000,
    );
    const within = { prefix: mustParsePrefix('10.48.0.0/12'), minLength: 12, maxLength: 32 };
    await world.speaker.setPolicy(importing([statement({ prefixes: [within], verdict: 'reject' })]), never);
    assert.deepEqual(await world.speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never), []);
    await world.speaker.deletePolicy('import', never);
    assert.equal((await world.speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never)).length, 1);
  });

  it('takes back also what it handed on from another neighbour, by a new session', async () => {
    await world.fresh();
    const [one, two] = [await world.neighbor('198.51.100.2'), await world.neighbor('198.51.100.3', { asn: 65_003 })];
    await world.speaker.setPolicy(exporting([], 'accept'), never);
    await world.speaker.addPeer(peerAt('198.51.100.2'), { isRestarting: false }, never);
    await world.speaker.addPeer(peerAt('198.51.100.3', { asn: 65_003 }), { isRestarting: false }, never);
    await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
    await world.told(two, '10.50.0.0/24', 'ipv4', 25_000);
    const uptime = await world.uptimeOf('198.51.100.2');
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.told(two, '');
    await world.established('198.51.100.3');
    await pause(500);
    assert.equal(await world.prefixesOf(two), '');
    assert.equal(await world.uptimeOf('198.51.100.2'), uptime, 'the other session goes on');
  });

  it('knows equal best paths, and tells of each change of them', async () => {
    await world.fresh();
    const [one, two] = [await world.neighbor('198.51.100.2'), await world.neighbor('198.51.100.3')];
    const changed = new Set<string>();
    const sessions = new Set<string>();
    const events: SpeakerEvents = {
      changed: prefixes => {
        for (const prefix of prefixes) changed.add(prefix);
      },
      session: at => sessions.add(at),
    };
    const ending = new AbortController();
    const watching = world.speaker.watch(events, ending.signal);
    for (const at of ['198.51.100.2', '198.51.100.3']) await world.speaker.addPeer(peerAt(at), { isRestarting: false }, never);
    await Promise.all([world.established('198.51.100.2'), world.established('198.51.100.3')]);
    assert.deepEqual([...sessions].sort(), ['198.51.100.2', '198.51.100.3']);
    const prefix = mustParsePrefix('10.50.0.0/24');
    const bestAfter = async (what: string, change: () => Promise<unknown>): Promise<readonly string[]> => {
      changed.clear();
      await change();
      await until(`an event where ${what}`, async () => changed.has(prefix), Boolean, 3_000);
      return (await world.speaker.bestPaths([prefix], never))
        .map(({ nextHop, origin, neighbor: by }) => `${nextHop} ${origin} ${by ?? 'we'}`)
        .sort();
    };
    const add =
      (by: Gobgpd, nextHop: string, ...more: readonly string[]) =>
      () =>
        by.cli('global', 'rib', 'add', prefix, 'nexthop', nextHop, ...more);
    const remove = (by: Gobgpd) => () => by.cli('global', 'rib', 'del', prefix);
    const [byOne, byTwo] = ['198.51.100.2 external 198.51.100.2', '198.51.100.3 external 198.51.100.3'];
    assert.deepEqual(await bestAfter('it comes', add(one, '198.51.100.2')), [byOne]);
    assert.deepEqual(await bestAfter('it has a second way', add(two, '198.51.100.3')), [byOne, byTwo]);
    assert.deepEqual(await bestAfter('the second way is another', add(two, '198.51.100.9')), [
      byOne,
      '198.51.100.9 external 198.51.100.3',
    ]);
    assert.deepEqual(await bestAfter('the second is worse', add(two, '198.51.100.3', 'med', '50')), [byOne]);
    assert.deepEqual(await bestAfter('the second is as good again', add(two, '198.51.100.3')), [byOne, byTwo]);
    assert.deepEqual(await bestAfter('we have it', () => world.speaker.addPaths([path(prefix)], never)), [
      `${WE.address} local we`,
    ]);
    assert.deepEqual(await bestAfter('we no longer have it', () => world.speaker.deletePaths([prefix], never)), [byOne, byTwo]);
    assert.deepEqual(await bestAfter('the first goes', remove(one)), [byTwo]);
    assert.deepEqual(await bestAfter('the session goes', () => two.stop()), []);
    ending.abort();
    await watching;
    const lost = assert.rejects(world.speaker.watch(events, never), { code: 'FW_BGP_UNREACHABLE' });
    await pause(200);
    await world.ours.stop();
    await lost;
  });

  it('exchanges IPv4 routes over an IPv6 session', async () => {
    await world.fresh({ ...SERVER, listenAddresses: [address('::1')] });
    const six = await world.neighbor('::1', {
      speaker: { ...WE, address: '::1' },
      families: ['ipv4', 'ipv6'],
      port: BGP_PORT + 1,
    });
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.speaker.addPaths(
      [path('10.1.0.0/24'), path('fd00:10:1::/64'), path('10.2.0.0/24', { nextHop: address('fd00:1::1') })],
      never,
    );
    await world.speaker.addPeer(
      peerAt('::1', { localAddress: address('::1'), port: BGP_PORT + 1, families: ['ipv4', 'ipv6'] }),
      { isRestarting: false },
      never,
    );
    await world.told(six, '10.1.0.0/24 10.2.0.0/24', 'ipv4', 25_000);
    await world.told(six, 'fd00:10:1::/64', 'ipv6');
    assert.equal((await six.rib())['10.1.0.0/24']?.nextHop, WE.address);
    assert.equal((await six.rib())['10.2.0.0/24']?.nextHop, 'fd00:1::1');
    assert.deepEqual((await world.speaker.localPaths(never)).find(each => each.prefix === '10.2.0.0/24')?.nextHop, 'fd00:1::1');
  });
});
