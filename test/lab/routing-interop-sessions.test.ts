import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabHost } from './addresses.ts';
import { BirdPeer } from './peers/bird.ts';
import { describeInterop } from './peers/describe-interop.ts';
import { ExabgpPeer } from './peers/exabgp.ts';
import { established, has } from './peers/expect.ts';
import { FrrPeer } from './peers/frr.ts';
import { addLanHost } from './peers/hosts.ts';
import { untilRoutes } from './peers/kernel-routes.ts';
import { NODE_ASN, type Peer } from './peers/peer.ts';

const PASSWORDS = {
  frr: 'tulip-of-frr',
  bird: 'daisy-of-bird',
  exabgp: 'poppy-of-exabgp',
  caller: 'aster-of-caller',
  wrong: 'rose-of-node',
} as const;
/** Where the node listens. */
const NODE_PORT = 1179;
const PASSWORD_FILE = '/run/peer-passwords';
const [FRR_ASN, BIRD_ASN, EXABGP_ASN, OTHER_ASN] = [131_072, 4_200_000_001, 65_010, 65_011];

interface Peers {
  readonly frr: FrrPeer;
  readonly bird: BirdPeer;
  readonly exabgp: ExabgpPeer;
  /** Has another password than the node. */
  readonly stranger: FrrPeer;
  /** Calls the node, which is told a port where nobody listens. */
  readonly caller: BirdPeer;
  /** Runs nothing at first. */
  readonly late: LabHost;
}

describeInterop<Peers>(
  'BGP sessions with FRR, BIRD and ExaBGP',
  {
    routers: [1],
    peers: async lab => {
      const { ipv4, ipv6 } = lab.node(1).addresses;
      const hosts = [101, 102, 103, 104, 105].map(number => addLanHost(lab, `peer${number}`, 1, number));
      const [onFrr, onBird, onStranger, late, onCaller] = (await Promise.all(hosts)) as [
        LabHost,
        LabHost,
        LabHost,
        LabHost,
        LabHost,
      ];
      const { frr: ofFrr, bird: ofBird, exabgp: ofExabgp, caller: ofCaller, wrong } = PASSWORDS;
      const encoded = [ofFrr, ofBird, ofBird, ofExabgp, wrong, '', ofCaller].map(password =>
        Buffer.from(password).toString('base64'),
      );
      await lab.writeFile(lab.node(1), PASSWORD_FILE, `${encoded.join(',')}\n`);
      const frr = await FrrPeer.start(lab, {
        host: onFrr,
        asn: FRR_ASN,
        port: 1790,
        neighbors: [{ address: ipv4, password: PASSWORDS.frr, holdSeconds: 30 }],
        announces: ['10.51.0.0/24', 'fd00:51::/64'],
      });
      const bird = await BirdPeer.start(lab, {
        host: onBird,
        asn: BIRD_ASN,
        neighbors: [
          { address: ipv4, password: PASSWORDS.bird },
          { address: ipv6, password: PASSWORDS.bird },
        ],
        announces: ['10.52.0.0/24', 'fd00:52::/64'],
      });
      const exabgp = await ExabgpPeer.start(lab, {
        host: lab.ext,
        asn: EXABGP_ASN,
        port: 1800,
        neighbors: [{ address: ipv4, password: PASSWORDS.exabgp, multihopTtl: 4 }],
        announces: ['10.53.0.0/24'],
      });
      const stranger = await FrrPeer.start(lab, {
        host: onStranger,
        asn: OTHER_ASN,
        neighbors: [{ address: ipv4, password: 'rose-of-someone-else' }],
      });
      const caller = await BirdPeer.start(lab, {
        host: onCaller,
        asn: OTHER_ASN,
        // It listens elsewhere than on the port that the node is told.
        neighbors: [{ address: ipv4, password: PASSWORDS.caller, callsOn: NODE_PORT }],
      });
      return { frr, bird, exabgp, stranger, caller, late };
    },
    flags: [
      '--peer-router-ips=192.168.1.101,192.168.1.102,fd00:192:168:1::102,10.10.1.200,192.168.1.103,192.168.1.104,192.168.1.105',
      `--peer-router-asns=${[FRR_ASN, BIRD_ASN, BIRD_ASN, EXABGP_ASN, OTHER_ASN, OTHER_ASN, OTHER_ASN].join(',')}`,
      '--peer-router-ports=1790,179,179,1800,179,179,9',
      `--bgp-port=${NODE_PORT}`,
      `--peer-router-passwords-file=${PASSWORD_FILE}`,
      '--peer-router-multihop-ttl=4',
      '--bgp-holdtime=12s',
    ],
  },
  suite => {
    const node = () => suite().lab.node(1);

    it('are established with a password, through a router, on an odd port, with AS numbers of four bytes', async () => {
      const { frr, bird, exabgp } = suite().peers;
      const { ipv4, ipv6 } = node().addresses;
      await Promise.all([established(frr, [ipv4]), established(bird, [ipv4, ipv6]), established(exabgp, [ipv4])]);
      const { remoteAs, hostLocal, portLocal, authenticationEnabled } = await frr.neighbor(ipv4);
      assert.deepEqual([remoteAs, hostLocal, portLocal, authenticationEnabled], [NODE_ASN, '192.168.1.101', 1790, 1]);
    });

    it('are taken in from a peer that calls on the port of --bgp-port, with its password', async () => {
      await established(suite().peers.caller, [node().addresses.ipv4]);
    });

    it('carry both families over one session of IPv4, with a next hop of each', async () => {
      const { frr, exabgp } = suite().peers;
      for (const peer of [frr, exabgp] satisfies readonly Peer[]) {
        await has(peer, 'ipv4', [`10.244.1.0/24 via ${node().addresses.ipv4} path 64512`]);
        await has(peer, 'ipv6', [`fd00:10:244:1::/64 via ${node().addresses.ipv6} path 64512`]);
      }
    });

    it('carry both families over one session of IPv6', async () => {
      const { bird } = suite().peers;
      const { ipv4, ipv6 } = node().addresses;
      // One path from each of the two sessions with this node.
      await has(bird, 'ipv4', Array<string>(2).fill(`10.244.1.0/24 via ${ipv4} path 64512`));
      await has(bird, 'ipv6', Array<string>(2).fill(`fd00:10:244:1::/64 via ${ipv6} path 64512`));
    });

    it('have the smaller of the two hold times', async () => {
      const { frr } = suite().peers;
      assert.equal((await frr.neighbor(node().addresses.ipv4)).bgpTimerHoldTimeMsecs, 12_000);
    });

    it('bring what the peers announce into the kernel', async () => {
      const { lab } = suite();
      await untilRoutes('10.5', lab, node(), ['10.51.0.0/24 via 192.168.1.101', '10.52.0.0/24 via 192.168.1.102']);
      await untilRoutes('fd00:5', lab, node(), ['fd00:51::/64 via fd00:192:168:1::101', 'fd00:52::/64 via fd00:192:168:1::102']);
    });

    it('are not to be had with another password, and the log says with whom, but no password', async () => {
      const { stranger } = suite().peers;
      const daemon = suite().fleet.daemon(node());
      await pause(5000);
      const { bgpState, connectionsEstablished } = await stranger.neighbor(node().addresses.ipv4);
      assert.deepEqual([bgpState, connectionsEstablished], ['Active', 0]);
      await daemon.waitForLine(/192\.168\.1\.103/, 20_000);
      assertNoPassword(daemon.output);
    });

    it('show no password in the process list', async () => {
      const { lab } = suite();
      const processes = await lab.expectRun(node(), ['ps', '-eww', '-o', 'args']);
      for (const word of ['gobgpd', PASSWORD_FILE]) assert.ok(processes.includes(word), word);
      assertNoPassword(processes);
    });

    it('begin within some seconds with a peer that comes up late', async () => {
      const { lab, peers } = suite();
      const { ipv4 } = node().addresses;
      const late = await FrrPeer.start(lab, { host: peers.late, asn: OTHER_ASN, neighbors: [{ address: ipv4 }] });
      const began = performance.now();
      await established(late, [ipv4], 15_000);
      console.log(`    a peer that came up late was met after ${Math.round(performance.now() - began)} ms`);
    });

    it('teach a route until it is withdrawn, whoever else never comes up', async () => {
      const { lab, peers } = suite();
      await peers.frr.announce('10.54.0.0/24');
      await untilRoutes('10.54', lab, node(), ['10.54.0.0/24 via 192.168.1.101']);
      await peers.frr.withdraw('10.54.0.0/24');
      await untilRoutes('10.54', lab, node(), [], 5000);
    });

    it('come back after they were lost, and the routes with them; the others go on', async () => {
      const { lab, peers } = suite();
      const { ipv4 } = node().addresses;
      const before = await peers.frr.neighbor(ipv4);
      await peers.bird.stop();
      await untilRoutes('10.5', lab, node(), ['10.51.0.0/24 via 192.168.1.101'], 5000);
      await untilRoutes('fd00:5', lab, node(), ['fd00:51::/64 via fd00:192:168:1::101'], 5000);
      const bird = await BirdPeer.start(lab, peers.bird.options);
      await established(bird, [ipv4]);
      await untilRoutes('10.5', lab, node(), ['10.51.0.0/24 via 192.168.1.101', '10.52.0.0/24 via 192.168.1.102']);
      const after = await peers.frr.neighbor(ipv4);
      assert.equal(after.connectionsEstablished, before.connectionsEstablished);
    });
  },
);

function assertNoPassword(text: string): void {
  for (const password of Object.values(PASSWORDS)) {
    assert.ok(!text.includes(password), `it shows ${password}`);
    assert.ok(!text.includes(Buffer.from(password).toString('base64')), `it shows ${password} in base64`);
  }
}
