import assert from 'node:assert/strict';
import { answers, describeServices, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { localAddresses, virtualServers } from './node-state.ts';
import { type ApiObject, endpoint, service, slice } from './objects.ts';
import { type Reply, tally } from './probe.ts';
import { until } from './until.ts';

/** As long as an endpoint that was removed may answer, with some time for a busy machine. */
const MOMENT_MS = 2000;
const HTTP = [{ name: 'http', port: POD_PORT }];

function web(name: string, spec: object): ApiObject {
  return service(name, { ports: [{ name: 'http', port: 80 }], ...spec });
}

function endpoints(name: string, lab: Lab, ...pods: readonly (readonly [number, number])[]): ApiObject {
  return slice(
    name,
    HTTP,
    pods.map(([node, number]) => endpoint(lab.pod(node, number))),
  );
}

/** What a node's sets and virtual servers hold of an address. */
async function traces(lab: Lab, address: string): Promise<string> {
  const node = lab.node(1);
  const listed = await Promise.all([
    lab.expectRun(node, ['ipset', 'save']),
    lab.expectRun(node, ['ipvsadm', '-Sn']),
    lab.expectRun(node, ['ip', '-o', 'addr']),
    lab.expectRun(node, ['ip', 'route', 'show', 'table', 'all']),
  ]);
  return listed
    .join('')
    .split('\n')
    .filter(line => new RegExp(`(^|[^0-9.])${address.replaceAll('.', '\\.')}([^0-9]|$)`).test(line))
    .join('\n');
}

describeServices('Services that change', {}, suite => {
  const at = (address: string, port = 80, count = 4) =>
    answers(suite().lab, suite().lab.pod(1, 2), { transport: 'tcp', address, port }, count);

  it('a Service that is deleted leaves nothing of its addresses', async () => {
    const { lab, cluster } = suite();
    const objects = [
      web('gone', { clusterIP: '10.96.4.1', externalIPs: ['203.0.113.41'] }),
      endpoints('gone', lab, [1, 1], [2, 1]),
    ];
    await cluster.put(...objects);
    assert.equal(await at('10.96.4.1'), 'pod-1-1 pod-2-1');
    assert.notEqual(await traces(lab, '10.96.4.1'), '');
    await cluster.remove(...objects);
    assert.equal(await traces(lab, '10.96.4.1'), '');
    assert.equal(await traces(lab, '203.0.113.41'), '');
    assert.doesNotMatch(await at('10.96.4.1'), /pod/);
  });

  it('a Service that loses its slices refuses, and serves again with new ones', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web('bare', { clusterIP: '10.96.4.2' }), endpoints('bare', lab, [1, 1]));
    assert.equal(await at('10.96.4.2'), 'pod-1-1');
    await cluster.remove(endpoints('bare', lab));
    assert.equal(await at('10.96.4.2'), 'refused');
    await cluster.put(endpoints('bare', lab, [2, 1]));
    assert.equal(await at('10.96.4.2'), 'pod-2-1');
  });

  it('a port that changes its number: the old one refuses, the new one answers', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web('port', { clusterIP: '10.96.4.3' }), endpoints('port', lab, [1, 1]));
    assert.deepEqual([await at('10.96.4.3', 80), await at('10.96.4.3', 81)], ['pod-1-1', 'refused']);
    await cluster.put(web('port', { clusterIP: '10.96.4.3', ports: [{ name: 'http', port: 81 }] }));
    assert.deepEqual([await at('10.96.4.3', 80), await at('10.96.4.3', 81)], ['refused', 'pod-1-1']);
  });

  it('a Service goes from ClusterIP to NodePort to LoadBalancer to headless and back', async () => {
    const { lab, cluster } = suite();
    const node = lab.node(1).addresses.ipv4;
    const fromOutside = (address: string, port: number) => answers(lab, lab.ext, { transport: 'tcp', address, port }, 2);
    const nodePort = [{ name: 'http', port: 80, nodePort: 30400 }];
    await cluster.put(web('type', { type: 'ClusterIP', clusterIP: '10.96.4.4' }), endpoints('type', lab, [1, 1]));
    assert.deepEqual([await at('10.96.4.4'), await fromOutside(node, 30400)], ['pod-1-1', 'refused']);

    await cluster.put(web('type', { type: 'NodePort', clusterIP: '10.96.4.4', ports: nodePort }));
    assert.deepEqual([await at('10.96.4.4'), await fromOutside(node, 30400)], ['pod-1-1', 'pod-1-1']);

    const balancer = service(
      'type',
      { type: 'LoadBalancer', clusterIP: '10.96.4.4', ports: nodePort },
      { loadBalancerIPs: ['203.0.113.144'] },
    );
    await cluster.put(balancer);
    assert.deepEqual(
      [await at('10.96.4.4'), await fromOutside(node, 30400), await fromOutside('203.0.113.144', 80)],
      ['pod-1-1', 'pod-1-1', 'pod-1-1'],
    );

    await cluster.put(web('type', { type: 'ClusterIP', clusterIP: 'None' }));
    assert.equal(await fromOutside(node, 30400), 'refused');
    assert.equal(await traces(lab, '10.96.4.4'), '');
    assert.equal(await traces(lab, '203.0.113.144'), '');

    await cluster.put(web('type', { type: 'ClusterIP', clusterIP: '10.96.4.4' }));
    assert.equal(await at('10.96.4.4'), 'pod-1-1');
  });

  it('a connection to an endpoint that stays is never cut while others come and go', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web('flap', { clusterIP: '10.96.4.5' }), endpoints('flap', lab, [2, 1]));
    const probe = lab.probe(lab.pod(1, 2));
    const lasting = await probe.hold({ transport: 'tcp', address: '10.96.4.5', port: 80 });
    const outside = await lab.probe(lab.ext).hold({ transport: 'tcp', address: '10.96.4.5', port: 80 });
    assert.deepEqual([lasting.opened.outcome, outside.opened.outcome], ['answer', 'answer']);
    for (let round = 0; round < 4; round++) {
      await cluster.put(endpoints('flap', lab, [2, 1], [1, 1], [3, 1]));
      assert.equal(await at('10.96.4.5', 80, 6), 'pod-1-1 pod-2-1 pod-3-1');
      await cluster.put(endpoints('flap', lab, [2, 1]));
      assert.equal(await at('10.96.4.5', 80, 6), 'pod-2-1');
      for (const connection of [lasting, outside]) assert.deepEqual(await connection.say(`round ${round}`), connection.opened);
    }
    lasting.close();
    outside.close();
  });

  it('a connection to an endpoint that goes ends a moment later with its next packet, not in silence', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web('leave', { clusterIP: '10.96.4.6' }), endpoints('leave', lab, [2, 1]));
    const held = await lab.probe(lab.pod(1, 2)).hold({ transport: 'tcp', address: '10.96.4.6', port: 80 });
    assert.equal(held.opened.outcome, 'answer');
    await cluster.put(endpoints('leave', lab, [1, 1]));
    // What was asked just before is answered still.
    const reply = await until(
      'the connection ends',
      async () => await held.say('still there?'),
      ({ outcome }) => outcome !== 'answer',
      MOMENT_MS,
    );
    assert.ok(reply.outcome === 'reset' || reply.outcome === 'refused', JSON.stringify(reply));
    held.close();
  });

  it('a UDP client with one socket moves on when its endpoint goes', async () => {
    const { lab, cluster } = suite();
    const ports = [{ name: 'dns', protocol: 'UDP', port: POD_PORT }] as const;
    const dns = service('dns', { clusterIP: '10.96.4.7', ports: [{ name: 'dns', protocol: 'UDP', port: 53 }] });
    await cluster.put(dns, slice('dns', ports, [endpoint(lab.pod(2, 1))]));
    const socket = await lab.probe(lab.pod(1, 2)).hold({ transport: 'udp', address: '10.96.4.7', port: 53 });
    assert.equal(socket.opened.outcome === 'answer' && socket.opened.server, 'pod-2-1');
    await cluster.put(slice('dns', ports, [endpoint(lab.pod(1, 1))]));
    // One datagram may be the one that finds the endpoint gone.
    await until(
      'the other endpoint answers',
      async () => await socket.say('again', 500),
      reply => reply.outcome === 'answer' && reply.server === 'pod-1-1',
      MOMENT_MS,
    );
    socket.close();
  });

  it('a cluster IP that moves to another Service is served all the time', async () => {
    const { lab, cluster } = suite();
    const old = [web('old', { clusterIP: '10.96.4.8' }), endpoints('old', lab, [1, 1])];
    const heir = [web('heir', { clusterIP: '10.96.4.8' }), endpoints('heir', lab, [2, 1])];
    await cluster.put(...old);
    const moved = cluster.change({ put: heir, remove: old });
    const replies: Reply[] = [];
    const progress = { isMoving: true };
    const done = moved.finally(() => {
      progress.isMoving = false;
    });
    while (progress.isMoving)
      replies.push(await lab.probe(lab.pod(1, 2)).connect({ transport: 'tcp', address: '10.96.4.8', port: 80 }));
    await done;
    // A connection that was just made to the old endpoint when it went may wait for its answer in vain; each is made.
    for (const reply of replies) assert.ok(reply.outcome === 'answer' || reply.during === 'answer', JSON.stringify(reply));
    for (const server of tally(replies.filter(({ outcome }) => outcome === 'answer')).keys())
      assert.match(server, /^pod-[12]-1$/);
    assert.equal(await at('10.96.4.8', 80, 6), 'pod-2-1');
    assert.ok((await localAddresses(lab, lab.node(1))).has('10.96.4.8'));
  });

  it('a Service that changes its cluster IP is served on the new one only', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web('move', { clusterIP: '10.96.4.9' }), endpoints('move', lab, [1, 1]));
    await cluster.put(web('move', { clusterIP: '10.96.4.10' }));
    assert.equal(await at('10.96.4.10'), 'pod-1-1');
    assert.equal(await traces(lab, '10.96.4.9'), '');
  });

  it('hundred Services come and go in one change', async () => {
    const { lab, cluster } = suite();
    const many = Array.from({ length: 100 }, (_, index) => [
      web(`many-${index}`, { clusterIP: `10.96.5.${index + 1}` }),
      endpoints(`many-${index}`, lab, [1, 1], [2, 1], [3, 1]),
    ]).flat();
    const count = async (): Promise<number> =>
      [...(await virtualServers(lab, lab.node(1)))].filter(key => key.includes(' 10.96.5.')).length;
    await cluster.put(...many);
    assert.equal(await count(), 100);
    assert.equal(await at('10.96.5.100', 80, 6), 'pod-1-1 pod-2-1 pod-3-1');
    await cluster.remove(...many);
    assert.equal(await count(), 0);
    assert.ok(![...(await localAddresses(lab, lab.node(1)))].some(address => address.startsWith('10.96.5.')));
  });
});
