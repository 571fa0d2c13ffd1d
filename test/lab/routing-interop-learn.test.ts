import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabHost } from './addresses.ts';
import { nodeWithPeers } from './cases/interop-cluster.ts';
import { HOSTILE_ROUTES, type HostileRoute, MALFORMED_ATTRIBUTES, MULTICAST_PREFIXES } from './cases/interop-hostile.ts';
import type { Lab } from './lab.ts';
import { BirdPeer } from './peers/bird.ts';
import { describeInterop } from './peers/describe-interop.ts';
import { ExabgpPeer } from './peers/exabgp.ts';
import { established, incarnations } from './peers/expect.ts';
import { FrrPeer } from './peers/frr.ts';
import { addLanHost } from './peers/hosts.ts';
import { countOwnRoutes, ownRoutes, untilRoutes } from './peers/kernel-routes.ts';
import { type NodeProgram, pidOf, usageOf } from './peers/node-processes.ts';
import { until } from './until.ts';

/** FRR and BIRD are of one AS, as two routers of a rack are. */
const RACK_ASN = 65_020;
const EXABGP_ASN = 65_030;
const [FRR_ADDRESS, BIRD_ADDRESS, EXABGP_ADDRESS] = ['192.168.1.101', '192.168.1.102', '192.168.1.103'];
const PEERS = [
  { address: FRR_ADDRESS, asn: RACK_ASN },
  { address: BIRD_ADDRESS, asn: RACK_ASN },
  { address: EXABGP_ADDRESS, asn: EXABGP_ASN },
];
const MANY = 10_000;

interface Peers {
  readonly frr: FrrPeer;
  readonly bird: BirdPeer;
  readonly exabgp: ExabgpPeer;
}

describeInterop<Peers>(
  'what a node learns of FRR, BIRD and ExaBGP',
  {
    routers: [1],
    // The other nodes run nothing.
    flags: ['--enable-ibgp=false'],
    objects: lab => [nodeWithPeers(lab.node(1), PEERS)],
    peers: async lab => {
      const hosts = [101, 102, 103].map(number => addLanHost(lab, `peer${number}`, 1, number));
      const [onFrr, onBird, onExabgp] = (await Promise.all(hosts)) as [LabHost, LabHost, LabHost];
      const neighbors = [{ address: lab.node(1).addresses.ipv4 }];
      return {
        frr: await FrrPeer.start(lab, { host: onFrr, asn: RACK_ASN, neighbors }),
        bird: await BirdPeer.start(lab, { host: onBird, asn: RACK_ASN, neighbors }),
        exabgp: await ExabgpPeer.start(lab, { host: onExabgp, asn: EXABGP_ASN, neighbors, announces: MULTICAST_PREFIXES }),
      };
    },
  },
  suite => {
    const node = () => suite().lab.node(1);
    const routes = (about: string, expected: readonly string[], limitMs?: number) =>
      untilRoutes(about, suite().lab, node(), expected, limitMs);

    before('sessions', async () => {
      const { frr, bird, exabgp } = suite().peers;
      await Promise.all([frr, bird, exabgp].map(peer => established(peer, [node().addresses.ipv4])));
    });

    it('a prefix of two routers has two ways, of both families, and loses one with each that withdraws it', async () => {
      const { frr, bird } = suite().peers;
      const prefixes = ['10.70.0.0/24', 'fd00:70::/64'];
      await Promise.all([frr.announce(...prefixes), bird.announce(...prefixes)]);
      await routes('10.70', [`10.70.0.0/24 via ${FRR_ADDRESS} ${BIRD_ADDRESS}`]);
      await routes('fd00:70', ['fd00:70::/64 via fd00:192:168:1::101 fd00:192:168:1::102']);
      await frr.withdraw(...prefixes);
      await routes('10.70', [`10.70.0.0/24 via ${BIRD_ADDRESS}`]);
      await routes('fd00:70', ['fd00:70::/64 via fd00:192:168:1::102']);
      await frr.announce(...prefixes);
      await routes('10.70', [`10.70.0.0/24 via ${FRR_ADDRESS} ${BIRD_ADDRESS}`]);
      await bird.withdraw(...prefixes);
      await routes('10.70', [`10.70.0.0/24 via ${FRR_ADDRESS}`]);
      await frr.withdraw(...prefixes);
      await routes('10.70', []);
      await routes('fd00:70', []);
    });

    it('kube-router.io/node.bgp.customimportreject is obeyed when it changes, for more specific prefixes too', async () => {
      const { cluster, peers } = suite();
      const before = await incarnations(peers.frr);
      const all = ['10.71.0.0/16', '10.71.5.0/24', '10.72.0.0/24', 'fd00:71::/48', 'fd00:72::/48'];
      await peers.frr.announce(...all);
      const via = (prefix: string) => `${prefix} via ${prefix.includes(':') ? 'fd00:192:168:1::101' : FRR_ADDRESS}`;
      const learned = async (...prefixes: readonly string[]) => {
        await routes('10.7', prefixes.filter(prefix => prefix.startsWith('10.')).map(via));
        await routes('fd00:7', prefixes.filter(prefix => prefix.startsWith('fd')).map(via));
      };
      await learned(...all);
      const rejecting = (value: string) => nodeWithPeers(node(), PEERS, { 'node.bgp.customimportreject': value });
      await cluster.publish({ put: [rejecting('10.71.0.0/16, fd00:71::/32')] });
      await learned('10.72.0.0/24', 'fd00:72::/48');
      await cluster.publish({ put: [rejecting('10.72.0.0/16')] });
      await learned('10.71.0.0/16', '10.71.5.0/24', 'fd00:71::/48', 'fd00:72::/48');
      await cluster.publish({ put: [nodeWithPeers(node(), PEERS)] });
      await learned(...all);
      await peers.frr.withdraw(...all);
      await learned();
      assert.deepEqual(await incarnations(peers.frr), before);
    });

    it(`${MANY} prefixes arrive in the kernel and leave it`, async function () {
      this.timeout(180_000);
      const { lab, peers } = suite();
      const prefixes = Array.from({ length: MANY }, (_, index) => `10.${128 + (index >> 8)}.${index & 255}.0/24`);
      const watched = await Watched.begin(lab, node());
      await peers.exabgp.announce(...prefixes);
      await untilCounted(lab, node(), MANY);
      console.log(`    announced: ${await watched.lap()}`);
      await peers.exabgp.withdraw(...prefixes);
      await untilCounted(lab, node(), 0);
      console.log(`    withdrawn: ${await watched.lap()}`);
      // Nobody outside is told of them: a node is no transit.
      assert.deepEqual(
        (await peers.frr.paths('ipv4')).filter(({ prefix }) => !prefix.startsWith('10.244.')),
        [],
      );
    });

    it('routes that nobody may tell change nothing in the kernel', async () => {
      const { lab, peers } = suite();
      const before = await allRoutes(lab, node());
      const told: readonly HostileRoute[] = [...HOSTILE_ROUTES, { title: 'a route like any other', prefix: '10.67.0.0/24' }];
      const self = (prefix: string) => (prefix.includes(':') ? peers.exabgp.options.host.addresses.ipv6 : EXABGP_ADDRESS);
      for (const { prefix, nextHop } of told) await peers.exabgp.announceWith(prefix, `next-hop ${nextHop ?? self(prefix)}`);
      await routes('', [`10.67.0.0/24 via ${EXABGP_ADDRESS}`]);
      const heard = [
        ...told.filter(({ refusedBy }) => refusedBy === undefined).map(({ prefix }) => prefix),
        ...MULTICAST_PREFIXES,
      ];
      await until(
        'gobgpd has heard them all',
        async () => missingOf(heard, await toldBy(lab, node(), EXABGP_ADDRESS)),
        missing => missing.length === 0,
      );
      await pause(1000);
      const after = (await allRoutes(lab, node())).filter(line => !line.startsWith('10.67.0.0/24 '));
      assert.deepEqual(after, before);
      await peers.exabgp.withdraw(...told.map(({ prefix }) => prefix));
      await routes('', []);
      assert.deepEqual(await allRoutes(lab, node()), before);
    });

    it('a malformed update harms nobody else', async () => {
      const { lab, peers } = suite();
      const { frr, bird, exabgp } = peers;
      await Promise.all([frr.announce('10.69.0.0/24'), bird.announce('10.69.0.0/24')]);
      const good = `10.69.0.0/24 via ${FRR_ADDRESS} ${BIRD_ADDRESS}`;
      await routes('10.69', [good]);
      const pids = await Promise.all(PROGRAMS.map(program => pidOf(lab, node(), program)));
      const before = [await incarnations(frr), await incarnations(bird)];
      for (const [index, { attribute }] of MALFORMED_ATTRIBUTES.entries()) {
        const prefix = `10.68.${index}.0/24`;
        await exabgp.announceWith(prefix, `next-hop ${EXABGP_ADDRESS} attribute ${attribute}`);
        await pause(300);
        await exabgp.withdraw(prefix);
        assert.deepEqual(await ownRoutes(lab, node(), '10.69'), [good], attribute);
      }
      await routes('10.68', []);
      assert.deepEqual([await incarnations(frr), await incarnations(bird)], before);
      assert.deepEqual(await Promise.all(PROGRAMS.map(program => pidOf(lab, node(), program))), pids);
    });
  },
);

const PROGRAMS: readonly NodeProgram[] = ['fairway', 'gobgpd'];

/** Time, and what daemon and gobgpd used, from one lap to the next. */
class Watched {
  readonly #lab: Lab;
  readonly #node: LabHost;
  #since = performance.now();
  #cpu: readonly number[] = [];

  private constructor(lab: Lab, node: LabHost) {
    this.#lab = lab;
    this.#node = node;
  }

  static async begin(lab: Lab, node: LabHost): Promise<Watched> {
    const watched = new Watched(lab, node);
    await watched.lap();
    return watched;
  }

  async lap(): Promise<string> {
    const took = performance.now() - this.#since;
    const usages = await Promise.all(PROGRAMS.map(program => usageOf(this.#lab, this.#node, program)));
    const shown = PROGRAMS.map((program, index) => {
      const { cpuMs, residentMiB } = usages[index] ?? { cpuMs: 0, residentMiB: 0 };
      return `${program} ${Math.round(cpuMs - (this.#cpu[index] ?? 0))} ms CPU, ${residentMiB} MiB`;
    });
    this.#cpu = usages.map(({ cpuMs }) => cpuMs);
    this.#since = performance.now();
    return [`${Math.round(took)} ms`, ...shown].join('; ');
  }
}

function missingOf(wanted: readonly string[], there: readonly string[]): readonly string[] {
  return wanted.filter(prefix => !there.includes(prefix));
}

/** Prefixes that a neighbour has told our gobgpd, before any policy. */
async function toldBy(lab: Lab, node: LabHost, neighbor: string): Promise<readonly string[]> {
  const gobgp = ['gobgp', '--target', `unix:///run/fairway/${node.name}/gobgp.sock`, '-j', 'neighbor', neighbor, 'adj-in', '-a'];
  const texts = await Promise.all(['ipv4', 'ipv6'].map(family => lab.expectRun(node, [...gobgp, family])));
  return texts.flatMap(text => Object.keys(JSON.parse(text) as Record<string, unknown>));
}

/** Looks seldom: to list thousands costs the machine what the daemon needs. */
async function untilCounted(lab: Lab, node: LabHost, expected: number): Promise<void> {
  const look = async (): Promise<number> => {
    await pause(200);
    return await countOwnRoutes(lab, node);
  };
  await until(`${expected} routes are in the kernel`, look, count => count === expected, 90_000);
}

/** Of all tables and both families. */
async function allRoutes(lab: Lab, node: LabHost): Promise<readonly string[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map(family => lab.expectRun(node, ['ip', family, 'route', 'show', 'table', 'all'])),
  );
  return texts
    .flatMap(text => text.split('\n'))
    .map(line => line.trim())
    .filter(line => line !== '')
    .sort();
}
