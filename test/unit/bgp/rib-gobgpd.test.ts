import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gobgpV3 } from '../../../daemon/bgp/gobgp-v3.ts';
import { RibSource } from '../../../daemon/bgp/rib.ts';
import type { Speaker } from '../../../daemon/bgp/speaker.ts';
import type { LearnedRoute } from '../../../daemon/cluster/snapshot.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import type { IpPrefix } from '../../../daemon/net/prefix.ts';
import type { BgpPolicy } from '../../../daemon/reconcile/routing-tables.ts';
import { Supervised, seen, startProcess, withFolder } from '../../fakes/supervised.ts';
import { address, bgpPeer, bgpServer, manyPrefixes } from '../../fixtures/bgp.ts';
import { skipBecause } from '../../skip.ts';

const run = promisify(execFile);
const never = new AbortController().signal;
// Not of 127.0.0.0/8, which gobgpd refuses as a next hop.
const OURS = address('192.0.2.1');
const THEIRS = address('192.0.2.2');
const THEIR_ASN = 64513;
const ROUTES = manyPrefixes(10_000);
const GRACEFUL = { restartSeconds: 30, deferralSeconds: 10 };

function acceptAll(direction: BgpPolicy['direction']): BgpPolicy {
  return { direction, statements: [], otherwise: 'accept' };
}

/** Whom they expect to be called by: their own calls go to a port where nobody listens, for two that call each other hinder each other. */
async function configureTheirs(theirs: Speaker): Promise<void> {
  await theirs.startServer(bgpServer({ asn: THEIR_ASN, routerId: THEIRS, listenAddresses: [THEIRS] }), never);
  await theirs.setPolicy(acceptAll('import'), never);
  await theirs.setPolicy(acceptAll('export'), never);
  await theirs.addPeer(
    bgpPeer(OURS, { localAddress: THEIRS, port: 1, gracefulRestart: GRACEFUL }),
    { isRestarting: false },
    never,
  );
}

async function configureOurs(ours: Speaker, isRestarting: boolean): Promise<void> {
  await ours.startServer(bgpServer({ routerId: OURS, listenAddresses: [OURS] }), never);
  await ours.setPolicy(acceptAll('import'), never);
  await ours.setPolicy(acceptAll('export'), never);
  await ours.addPeer(bgpPeer(THEIRS, { localAddress: OURS, asn: THEIR_ASN, gracefulRestart: GRACEFUL }), { isRestarting }, never);
}

describe('what the real gobgpd learns', function () {
  this.timeout(90_000);
  this.slow(40_000);
  const namespace = `fw-rib-${process.pid}`;
  const endings: (() => Promise<unknown>)[] = [];

  before(async function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'network namespaces are for root');
    await run('gobgpd', ['--version']).catch(() => skipBecause(this, 'gobgpd is not installed (Debian package gobgpd)'));
    await run('ip', ['netns', 'add', namespace]);
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    for (const each of [OURS, THEIRS]) await run('ip', ['-n', namespace, 'address', 'add', `${each}/32`, 'dev', 'lo']);
  });

  afterEach(async () => {
    for (const end of endings.splice(0).reverse()) await end();
  });

  after(async () => {
    await run('ip', ['netns', 'del', namespace]).catch(() => undefined);
  });

  it('is in our RIB, cheaply, outlives gobgpd, and goes when the next one was not told it', () =>
    withFolder(async folder => {
      const inside: typeof startProcess = (argv, file) => startProcess(['ip', 'netns', 'exec', namespace, ...argv], file);
      const theirFolder = join(folder, 'theirs');
      await mkdir(theirFolder);
      const target = `unix://${join(theirFolder, 'gobgp.sock')}`;
      const theirProcess = await inside(['gobgpd', `--api-hosts=${target}`, '--pprof-disable'], join(theirFolder, 'log'));
      endings.push(async () => {
        process.kill(theirProcess.pid, 'SIGKILL');
        await theirProcess.ended;
      });
      const theirs = gobgpV3({ endpoint: target, clock: systemClock() });
      endings.push(async () => {
        theirs.close();
      });
      await seen('the neighbour', () => existsSync(join(theirFolder, 'gobgp.sock')));
      await configureTheirs(theirs);
      await theirs.addPaths(
        ROUTES.map(prefix => ({ prefix, nextHop: THEIRS, audience: 'everyone' as const })),
        never,
      );

      const routes = new Map<IpPrefix, LearnedRoute>();
      let isSettled = false;
      let calls = 0;
      const troubles: string[] = [];
      const rib = new RibSource({
        onSession: () => undefined,
        clock: systemClock(),
        onChange: (changes, settled) => {
          calls++;
          isSettled = settled;
          for (const [prefix, route] of changes) {
            if (route === undefined) routes.delete(prefix);
            else routes.set(prefix, route);
          }
        },
        onTrouble: error => troubles.push(error.message),
        expectedPeers: () => 1,
        settleMs: () => 60_000,
      });
      endings.push(() => rib.stop());
      const at = new Supervised(join(folder, 'run'), {
        startProcess: inside,
        connect: endpoint => gobgpV3({ endpoint, clock: systemClock() }),
        hasRoutesInKernel: () => routes.size > 0,
        onSpeaker: speaker => {
          rib.follow(speaker);
          at.speakers.push(speaker);
        },
        onTrouble: error => {
          rib.lost();
          at.troubles.push(error);
        },
      });
      endings.push(() => at.supervisor.stop('keep routes'));
      at.supervisor.start();
      await at.spoken(1);
      await configureOurs(at.speakers[0]!, at.supervisor.isRestarting);
      const before = process.cpuUsage();
      await seen('10,000 routes, settled', () => routes.size === ROUTES.length && isSettled, 30_000);
      const { user, system } = process.cpuUsage(before);
      const spent = (user + system) / 1_000;
      console.log(`      10,000 routes: ${spent.toFixed(0)} ms of processor time, handed out in ${calls} calls`);
      assert.ok(spent < 3_000, `${spent} ms of processor time`);
      assert.deepEqual(routes.get(ROUTES[0]!)?.nextHops, [{ address: THEIRS, isInternal: false }]);

      const kept = new Map(routes);
      process.kill(at.pid, 'SIGKILL');
      await seen('the loss', () => !isSettled);
      await at.spoken(2);
      assert.equal(at.supervisor.isRestarting, true);
      assert.equal(routes.size, ROUTES.length, 'nothing is lost with gobgpd');
      // Gone while nobody of ours listens.
      await theirs.deletePaths(ROUTES.slice(0, 10), never);
      await configureOurs(at.speakers[1]!, at.supervisor.isRestarting);
      await seen('all told again', () => isSettled, 30_000);
      assert.equal(routes.size, ROUTES.length - 10);
      assert.ok(
        ROUTES.slice(10).every(prefix => routes.get(prefix) === kept.get(prefix)),
        'what was told again is the same object',
      );

      await theirs.deletePeer(OURS, never);
      await seen('all withdrawn', () => routes.size === 0, 10_000);
      assert.equal(isSettled, true);
    }));
});
