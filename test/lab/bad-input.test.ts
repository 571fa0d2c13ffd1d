import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { skipBecause } from '../skip.ts';
import type { LabNode } from './addresses.ts';
import { MALFORMED } from './cases/malformed-objects.ts';
import { answers, describeServices, POD_PORT } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, manifest, service, slice } from './objects.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

const HTTP = [{ name: 'http', port: POD_PORT }];
/**
 * Slices of 1000 endpoints. With every destination that comes the kernel looks through those of its service: 10,000 take 4 s here, 40,000 take
 * 80 s and are otherwise alike (FAIRWAY_LAB_SLICES=40).
 */
const SLICES = Number(process.env['FAIRWAY_LAB_SLICES'] ?? 10);
const HEALTHY = { transport: 'tcp', address: '10.96.12.1', port: 80 } as const;

/** A Service without fault, served by pod-1-1 or by others. */
function healthy(lab: Lab, ...pods: readonly (readonly [number, number])[]): readonly ApiObject[] {
  return [
    service('healthy', { clusterIP: HEALTHY.address, ports: [{ name: 'http', port: 80 }] }),
    slice(
      'healthy',
      HTTP,
      pods.map(([node, number]) => endpoint(lab.pod(node, number))),
    ),
  ];
}

/** What a daemon said since then, as one text. */
function saidSince(daemon: LabProcess, mark: number): string {
  return daemon.lines
    .slice(mark)
    .map(({ text }) => text)
    .join('\n');
}

async function hasSaid(daemon: LabProcess, mark: number, pattern: RegExp, limitMs = 30_000): Promise<void> {
  await until(
    `the log says ${pattern}`,
    async () => saidSince(daemon, mark),
    text => pattern.test(text),
    limitMs,
  );
}

describeServices('a daemon that is given nonsense', { objects: lab => healthy(lab, [1, 1]) }, suite => {
  const daemon = () => suite().fleets[0]!.daemon(suite().lab.node(1));
  const asks = (address: string = HEALTHY.address, port = 80) =>
    answers(suite().lab, suite().lab.pod(1, 2), { transport: 'tcp', address, port }, 4);

  for (const { title, objects, says, at } of MALFORMED) {
    it(`${title}: it says which object and field, and all else works`, async () => {
      const { cluster, lab } = suite();
      const mark = daemon().lines.length;
      await cluster.put(...objects, ...healthy(lab, [2, 1]));
      assert.equal(await asks(), 'pod-2-1', 'the healthy Service follows');
      await hasSaid(daemon(), mark, says);
      if (at !== undefined) assert.equal(await asks(at.address, at.port), at.answers);
      await cluster.change({ put: healthy(lab, [1, 1]), remove: objects });
      assert.equal(await asks(), 'pod-1-1');
    });
  }

  it('a broken YAML file: it is named, what it said last stays, other files are followed, and so is its correction', async () => {
    const { cluster, fleets, lab } = suite();
    const fleet = fleets[0]!;
    const extra = (nodes: readonly number[]): string =>
      manifest([
        service('extra', { clusterIP: '10.96.12.2', ports: [{ name: 'http', port: 80 }] }),
        slice(
          'extra',
          HTTP,
          nodes.map(node => endpoint(lab.pod(node, 1))),
        ),
      ]);
    await fleet.apply({ 'extra.yaml': extra([1]) });
    await until(
      'extra is served',
      async () => await asks('10.96.12.2'),
      seen => seen === 'pod-1-1',
    );
    const mark = daemon().lines.length;
    await fleet.apply({ 'extra.yaml': 'kind: Service\n  metadata: [\n' });
    await hasSaid(daemon(), mark, /extra\.yaml:\d+/);
    assert.equal(await asks('10.96.12.2'), 'pod-1-1');
    await cluster.put(...healthy(lab, [2, 1]));
    assert.deepEqual([await asks(), await asks('10.96.12.2')], ['pod-2-1', 'pod-1-1']);
    await fleet.apply({ 'extra.yaml': extra([2]) });
    await until(
      'the correction is served',
      async () => await asks('10.96.12.2'),
      seen => seen === 'pod-2-1',
    );
    await hasSaid(daemon(), mark, /well again: source/);
    await fleet.remove('extra.yaml');
    await cluster.put(...healthy(lab, [1, 1]));
  });

  it('ten thousand endpoints in one Service are all in IPVS, and other Services are served meanwhile', async function () {
    this.timeout(240_000);
    const { cluster, lab } = suite();
    const perSlice = 1000;
    const slices = Array.from({ length: SLICES }, (_, index) =>
      slice(
        'huge',
        HTTP,
        Array.from({ length: perSlice }, (_unused, number) => ({
          addresses: [`10.${128 + index}.${number >> 8}.${number & 255}`],
          conditions: { ready: true },
        })),
        { suffix: String(index) },
      ),
    );
    const huge = [service('huge', { clusterIP: '10.96.12.3', ports: [{ name: 'http', port: 80 }] }), ...slices];
    const mark = daemon().lines.length;
    await cluster.publish({ put: huge });
    assert.equal(await asks(), 'pod-1-1');
    await hasSaid(daemon(), mark, /virtualServer changed created=1/, 180_000);
    const table = await lab.readFile(lab.node(1), '/proc/net/ip_vs');
    assert.equal(table.match(/^ +-> 0A[89A][0-9A-F]{5}:1F90 /gm)?.length, SLICES * perSlice);
    assert.equal(await asks(), 'pod-1-1');
    assert.doesNotMatch(saidSince(daemon(), mark), / E /);
  });

  it('a health port that is in use is said, and Services are served', async () => {
    const { lab, fleets } = suite();
    await fleets[0]!.stop();
    const taken = await lab.probe(lab.node(1)).serve('tcp', '::', 20244, 'somebody');
    const again = fleets[0]!.startOn(lab.node(1));
    await again.waitForLine(/--health-port=20244 cannot be listened on: .*EADDRINUSE/, 60_000);
    await again.waitForLine(/ready: the first round is in/, 120_000);
    assert.equal(await asks(), 'pod-1-1');
    taken.end();
  });
});

describeServices('a node that lacks tools', { daemons: [{ node: 1 }], objects: lab => healthy(lab, [2, 1], [3, 1]) }, suite => {
  /** A daemon on a host that has all tools of the machine but one: in a mount namespace where it is taken out of /usr/sbin. */
  async function startWithout(node: LabNode, tool: string): Promise<LabProcess> {
    const { lab, cluster } = suite();
    await lab.writeFile(node, '/run/fairway-manifests/cluster.yaml', manifest(cluster.objects.values()));
    const script = [
      'mkdir -p /run/sbin/upper /run/sbin/work',
      'mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/sbin/upper,workdir=/run/sbin/work /usr/sbin',
      `rm /usr/sbin/${tool}`,
      'exec "$@"',
    ].join(' && ');
    const argv = [...FAIRWAY, '--manifests=/run/fairway-manifests', `--hostname-override=${node.name}`];
    return lab.startDaemon(node, ['unshare', '--mount', 'sh', '-c', script, 'sh', ...argv]);
  }

  it('without ipvsadm it names the tool and the package, keeps running, and stops when told', async () => {
    const daemon = await startWithout(suite().lab.node(2), 'ipvsadm');
    await daemon.waitForLine(/ready: the first round is in/, 60_000);
    assert.match(daemon.output, /ipvsadm/);
    assert.match(daemon.output, /No Service is served: .*ipvsadm is not installed/);
    assert.ok(daemon.running);
    assert.equal(await daemon.stop(), 0);
  });

  it('without ipset it says what does not work, and balances', async () => {
    const { lab } = suite();
    const daemon = await startWithout(lab.node(3), 'ipset');
    await daemon.waitForLine(/ready: the first round is in/, 60_000);
    assert.match(daemon.output, /ipset is not installed/);
    assert.equal(await answers(lab, lab.pod(3, 2), HEALTHY, 4), 'pod-2-1 pod-3-1');
    assert.equal(await daemon.stop(), 0);
  });

  it('two daemons on one node, the second one forced by a --socket of its own, end where one does', async () => {
    const { lab, fleets, cluster } = suite();
    const first = fleets[0]!.daemon(lab.node(1));
    const second = fleets[0]!.startOn(lab.node(1), { flags: ['--health-port=20245', '--socket=/run/second.sock'] });
    await second.waitForLine(/ready: the first round is in/, 60_000);
    await cluster.put(...healthy(lab, [1, 1], [3, 1]));
    await until(
      'balanced',
      async () => await answers(lab, lab.pod(1, 2), HEALTHY, 4),
      seen => seen === 'pod-1-1 pod-3-1',
    );
    await cluster.put(...healthy(lab, [2, 1]));
    await until(
      'balanced',
      async () => await answers(lab, lab.pod(1, 2), HEALTHY, 4),
      seen => seen === 'pod-2-1',
    );
    assert.ok(first.running && second.running);
    assert.deepEqual([await first.stop(), await second.stop()], [0, 0]);
  });
});

describe('a kernel without IPVS', function () {
  this.timeout(60_000);
  const directory = mkdtempSync(join(tmpdir(), 'fairway-no-ipvs-'));

  before(async function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'a network namespace of the machine takes root');
    const child = spawn('unshare', ['-n', 'ipvsadm', '-Ln'], { stdio: 'ignore' });
    await once(child, 'close');
    if (child.exitCode === 0) skipBecause(this, "this machine's kernel has IPVS");
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('the daemon says so with a remedy, keeps running, and stops when told', async () => {
    const node = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'bare' },
      status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] },
    };
    writeFileSync(
      join(directory, 'cluster.yaml'),
      manifest([node, service('web', { clusterIP: '10.96.0.1', ports: [{ port: 80 }] })]),
    );
    const argv = [
      '-n',
      ...FAIRWAY,
      `--manifests=${directory}`,
      '--hostname-override=bare',
      '--run-router=false',
      '--run-firewall=false',
    ];
    const child = spawn('unshare', argv, { stdio: ['ignore', 'inherit', 'pipe'] });
    const exited = once(child, 'close');
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    try {
      await until(
        'it is ready',
        async () => output,
        text => text.includes('ready: the first round is in'),
        30_000,
      );
      assert.match(output, /No Service is served: the kernel lacks IPVS \(CONFIG_IP_VS, module ip_vs\)/);
      assert.doesNotMatch(output, /unhandled|TypeError|at file:/);
      assert.equal(child.exitCode, null, 'it keeps running');
      child.kill('SIGTERM');
      assert.deepEqual(await exited, [0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
