import assert from 'node:assert/strict';
import { type AnnouncedPeer, nodeWithPeers, peersLists, peersYaml, serviceOn, slicesOn } from './cases/interop-cluster.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, service } from './objects.ts';
import { BirdPeer } from './peers/bird.ts';
import { annotated, describeInterop } from './peers/describe-interop.ts';
import { established, gone, has, incarnations, spelled } from './peers/expect.ts';
import { FrrPeer } from './peers/frr.ts';
import { tally } from './probe.ts';
import { until } from './until.ts';

const FRR_ASN = 65_001;
const BIRD_ASN = 65_002;
/** A second address of node2, from which its session comes and which it gives as next hop: it runs with --override-nexthop. */
const OTHER_ADDRESS = '192.168.1.22';
const SERVE_PORT = 8080;
/** By which an address that nobody is behind any more must be withdrawn. */
const WITHDRAWN_MS = 2000;

interface Peers {
  /** On the router. */
  readonly frr: FrrPeer;
  /** Behind the router. */
  readonly bird: BirdPeer;
}

const PASSWORD = 'lupin-of-the-router';

/** The router as a node's peer. */
function frrOf(lan: 1 | 3): AnnouncedPeer {
  return { address: `192.168.${lan}.254`, asn: FRR_ASN, password: PASSWORD };
}

/** node1 and node3 by YAML, node2 by the older annotations. */
function nodeObjects(lab: Lab): readonly ApiObject[] {
  return [
    nodeWithPeers(lab.node(1), [frrOf(1)]),
    annotated(lab.node(2), peersLists([{ ...frrOf(1), localAddress: OTHER_ADDRESS }])),
    nodeWithPeers(lab.node(3), [frrOf(3)]),
  ];
}

const WEB = {
  clusterIP: '10.96.1.1',
  clusterIPs: ['10.96.1.1', 'fd00:10:96::101'],
  externalIPs: ['203.0.113.10', '2001:db8:203::10'],
};

/** Everybody announces the addresses of `web`. */
function everyones(prefix: string): readonly string[] {
  return prefix.includes(':')
    ? ['fd00:192:168:1::11', 'fd00:192:168:1::12', 'fd00:192:168:3::13'].map(nextHop => `${prefix} via ${nextHop} path 64512`)
    : ['192.168.1.11', OTHER_ADDRESS, '192.168.3.13'].map(nextHop => `${prefix} via ${nextHop} path 64512`);
}

describeInterop<Peers>(
  'what FRR and BIRD learn of the cluster',
  {
    flags: [
      '--advertise-cluster-ip',
      '--advertise-external-ip',
      '--advertise-loadbalancer-ip',
      '--peer-router-multihop-ttl=4',
      '--bgp-holdtime=9s',
    ],
    flagsOf: ({ number }) => (number === 2 ? ['--override-nexthop'] : number === 3 ? ['--advertise-pod-cidr=false'] : []),
    objects: lab => [
      ...nodeObjects(lab),
      ...serviceOn(lab, 'web', WEB, [1, 2], { loadBalancerIPs: ['203.0.113.200'] }),
      // Nobody is behind the first, and the second says something that cannot be meant.
      service('bare', { type: 'ClusterIP', clusterIP: '10.96.1.90', ports: [{ name: 'http', port: 80 }] }),
      ...serviceOn(lab, 'broken', { clusterIP: '10.96.1.91' }, [1], {
        annotations: { 'kube-router.io/service.advertise.clusterip': 'perhaps' },
      }),
    ],
    peers: async lab => {
      await lab.expectRun(lab.node(2), ['ip', 'addr', 'add', `${OTHER_ADDRESS}/24`, 'dev', 'eth0']);
      const frr = await FrrPeer.start(lab, {
        host: lab.router,
        asn: FRR_ASN,
        neighbors: ['192.168.1.11', OTHER_ADDRESS, '192.168.3.13'].map(address => ({ address, password: PASSWORD })),
      });
      const bird = await BirdPeer.start(lab, {
        host: lab.ext,
        asn: BIRD_ASN,
        neighbors: [{ address: '192.168.1.11', multihopTtl: 4 }],
      });
      return { frr, bird };
    },
  },
  suite => {
    const frr = () => suite().peers.frr;
    const bird = () => suite().peers.bird;
    const NODE1 = '192.168.1.11';

    it('pod CIDRs and addresses of Services, from each node with its own next hop, and no mark of ours', async () => {
      await established(frr(), [NODE1, OTHER_ADDRESS, '192.168.3.13']);
      const [clusterIPv4, clusterIPv6] = WEB.clusterIPs;
      const [externalIPv4, externalIPv6] = WEB.externalIPs;
      // node3 runs with --advertise-pod-cidr=false.
      await has(frr(), 'ipv4', [
        `10.244.1.0/24 via ${NODE1} path 64512`,
        `10.244.2.0/24 via ${OTHER_ADDRESS} path 64512`,
        ...[clusterIPv4, externalIPv4, '203.0.113.200'].flatMap(address => everyones(`${address}/32`)),
      ]);
      await has(frr(), 'ipv6', [
        'fd00:10:244:1::/64 via fd00:192:168:1::11 path 64512',
        'fd00:10:244:2::/64 via fd00:192:168:1::12 path 64512',
        ...[clusterIPv6, externalIPv6].flatMap(address => everyones(`${address}/128`)),
      ]);
    });

    it('a router shares the flows to an address among the three nodes that announce it, and they arrive', async () => {
      const { lab } = suite();
      const address = '203.0.113.10';
      for (const node of lab.nodes) {
        await lab.expectRun(node, ['ip', 'addr', 'add', `${address}/32`, 'dev', 'lo']);
        await lab.probe(node).serve('tcp', address, SERVE_PORT, node.name);
      }
      // By ports, not by addresses alone.
      await lab.writeFile(lab.router, '/proc/sys/net/ipv4/fib_multipath_hash_policy', '1');
      const target = { transport: 'tcp', address, port: SERVE_PORT } as const;
      await until(
        'FRR has put the three ways into the kernel',
        async () => await lab.expectRun(lab.router, ['ip', 'route', 'show', `${address}/32`]),
        text => text.match(/nexthop via/g)?.length === 3,
      );
      const counts = tally(await lab.probe(lab.ext).burst(target, 60));
      assert.deepEqual([...counts.keys()].sort(), ['node1', 'node2', 'node3'], JSON.stringify([...counts]));
    });

    it('communities and prepended AS numbers, edited while the sessions go on', async () => {
      const { lab, cluster } = suite();
      const before = await incarnations(frr());
      const annotations = {
        // A pair, a number (64512:9) and a name.
        'node.bgp.communities': '64512:100,4227858441,no-export',
        'path-prepend.as': '64512',
        'path-prepend.repeat-n': '3',
      };
      const seen = (nextHop: string, tail: string) => `203.0.113.200/32 via ${nextHop} path ${tail}`;
      const others = [OTHER_ADDRESS, '192.168.3.13'].map(nextHop => seen(nextHop, '64512'));
      const about = '203.0.113.200';
      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1)], annotations)] });
      const tail = '64512 64512 64512 64512 communities 64512:100 64512:9 noExport';
      await has(frr(), 'ipv4', [...others, seen(NODE1, tail)], { about });
      await has(frr(), 'ipv6', [`fd00:10:244:1::/64 via fd00:192:168:1::11 path ${tail}`], { about: 'fd00:10:244:1:' });

      await cluster.publish({
        put: [
          nodeWithPeers(lab.node(1), [frrOf(1)], { ...annotations, 'path-prepend.as': '64999', 'path-prepend.repeat-n': '1' }),
        ],
      });
      await until(
        'another AS number is prepended once',
        async () => await spelled(frr(), 'ipv4', about),
        paths => paths.some(path => path.includes(`${NODE1} path`) && path.match(/64999/g)?.length === 1),
      );

      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1)], { 'node.bgp.communities': 'nonsense,64512:1' })] });
      await has(frr(), 'ipv4', [...others, seen(NODE1, '64512 communities 64512:1')], { about });
      await suite()
        .fleet.daemon(lab.node(1))
        .waitForLine(/nonsense/, 5000);

      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1)])] });
      await has(frr(), 'ipv4', [...others, seen(NODE1, '64512')], { about });
      assert.deepEqual(await incarnations(frr()), before);
    });

    it('a peer added to an annotation is met, one removed is left, and the others go on', async () => {
      const { lab, cluster } = suite();
      const before = await incarnations(frr());
      const second = { address: lab.ext.addresses.ipv4, asn: BIRD_ASN };
      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1), second])] });
      await established(bird(), [NODE1]);
      await has(bird(), 'ipv4', [`10.244.1.0/24 via ${NODE1} path 64512`], { about: '10.244.' });
      assert.deepEqual(await attributeNames(bird()), ['as_path', 'local_pref', 'next_hop', 'origin']);
      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1)])] });
      await gone(bird(), NODE1, 5000);

      // A broken entry is left out and named; the one beside it stays.
      const broken = `${peersYaml([frrOf(1)])}- remoteip: 192.168.1.999\n  remoteasn: 65003\n`;
      await cluster.publish({ put: [annotated(lab.node(1), { peers: broken })] });
      await suite()
        .fleet.daemon(lab.node(1))
        .waitForLine(/192\.168\.1\.999/, 5000);
      await has(frr(), 'ipv4', everyones('203.0.113.200/32'), { about: '203.0.113.200' });
      await cluster.publish({ put: nodeObjects(lab) });
      assert.deepEqual(await incarnations(frr()), before);
    });

    it('no password of an annotation is in any log', () => {
      const { lab, fleet } = suite();
      for (const node of lab.nodes) {
        const said = fleet.daemon(node).output;
        for (const secret of [PASSWORD, Buffer.from(PASSWORD).toString('base64')]) assert.ok(!said.includes(secret), node.name);
      }
    });

    it('an address of a Service with externalTrafficPolicy Local, from nodes with a ready endpoint only', async () => {
      const { lab, cluster } = suite();
      const spec = { clusterIP: '10.96.1.2', externalIPs: ['203.0.113.20'], externalTrafficPolicy: 'Local' };
      const about = '203.0.113.20/';
      const from = (...nextHops: readonly string[]) => nextHops.map(nextHop => `203.0.113.20/32 via ${nextHop} path 64512`);
      const change = async (
        what: string,
        put: readonly ApiObject[],
        remove: readonly ApiObject[],
        expected: readonly string[],
      ) => {
        const began = performance.now();
        await cluster.publish({ put, remove });
        await has(frr(), 'ipv4', expected, { about, limitMs: WITHDRAWN_MS });
        console.log(`    ${what}: known to FRR after ${Math.round(performance.now() - began)} ms`);
      };
      const whole = serviceOn(lab, 'local', spec, [1, 2]);
      const slices = slicesOn(lab, 'local', [1, 2]);
      await change('a Service that comes', whole, [], from(NODE1, OTHER_ADDRESS));
      await change(
        'its endpoint on node1 not ready',
        slicesOn(lab, 'local', [[1, { ready: false }], 2]),
        [],
        from(OTHER_ADDRESS),
      );
      await change('ready again', slices, [], from(NODE1, OTHER_ADDRESS));
      const ending = { ready: false, serving: true, terminating: true };
      await change(
        'the one on node2 is ending, and serves',
        slicesOn(lab, 'local', [1, [2, ending]]),
        [],
        from(NODE1, OTHER_ADDRESS),
      );
      const ended = { ready: false, serving: false, terminating: true };
      await change('and serves no more', slicesOn(lab, 'local', [1, [2, ended]]), [], from(NODE1));
      await change('the slices are deleted', [], slices, []);
      await change('the slices are back', slices, [], from(NODE1, OTHER_ADDRESS));
      await change('an endpoint moves to node3', slicesOn(lab, 'local', [1, 3]), [], from(NODE1, '192.168.3.13'));
      await change('the Service is deleted with its slices', [], whole, []);
    });

    it('an address that a Service withdraws by annotation, while a broken annotation of another stops nothing', async () => {
      const { lab, cluster } = suite();
      const web = (annotations: Readonly<Record<string, string>>) =>
        serviceOn(lab, 'web', WEB, [1, 2], { loadBalancerIPs: ['203.0.113.200'], annotations });
      await cluster.publish({ put: web({ 'kube-router.io/service.advertise.externalip': 'false' }) });
      await has(frr(), 'ipv4', [], { about: '203.0.113.10/', limitMs: WITHDRAWN_MS });
      await has(frr(), 'ipv4', everyones('203.0.113.200/32'), { about: '203.0.113.200' });
      await cluster.publish({ put: web({}) });
      await has(frr(), 'ipv4', everyones('203.0.113.10/32'), { about: '203.0.113.10/', limitMs: WITHDRAWN_MS });
      assert.deepEqual(await spelled(frr(), 'ipv4', '10.96.1.9'), []);
      await suite()
        .fleet.daemon(lab.node(1))
        .waitForLine(/advertise\.clusterip is 'perhaps'/, 5000);
    });
  },
);

/** Of all paths together, `origin` and the like, sorted. */
async function attributeNames(bird: BirdPeer): Promise<readonly string[]> {
  const paths = [...(await bird.paths('ipv4')), ...(await bird.paths('ipv6'))];
  return [...new Set(paths.flatMap(({ attributes }) => [...attributes.keys()]))].sort();
}

describeInterop<FrrPeer>(
  'the AS number of a node, by annotation',
  {
    nodes: 2,
    routers: [1, 2],
    flags: ['--nodes-full-mesh=false'],
    objects: lab => lab.nodes.map(node => nodeWithPeers(node, [frrOf(1)], { 'node.asn': '64600' })),
    peers: async lab =>
      await FrrPeer.start(lab, {
        host: lab.router,
        asn: FRR_ASN,
        neighbors: lab.nodes.map(({ addresses }) => ({ address: addresses.ipv4, asn: 64_600, password: PASSWORD })),
      }),
  },
  suite => {
    it('is obeyed when it changes: new sessions of that node, none of another', async () => {
      const { lab, cluster, peers: frr } = suite();
      const [one, two] = lab.nodes.map(({ addresses }) => addresses.ipv4) as [string, string];
      await established(frr, [one, two]);
      await has(frr, 'ipv4', [`10.244.1.0/24 via ${one} path 64600`, `10.244.2.0/24 via ${two} path 64600`]);
      const before = await incarnations(frr);
      await frr.ask('configure terminal', `router bgp ${FRR_ASN}`, `neighbor ${one} remote-as 64601`);
      await cluster.publish({ put: [nodeWithPeers(lab.node(1), [frrOf(1)], { 'node.asn': '64601' })] });
      await has(frr, 'ipv4', [`10.244.1.0/24 via ${one} path 64601`, `10.244.2.0/24 via ${two} path 64600`], { limitMs: 40_000 });
      assert.equal((await incarnations(frr))[two], before[two]);
    });
  },
);
