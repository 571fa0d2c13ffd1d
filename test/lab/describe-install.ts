/**
 * Suites about an installation: daemons started just as what is shipped says (a DaemonSet, a unit file), the work they are installed for, and an upgrade
 * of one node after another, and back, while traffic flows.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabHost, LabNode } from './addresses.ts';
import { Cluster, type Publish } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { answers, POD_PORT, serveEverywhere } from './describe-services.ts';
import type { Duty } from './fleet.ts';
import { answered, httpGet } from './http.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import type { Lab } from './lab.ts';
import {
  type ApiObject,
  endpoint,
  FAMILIES,
  NAMESPACE,
  namespaceObject,
  networkPolicyObject,
  podObject,
  service,
  slice,
} from './objects.ts';
import { signalOnly } from './peers/node-processes.ts';
import type { LabProcess } from './process.ts';
import { cuts, type Exchange, failedOpenings, Load, lost, type Stream, shown } from './traffic/load.ts';
import { until } from './until.ts';

/** What differs between one way of installing and another. */
export interface Installation {
  /** What the daemons do. */
  readonly runs: readonly Duty[];
  /** The CNI configuration as programs of the node see it; undefined where it is not kept. */
  readonly cniFile: string | undefined;
  /** Seconds that a daemon is given to stop, as what is shipped says. */
  readonly stopSeconds: number;
  /** Where its health is asked for. */
  readonly healthPort: number;
  /** What must be there before the first daemon starts. */
  prepare(lab: Lab): Promise<void>;
  /** Brings objects to the daemons. */
  readonly publish: Publish;
  /** Starts a node's daemon; `program` is the bundle of the version to run. */
  start(lab: Lab, node: LabNode, program: string): LabProcess;
}

export interface InstallSuite {
  readonly lab: Lab;
  readonly cluster: Cluster;
  /** Ends the daemon of a node for good. */
  readonly stop: (node: LabNode) => Promise<void>;
}

interface Release {
  readonly version: string;
  readonly program: string;
}

const ROOT = join(import.meta.dirname, '..', '..');
const { version: VERSION } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string };
/** What is installed first, and what it is upgraded to: the same, but for what it calls itself. */
const PRESENT: Release = { version: VERSION, program: join(ROOT, 'dist', 'fairway.js') };
const NEXT: Release = { version: `${VERSION}-next`, program: join(ROOT, 'dist', 'next', 'fairway.js') };

const READY = /ready: the first round is in/;
const VIP = '10.96.30.1';
const WEB = { transport: 'tcp', address: VIP, port: 80 } as const;
const PORTS = [
  { name: 'http', protocol: 'TCP', port: POD_PORT },
  { name: 'dns', protocol: 'UDP', port: POD_PORT },
] as const;

/** The second pod of each node serves; a policy of the first of node2 lets in that of node1 alone. */
function objects(lab: Lab): readonly ApiObject[] {
  const ports = [
    { name: 'http', protocol: 'TCP', port: 80 },
    { name: 'dns', protocol: 'UDP', port: 53 },
  ];
  const friends = [{ podSelector: { matchLabels: { pod: 'pod-1-1' } } }];
  return [
    namespaceObject(NAMESPACE),
    ...lab.pods.map(pod => podObject(pod, { labels: { pod: pod.name } })),
    service('web', { clusterIP: VIP, ports }),
    slice(
      'web',
      PORTS,
      lab.nodes.map(({ number }) => endpoint(lab.pod(number, 2))),
    ),
    networkPolicyObject('friends', { podSelector: { matchLabels: { pod: 'pod-2-1' } }, ingress: [{ from: friends }] }),
  ];
}

/** The suite; `further` registers tests of one way's own, which run last. */
export function describeInstall(
  title: string,
  installation: Installation,
  further: (suite: () => InstallSuite) => void = () => undefined,
): void {
  const { runs } = installation;
  describeLab(title, { podRoutes: runs.includes('router') ? 'none' : 'static' }, lab => {
    const daemons = new Map<string, LabProcess>();
    let cluster: Cluster;
    const daemonOf = (node: LabHost): LabProcess => daemons.get(node.name) ?? assert.fail(`no daemon runs on ${node.name}`);

    const start = async (node: LabNode, { program, version }: Release): Promise<void> => {
      const daemon = installation.start(lab(), node, program);
      daemons.set(node.name, daemon);
      await daemon.waitForLine(READY, 60_000);
      assert.ok(daemon.output.includes(`fairway ${version} starts`), daemon.output);
      const { status } = answered(await httpGet(lab(), node, '127.0.0.1', installation.healthPort, '/readyz'));
      assert.equal(status, 200, `${node.name} is ready`);
    };

    /** As the kubelet and systemd do: the daemon alone is told. */
    const stop = async (node: LabNode): Promise<void> => {
      const late = setTimeout(() => daemonOf(node).signal('KILL'), installation.stopSeconds * 1000);
      await signalOnly(lab(), node, 'fairway', 'TERM');
      assert.equal(
        await daemonOf(node).exited,
        0,
        `the daemon of ${node.name} stops by itself within ${installation.stopSeconds} s`,
      );
      clearTimeout(late);
    };

    before(`daemons for ${title}`, async function () {
      this.timeout(120_000);
      const argv = ['scripts/build.ts', `--outfile=${NEXT.program}`, `--version=${NEXT.version}`];
      execFileSync(process.execPath, argv, { cwd: ROOT, stdio: 'ignore' });
      await serveEverywhere(lab());
      await liftIcmpLimits(lab());
      await installation.prepare(lab());
      cluster = new Cluster(lab(), lab().nodes, daemonOf, installation.publish);
      await installation.publish(cluster.objects, [...cluster.objects.values()], []);
      await cluster.publish({ put: objects(lab()) });
      await Promise.all(lab().nodes.map(async node => await start(node, PRESENT)));
      await cluster.arrived();
    });

    if (runs.includes('router')) {
      it('lets pods of different nodes reach each other, and is seen by their own addresses', async () => {
        await until(
          'pods reach each other',
          async () => await unreached(lab()),
          missing => missing.length === 0,
        );
      });
    }

    if (runs.includes('service-proxy')) {
      it('serves a Service to pods of every node', async () => {
        for (const node of lab().nodes)
          assert.equal(await answers(lab(), lab().pod(node.number, 1), WEB, 9), 'pod-1-2 pod-2-2 pod-3-2', node.name);
      });
    }

    if (runs.includes('firewall')) {
      it('enforces a network policy', async () => {
        const [guarded, friend, other] = [lab().pod(2, 1), lab().pod(1, 1), lab().pod(3, 1)];
        const target = { transport: 'tcp', address: guarded.addresses.ipv4, port: POD_PORT } as const;
        assert.equal(await answers(lab(), friend, target, 1), guarded.name);
        assert.equal(await answers(lab(), other, target, 1), 'refused');
      });
    }

    const { cniFile } = installation;
    if (cniFile !== undefined) {
      it('keeps the CNI file', async () => {
        for (const node of lab().nodes) {
          const { plugins } = JSON.parse(await lab().readFile(node, cniFile)) as CniList;
          const { ipam } = plugins.find(({ type }) => type === 'bridge') ?? assert.fail('no bridge');
          assert.deepEqual(
            ipam.ranges,
            FAMILIES.map(family => [{ subnet: node.podCidrs[family] }]),
          );
        }
      });
    }

    it('is upgraded and rolled back node by node, and no packet is lost', async function () {
      this.timeout(180_000);
      const loads = await Promise.all(
        lab().nodes.map(async ({ number }) => {
          const from = lab().pod(number, 1);
          return await Load.begin(lab(), from, streamsFrom(lab(), number, runs));
        }),
      );
      const denied = await Load.begin(lab(), lab().pod(3, 1), [deniedStream(lab())], { answered: false });
      const began = await lab().now();
      for (const release of [NEXT, PRESENT]) {
        for (const node of lab().nodes) {
          await stop(node);
          await start(node, release);
        }
      }
      const seconds = ((await lab().now()) - began) / 1000;
      const all = (await Promise.all(loads.map(async load => await load.end()))).flat();
      const refused = await denied.end();
      tell(all, refused, seconds);
      assert.deepEqual(failedOpenings(all), []);
      assert.deepEqual(cuts(all).map(shown), []);
      assert.deepEqual(lost(all).map(shown), []);
      if (runs.includes('firewall')) assert.deepEqual([...new Set(refused.map(({ reply }) => reply.outcome))], ['refused']);
    });

    it('follows the cluster as before', async () => {
      await cluster.put(slice('web', PORTS, [endpoint(lab().pod(1, 2))]));
      if (!runs.includes('service-proxy')) return;
      for (const node of lab().nodes) assert.equal(await answers(lab(), lab().pod(node.number, 1), WEB), 'pod-1-2', node.name);
    });

    further(() => ({ lab: lab(), cluster, stop }));
  });
}

interface CniList {
  readonly plugins: readonly { readonly type: string; readonly ipam: { readonly ranges: unknown } }[];
}

/** Which pods have no answer from which of another node, or are seen by another address than their own. */
async function unreached(lab: Lab): Promise<readonly string[]> {
  const pairs = lab.pods.flatMap(from =>
    lab.pods.filter(to => to.node !== from.node && to.name.endsWith('-2')).map(to => ({ from, to })),
  );
  const ends = await Promise.all(
    pairs.flatMap(({ from, to }) =>
      FAMILIES.map(async family => {
        const target = { transport: 'udp', address: to.addresses[family], port: POD_PORT, timeoutMs: 400 } as const;
        const reply = await lab.probe(from).connect(target);
        const seen = reply.outcome === 'answer' ? reply.peer : reply.outcome;
        return seen === from.addresses[family] ? [] : [`${from.name} ${family} ${to.name}: ${seen}`];
      }),
    ),
  );
  return ends.flat();
}

/** From the first pod of a node: to the Service, and to a pod of the next node. */
function streamsFrom(lab: Lab, number: number, runs: readonly Duty[]): readonly Stream[] {
  const next = lab.pod((number % lab.nodes.length) + 1, 2).addresses;
  const toService: readonly Stream[] = [
    { ...WEB, kind: 'short', everyMs: 150 },
    { ...WEB, kind: 'keep', everyMs: 200, count: 2 },
    { transport: 'udp', address: VIP, port: 53, kind: 'flow', everyMs: 100, sourcePort: 4700 },
  ];
  const toPod: readonly Stream[] = [
    { transport: 'tcp', address: next.ipv4, port: POD_PORT, kind: 'keep', everyMs: 200 },
    { transport: 'udp', address: next.ipv6, port: POD_PORT, kind: 'flow', everyMs: 100, sourcePort: 4701 },
  ];
  return [...(runs.includes('service-proxy') ? toService : []), ...toPod];
}

/** What the policy forbids. */
function deniedStream(lab: Lab): Stream {
  return { kind: 'short', transport: 'tcp', address: lab.pod(2, 1).addresses.ipv4, port: POD_PORT, everyMs: 300 };
}

function tell(all: readonly Exchange[], refused: readonly Exchange[], seconds: number): void {
  const of = (kind: Stream['kind']): number => all.filter(({ stream }) => stream.kind === kind).length;
  console.log(
    `${seconds.toFixed(1)} s: ${of('short')} new connections, ${failedOpenings(all).length} failed; ${of('keep')} requests by kept ones, ` +
      `${cuts(all).length} cut; ${of('flow')} datagrams, ${lost(all).length} lost; ${refused.length} forbidden connections`,
  );
}
