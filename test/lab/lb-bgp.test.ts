import assert from 'node:assert/strict';
import { describeLab } from './describe-lab.ts';
import { CNI_FILE, FAIRWAY } from './fleet.ts';
import { LanCluster } from './lan-cluster.ts';
import { BOTH_FAMILIES, balanced, servedBy } from './lan-services.ts';
import { type ApiObject, FAMILIES, manifest } from './objects.ts';
import { needSpeakers } from './peers/describe-interop.ts';
import { established, has } from './peers/expect.ts';
import { FrrPeer } from './peers/frr.ts';
import { NODE_ASN } from './peers/peer.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

const ASN = 65_001;
const TITLE = 'load-balancer addresses by BGP';
const FLAGS: readonly string[] = [
  '--run-router=true',
  '--advertise-pod-cidr=false',
  '--advertise-loadbalancer-ip',
  '--peer-router-ips=192.168.1.254',
  `--peer-router-asns=${ASN}`,
  '--bgp-holdtime=9s',
  '--enable-overlay=false',
  '--enable-cni=false',
  '--auto-mtu=false',
  '--gobgp-admin-port=0',
  '--loadbalancer-ip-range=203.0.113.128/29,2001:db8:203::8000/125',
];
const ADDRESSES = { ipv4: '203.0.113.129', ipv6: '2001:db8:203::8001' } as const;

describeLab(TITLE, { lans: 1, podsPerNode: 1 }, lab => {
  let cluster: LanCluster;
  let router: FrrPeer;
  const running: LanCluster[] = [];
  const web = balanced('web', 1, { spec: BOTH_FAMILIES });

  before('a router that speaks BGP with two nodes', async function () {
    this.timeout(120_000);
    await needSpeakers(this, TITLE);
    cluster = await LanCluster.begin(lab(), { flags: FLAGS, objects: servedBy('web', lab().pod(1, 1), lab().pod(3, 1)) });
    running.push(cluster);
    const nodes = [lab().node(1), lab().node(2)];
    router = await FrrPeer.start(lab(), {
      host: lab().router,
      asn: ASN,
      neighbors: nodes.map(({ addresses }) => ({ address: addresses.ipv4, asn: NODE_ASN })),
    });
    await cluster.start(nodes);
    await established(
      router,
      nodes.map(({ addresses }) => addresses.ipv4),
    );
  });

  after(() => {
    for (const each of running) each.stop();
  });

  /** From behind the router, by TCP and UDP. */
  const reached = async (): Promise<readonly string[]> =>
    await Promise.all(
      FAMILIES.flatMap(family =>
        (['tcp', 'udp'] as const).map(async transport => {
          const { outcome } = await lab()
            .probe(lab().ext)
            .connect({ transport, address: ADDRESSES[family], port: 80, timeoutMs: 500 });
          return `${family} ${transport} ${outcome}`;
        }),
      ),
    );

  it('are announced by every node as soon as a Service has them, and reached from behind the router', async () => {
    const began = performance.now();
    cluster.put(web);
    assert.deepEqual(await cluster.allocated('web', 2), [ADDRESSES.ipv4, ADDRESSES.ipv6]);
    for (const family of FAMILIES) {
      const prefix = `${ADDRESSES[family]}/${family === 'ipv4' ? 32 : 128}`;
      const ways = [1, 2].map(number => `${prefix} via ${lab().node(number).addresses[family]} path ${NODE_ASN}`);
      await has(router, family, ways, { about: ADDRESSES[family] });
    }
    await until('all are answered', reached, seen => seen.every(line => line.endsWith(' answer')));
    process.stdout.write(`      reached ${Math.round(performance.now() - began)} ms after the Service was made\n`);
  });

  it('are withdrawn when the Service is another type, and when it goes', async () => {
    const began = performance.now();
    cluster.put({ ...web, spec: { ...(web['spec'] as object), type: 'ClusterIP' } });
    for (const family of FAMILIES) await has(router, family, [], { about: ADDRESSES[family] });
    process.stdout.write(`      withdrawn after ${Math.round(performance.now() - began)} ms\n`);
    assert.deepEqual(await cluster.allocated('web', 0), []);
    cluster.put(web);
    for (const family of FAMILIES)
      await until(
        'announced again',
        async () => await router.paths(family, ADDRESSES[family]),
        ({ length }) => length === 2,
      );
    cluster.remove(web);
    for (const family of FAMILIES) await has(router, family, [], { about: ADDRESSES[family] });
  });

  describe('on a host without Kubernetes, from a folder of manifests', () => {
    const MANIFESTS = '/run/fairway-manifests';
    const flags = [
      `--manifests=${MANIFESTS}`,
      '--hostname-override=node3',
      '--run-router=false',
      '--run-firewall=false',
      '--run-loadbalancer',
      '--announce-l2',
      '--enable-ipv6',
      '--loadbalancer-ip-range=192.168.1.240/29,fd00:192:168:1::2f0/125',
    ];
    let daemon: LabProcess;
    const first = balanced('first', 11, { spec: BOTH_FAMILIES });
    const second = balanced('second', 12, { spec: BOTH_FAMILIES, age: 11 });
    const ofSecond = ['192.168.1.242', 'fd00:192:168:1::2f2'] as const;

    /** What the daemon keeps is kept in the node's own /run: on the machine itself /var is everybody's. */
    const start = async (): Promise<void> => {
      const script = 'mkdir -p /run/var-lib && mount --bind /run/var-lib /var/lib && exec "$@"';
      const environment = { KUBE_ROUTER_CNI_CONF_FILE: CNI_FILE };
      const argv = ['unshare', '--mount', 'sh', '-c', script, 'sh', ...FAIRWAY, ...flags];
      daemon = lab().startDaemon(lab().node(3), argv, { environment });
      await daemon.waitForLine(/ready: the first round is in/, 60_000);
    };
    const publish = async (...services: readonly ApiObject[]): Promise<void> => {
      const pod = lab().pod(3, 1);
      const objects = services.flatMap(service => [service, ...servedBy(service.metadata.name, pod)]);
      await lab().writeFile(lab().node(3), `${MANIFESTS}/cluster.yaml`, manifest(objects));
    };
    /** Waits until these addresses, and only these of all that were used, are answered for by the node, and its pod serves them. */
    const answersAt = async (addresses: readonly string[], others: readonly string[]): Promise<void> => {
      await until(
        `node3 answers for ${addresses.join(' and ')} alone`,
        async () => Object.fromEntries(await cluster.ear.whoHas([...addresses, ...others], 300)),
        seen =>
          addresses.every(address => seen[address]?.join(' ') === 'node3') &&
          others.every(address => seen[address]?.length === 0),
      );
      for (const address of addresses)
        await until(
          `pod-3-1 answers at ${address}`,
          async () => await lab().probe(cluster.client).connect({ transport: 'tcp', address, port: 80, timeoutMs: 500 }),
          reply => reply.outcome === 'answer' && reply.server === 'pod-3-1',
        );
    };

    it('a Service gets addresses that are answered for on the LAN', async () => {
      await publish(first, second);
      await start();
      await answersAt(['192.168.1.241', 'fd00:192:168:1::2f1', ...ofSecond], []);
    });

    it('it keeps them through a restart, when a lower one is free', async () => {
      await publish(second);
      await answersAt(ofSecond, ['192.168.1.241', 'fd00:192:168:1::2f1']);
      await daemon.kill();
      await start();
      await answersAt(ofSecond, ['192.168.1.241', 'fd00:192:168:1::2f1']);
    });

    it('it loses them when its manifest is removed', async () => {
      await publish(first);
      await answersAt(['192.168.1.241', 'fd00:192:168:1::2f1'], ofSecond);
    });
  });
});
