import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabHost } from './addresses.ts';
import {
  CLIENTS,
  type Client,
  DIRECT_SERVICES,
  type DirectEndpoint,
  type DirectService,
  type Outcome,
  type Seen,
} from './cases/direct-return.ts';
import { ANNOTATION, describeDirect, directService, externalAddresses, PORT, tunnelsOf } from './describe-dsr.ts';
import { answers, SILENCE_MS } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, FAMILIES, type Family, service, slice } from './objects.ts';
import type { Reply, Target, Transport } from './probe.ts';
import { fetches, serveTraffic, transfers } from './traffic/traffic.ts';

const BALANCER_ADDRESS = { ipv4: '203.0.113.150', ipv6: '2001:db8:203::8150' };
/** The Service of large transfers: the ports of `serveTraffic`. */
const BULK = DIRECT_SERVICES.length;
const BULK_PORTS = [7001, 7002];
const NODE_PORTS = { tcp: 30110, udp: 30111 };
/** Beyond a slow start, and quick. */
const BYTES = 1 << 20;

function hostOf(lab: Lab, name: string): LabHost {
  const host = [...lab.nodes, ...lab.pods, lab.ext].find(one => one.name === name);
  assert.ok(host !== undefined, name);
  return host;
}

/** Endpoints in slices by port, as the API has them. */
function slicesOf(test: DirectService, lab: Lab): readonly ApiObject[] {
  const groups = Map.groupBy(test.endpoints, ({ port = PORT }) => port);
  return FAMILIES.flatMap(family =>
    [...groups].map(([port, members]) => {
      const ports = (test.transports ?? (['tcp', 'udp'] as const)).map(name => ({
        name,
        port,
        protocol: name === 'tcp' ? ('TCP' as const) : ('UDP' as const),
      }));
      const endpoints = members.map(member => endpointOf(member, lab, family));
      return slice(test.name, ports, endpoints, { family, suffix: `${family}-${port}` });
    }),
  );
}

function endpointOf({ host, isReady }: DirectEndpoint, lab: Lab, family: Family) {
  const found = hostOf(lab, host);
  const nodeName = lab.pods.find(pod => pod === found)?.node ?? host;
  return { addresses: [found.addresses[family]], nodeName, conditions: { ready: isReady ?? true } };
}

function objects(lab: Lab): readonly ApiObject[] {
  const cases = DIRECT_SERVICES.flatMap((test, index) => {
    const { externalTrafficPolicy = 'Cluster' } = test;
    const isFirst = index === 0;
    const ports = (['tcp', 'udp'] as const).map(name => ({
      name,
      protocol: name.toUpperCase(),
      port: PORT,
      ...(isFirst ? { nodePort: NODE_PORTS[name] } : {}),
    }));
    const spec = { externalTrafficPolicy, type: isFirst ? 'LoadBalancer' : 'ClusterIP', ports };
    const loadBalancerIPs = isFirst ? Object.values(BALANCER_ADDRESS) : [];
    return [directService(test.name, index, { spec, loadBalancerIPs }), ...slicesOf(test, lab)];
  });
  const bulkPorts = BULK_PORTS.map(port => ({ name: `p${port}`, port }));
  const { ipv4, ipv6 } = externalAddresses(BULK);
  return [
    ...cases,
    service(
      'bulk',
      {
        clusterIPs: [`10.96.6.${BULK + 1}`, `fd00:10:96::${601 + BULK}`],
        ipFamilies: ['IPv4', 'IPv6'],
        externalIPs: [ipv4, ipv6],
        ports: bulkPorts,
      },
      { annotations: ANNOTATION },
    ),
    ...FAMILIES.map(family => slice('bulk', bulkPorts, [endpointOf({ host: 'pod-2-1' }, lab, family)], { family })),
  ];
}

/** `pod-1-1 saw the client; ...`, or how it ended. */
function describeReplies(lab: Lab, from: LabHost, target: Target, replies: readonly Reply[]): string {
  const nameOf = (peer: string): string => {
    if (peer === from.addresses.ipv4 || peer === from.addresses.ipv6) return 'the client';
    const node = lab.nodes.find(({ addresses }) => Object.values(addresses).includes(peer));
    return node?.name ?? (peer === target.address ? 'the address asked for' : peer);
  };
  const texts = replies.map(reply => (reply.outcome === 'answer' ? `${reply.server} saw ${nameOf(reply.peer)}` : reply.outcome));
  return [...new Set(texts)].sort().join('; ');
}

function describeOutcome(outcome: Outcome): string {
  if (typeof outcome === 'string') return outcome;
  return Object.entries(outcome)
    .map(([server, seen]: readonly [string, Seen]) => `${server} saw ${seen}`)
    .sort()
    .join('; ');
}

async function burst(lab: Lab, from: LabHost, target: Target, count = 9): Promise<string> {
  const probe = lab.probe(from);
  const first = await probe.connect({ timeoutMs: SILENCE_MS, ...target });
  const rest = first.outcome === 'answer' ? await probe.burst({ timeoutMs: SILENCE_MS, ...target }, count - 1) : [];
  return describeReplies(lab, from, target, [first, ...rest]);
}

/** The kernel tells a UDP sender of the node's own at once, with EPERM instead of ECONNREFUSED, where this node balances. */
function expected(client: Client, transport: Transport, outcome: Outcome): string {
  const isOwn = client === 'node1' || client === 'node3';
  return isOwn && transport === 'udp' && outcome === 'refused' ? 'failed' : describeOutcome(outcome);
}

/** Packets in and out of the virtual services by mark. The kernel brings its counters up to date every two seconds. */
async function packetsByMark(lab: Lab, number: number): Promise<{ readonly in: number; readonly out: number }> {
  await pause(3000);
  const printed = await lab.expectRun(lab.node(number), ['ipvsadm', '-Ln', '--stats', '--exact']);
  const rows = [...printed.matchAll(/^FWM +\S+(?: IPv6)? +\d+ +(\d+) +(\d+) /gm)];
  assert.notEqual(rows.length, 0, printed);
  const sum = (column: number): number => rows.reduce((total, row) => total + Number(row[column]), 0);
  return { in: sum(1), out: sum(2) };
}

describeDirect('direct server return', { objects, addresses: DIRECT_SERVICES.length }, suite => {
  before('further servers', async () => {
    const { lab } = suite();
    const [vips, node2] = [Object.values(BALANCER_ADDRESS), lab.node(2)];
    const servers = lab.pods.flatMap(pod =>
      vips.flatMap(vip =>
        (['tcp', 'udp'] as const).map(async transport => await lab.probe(pod).serve(transport, vip, PORT, pod.name)),
      ),
    );
    const host = FAMILIES.map(async family => await lab.probe(node2).serve('tcp', node2.addresses[family], PORT, 'node2:8080'));
    await Promise.all([...servers, ...host, serveTraffic(lab, lab.pod(2, 1))]);
  });

  for (const [index, test] of DIRECT_SERVICES.entries()) {
    const addresses = externalAddresses(index);
    it(`${test.name}: ${test.title}`, async () => {
      const { lab } = suite();
      const [seen, wanted]: [string[], string[]] = [[], []];
      for (const [client, outcome] of Object.entries(test.outcomes) as [Client, Outcome][]) {
        for (const transport of test.transports ?? (['tcp', 'udp'] as const)) {
          for (const family of FAMILIES) {
            const target = { transport, address: addresses[family], port: PORT };
            const title = `${client} (${CLIENTS[client]}), ${transport} over ${family}: `;
            seen.push(title + (await burst(lab, hostOf(lab, client), target)));
            wanted.push(title + expected(client, transport, outcome));
          }
        }
      }
      assert.deepEqual(seen, wanted);
    });
  }

  it('a load-balancer address is served as an external one; cluster IP and node port are ordinary', async () => {
    const { lab } = suite();
    const direct = 'pod-1-1 saw the client; pod-2-1 saw the client; pod-3-1 saw the client';
    const translated = 'pod-1-1 saw the client; pod-2-1 saw node1; pod-3-1 saw node1';
    const clusterIP = { ipv4: '10.96.6.1', ipv6: 'fd00:10:96::601' };
    for (const transport of ['tcp', 'udp'] as const) {
      for (const family of FAMILIES) {
        const at = (address: string, port = PORT): Promise<string> => burst(lab, lab.ext, { transport, address, port });
        const outcomes = [
          await at(BALANCER_ADDRESS[family]),
          await at(clusterIP[family]),
          await at(lab.node(1).addresses[family], NODE_PORTS[transport]),
        ];
        assert.deepEqual(outcomes, [direct, translated, translated], `${transport} over ${family}`);
      }
    }
  });

  it('the node that balances sees what clients send, and nothing of what endpoints answer', async () => {
    const { lab } = suite();
    // The Service's only endpoint is on node2; what one of node1 answers leaves by its node like all that it sends, and is counted.
    const vips = Object.values(externalAddresses(BULK));
    const before = await packetsByMark(lab, 1);
    await fetches(lab, lab.ext, vips, BYTES);
    await transfers(lab, lab.ext, vips, BYTES);
    const after = await packetsByMark(lab, 1);
    assert.ok(after.in - before.in > 40, JSON.stringify({ before, after }));
    assert.equal(after.out - before.out, 0);
  });

  it('no node has the address, and pods have it that are endpoints, ready or not yet', async () => {
    const { lab } = suite();
    for (const node of lab.nodes)
      assert.doesNotMatch(await lab.expectRun(node, ['ip', '-o', 'addr']), /203\.0\.113\.1[0-3]\/|2001:db8:203::1[0-3]\//);
    const all = '2001:db8:203::10 2001:db8:203::8150 203.0.113.10 203.0.113.150';
    assert.equal(await tunnelsOf(lab, lab.pod(3, 1)), all);
    assert.equal(await tunnelsOf(lab, lab.pod(3, 2)), 'no tunnel', 'it is no endpoint');
    assert.equal(await tunnelsOf(lab, lab.pod(2, 2)), all, 'not ready; of the Service with another port it has no address');
  });

  for (const client of ['ext', 'pod-1-2', 'pod-4-1', 'node1'] as const) {
    it(`large requests and large responses get through, from ${client}: segments leave room for the wrapping`, async () => {
      const { lab } = suite();
      const [from, vips] = [hostOf(lab, client), Object.values(externalAddresses(BULK))];
      const sent = await transfers(lab, from, vips, BYTES);
      assert.deepEqual(
        sent.map(({ arrived, source }) => [arrived, source]),
        [
          [BYTES, from.addresses.ipv4],
          [BYTES, from.addresses.ipv6],
        ],
      );
      for (const { segment, address } of sent) {
        const most = address.includes(':') ? 1400 : 1440;
        assert.ok(segment <= most && segment > most - 60, `${address}: ${segment} bytes a segment`);
      }
      assert.deepEqual(await fetches(lab, from, vips, BYTES), [BYTES, BYTES]);
    });
  }

  it('a mark that another rule sets on the packet too hides the Service: IPVS finds services by the whole mark', async () => {
    const { lab } = suite();
    const [node1, address] = [lab.node(1), externalAddresses(0).ipv4];
    const at = (): Promise<string> => answers(lab, lab.ext, { transport: 'tcp', address, port: PORT });
    const rule = (verb: string): string[] => [
      'iptables',
      '-w',
      '-t',
      'mangle',
      verb,
      'PREROUTING',
      '-d',
      address,
      '-j',
      'MARK',
      '--set-xmark',
      '0x100000/0x100000',
    ];
    await lab.expectRun(node1, rule('-A'));
    try {
      // The address is on no link: the kernel has nobody in whose name to refuse.
      assert.equal(await at(), 'timeout');
    } finally {
      await lab.expectRun(node1, rule('-D'));
    }
    assert.equal(await at(), 'pod-1-1 pod-2-1 pod-3-1');
  });
});
