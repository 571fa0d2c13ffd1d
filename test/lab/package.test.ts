/** The Debian package on a machine that systemd runs, from `apt install` to `apt purge`. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { skipBecause } from '../skip.ts';
import { describeLab } from './describe-lab.ts';
import { answers, POD_PORT, RANGES, routeToNode1, serveEverywhere } from './describe-services.ts';
import { footprint } from './fleet.ts';
import { endpoint, manifest, nodeObject, service, slice } from './objects.ts';
import { Systemd } from './systemd.ts';
import { cuts, failedOpenings, Load, lost, type Stream, shown } from './traffic/load.ts';
import { until } from './until.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');
const TARGET = { transport: 'tcp', address: '10.96.0.10', port: 80 } as const;
const PROTOCOLS = ['TCP', 'UDP'] as const;
const STREAMS: readonly Stream[] = [
  { ...TARGET, kind: 'keep', everyMs: 100, count: 2 },
  { ...TARGET, kind: 'short', everyMs: 40 },
  { ...TARGET, transport: 'udp', kind: 'flow', everyMs: 50, sourcePort: 4700 },
];
const STATE = ['ActiveState', 'StatusText', 'MainPID', 'NRestarts', 'Result'];
const DROP_INS = '/run/systemd/system/fairway.service.d';
const CNI_FILE = '/etc/cni/net.d/10-kuberouter.conf';
const CNI_CONFIGURATION = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'kubernetes',
  type: 'bridge',
  bridge: 'kube-bridge',
  isDefaultGateway: true,
  ipam: { type: 'host-local' },
});
/** Two versions that differ in nothing else. */
const [OLD, NEW] = ['0.1.0', '0.1.1'];
/** What apt would look up in the archives is installed already; the lists of these would only cost time. */
const APT = ['apt-get', '--quiet=2', '--yes', '--no-install-recommends', '-o', 'Dir::State::Lists=/nowhere'];

/** What the package depends on and this machine has not: nothing is fetched for a test. */
function missing(): readonly string[] {
  const [, depends = ''] = /^Depends: (.*)$/m.exec(readFileSync(join(ROOT, 'packaging/debian/control'), 'utf8')) ?? [];
  const names = depends.split(',').map(one => one.trim().replace(/ .*/, ''));
  const { stdout } = spawnSync('dpkg-query', ['--show', '--showformat=${Package} ${db:Status-Status}\n', ...names], {
    encoding: 'utf8',
  });
  return names.filter(name => !`\n${stdout}`.includes(`\n${name} installed\n`));
}

// The settings of the guest's kernel are what systemd wants of one: all controllers in one tree.
describeLab('the Debian package', { nodes: 2, podsPerNode: 2, kernelArguments: ['cgroup_no_v1=all'] }, lab => {
  const folder = mkdtempSync(join(tmpdir(), 'fairway-debs-'));
  const deb = (version: string): string =>
    join(folder, `fairway_${version}_${execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()}.deb`);
  let systemd: Systemd;
  let pristine: string;

  before('packages, and systemd on node1', async function () {
    this.timeout(180_000);
    const lacking = missing();
    if (lacking.length > 0) skipBecause(this, `the package depends on what is not installed: ${lacking.join(' ')}`);
    for (const version of [OLD, NEW]) {
      const argv = ['scripts/package.ts', `--version=${version}`, `--outdir=${folder}`, '--compression=none'];
      execFileSync(process.execPath, argv, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
    }
    await serveEverywhere(lab());
    await routeToNode1(lab());
    systemd = await Systemd.boot(lab(), lab().node(1));
    pristine = await footprint(lab(), lab().node(1));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Traffic from inside and outside while something happens; none of it may fail. */
  async function undisturbed(happens: () => Promise<unknown>): Promise<void> {
    const loads = await Promise.all([lab().ext, lab().pod(1, 2)].map(host => Load.begin(lab(), host, STREAMS)));
    await happens();
    const exchanges = (await Promise.all(loads.map(load => load.end()))).flat();
    assert.deepEqual(failedOpenings(exchanges), []);
    assert.deepEqual(cuts(exchanges).map(shown), []);
    assert.deepEqual(lost(exchanges).map(shown), []);
    assert.ok(exchanges.length > 20, `${exchanges.length} exchanges`);
  }

  const FOLDER = '--manifests=/etc/fairway/manifests';
  const SERVICES_ONLY = ['--run-router=false', '--run-firewall=false'];
  const EVERYTHING = ['--cluster-asn=64512', '--peer-router-ips=192.168.1.1', '--peer-router-asns=64513'];

  async function configure(source: string, flags: readonly string[] = SERVICES_ONLY): Promise<void> {
    const words = [...flags, '--hostname-override=node1', ...RANGES].join(' ');
    const environment = `FAIRWAY_SOURCE="${source}"\nFAIRWAY_FLAGS="${words}"\n`;
    await lab().writeFile(lab().node(1), '/etc/fairway/fairway.env', environment);
  }

  async function replaced(pid: string | undefined): Promise<void> {
    const state = (): Promise<Readonly<Record<string, string>>> => systemd.show('fairway', ...STATE);
    await until('another daemon is ready', state, now => now['MainPID'] !== pid && now['ActiveState'] === 'active');
  }

  it('installs by apt, and starts nothing: neither now nor at boot', async () => {
    await systemd.expect(...APT, 'install', deb(OLD));
    assert.equal(await systemd.expect('fairway', '--version'), `fairway ${OLD}`);
    assert.equal((await systemd.run('systemctl', 'is-enabled', 'fairway')).stdout.trim(), 'disabled');
    assert.equal((await systemd.run('systemctl', 'is-active', 'fairway')).stdout.trim(), 'inactive');
    assert.equal(await footprint(lab(), lab().node(1)), pristine);
  });

  it('once configured is started by systemctl, which returns when Services answer', async () => {
    const node = lab().node(1);
    // Two minutes, and two seconds before a restart, are long for a test.
    await lab().writeFile(node, `${DROP_INS}/lab.conf`, '[Service]\nWatchdogSec=5s\nRestartSec=100ms\n');
    await systemd.expect('systemctl', 'daemon-reload');
    await configure(FOLDER);
    const objects = [
      ...lab().nodes.map(nodeObject),
      service('web', { clusterIP: TARGET.address, ports: PROTOCOLS.map(protocol => ({ name: protocol, protocol, port: 80 })) }),
      slice(
        'web',
        PROTOCOLS.map(protocol => ({ name: protocol, protocol, port: POD_PORT })),
        [endpoint(lab().pod(1, 1)), endpoint(lab().pod(2, 1))],
      ),
    ];
    await lab().writeFile(node, '/etc/fairway/manifests/web.yaml', manifest(objects));
    await systemd.expect('systemctl', 'enable', '--now', 'fairway');
    assert.equal(await answers(lab(), lab().pod(1, 2), TARGET), 'pod-1-1 pod-2-1');
    assert.equal(await answers(lab(), lab().ext, TARGET), 'pod-1-1 pod-2-1');
    const { ActiveState, StatusText, NRestarts } = await systemd.show('fairway', ...STATE);
    assert.deepEqual([ActiveState, StatusText, NRestarts], ['active', 'in force: services', '0']);
  });

  it('is not hindered by its sandbox, whatever is switched on', async () => {
    const node = lab().node(1);
    await lab().writeFile(node, CNI_FILE, CNI_CONFIGURATION);
    await configure(FOLDER, EVERYTHING);
    await systemd.expect('systemctl', 'restart', 'fairway');
    assert.equal((await systemd.show('fairway', ...STATE))['StatusText'], 'in force: routing, services, policy');
    assert.match(await systemd.expect('cat', CNI_FILE), new RegExp(node.podCidrs.ipv4));
    assert.match(await systemd.expect('ss', '--listening', '--tcp', '--numeric', '--no-header'), /0\.0\.0\.0:179 /);
    await systemd.expect('systemctl', 'start', 'fairway-gobgpd');
    await systemd.expect('systemctl', 'stop', 'fairway-gobgpd');
    const journal = await systemd.expect('journalctl', '--unit=fairway', '--output=cat');
    assert.deepEqual(
      journal.split('\n').filter(line => / [EW] |not permitted|denied|read-only/i.test(line)),
      [],
    );
  });

  it('may work in the network namespaces of pods where the example for direct server return is installed', async () => {
    const example = await systemd.expect('cat', '/usr/share/doc/fairway/examples/direct-server-return.conf');
    // As the daemon does it, before the daemon, in the same sandbox.
    const within = '[Service]\nExecStartPre=/usr/bin/nsenter --net=/proc/1/ns/net /sbin/ip link\n';
    await lab().writeFile(lab().node(1), `${DROP_INS}/within.conf`, within);
    await systemd.expect('systemctl', 'daemon-reload');
    assert.equal((await systemd.run('systemctl', 'restart', 'fairway')).status, 1);
    await lab().writeFile(lab().node(1), `${DROP_INS}/direct-server-return.conf`, example);
    await systemd.expect('systemctl', 'daemon-reload');
    await systemd.expect('systemctl', 'restart', 'fairway');
    for (const name of ['within', 'direct-server-return']) await lab().removeFile(lab().node(1), `${DROP_INS}/${name}.conf`);
    await systemd.expect('systemctl', 'daemon-reload');
  });

  it('is started anew by the watchdog when it hangs, and no connection is lost', async () => {
    const { MainPID: pid } = await systemd.show('fairway', ...STATE);
    await undisturbed(async () => {
      await systemd.expect('kill', '-STOP', pid ?? '');
      await replaced(pid);
    });
    assert.equal((await systemd.show('fairway', ...STATE))['Result'], 'success');
    assert.match(await systemd.expect('journalctl', '--unit=fairway', '--output=cat'), /Watchdog timeout/);
  });

  for (const [verb, version] of [
    ['upgrades', NEW],
    ['rolls back', OLD],
  ] as const)
    it(`${verb} under traffic, and keeps the configuration`, async () => {
      const { MainPID: pid } = await systemd.show('fairway', ...STATE);
      await undisturbed(async () => {
        await systemd.expect(...APT, '--allow-downgrades', 'install', deb(version));
        await replaced(pid);
      });
      assert.match(
        await systemd.expect('journalctl', '--unit=fairway', '--output=cat', '--lines=30'),
        new RegExp(`fairway ${version.replaceAll('.', '\\.')} starts`),
      );
      assert.equal((await systemd.show('fairway', ...STATE))['StatusText'], 'in force: routing, services, policy');
      assert.match(await systemd.expect('cat', '/etc/fairway/fairway.env'), /hostname-override=node1/);
    });

  it('waits for an API server that is away as long as need be, with the data path in force', async () => {
    const cluster = { server: 'https://192.168.1.200:6443' };
    const kubeconfig = {
      'current-context': 'lab',
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'lab' } }],
      clusters: [{ name: 'lab', cluster }],
      users: [{ name: 'lab', user: { token: 'none' } }],
    };
    await lab().writeFile(lab().node(1), '/etc/fairway/kubeconfig', JSON.stringify(kubeconfig));
    await configure('--kubeconfig=/etc/fairway/kubeconfig');
    await systemd.expect('systemctl', 'stop', 'fairway');
    await systemd.expect('systemctl', 'start', '--no-block', 'fairway');
    const state = (): Promise<Readonly<Record<string, string>>> => systemd.show('fairway', ...STATE, 'TimeoutStartUSec');
    const waiting = await until(
      'it says that it waits',
      state,
      now => now['StatusText'] === 'waits for the first full lists: services',
    );
    assert.equal(waiting['ActiveState'], 'activating');
    assert.equal(waiting['TimeoutStartUSec'], 'infinity');
    assert.equal(await answers(lab(), lab().ext, TARGET), 'pod-1-1 pod-2-1');
    await configure(FOLDER);
    await systemd.expect('systemctl', 'restart', 'fairway');
  });

  it('when stopped leaves the data path in force, and an upgrade then starts nothing', async () => {
    await undisturbed(() => systemd.expect('systemctl', 'stop', 'fairway'));
    await systemd.expect(...APT, 'install', deb(NEW));
    assert.equal((await systemd.show('fairway', ...STATE))['ActiveState'], 'inactive');
    assert.equal(await answers(lab(), lab().ext, TARGET), 'pod-1-1 pod-2-1');
  });

  it('when removed takes what it has programmed along, and leaves the configuration', async () => {
    await systemd.expect('systemctl', 'start', 'fairway');
    await systemd.expect(...APT, 'remove', 'fairway');
    assert.equal(await footprint(lab(), lab().node(1)), pristine);
    assert.match(await systemd.expect('cat', '/etc/fairway/fairway.env'), /hostname-override=node1/);
    assert.equal((await systemd.run('systemctl', 'cat', 'fairway')).status, 1);
  });

  it('when purged leaves nothing', async () => {
    await systemd.expect(...APT, 'purge', 'fairway');
    const left =
      'ls -d /etc/fairway /run/fairway* /var/lib/fairway /usr/lib/fairway /usr/bin/fairway /usr/share/doc/fairway 2>/dev/null; find /etc/systemd /lib/systemd /var/lib/systemd /usr/lib/sysctl.d /usr/lib/modules-load.d /var/lib/dpkg/info -name "*fairway*"; dpkg -l fairway 2>/dev/null | grep ^.[^n]';
    assert.equal((await systemd.run('sh', '-c', left)).stdout, '');
  });
});
