import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeApiServer } from '../fakes/api-server.ts';
import type { LabHost } from './addresses.ts';
import { Cluster } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { answers, POD_PORT, RANGES, routeToNode1, serveEverywhere } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import type { Lab } from './lab.ts';
import { virtualServers } from './node-state.ts';
import { type ApiObject, endpoint, service, slice } from './objects.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

const TARGET = { transport: 'tcp', address: '10.96.10.1', port: 80 } as const;
const WEB = service('web', { clusterIP: TARGET.address, ports: [{ name: 'http', port: 80, targetPort: POD_PORT }] });
const RESOURCES = ['services', 'endpointslices', 'nodes', 'pods', 'namespaces', 'networkpolicies'] as const;
/** Where the daemons find the API server: the host outside, whose name is not in the certificate. */
const PORT = 6443;
const FOLDER = '/run/kubernetes';

function webSlice(lab: Lab, ...nodes: readonly number[]): ApiObject {
  return slice(
    'web',
    [{ name: 'http', port: POD_PORT }],
    nodes.map(node => endpoint(lab.pod(node, 1))),
  );
}

describeLab('daemons on an API server', {}, lab => {
  const directory = mkdtempSync(join(tmpdir(), 'fairway-api-server-'));
  const daemons = new Map<string, LabProcess>();
  const upstream = { port: 0 };
  /** All that were started, the present one last. */
  const servers: FakeApiServer[] = [];
  let server: FakeApiServer;
  let cluster: Cluster;

  const daemonOf = (node: LabHost): LabProcess => daemons.get(node.name)!;
  const url = (): string => `https://${lab().ext.addresses.ipv4}:${PORT}`;
  const nodes = (): readonly LabHost[] => [lab().node(1), lab().node(3)];

  /** A server with an authority of its own, and the files with which the daemons trust it. */
  async function startServer(): Promise<void> {
    server = await FakeApiServer.start({ directory });
    servers.push(server);
    for (const node of nodes()) {
      for (const [name, address] of [
        ['kubeconfig', url()],
        ['kubeconfig-elsewhere', 'https://192.0.2.1:6443'],
      ] as const) {
        const file = server.writeKubeconfig({ name, cluster: { server: address, 'tls-server-name': 'localhost' } });
        await lab().writeFile(node, `${FOLDER}/${name}`, readFileSync(file));
      }
      await lab().writeFile(node, `${FOLDER}/kubernetes-ca.crt`, readFileSync(join(directory, 'kubernetes-ca.crt')));
    }
    upstream.port = server.relay.port;
  }

  before('an API server, and two daemons with the command line of a kube-router DaemonSet', async function () {
    this.timeout(120_000);
    await serveEverywhere(lab());
    await routeToNode1(lab());
    await liftIcmpLimits(lab());
    await startServer();
    await lab().expose(lab().ext, lab().ext.addresses.ipv4, PORT, upstream);
    cluster = new Cluster(lab(), nodes(), daemonOf, async (_current, changed, removed) => {
      server.put(...changed);
      for (const { kind, metadata } of removed) server.delete(kind, metadata.namespace ?? '', metadata.name);
    });
    server.put(...cluster.objects.values());
    await cluster.publish({ put: [WEB, webSlice(lab(), 1, 2, 3)] });
    const flags = {
      node1: [`--kubeconfig=${FOLDER}/kubeconfig`],
      node3: [`--kubeconfig=${FOLDER}/kubeconfig-elsewhere`, `--master=${url()}`],
    };
    const common = [
      '--run-router=true',
      '--run-firewall=true',
      '--run-service-proxy=true',
      '--run-loadbalancer=true',
      '--bgp-graceful-restart=true',
      ...RANGES,
    ];
    for (const node of nodes()) {
      const own = flags[node.name as keyof typeof flags];
      daemons.set(node.name, lab().startDaemon(node, [...FAIRWAY, ...common, ...own], { environment: { NODE_NAME: node.name } }));
    }
    await Promise.all(nodes().map(async node => await daemonOf(node).waitForLine(/ready: the first round is in/, 60_000)));
  });

  after(() => {
    for (const started of servers) started.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Who answers at the Service, through node1 and through node3. */
  const served = async (): Promise<readonly string[]> => [
    await answers(lab(), lab().pod(1, 2), TARGET),
    await answers(lab(), lab().pod(3, 2), TARGET),
  ];
  const all = ['pod-1-1 pod-2-1 pod-3-1', 'pod-1-1 pod-2-1 pod-3-1'];

  it('what it lists is in the kernel, with --kubeconfig alone and with --master before the address of the kubeconfig', async () => {
    await cluster.arrived();
    assert.deepEqual(await served(), all);
    const followed = server.requests.filter(({ verb }) => verb === 'list' || verb === 'watch');
    assert.ok(followed.every(({ resource }) => RESOURCES.some(known => known === resource)));
  });

  it('an endpoint that goes or comes is followed', async () => {
    await cluster.put(webSlice(lab(), 2, 3));
    assert.deepEqual(await served(), ['pod-2-1 pod-3-1', 'pod-2-1 pod-3-1']);
    await cluster.put(webSlice(lab(), 1, 2, 3));
    assert.deepEqual(await served(), all);
  });

  it('a Service that is deleted goes', async () => {
    const other = service('other', { clusterIP: '10.96.10.2', ports: [{ port: 80 }] });
    await cluster.put(other);
    assert.ok((await virtualServers(lab(), lab().node(1))).has('TCP 10.96.10.2:80'));
    await cluster.remove(other);
    assert.ok(!(await virtualServers(lab(), lab().node(1))).has('TCP 10.96.10.2:80'));
  });

  for (const how of ['reset', 'fin'] as const) {
    it(`connections that end (${how}) do not disturb traffic, and changes arrive afterwards`, async () => {
      server.relay.cut(how);
      assert.deepEqual(await served(), all);
      await cluster.put(webSlice(lab(), 1));
      assert.deepEqual(await served(), ['pod-1-1', 'pod-1-1']);
      await cluster.put(webSlice(lab(), 1, 2, 3));
    });
  }

  it('a watch whose history is gone (410) is begun anew: what was missed arrives, deletions included', async () => {
    const passing = service('passing', { clusterIP: '10.96.10.3', ports: [{ port: 80 }] });
    await cluster.put(passing);
    for (const resource of RESOURCES)
      for (let count = 0; count < 2; count++) server.answerNext(`watch ${resource}`, { status: 503 });
    server.relay.cut('reset');
    const change = cluster.change({ put: [webSlice(lab(), 2)], remove: [passing] });
    server.store.compact();
    assert.deepEqual(await served(), all, 'traffic goes on by what was known');
    await change;
    assert.deepEqual(await served(), ['pod-2-1', 'pod-2-1']);
    assert.ok(!(await virtualServers(lab(), lab().node(1))).has('TCP 10.96.10.3:80'));
    await cluster.put(webSlice(lab(), 1, 2, 3));
  });

  it('a server that refuses for a while (503): traffic goes on, the log says so, and changes arrive afterwards', async () => {
    const marks = new Map(nodes().map(node => [node, daemonOf(node).lines.length]));
    for (const resource of RESOURCES) {
      for (const verb of ['list', 'watch'])
        for (let count = 0; count < 3; count++)
          server.answerNext(`${verb} ${resource}`, { status: 503, message: 'etcd is away' });
    }
    server.relay.cut('reset');
    const change = cluster.change({ put: [webSlice(lab(), 3)] });
    for (const node of nodes()) {
      const said = async (): Promise<string> =>
        daemonOf(node)
          .lines.slice(marks.get(node))
          .map(({ text }) => text)
          .join('\n');
      await until('the log tells of 503', said, text => text.includes('503'));
    }
    assert.deepEqual(await served(), all);
    await change;
    assert.deepEqual(await served(), ['pod-3-1', 'pod-3-1']);
    await cluster.put(webSlice(lab(), 1, 2, 3));
  });

  it('a restored server with another certificate authority, its history compacted, is believed', async () => {
    await cluster.put(webSlice(lab(), 3));
    server.stop();
    assert.deepEqual(await served(), ['pod-3-1', 'pod-3-1'], 'nothing changes while there is no server');
    const { revision } = server.store;
    await startServer();
    // As etcdctl restores a backup with --bump-revision and --mark-compacted: without, no client would notice.
    while (server.store.revision <= revision) server.put(...cluster.objects.values());
    server.store.compact();
    await cluster.put(webSlice(lab(), 1, 2, 3));
    assert.deepEqual(await served(), all);
  });

  it('daemons stop when told, and what they programmed serves on', async () => {
    const statuses = await Promise.all(nodes().map(async node => await daemonOf(node).stop(5000)));
    assert.deepEqual(statuses, [0, 0]);
    assert.deepEqual(await served(), all);
  });
});
