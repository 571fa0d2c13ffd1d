// Runs as root in the lab's guest, or in a network namespace of a machine that has gobgpd: `unshare -n` around mocha.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { bgpPeerDriver, bgpServerDriver } from '../../daemon/bgp/tables.ts';
import { probeIptables } from '../../daemon/kernel/iptables-flavour.ts';
import { portGate } from '../../daemon/kernel/port-gate.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { Secret } from '../../daemon/net/secret.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import {
  configured,
  exporting,
  GobgpWorld,
  never,
  path,
  peerAt,
  SERVER,
  secondsSince,
  statement,
  TELL_OURS,
  WE,
} from '../fakes/gobgp-world.ts';
import { BGP_PORT } from '../fakes/gobgpd.ts';
import { address } from '../fixtures/bgp.ts';
import { until } from '../lab/until.ts';

const clock = systemClock();
const runner = processRunner({ environment: process.env, clock, onSpawn: () => undefined });
const files = { readFile: (file: string): Promise<string> => readFile(file, 'utf8') };
const RESTART = { restartSeconds: 120, deferralSeconds: 360 };

describe('gobgpd 3, with its neighbours,', function () {
  this.timeout(60_000);
  const world = new GobgpWorld();
  before(() => GobgpWorld.prepare());
  afterEach(() => world.end());

  it('goes on with a session whose hold time changes, and begins another for the rest', async function () {
    this.timeout(120_000);
    await world.fresh();
    // It only waits: two gobgpds that call each other in the same second begin anew again and again.
    await world.neighbor('198.51.100.2', { passive: true });
    const before = peerAt('198.51.100.2');
    await world.speaker.addPeer(before, { isRestarting: false }, never);
    await world.established('198.51.100.2');
    const uptime = await world.uptimeOf('198.51.100.2');
    const patient = peerAt('198.51.100.2', { holdSeconds: 60 });
    await world.speaker.updatePeer(before, patient, never);
    assert.ok(TABLES.bgpPeer.same((await world.speaker.peers(never))[0]!, patient));
    assert.equal(await world.uptimeOf('198.51.100.2'), uptime);
    for (const other of [peerAt('198.51.100.2', { multihopTtl: 9 }), peerAt('198.51.100.2', { families: ['ipv4', 'ipv6'] })]) {
      await world.speaker.updatePeer(patient, other, never);
      assert.ok(TABLES.bgpPeer.same((await world.speaker.peers(never))[0]!, other));
      // The neighbour holds idle for 5 s after a session that ended.
      await world.established('198.51.100.2', 45_000);
      assert.ok(TABLES.bgpPeer.same((await world.speaker.peers(never))[0]!, other), 'also while the session is up');
    }
  });

  it('meets a neighbour with a password, and without one after it is taken away', async () => {
    await world.fresh();
    const protectedOne = await world.neighbor('198.51.100.2', { password: 's3cret' });
    const guarded = peerAt('198.51.100.2', { password: new Secret('s3cret') });
    await world.speaker.addPeer(guarded, { isRestarting: false }, never);
    await world.established('198.51.100.2');
    await protectedOne.stop();
    await world.speaker.deletePeer(guarded.address, never);
    await protectedOne.start(configured('198.51.100.2'));
    // It calls us: our listener must not ask for the password any more.
    await world.speaker.addPeer(peerAt('198.51.100.2', { port: 1 }), { isRestarting: false }, never);
    await world.established('198.51.100.2');
  });

  it('takes our routes back at once where a neighbour is deleted or the server stops, graceful restart or not', async () => {
    await world.fresh();
    const [one, two] = [
      await world.neighbor('198.51.100.2', { gracefulRestart: true }),
      await world.neighbor('198.51.100.3', { gracefulRestart: true }),
    ];
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.speaker.addPaths([path('10.1.0.0/24')], never);
    for (const at of ['198.51.100.2', '198.51.100.3'])
      await world.speaker.addPeer(peerAt(at, { gracefulRestart: RESTART }), { isRestarting: false }, never);
    await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
    await Promise.all([
      world.told(one, '10.1.0.0/24 10.50.0.0/24', 'ipv4', 25_000),
      world.told(two, '10.1.0.0/24', 'ipv4', 25_000),
    ]);
    await until(
      'all is told',
      () => world.speaker.peerStatus(never),
      found => found.every(({ isComplete }) => isComplete),
      3_000,
    );
    await world.speaker.deletePeer(address('198.51.100.2'), never);
    await world.told(one, '10.50.0.0/24', 'ipv4', 1_000);
    assert.deepEqual(
      (await world.speaker.bestPaths('all', never)).map(({ prefix }) => prefix),
      ['10.1.0.0/24'],
    );
    await world.speaker.stopServer(never);
    await world.told(two, '', 'ipv4', 1_000);
  });

  it('tells live neighbours news soon after a restart, though another is dead', async () => {
    await world.fresh();
    const live = await world.neighbor('198.51.100.2', { gracefulRestart: true });
    const peers = [peerAt('198.51.100.2', { gracefulRestart: RESTART }), peerAt('198.51.100.66', { gracefulRestart: RESTART })];
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.speaker.addPaths([path('10.1.0.0/24'), path('10.2.0.0/24')], never);
    for (const peer of peers) await world.speaker.addPeer(peer, { isRestarting: false }, never);
    await world.told(live, '10.1.0.0/24 10.2.0.0/24', 'ipv4', 25_000);
    await world.ours.stop('SIGKILL');
    await until(
      'our routes are kept',
      async () => Object.values(await live.rib()),
      seen => seen.length === 2 && seen.every(({ isStale }) => isStale),
      5_000,
    );

    await world.fresh();
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.speaker.addPaths([path('10.1.0.0/24'), path('10.3.0.0/24')], never);
    for (const peer of peers) await world.speaker.addPeer(peer, { isRestarting: true }, never);
    const begin = performance.now();
    let lost = 0;
    const look = async (): Promise<string> => {
      const seen = await world.prefixesOf(live);
      if (!seen.includes('10.1.0.0/24')) lost++;
      return seen;
    };
    await until('the new route is told, the old one taken back', look, seen => seen === '10.1.0.0/24 10.3.0.0/24', 20_000);
    assert.equal(lost, 0, 'the route that stays was never away');
    console.log(`      ${secondsSince(begin)} s after peers were added, news at the live neighbour`);
    await world.speaker.addPaths([path('10.4.0.0/24')], never);
    await world.told(live, '10.1.0.0/24 10.3.0.0/24 10.4.0.0/24', 'ipv4', 1_000);
  });

  it('keeps a neighbour that calls before it is known from dropping our routes', async function () {
    this.timeout(120_000);
    const tools = await probeIptables({ runner, files }, never);
    const tables = {
      speaker: () => world.speaker,
      isRestarting: () => true,
      restarted: () => undefined,
      gate: portGate({ runner, tools, clock, port: BGP_PORT, reason: 'a test' }),
    };
    await world.fresh();
    const live = await world.neighbor('198.51.100.2', { gracefulRestart: true });
    const peer = peerAt('198.51.100.2', { gracefulRestart: RESTART });
    await world.speaker.setPolicy(TELL_OURS, never);
    await world.speaker.addPaths([path('10.1.0.0/24')], never);
    await world.speaker.addPeer(peer, { isRestarting: false }, never);
    await world.told(live, '10.1.0.0/24', 'ipv4', 25_000);
    await world.ours.stop('SIGKILL');
    await world.empty();
    await bgpServerDriver(tables).apply([{ op: 'create', key: 'global', to: SERVER }], never);
    await world.speaker.setPolicy(TELL_OURS, never);
    // It calls every 5 to 10 s, after an idle hold of 5 s.
    const begin = performance.now();
    while (performance.now() - begin < 20_000) {
      assert.equal(await world.prefixesOf(live), '10.1.0.0/24', `after ${secondsSince(begin)} s`);
      await pause(100);
    }
    await world.speaker.addPaths([path('10.1.0.0/24')], never);
    await bgpPeerDriver(tables).apply([{ op: 'create', key: peer.address, to: peer }], never);
    const { stdout } = await runner.run({ argv: ['iptables-save'] }, never);
    assert.doesNotMatch(stdout, /a test/);
    const look = async (): Promise<string> => {
      assert.equal(await world.prefixesOf(live), '10.1.0.0/24');
      return Object.values(await live.rib())
        .map(({ isStale }) => (isStale ? 'stale' : 'fresh'))
        .join(' ');
    };
    await until('the route is told anew', look, seen => seen === 'fresh', 20_000);
  });

  it('as a restarted route reflector takes no route from a client that another still has', async () => {
    await world.fresh();
    const [one, two] = [
      await world.neighbor('198.51.100.2', { asn: WE.asn, gracefulRestart: true }),
      await world.neighbor('198.51.100.3', { asn: WE.asn, gracefulRestart: true }),
    ];
    const cluster = { asn: WE.asn, gracefulRestart: RESTART, reflectorClusterId: address('1.2.3.4') };
    const peers = [peerAt('198.51.100.2', cluster), peerAt('198.51.100.3', cluster), peerAt('198.51.100.66', cluster)];
    const reflect = exporting([statement({ origin: 'local' }), statement({ origin: 'internal' })]);
    await world.speaker.setPolicy(reflect, never);
    for (const peer of peers) await world.speaker.addPeer(peer, { isRestarting: false }, never);
    await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
    await world.told(two, '10.50.0.0/24', 'ipv4', 25_000);
    await world.ours.stop('SIGKILL');

    await world.fresh();
    await world.speaker.setPolicy(reflect, never);
    for (const peer of peers) await world.speaker.addPeer(peer, { isRestarting: true }, never);
    const begin = performance.now();
    let lost = 0;
    const look = async (): Promise<boolean> => {
      const seen = (await two.rib())['10.50.0.0/24'];
      if (seen === undefined) lost++;
      return (
        seen?.isStale === false &&
        (await world.speaker.peerStatus(never)).filter(({ state }) => state === 'established').length === 2
      );
    };
    await until('the route is told anew', look, Boolean, 40_000);
    console.log(`      ${secondsSince(begin)} s after peers were added, what one client told is new at the other`);
    assert.equal(lost, 0);
  });

  it('meets a neighbour that comes up later, calling or called', async () => {
    await world.fresh();
    for (const at of ['198.51.100.2', '198.51.100.3', '198.51.100.4'])
      await world.speaker.addPeer(peerAt(at), { isRestarting: false }, never);
    await pause(3_000);
    await world.neighbor('198.51.100.2');
    await world.neighbor('198.51.100.3', { passive: true });
    const begin = performance.now();
    const [called, passive] = [
      world.established('198.51.100.2').then(() => secondsSince(begin)),
      world.established('198.51.100.3').then(() => secondsSince(begin)),
    ];
    console.log(`      a neighbour 3 s later: ${await called} s after its start; one that only waits: ${await passive} s`);
    await pause(12_000);
    await world.neighbor('198.51.100.4', { passive: true });
    const refused = performance.now();
    await world.established('198.51.100.4', 15_000);
    console.log(`      one that refused us for longer and only waits: ${secondsSince(refused)} s after its start`);
  });
});
