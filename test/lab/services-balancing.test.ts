import assert from 'node:assert/strict';
import { answers, describeServices, OTHER_POD_PORT, POD_PORT, sourcesSeen } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, NAMESPACE, service, slice } from './objects.ts';
import { type Connection, type Reply, tally } from './probe.ts';
import { until } from './until.ts';

const HTTP = [{ name: 'http', port: POD_PORT }];

/** A Service on one cluster IP, port 80, with these three pods as endpoints. */
function web(
  name: string,
  clusterIP: string,
  lab: Lab,
  spec: object = {},
  annotations: Readonly<Record<string, string>> = {},
): readonly ApiObject[] {
  const pods = [lab.pod(1, 1), lab.pod(2, 1), lab.pod(3, 1)];
  return [
    service(name, { clusterIP, ports: [{ name: 'http', port: 80 }], ...spec }, { annotations }),
    slice(
      name,
      HTTP,
      pods.map(pod => endpoint(pod)),
    ),
  ];
}

const affinity = (timeoutSeconds: number) => ({
  sessionAffinity: 'ClientIP',
  sessionAffinityConfig: { clientIP: { timeoutSeconds } },
});

describeServices('how connections are spread', { daemons: [{ node: 1, flags: ['--service-udp-timeout=1s'] }] }, suite => {
  it('takes a Service’s endpoints from all of its slices, each endpoint once', async () => {
    const { lab, cluster } = suite();
    await cluster.put(
      service('parts', { clusterIP: '10.96.2.1', ports: [{ name: 'http', port: 80 }] }),
      slice('parts', HTTP, [endpoint(lab.pod(1, 1)), endpoint(lab.pod(2, 1))], { suffix: 'a' }),
      slice('parts', HTTP, [endpoint(lab.pod(2, 1)), endpoint(lab.pod(3, 1))], { suffix: 'b' }),
    );
    const replies = await lab.probe(lab.pod(1, 2)).burst({ transport: 'tcp', address: '10.96.2.1', port: 80 }, 9);
    assert.deepEqual([...tally(replies)].sort(), [
      ['pod-1-1', 3],
      ['pod-2-1', 3],
      ['pod-3-1', 3],
    ]);
  });

  it('finds each port of a Service by its name in the slices, whatever number it has there', async () => {
    const { lab, cluster } = suite();
    await cluster.put(
      service('ports', {
        clusterIP: '10.96.2.2',
        ports: [
          { name: 'http', port: 80, targetPort: 'web' },
          { name: 'metrics', port: 9100, targetPort: OTHER_POD_PORT },
          { name: 'dns', port: 80, protocol: 'UDP', targetPort: POD_PORT },
        ],
      }),
      // A named target port differs from pod to pod: such pods come in slices of their own.
      slice(
        'ports',
        [...HTTP, { name: 'metrics', port: OTHER_POD_PORT }, { name: 'dns', protocol: 'UDP', port: POD_PORT }],
        [endpoint(lab.pod(1, 1))],
        { suffix: 'a' },
      ),
      slice(
        'ports',
        [
          { name: 'http', port: OTHER_POD_PORT },
          { name: 'metrics', port: OTHER_POD_PORT },
        ],
        [endpoint(lab.pod(2, 1))],
        { suffix: 'b' },
      ),
    );
    const from = lab.pod(1, 2);
    const at = (port: number, transport: 'tcp' | 'udp' = 'tcp') => answers(lab, from, { transport, address: '10.96.2.2', port });
    assert.equal(await at(80), 'pod-1-1 pod-2-1:9090');
    assert.equal(await at(9100), 'pod-1-1:9090 pod-2-1:9090');
    assert.equal(await at(80, 'udp'), 'pod-1-1');
  });

  it('balances to processes on the nodes’ own addresses (hostNetwork), from pods and from the node itself', async () => {
    const { lab, cluster } = suite();
    for (const number of [1, 2]) await lab.probe(lab.node(number)).serve('tcp', '0.0.0.0', 7070, `host-${number}`);
    const endpoints = [1, 2].map(number => ({
      addresses: [lab.node(number).addresses.ipv4],
      nodeName: lab.node(number).name,
      conditions: { ready: true },
    }));
    await cluster.put(
      service('host', { type: 'NodePort', clusterIP: '10.96.2.3', ports: [{ name: 'http', port: 80, nodePort: 30270 }] }),
      slice('host', [{ name: 'http', port: 7070 }], endpoints),
    );
    const vip = { transport: 'tcp', address: '10.96.2.3', port: 80 } as const;
    assert.equal(await answers(lab, lab.pod(1, 1), vip), 'host-1 host-2');
    assert.equal(await answers(lab, lab.node(1), vip), 'host-1 host-2');
    assert.equal(await answers(lab, lab.ext, { ...vip, address: lab.node(1).addresses.ipv4, port: 30270 }), 'host-1 host-2');
  });

  it('gives a client the same endpoint again with session affinity, other clients others, and shares out again when it is switched off', async () => {
    const { lab, cluster } = suite();
    await cluster.put(...web('cart', '10.96.2.4', lab, affinity(3600)));
    const target = { transport: 'tcp', address: '10.96.2.4', port: 80 } as const;
    const clients = [lab.pod(1, 1), lab.pod(1, 2), lab.node(1)];
    const servers: string[] = [];
    for (const client of clients) servers.push(await answers(lab, client, target, 12));
    assert.deepEqual([...servers].sort(), ['pod-1-1', 'pod-2-1', 'pod-3-1'], 'each client one of its own');
    await cluster.put(...web('cart', '10.96.2.4', lab));
    assert.equal(await answers(lab, lab.pod(1, 2), target), 'pod-1-1 pod-2-1 pod-3-1');
  });

  it('forgets a client of session affinity after the timeout', async () => {
    const { lab, cluster } = suite();
    const udp = { clusterIP: '10.96.2.5', ports: [{ name: 'dns', protocol: 'UDP', port: 53 }] };
    await cluster.put(
      service('short', { ...udp, ...affinity(2) }),
      slice('short', [{ name: 'dns', protocol: 'UDP', port: POD_PORT }], [endpoint(lab.pod(1, 1)), endpoint(lab.pod(2, 1))]),
    );
    const target = { transport: 'udp', address: '10.96.2.5', port: 53 } as const;
    const before = await answers(lab, lab.pod(1, 2), target);
    assert.match(before, /^pod-[12]-1$/);
    // 0A600205: the connections, which --service-udp-timeout ends after a second, and the template that binds the client.
    const connections = async (): Promise<string> => {
      const table = await lab.readFile(lab.node(1), '/proc/net/ip_vs_conn');
      return table
        .split('\n')
        .filter(line => line.includes('0A600205'))
        .join('\n');
    };
    await until('the client is forgotten', connections, lines => lines === '', 15_000);
    const after = await answers(lab, lab.pod(1, 2), target);
    assert.match(after, /^pod-[12]-1$/);
    assert.notEqual(after, before, 'the next turn is the other endpoint’s');
  });

  it('follows the scheduler annotation: sh sends a client to the same endpoint, lc the next one to the least busy', async () => {
    const { lab, cluster } = suite();
    const scheduler = (name: string) => ({ 'kube-router.io/service.scheduler': name });
    await cluster.put(...web('sh', '10.96.2.6', lab, {}, scheduler('sh')), ...web('lc', '10.96.2.7', lab, {}, scheduler('lc')));
    const sh = { transport: 'tcp', address: '10.96.2.6', port: 80 } as const;
    const first = await answers(lab, lab.pod(1, 2), sh, 9);
    assert.match(first, /^pod-\d-1$/);
    assert.equal(await answers(lab, lab.pod(1, 2), sh, 9), first);

    const lc = { transport: 'tcp', address: '10.96.2.7', port: 80 } as const;
    const probe = lab.probe(lab.pod(1, 2));
    const held = [await probe.hold(lc), await probe.hold(lc)];
    const busy = new Set(held.map(({ opened }) => serverOf(opened)));
    assert.equal(busy.size, 2, 'two held connections are on two endpoints');
    const idle = ['pod-1-1', 'pod-2-1', 'pod-3-1'].find(name => !busy.has(name));
    assert.equal(await answers(lab, lab.pod(1, 2), lc, 9), idle);
    for (const connection of held) connection.close();

    await cluster.put(...web('lc', '10.96.2.7', lab));
    const next: Connection[] = [];
    for (let count = 0; count < 6; count++) next.push(await probe.hold(lc));
    assert.deepEqual(
      [...tally(next.map(({ opened }) => opened)).values()],
      [2, 2, 2],
      'without the annotation it is round robin',
    );
    for (const connection of next) connection.close();
  });

  it('with scheduler sh and flag-2 tells the connections of one client apart by their source port', async () => {
    const { lab, cluster } = suite();
    const annotations = { 'kube-router.io/service.scheduler': 'sh', 'kube-router.io/service.schedflags': 'flag-2' };
    await cluster.put(...web('shp', '10.96.2.8', lab, {}, annotations));
    const target = { transport: 'tcp', address: '10.96.2.8', port: 80 } as const;
    assert.equal(await answers(lab, lab.pod(1, 2), target, 40), 'pod-1-1 pod-2-1 pod-3-1');
  });

  it('serves a Service whose scheduler does not exist by round robin and says so', async () => {
    const { lab, cluster, fleets } = suite();
    await cluster.put(...web('odd', '10.96.2.9', lab, {}, { 'kube-router.io/service.scheduler': 'fastest' }));
    assert.equal(
      await answers(lab, lab.pod(1, 2), { transport: 'tcp', address: '10.96.2.9', port: 80 }),
      'pod-1-1 pod-2-1 pod-3-1',
    );
    await fleets[0]!
      .daemon(lab.node(1))
      .waitForLine(new RegExp(`Service ${NAMESPACE}/odd asks for scheduler 'fastest', which does not exist; using rr`), 5000);
  });

  it('leaves out slices without a port number, of names (FQDN) and of Services that do not exist', async () => {
    const { lab, cluster } = suite();
    const odd = slice('kinds', HTTP, [{ addresses: ['www.example.com'] }], { suffix: 'names' });
    await cluster.put(
      service('kinds', { clusterIP: '10.96.2.10', ports: [{ name: 'http', port: 80 }] }),
      slice('kinds', [{ name: 'http', port: null }], [endpoint(lab.pod(1, 1))], { suffix: 'null' }),
      { ...odd, addressType: 'FQDN' },
      slice('kinds', HTTP, [endpoint(lab.pod(2, 1))], { suffix: 'good' }),
      slice('nobody', HTTP, [endpoint(lab.pod(3, 1))]),
    );
    assert.equal(await answers(lab, lab.pod(1, 2), { transport: 'tcp', address: '10.96.2.10', port: 80 }), 'pod-2-1');
  });

  it('an endpoint without nodeName serves, and counts for no node under policy Local', async () => {
    const { lab, cluster } = suite();
    const endpoints = [{ addresses: [lab.pod(1, 1).addresses.ipv4], conditions: { ready: true } }];
    await cluster.put(
      service('nameless', {
        type: 'NodePort',
        clusterIP: '10.96.2.11',
        externalTrafficPolicy: 'Local',
        ports: [{ name: 'http', port: 80, nodePort: 30271 }],
      }),
      slice('nameless', HTTP, endpoints),
    );
    assert.equal(await answers(lab, lab.pod(1, 2), { transport: 'tcp', address: '10.96.2.11', port: 80 }), 'pod-1-1');
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: lab.node(1).addresses.ipv4, port: 30271 }), 'timeout');
  });

  it('serves neither headless Services nor those of another proxy', async () => {
    const { lab, cluster } = suite();
    const foreign = service('foreign', { clusterIP: '10.96.2.12', ports: [{ name: 'http', port: 80 }] });
    const labels = { 'service.kubernetes.io/service-proxy-name': 'another' };
    await cluster.put(
      { ...foreign, metadata: { ...foreign.metadata, labels } },
      slice('foreign', HTTP, [endpoint(lab.pod(1, 1))]),
      service('headless', { clusterIP: 'None', ports: [{ name: 'http', port: 80 }] }),
      slice('headless', HTTP, [endpoint(lab.pod(1, 1))]),
    );
    const { outcome } = await lab.probe(lab.pod(1, 2)).connect({ transport: 'tcp', address: '10.96.2.12', port: 80 });
    assert.notEqual(outcome, 'answer');
    const table = await lab.expectRun(lab.node(1), ['ipvsadm', '-Sn']);
    assert.doesNotMatch(table, /10\.96\.2\.12|-[tu] None/);
  });

  it('SNATs nothing of a pod that asks a Service of its own node', async () => {
    const { lab, cluster } = suite();
    await cluster.put(...web('plain', '10.96.2.13', lab));
    const replies = await lab.probe(lab.pod(1, 2)).burst({ transport: 'tcp', address: '10.96.2.13', port: 80 }, 6);
    assert.deepEqual(sourcesSeen(replies), [lab.pod(1, 2).addresses.ipv4]);
  });
});

function serverOf(reply: Reply): string {
  return reply.outcome === 'answer' ? reply.server : reply.outcome;
}
