import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { nodeWithPeers, serviceOn } from './cases/interop-cluster.ts';
import type { Lab } from './lab.ts';
import { BirdPeer } from './peers/bird.ts';
import { describeInterop } from './peers/describe-interop.ts';
import { established, has, incarnations } from './peers/expect.ts';
import { addLanHost } from './peers/hosts.ts';
import { untilRoutes } from './peers/kernel-routes.ts';
import type { LabProcess } from './process.ts';

const BIRD_ASN = 65_002;
const PEER = '192.168.1.102';
const NODE = '192.168.1.11';
const SOCKET = 'unix:///run/own-gobgpd.sock';
const TOLD = ['10.244.1.0/24', '203.0.113.30/32'].map(prefix => `${prefix} via ${NODE} path 64512`);
const LEARNED = ['10.82.0.0/24 via 192.168.1.102'];

interface Parts {
  readonly bird: BirdPeer;
  gobgpd: LabProcess;
}

/** As its own unit starts it. */
function startGobgpd(lab: Lab): LabProcess {
  return lab.startDaemon(lab.node(1), [
    'sh',
    '-c',
    `rm -f /run/own-gobgpd.sock; exec gobgpd --api-hosts=${SOCKET} --pprof-disable`,
  ]);
}

describeInterop<Parts>(
  'a gobgpd that runs on its own (--gobgp-endpoint)',
  {
    routers: [1],
    flags: ['--advertise-external-ip', `--gobgp-endpoint=${SOCKET}`],
    objects: lab => [
      nodeWithPeers(lab.node(1), [{ address: PEER, asn: BIRD_ASN }]),
      ...serviceOn(lab, 'web', { clusterIP: '10.96.1.3', externalIPs: ['203.0.113.30'] }, [1]),
    ],
    peers: async lab => {
      const host = await addLanHost(lab, 'peer102', 1, 102);
      const bird = await BirdPeer.start(lab, {
        host,
        asn: BIRD_ASN,
        neighbors: [{ address: NODE }],
        announces: ['10.82.0.0/24'],
      });
      return { bird, gobgpd: startGobgpd(lab) };
    },
  },
  suite => {
    const inForce = async (): Promise<void> => {
      const { lab, peers } = suite();
      await established(peers.bird, [NODE]);
      await has(peers.bird, 'ipv4', TOLD);
      await untilRoutes('', lab, lab.node(1), LEARNED);
    };

    before(async function () {
      this.timeout(60_000);
      await inForce();
    });

    it('keeps its sessions and what it told while the daemon is stopped, and when it comes back nothing is told anew', async () => {
      const { lab, fleet, peers } = suite();
      const [node] = lab.nodes;
      assert.ok(node !== undefined);
      const before = await incarnations(peers.bird);
      await fleet.daemon(node).stop();
      await pause(2_000);
      await has(peers.bird, 'ipv4', TOLD);
      const daemon = fleet.startOn(node);
      await daemon.waitForLine(/ready: the first round is in/, 60_000);
      await inForce();
      assert.deepEqual(await incarnations(peers.bird), before, 'the session is another');
      const written = daemon.lines.map(({ text }) => text).filter(text => /bgp(Server|Policy|Path|Peer) changed/.test(text));
      assert.deepEqual(written, []);
    });

    it('that is started anew gets everything again, and the kernel keeps its routes meanwhile', async () => {
      const { lab, peers } = suite();
      const monitor = lab.startDaemon(lab.node(1), ['ip', 'monitor', 'route']);
      await peers.gobgpd.stop();
      peers.gobgpd = startGobgpd(lab);
      await pause(3_000);
      await inForce();
      const deleted = monitor.lines.map(({ text }) => text).filter(text => text.startsWith('Deleted 10.82.0.0/24'));
      assert.deepEqual(deleted, []);
      await monitor.stop();
    });
  },
);
