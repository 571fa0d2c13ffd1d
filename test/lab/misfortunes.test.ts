/**
 * What goes wrong on real nodes, done for real: tools that are not there, places that cannot be written, locks that others hold, a clock that is set.
 * Each test: what the log says, what goes on working, and that it is well again by itself when the cause is gone.
 */
import assert from 'node:assert/strict';
import { skipBecause } from '../skip.ts';
import type { LabNode } from './addresses.ts';
import { describeLab } from './describe-lab.ts';
import { answers, POD_PORT, RANGES, serveEverywhere } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import { httpGet } from './http.ts';
import type { Lab } from './lab.ts';
import { weights } from './node-state.ts';
import { type ApiObject, endpoint, manifest, nodeObject, service, slice } from './objects.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

const VIP = '10.96.40.1';
const TARGET = { transport: 'tcp', address: VIP, port: 80 } as const;
const MANIFESTS = '/run/fairway-manifests';
const HEALTH_PORT = 20244;
/** Takes a tool away: what stands in /usr/sbin is a link to what the test puts in its place, if anything. */
const REPLACE = (tools: readonly string[]): string =>
  [
    'mkdir -p /run/sbin/upper /run/sbin/work /run/tools',
    'mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/sbin/upper,workdir=/run/sbin/work /usr/sbin',
    ...tools.map(tool => `ln -sf /run/tools/${tool} /usr/sbin/${tool}`),
  ].join(' && ');

/** `web`, served by the first pods of these nodes, and the Node objects. */
function objects(lab: Lab, nodes: readonly number[]): readonly ApiObject[] {
  return [
    ...lab.nodes.map(nodeObject),
    service('web', { clusterIP: VIP, ports: [{ name: 'http', port: 80 }] }),
    slice(
      'web',
      [{ name: 'http', port: POD_PORT }],
      nodes.map(node => endpoint(lab.pod(node, 1))),
    ),
  ];
}

describeLab('a node that has bad luck', {}, lab => {
  let running: { readonly node: LabNode; readonly daemon: LabProcess } | undefined;

  before('servers on all pods', async () => {
    await serveEverywhere(lab());
  });

  afterEach('the daemon stops, and the node is as it was', async () => {
    if (running === undefined) return;
    const { node, daemon } = running;
    running = undefined;
    assert.equal(await daemon.stop(), 0);
    await lab().expectRun(node, [...FAIRWAY, 'cleanup']);
  });

  const publish = async (node: LabNode, ...nodes: readonly number[]): Promise<void> =>
    await lab().writeFile(node, `${MANIFESTS}/cluster.yaml`, manifest(objects(lab(), nodes)));

  /** A daemon in a mount namespace of its own, in which the shell has run a script first. */
  async function startIn(node: LabNode, script: string, ...flags: readonly string[]): Promise<LabProcess> {
    await publish(node, 1);
    const duties = ['--run-router=false', '--run-firewall=false'];
    const argv = [...FAIRWAY, `--manifests=${MANIFESTS}`, `--hostname-override=${node.name}`, ...RANGES, ...duties, ...flags];
    const environment = { KUBE_ROUTER_CNI_CONF_FILE: '/run/cni/10-kuberouter.conflist' };
    const daemon = lab().startDaemon(node, ['unshare', '--mount', 'sh', '-c', `${script} && exec "$@"`, 'sh', ...argv], {
      environment,
    });
    running = { node, daemon };
    await daemon.waitForLine(/ready: the first round is in/, 60_000);
    return daemon;
  }

  /** Runs something where the daemon of the node sees the files. */
  async function besideDaemon(node: LabNode, script: string): Promise<string> {
    const found = await lab().expectRun(node, ['pgrep', '-of', `hostname-override=${node.name}`]);
    return await lab().expectRun(node, ['nsenter', '--mount', '--target', found.trim(), 'sh', '-c', script]);
  }

  const isServedBy = async (node: LabNode, expected: string): Promise<void> => {
    await until(
      `pods of ${node.name} are served by ${expected}`,
      async () => await answers(lab(), lab().pod(node.number, 2), TARGET, 3),
      seen => seen === expected,
      15_000,
    );
  };

  const saidSince = (daemon: LabProcess, mark: number, pattern: RegExp): readonly string[] =>
    daemon.lines.slice(mark).flatMap(({ text }) => (pattern.test(text) ? [text] : []));

  it('is told by fairway check what it lacks, and nothing on a node that is well', async () => {
    const node = lab().node(1);
    const environment = { KUBE_ROUTER_CNI_CONF_FILE: '/run/cni/10-kuberouter.conflist' };
    const check = [...FAIRWAY, 'check'];
    const well = await lab().run(node, check, { environment });
    assert.equal(well.status, 0, well.stdout);
    assert.doesNotMatch(well.stdout, /^ {2}missing/m);
    for (const title of ['Tools', 'Permissions', 'Kernel', 'Rules', 'Settings', 'MTU', 'Ports', 'Clock'])
      assert.match(well.stdout, new RegExp(`^${title}$`, 'm'));
    assert.match(well.stdout, /^ {2}ok {6}IPVS: /m);
    const script = `${REPLACE(['ipset'])} && mount -o bind,ro /proc/sys /proc/sys && exec "$@"`;
    const ill = await lab().run(node, ['unshare', '--mount', 'sh', '-c', script, 'sh', ...check], { environment });
    assert.equal(ill.status, 1);
    assert.match(ill.stdout, /^ {2}missing ipset: 'ipset' is not installed: install the Debian package 'ipset'$/m);
    assert.match(ill.stdout, /^ {2}missing \/proc\/sys\/net: .*mount \/proc\/sys writable/m);
    assert.equal((await lab().expectRun(node, ['ipset', 'list', '-n'])).trim(), '', 'nothing of it stays');
  });

  it('without ipvsadm, ipset and conntrack: each is named with its package, and Services are served when they are installed', async () => {
    const node = lab().node(2);
    const tools = ['ipvsadm', 'ipset', 'conntrack'];
    await lab().expectRun(node, ['mkdir', '-p', '/run/tools']);
    const daemon = await startIn(node, REPLACE(tools));
    for (const tool of tools)
      assert.match(daemon.output, new RegExp(`'${tool}' is not installed: install the Debian package '${tool}'`));
    assert.match(daemon.output, /No Service is served: /);
    assert.notEqual(await answers(lab(), lab().pod(2, 2), TARGET, 1), 'pod-1-1');
    for (const tool of tools) await lab().expectRun(node, ['cp', `/usr/sbin/${tool}`, '/run/tools/']);
    await daemon.waitForLine(/there is now what was lacking: IPVS/, 30_000);
    await isServedBy(node, 'pod-1-1');
    assert.match(await lab().expectRun(node, ['ipset', 'list', '-n']), /kube-router-svip/);
    assert.doesNotMatch(daemon.output, /was changed behind our back/);
  });

  it('with a read-only /proc/sys: each setting is named with the remedy, Services are served, and it is set when it can be', async () => {
    const node = lab().node(2);
    const setting = '/proc/sys/net/ipv4/vs/expire_nodest_conn';
    await lab().writeFile(node, setting, '0');
    const daemon = await startIn(node, 'mount -o bind,ro /proc/sys /proc/sys');
    assert.match(
      daemon.output,
      /sysctl net\/ipv4\/vs\/expire_nodest_conn.*cannot be set to '1': EROFS.*mount \/proc\/sys writable.*set it on the host with sysctl\(8\)/,
    );
    await isServedBy(node, 'pod-1-1');
    await publish(node, 3);
    await isServedBy(node, 'pod-3-1');
    await besideDaemon(node, 'mount -o remount,bind,rw /proc/sys');
    await daemon.waitForLine(/well again: sysctl net\/ipv4\/vs\/expire_nodest_conn/, 60_000);
    assert.equal((await lab().readFile(node, setting)).trim(), '1');
  });

  it('while another holds the xtables lock: it is told once, endpoints change all the same, and rules come when it is free', async () => {
    const node = lab().node(3);
    for (const tool of ['iptables-legacy', 'ip6tables-legacy'])
      await lab().expectRun(node, [tool, '-A', 'INPUT', '-p', 'tcp', '--dport', '1001', '-j', 'DROP']);
    const daemon = await startIn(node, ':', '--audit-period=2s');
    const holder = lab().startDaemon(node, ['flock', '/run/xtables.lock', 'sh', '-c', 'echo held; sleep 1000']);
    await holder.waitForLine(/held/, 10_000);
    // Somebody who does not ask for the lock.
    await lab().expectRun(node, [
      'unshare',
      '--mount',
      'sh',
      '-c',
      'mount -t tmpfs tmpfs /run && iptables-legacy -t nat -F FAIRWAY-MASQUERADE',
    ]);
    await daemon.waitForLine(/another program holds the xtables lock/, 30_000);
    const mark = daemon.lines.length;
    await publish(node, 2);
    await isServedBy(node, 'pod-2-1');
    assert.ok(saidSince(daemon, mark, /holds the xtables lock/).length <= 1, daemon.output);
    await holder.kill();
    await until(
      'the rules are back',
      async () => await lab().expectRun(node, ['iptables-legacy-save', '-t', 'nat']),
      text => /-A FAIRWAY-MASQUERADE .* -j SNAT/.test(text),
    );
    assert.equal(
      await lab()
        .expectRun(node, ['iptables-nft-save', '-t', 'nat'])
        .then(text => text.includes('FAIRWAY')),
      false,
    );
  });

  it('with /run full: it is told once that what drains is not kept over a restart, it drains, and the record is written when there is space', async () => {
    const node = lab().node(2);
    const full =
      'mkdir -p /run/fairway && mount -t tmpfs -o size=64k tmpfs /run/fairway && mkdir /run/fairway/node2 && { cat /dev/zero >/run/fairway/full 2>/dev/null || true; }';
    const daemon = await startIn(node, full, '--ipvs-graceful-termination', '--ipvs-graceful-period=60s');
    await isServedBy(node, 'pod-1-1');
    const held: { close: () => void }[] = [];
    for (const [from, to] of [
      [1, 3],
      [3, 1],
    ] as const) {
      const connection = await lab().probe(lab().pod(2, 2)).hold(TARGET);
      held.push(connection);
      await publish(node, to);
      await isServedBy(node, `pod-${to}-1`);
      assert.equal((await connection.say('more')).outcome, 'answer', `the connection to pod-${from}-1 goes on`);
    }
    assert.equal(
      saidSince(daemon, 0, /which endpoints drain cannot be kept over a restart: ENOSPC.*free space below \/run/).length,
      1,
    );
    await besideDaemon(node, 'rm /run/fairway/full');
    await publish(node, 3);
    await daemon.waitForLine(/which endpoints drain is kept again/, 15_000);
    assert.match(await besideDaemon(node, 'cat /run/fairway/node2/draining'), /^up \d+ /m);
    for (const connection of held) connection.close();
  });

  it('with a CNI folder that is read-only: the file is named, routes and Services come, and it is written when it can be', async () => {
    const node = lab().node(2);
    const daemon = await startIn(
      node,
      'mkdir -p /run/cni && mount -t tmpfs -o ro tmpfs /run/cni',
      '--run-router',
      '--pod-routes=api',
      '--enable-overlay=false',
    );
    assert.match(daemon.output, /cniConfig \/run\/cni\/10-kuberouter\.conflist.*EROFS/);
    await isServedBy(node, 'pod-1-1');
    assert.match(await lab().expectRun(node, ['ip', 'route', 'show', 'proto', '70']), /10\.244\.1\.0\/24/);
    await besideDaemon(node, 'mount -o remount,rw /run/cni');
    await daemon.waitForLine(/well again: cniConfig/, 70_000);
    assert.match(await besideDaemon(node, 'cat /run/cni/10-kuberouter.conflist'), /10\.244\.2\.0\/24/);
  });

  it('whose clock jumps an hour ahead and two back: connections that drain go on, changes and repairs come as ever, and nothing floods the log', async function () {
    if (lab().place !== 'guest') skipBecause(this, 'the clock of this machine is not to be set');
    const node = lab().node(2);
    const flags = ['--ipvs-graceful-termination', '--ipvs-graceful-period=10m', '--audit-period=2s'];
    const daemon = await startIn(node, ':', ...flags);
    await isServedBy(node, 'pod-1-1');
    const connection = await lab().probe(lab().pod(2, 2)).hold(TARGET);
    await publish(node, 3);
    await isServedBy(node, 'pod-3-1');
    for (const [jump, next] of [
      ['1 hour', 2],
      ['2 hours ago', 3],
    ] as const) {
      const mark = daemon.lines.length;
      await lab().expectRun(node, ['sh', '-c', `date -s "$(date -d '${jump}')"`]);
      await publish(node, next);
      await isServedBy(node, `pod-${next}-1`);
      await lab().expectRun(node, ['ip', 'addr', 'del', `${VIP}/32`, 'dev', 'kube-dummy-if']);
      await isServedBy(node, `pod-${next}-1`);
      assert.equal((await connection.say('still there')).outcome, 'answer', jump);
      const health = await httpGet(lab(), node, '127.0.0.1', HEALTH_PORT, '/livez');
      assert.equal(typeof health === 'string' ? health : health.status, 200);
      assert.deepEqual(saidSince(daemon, mark, / E /), []);
      assert.ok(daemon.lines.length - mark < 20, daemon.output);
    }
    assert.ok((await weights(lab(), node, VIP)).some(text => text === `${lab().pod(1, 1).addresses.ipv4}:${POD_PORT} 0`));
    connection.close();
  });
});
