import assert from 'node:assert/strict';
import type { Addresses, LabHost } from './addresses.ts';
import { CLIENTS, type Client, type Destination, MATRIX, type MatrixRow, type Seen } from './cases/service-matrix.ts';
import { Cluster } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { Fleet } from './fleet.ts';
import type { Lab } from './lab.ts';
import { endpoint, FAMILIES, type Family, manifest, service, slice } from './objects.ts';
import type { Reply, Transport } from './probe.ts';

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'sctp'];
const PROTOCOLS = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as const;
const ENDPOINTS = ['pod-1-1', 'pod-2-1'] as const;
/** Fresh connections a row: round robin meets both endpoints in two; more, so that one that answers only at first is found. */
const CONNECTIONS = 6;

const VIPS: Readonly<Record<'cluster IP' | 'external IP' | 'load-balancer IP', Addresses>> = {
  'cluster IP': { ipv4: '10.96.0.10', ipv6: 'fd00:10:96::10' },
  'external IP': { ipv4: '203.0.113.10', ipv6: '2001:db8:203::10' },
  'load-balancer IP': { ipv4: '203.0.113.20', ipv6: '2001:db8:203::20' },
};
const NODE_PORT = 30080;

const FLAGS = [
  '--enable-ipv6',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
  '--service-external-ip-range=203.0.113.0/28,2001:db8:203::/123',
  '--loadbalancer-ip-range=203.0.113.16/28,2001:db8:203::20/123',
];

describeLab('a Service of every type, from everywhere', {}, lab => {
  before('three daemons, a Service for each protocol', async function () {
    this.timeout(120_000);
    for (const name of ENDPOINTS) {
      for (const transport of TRANSPORTS) {
        for (const family of FAMILIES) {
          const pod = hostOf(lab(), name);
          await lab().probe(pod).serve(transport, pod.addresses[family], 8080, name);
        }
      }
    }
    // What a cloud or a BGP router does for these addresses: the way to node1.
    const { ipv4, ipv6 } = lab().node(1).addresses;
    const routes = Object.values(VIPS).flatMap(vip => [`route add ${vip.ipv4} via ${ipv4}`, `route add ${vip.ipv6} via ${ipv6}`]);
    await lab().expectRun(lab().router, ['ip', '-batch', '-'], { input: `${routes.join('\n')}\n` });
    const fleet = new Fleet(lab(), { flags: FLAGS });
    const daemonOf = (node: LabHost) => fleet.daemon(node);
    const cluster = new Cluster(lab(), lab().nodes, daemonOf, async current => {
      await fleet.apply({ 'cluster.yaml': manifest(current.values()) });
    });
    await cluster.publish({ put: objects(lab()) });
    await fleet.start({});
    await cluster.arrived();
  });

  for (const transport of TRANSPORTS) {
    for (const family of FAMILIES) {
      for (const to of new Set(MATRIX.map(row => row.to))) {
        it(`${PROTOCOLS[transport]} over ${family} to ${article(to)} reaches both endpoints from everywhere, each seeing the right client`, async () => {
          const rows = MATRIX.filter(row => row.to === to);
          const seen: string[] = [];
          for (const row of rows) seen.push(describeReplies(row, await connect(lab(), row, transport, family)));
          const expected = rows.map(row => describeExpected(lab(), row, family));
          // On a busy machine an association takes two turns of the round robin now and then: who answers holds, how often each does not.
          if (transport === 'sctp') assert.deepEqual(seen.map(withoutCounts), expected.map(withoutCounts));
          else assert.deepEqual(seen, expected);
        });
      }
    }
  }
});

function objects(lab: Lab) {
  const ports = TRANSPORTS.map((transport, index) => ({
    name: transport,
    protocol: PROTOCOLS[transport],
    port: 80,
    targetPort: 8080,
    nodePort: NODE_PORT + index,
  }));
  return [
    service(
      'web',
      {
        type: 'LoadBalancer',
        ipFamilies: ['IPv4', 'IPv6'],
        clusterIPs: FAMILIES.map(family => VIPS['cluster IP'][family]),
        externalIPs: FAMILIES.map(family => VIPS['external IP'][family]),
        ports,
      },
      { loadBalancerIPs: FAMILIES.map(family => VIPS['load-balancer IP'][family]) },
    ),
    ...FAMILIES.map(family =>
      slice(
        'web',
        TRANSPORTS.map(transport => ({ name: transport, protocol: PROTOCOLS[transport], port: 8080 })),
        ENDPOINTS.map(name => endpoint(podOf(lab, name), family)),
        { family },
      ),
    ),
  ];
}

async function connect(lab: Lab, row: MatrixRow, transport: Transport, family: Family): Promise<readonly Reply[]> {
  const target = { transport, ...addressOf(lab, row.to, transport, family), timeoutMs: 1500 };
  return await lab.probe(hostOf(lab, row.from)).burst(target, CONNECTIONS);
}

function addressOf(lab: Lab, to: Destination, transport: Transport, family: Family): { address: string; port: number } {
  if (to === "node1's node port" || to === "node3's node port") {
    const node = lab.node(to === "node1's node port" ? 1 : 3);
    return { address: node.addresses[family], port: NODE_PORT + TRANSPORTS.indexOf(transport) };
  }
  return { address: VIPS[to][family], port: 80 };
}

/** `from: endpoint saw address xN; ...`, in the order of the endpoints. */
function describeReplies(row: MatrixRow, replies: readonly Reply[]): string {
  const counts = new Map<string, number>();
  for (const reply of replies) {
    const text = reply.outcome === 'answer' ? `${reply.server} saw ${reply.peer}` : `${reply.outcome} at ${reply.during}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return line(
    row.from,
    [...counts].map(([text, count]) => `${text} x${count}`),
  );
}

function describeExpected(lab: Lab, row: MatrixRow, family: Family): string {
  const address = (seen: Seen): string => hostOf(lab, seen === 'client' ? row.from : seen).addresses[family];
  return line(
    row.from,
    ENDPOINTS.map(name => `${name} saw ${address(row.answers[name])} x${CONNECTIONS / ENDPOINTS.length}`),
  );
}

function line(from: Client, parts: readonly string[]): string {
  return `${from} (${CLIENTS[from]}): ${[...parts].sort().join('; ')}`;
}

function withoutCounts(text: string): string {
  return text.replaceAll(/ x\d+/g, '');
}

function hostOf(lab: Lab, name: string): LabHost {
  const host = [...lab.nodes, ...lab.pods, lab.ext].find(one => one.name === name);
  assert.ok(host !== undefined, name);
  return host;
}

function podOf(lab: Lab, name: string): Lab['pods'][number] {
  const pod = lab.pods.find(one => one.name === name);
  assert.ok(pod !== undefined, name);
  return pod;
}

function article(to: Destination): string {
  return to.startsWith('node') ? to : `${to === 'external IP' ? 'an' : 'a'} ${to}`;
}
