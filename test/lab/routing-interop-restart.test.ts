import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabHost } from './addresses.ts';
import { nodeWithPeers, serviceOn } from './cases/interop-cluster.ts';
import { BirdPeer } from './peers/bird.ts';
import { describeInterop, type InteropOptions, type InteropSuite } from './peers/describe-interop.ts';
import { established, has, incarnations, spelled } from './peers/expect.ts';
import { FrrPeer } from './peers/frr.ts';
import { addLanHost } from './peers/hosts.ts';
import { untilRoutes } from './peers/kernel-routes.ts';
import { pidOf, signalOnly } from './peers/node-processes.ts';
import type { Peer } from './peers/peer.ts';
import { until } from './until.ts';

const [FRR_ASN, BIRD_ASN] = [65_001, 65_002];
const PEERS = [
  { address: '192.168.1.101', asn: FRR_ASN },
  { address: '192.168.1.102', asn: BIRD_ASN },
];
const NODE = '192.168.1.11';
const TOLD = ['10.244.1.0/24', '203.0.113.30/32'].map(prefix => `${prefix} via ${NODE} path 64512`);
const LEARNED = ['10.81.0.0/24 via 192.168.1.101', '10.82.0.0/24 via 192.168.1.102'];

const DELETED = /^Deleted (10\.8[12]\.0|10\.244\.1|203\.0\.113)\./;

interface Peers {
  readonly frr: FrrPeer;
  readonly bird: BirdPeer;
}

function optionsWith(...flags: readonly string[]): InteropOptions<Peers> {
  return {
    routers: [1],
    flags: ['--advertise-external-ip', ...flags],
    objects: lab => [
      nodeWithPeers(lab.node(1), PEERS),
      ...serviceOn(lab, 'web', { clusterIP: '10.96.1.3', externalIPs: ['203.0.113.30'] }, [1]),
    ],
    peers: async lab => {
      const hosts = [101, 102].map(number => addLanHost(lab, `peer${number}`, 1, number));
      const [onFrr, onBird] = (await Promise.all(hosts)) as [LabHost, LabHost];
      const neighbors = [{ address: NODE }];
      return {
        frr: await FrrPeer.start(lab, { host: onFrr, asn: FRR_ASN, neighbors, announces: ['10.81.0.0/24'] }),
        bird: await BirdPeer.start(lab, { host: onBird, asn: BIRD_ASN, neighbors, announces: ['10.82.0.0/24'] }),
      };
    },
  };
}

async function inForce({ lab, peers }: InteropSuite<Peers>): Promise<void> {
  for (const peer of [peers.frr, peers.bird]) {
    await established(peer, [NODE]);
    await has(peer, 'ipv4', TOLD);
  }
  await untilRoutes('', lab, lab.node(1), LEARNED);
}

describeInterop<Peers>(
  'FRR and BIRD while a node with graceful restart restarts',
  optionsWith('--bgp-graceful-restart', '--bgp-graceful-restart-time=60s'),
  suite => {
    const node = () => suite().lab.node(1);

    /** No route leaves the node's kernel or a peer's while `action` goes on and the sessions come back, and none a peer's table. */
    const nothingMissing = async (action: () => Promise<void>): Promise<void> => {
      const { lab, peers } = suite();
      const keepers = [peers.frr, peers.bird].map(peer => new Keeper(peer));
      // Peers hand on to their kernels what they would send packets by; these tell of every moment without it.
      const hosts = [node(), peers.frr.options.host, peers.bird.options.host];
      const monitors = hosts.map(host => lab.startDaemon(host, ['ip', 'monitor', 'route']));
      await action();
      await inForce(suite());
      await pause(1500);
      assert.deepEqual(await Promise.all(keepers.map(keeper => keeper.end())), [TOLD, TOLD]);
      const deleted = monitors.map(monitor => monitor.lines.map(({ text }) => text).filter(text => DELETED.test(text)));
      assert.deepEqual(deleted, [[], [], []]);
      await Promise.all(monitors.map(monitor => monitor.stop()));
    };

    before('sessions', async () => {
      await inForce(suite());
    });

    it('they see the capability, and no restart in the first session', async () => {
      const { frr, bird } = suite().peers;
      const { gracefulRestartInfo, neighborCapabilities } = await frr.neighbor(NODE);
      assert.equal(
        neighborCapabilities?.['gracefulRestartCapability'] ?? neighborCapabilities?.['gracefulRestart'],
        'advertisedAndReceived',
      );
      assert.equal(gracefulRestartInfo?.remoteGrMode, 'Restart');
      assert.equal(gracefulRestartInfo.timers.receivedRestartTimer, 60);
      assert.equal(gracefulRestartInfo.rBit, false);
      const text = await bird.ask('show protocols all node_0');
      assert.match(text, /Neighbor capabilities[\s\S]*Graceful restart\n +Restart time: 60/);
    });

    it('they keep all routes while gobgpd is killed, and so does the node', async () => {
      const killed = await pidOf(suite().lab, node(), 'gobgpd');
      await nothingMissing(async () => {
        await signalOnly(suite().lab, node(), 'gobgpd', 'KILL');
        await until(
          'another gobgpd',
          async () => await pidOf(suite().lab, node(), 'gobgpd'),
          pid => pid !== undefined && pid !== killed,
        );
        await established(suite().peers.frr, [NODE]);
      });
    });

    it('their sessions go on while the daemon is killed and started again', async () => {
      const before = await sessionsOf(suite().peers);
      await nothingMissing(async () => {
        await signalOnly(suite().lab, node(), 'fairway', 'KILL');
        await pause(1000);
        await restart(suite(), node());
      });
      assert.deepEqual(await sessionsOf(suite().peers), before);
    });

    it('they keep all routes while daemon and gobgpd are killed', async () => {
      await nothingMissing(async () => {
        await signalOnly(suite().lab, node(), 'fairway', 'KILL');
        await signalOnly(suite().lab, node(), 'gobgpd', 'KILL');
        await pause(500);
        await restart(suite(), node());
      });
    });

    it('they keep all routes while the daemon is stopped and started again', async () => {
      await nothingMissing(async () => {
        await suite().fleet.daemon(node()).stop();
        assert.equal(await pidOf(suite().lab, node(), 'gobgpd'), undefined);
        await restart(suite(), node());
      });
    });
  },
);

// Without the other nodes as peers: they run nothing here, and would have 90 seconds to tell what they know.
describeInterop<Peers>('FRR and BIRD while a node without graceful restart stops', optionsWith('--enable-ibgp=false'), suite => {
  const node = () => suite().lab.node(1);

  it('they lose its routes at once; its own routes stay, and it takes them up again', async () => {
    const { lab, fleet, peers } = suite();
    await inForce(suite());
    const began = performance.now();
    const stopped = fleet.daemon(node()).stop();
    for (const peer of [peers.frr, peers.bird]) await has(peer, 'ipv4', [], { limitMs: 3000 });
    console.log(`    the peers had dropped its routes ${Math.round(performance.now() - began)} ms after SIGTERM`);
    assert.equal(await stopped, 0);
    assert.equal(await pidOf(lab, node(), 'gobgpd'), undefined);
    await untilRoutes('', lab, node(), LEARNED);
    await peers.bird.withdraw('10.82.0.0/24');
    await restart(suite(), node());
    await established(peers.frr, [NODE]);
    // What nobody tells any more goes when all have told what they have.
    await untilRoutes('', lab, node(), LEARNED.slice(0, 1), 60_000);
  });
});

async function restart({ fleet }: InteropSuite<Peers>, node: LabHost): Promise<void> {
  await fleet.startOn(node).waitForLine(/ready: the first round is in/, 60_000);
}

async function sessionsOf({ frr, bird }: Peers): Promise<readonly unknown[]> {
  return [await incarnations(frr), await incarnations(bird)];
}

/** Looks at a peer's table all the time. */
class Keeper {
  #goesOn = true;
  readonly #seen: Promise<readonly string[]>;

  constructor(peer: Peer) {
    this.#seen = this.#look(peer);
  }

  /** What was there every time. */
  async end(): Promise<readonly string[]> {
    this.#goesOn = false;
    return await this.#seen;
  }

  async #look(peer: Peer): Promise<readonly string[]> {
    let kept = TOLD;
    while (this.#goesOn) {
      const paths = await spelled(peer, 'ipv4');
      kept = kept.filter(path => paths.includes(path));
      await pause(100);
    }
    return kept;
  }
}
