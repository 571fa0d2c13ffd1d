/** The container image at work on a node: built as `npm run image` builds it, started as a pod is. */
import assert from 'node:assert/strict';
import { constants, globSync, readFileSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { skipBecause } from '../skip.ts';
import { Container, type ContainerOptions, type Mount } from './container.ts';
import { describeLab } from './describe-lab.ts';
import { POD_PORT, RANGES } from './describe-services.ts';
import type { Lab } from './lab.ts';
import {
  type ApiObject,
  endpoint,
  FAMILIES,
  manifest,
  namespaceObject,
  nodeObject,
  podObject,
  service,
  slice,
} from './objects.ts';
import { type Target, tally } from './probe.ts';
import { isWithoutArchive, missingForImages, type UnpackedImage, unpackedImage } from './unpacked-image.ts';
import { history } from './watch.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const VIP = { ipv4: '10.96.7.1', ipv6: 'fd00:10:96::701' };
const NODE_PORT = 30600;
const CONF = '/etc/cni/net.d/10-kuberouter.conflist';
const PLUGINS = ['bandwidth', 'bridge', 'host-local', 'loopback', 'portmap'];

/** The node's own files, below its /run, by where a pod has them: what the DaemonSet mounts. */
const HOST = '/run/host';
const MOUNTS: readonly Mount[] = [
  { from: `${HOST}/run/fairway/`, to: '/run/fairway' },
  { from: '/run/xtables.lock', to: '/run/xtables.lock' },
  { from: `${HOST}/etc/cni/net.d/`, to: '/etc/cni/net.d' },
  { from: `${HOST}/opt/cni/bin/`, to: '/opt/cni/bin', options: ['ro'] },
  { from: `${HOST}/lib/modules/`, to: '/lib/modules', options: ['ro'] },
  { from: `${HOST}/manifests/`, to: '/etc/fairway/manifests', options: ['ro'] },
];
/** What its init step has mounted. */
const INIT_MOUNTS: readonly Mount[] = [
  { from: `${HOST}/template/`, to: '/etc/kube-router', options: ['ro'] },
  { from: `${HOST}/etc/cni/net.d/`, to: '/etc/cni/net.d' },
  { from: `${HOST}/opt/cni/bin/`, to: '/opt/cni/bin' },
];

function objects(lab: Lab): readonly ApiObject[] {
  const pods = [lab.pod(1, 1), lab.pod(1, 2)];
  return [
    nodeObject(lab.node(1)),
    namespaceObject('lab'),
    ...pods.map(pod => podObject(pod, {})),
    service('web', {
      type: 'NodePort',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIP.ipv4, VIP.ipv6],
      ports: [{ name: 'http', port: 80, targetPort: POD_PORT, nodePort: NODE_PORT }],
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        [{ name: 'http', port: POD_PORT }],
        pods.map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

describeLab('the container image', { nodes: 2, podsPerNode: 2 }, lab => {
  let image: UnpackedImage;
  let daemon: Container;
  const started: Container[] = [];

  const container = async (node: number, options: Omit<ContainerOptions, 'image'>): Promise<Container> => {
    const one = await Container.start(lab(), lab().node(node), { image, ...options });
    started.push(one);
    return one;
  };

  afterEach('containers of a failed test', async function () {
    // On the machine itself what is in them would outlive the lab.
    if (this.currentTest?.state === 'failed') for (const one of started) await one.kill();
  });

  /** All modules, as args of a DaemonSet have them. */
  const startDaemon = async (name: string, root: ContainerOptions['root']): Promise<Container> => {
    const started = await container(1, {
      name,
      privileges: 'all',
      root,
      mounts: MOUNTS,
      args: [
        '--manifests=/etc/fairway/manifests',
        '--run-router=true',
        '--run-firewall=true',
        '--run-service-proxy=true',
        ...RANGES,
      ],
      environment: { NODE_NAME: 'node1', KUBE_ROUTER_CNI_CONF_FILE: CONF },
    });
    await started.process.waitForLine(/ready: the first round is in/, 60_000);
    return started;
  };

  const webFrom = (address: string): Target => ({ transport: 'tcp', address, port: 80 });

  before('image, unpacked', async function () {
    this.timeout(300_000);
    const missing = await missingForImages();
    if (missing !== undefined) skipBecause(this, missing);
    try {
      image = await unpackedImage(() => {});
    } catch (thrown) {
      if (!isWithoutArchive(thrown)) throw thrown;
      skipBecause(this, `no archive of Debian packages answers: ${thrown.message.split('\n').at(-1)}`);
    }
  });

  before('nodes', async () => {
    for (const node of [lab().node(1), lab().node(2)]) {
      // FileOrCreate, as the kubelet has it.
      await lab().writeFile(node, '/run/xtables.lock', '');
    }
    // The kubelet of node1 says by a chain that it uses the legacy flavour (KEP-3178).
    await lab().expectRun(lab().node(1), ['iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
    await lab().writeFile(lab().node(1), `${HOST}/manifests/cluster.yaml`, manifest(objects(lab())));
    for (const pod of lab().pods)
      for (const family of FAMILIES) await lab().probe(pod).serve('tcp', pod.addresses[family], POD_PORT, pod.name);
  });

  it('is one layer with nothing in it of the machine that built it, and nothing for people to read but licences', async () => {
    assert.equal(image.layers, 1);
    const below = (folder: string): readonly string[] =>
      globSync('**', { cwd: join(image.root, folder), withFileTypes: true })
        .filter(entry => entry.isFile())
        .map(entry => join(entry.parentPath, entry.name).slice(image.root.length));
    const bare = [
      'dev',
      'etc/apt/sources.list.d',
      'tmp',
      'usr/share/locale',
      'usr/share/man',
      'var/cache',
      'var/lib/apt/lists',
      'var/log',
    ];
    assert.deepEqual(bare.flatMap(below), []);
    assert.deepEqual(
      below('usr/share/doc').filter(path => !path.endsWith('/copyright')),
      [],
    );
    for (const file of ['etc/hostname', 'etc/resolv.conf', 'etc/machine-id', 'etc/apt/sources.list'])
      assert.equal(await readFile(join(image.root, file), 'utf8').catch(() => ''), '', file);
  });

  it('has the commands that the manifests start', async () => {
    const texts = globSync(join(ROOT, 'manifests/rendered/*.yaml')).map(path => readFileSync(path, 'utf8'));
    const commands = texts.flatMap(text => [...text.matchAll(/^ +command: \[([^,\]]+)/gm)].map(([, command = '']) => command));
    assert.ok(commands.includes('/usr/local/bin/install-cni'));
    for (const command of new Set(commands)) {
      const places = command.startsWith('/') ? [command] : ['/usr/local/bin', '/usr/bin'].map(folder => join(folder, command));
      await Promise.any(places.map(place => access(join(image.root, place), constants.X_OK)));
    }
  });

  it('says by its check that the kernel has everything, with the flavour of iptables that the node uses', async () => {
    const verdict = async (node: number): Promise<{ status: number; lines: readonly string[] }> => {
      const checked = await container(node, {
        name: `check-${node}`,
        privileges: 'all',
        root: 'read-only',
        mounts: MOUNTS,
        args: ['check'],
      });
      const status = await checked.process.exited;
      return { status, lines: checked.process.lines.map(({ text }) => text) };
    };
    const [legacy, nft] = [await verdict(1), await verdict(2)];
    for (const { status, lines } of [legacy, nft]) {
      assert.equal(status, 0);
      assert.deepEqual(
        lines.filter(line => line.includes(' missing ')),
        [],
      );
      assert.ok(lines.some(line => /^ +ok +IPVS: /.test(line)));
    }
    const says = (lines: readonly string[], wanted: RegExp): void => assert.match(lines.join('\n'), wanted);
    says(legacy.lines, /^ +ok +iptables: \S+ \(legacy\); legacy: the kubelet uses it$/m);
    says(nft.lines, /^ +ok +iptables: \S+ \(nf_tables\); nft: nothing on this host uses the legacy tables$/m);
  });

  it('gives the node plugins and a CNI configuration by its init step, and nothing at the second run', async () => {
    const template = JSON.stringify({
      cniVersion: '1.0.0',
      name: 'mynet',
      plugins: [
        { type: 'bridge', bridge: 'kube-bridge', isDefaultGateway: true, forceAddress: true, ipam: { type: 'host-local' } },
      ],
    });
    const node = lab().node(1);
    await lab().writeFile(node, `${HOST}/template/cni-conf.json`, template);
    await lab().writeFile(node, `${HOST}/etc/cni/net.d/10-other.conf`, '{}');
    const init = async (name: string): Promise<readonly string[]> => {
      const step = await container(1, {
        name,
        privileges: 'none',
        root: 'read-only',
        mounts: INIT_MOUNTS,
        command: ['install-cni'],
        environment: { KUBE_ROUTER_CNI_CONF_FILE: CONF },
      });
      assert.equal(await step.process.exited, 0, step.process.output);
      return step.process.lines.map(({ text }) => text);
    };
    assert.deepEqual(await init('init-1'), [
      ...PLUGINS.map(name => `install-cni: /opt/cni/bin/${name} installed`),
      `install-cni: ${CONF} installed from /etc/kube-router/cni-conf.json`,
      'install-cni: /etc/cni/net.d/10-other.conf set aside as /etc/cni/net.d/10-other.conf.before-fairway: 10-kuberouter.conflist takes its place',
    ]);
    assert.equal(await lab().readFile(node, `${HOST}${CONF}`), template);
    assert.match((await lab().run(node, [`${HOST}/opt/cni/bin/host-local`])).stderr, /^CNI host-local plugin/);
    assert.deepEqual(await init('init-2'), [
      ...PLUGINS.map(name => `install-cni: /opt/cni/bin/${name} is there`),
      `install-cni: ${CONF} is there and stays as it is`,
    ]);
  });

  it('serves with a root that is read-only: Services, policies, BGP and the CNI file', async () => {
    const node = lab().node(1);
    daemon = await startDaemon('daemon-1', 'read-only');
    for (const family of FAMILIES) {
      const inside = await lab().probe(lab().pod(1, 1)).burst(webFrom(VIP[family]), 6);
      assert.deepEqual([...tally(inside).keys()].sort(), ['pod-1-1', 'pod-1-2'], family);
      const outside = await lab()
        .probe(lab().ext)
        .burst({ transport: 'tcp', address: node.addresses[family], port: NODE_PORT }, 6);
      assert.deepEqual([...tally(outside).keys()].sort(), ['pod-1-1', 'pod-1-2'], `${family} from outside`);
    }
    assert.match(await lab().expectRun(node, ['iptables-legacy-save']), /FAIRWAY-SERVICES/);
    assert.doesNotMatch(await lab().expectRun(node, ['iptables-nft-save']), /FAIRWAY/);
    assert.match(await lab().readFile(node, `${HOST}${CONF}`), new RegExp(node.podCidrs.ipv4));
    const { status, stdout } = await daemon.exec(['gobgp', '--target', 'unix:///run/fairway/node1/gobgp.sock', 'global']);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /AS: +64512/);
    // EROFS
    assert.doesNotMatch(daemon.process.output, /read-only/i);
  });

  it('has the command where kubectl exec looks for it', async () => {
    const { status, stdout, stderr } = await daemon.exec(['fairway', 'check']);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^ +ok +IPVS: /m);
  });

  it('leaves the data path when it stops, and takes it up again', async () => {
    const watch = await lab().watch(lab().pod(1, 1), webFrom(VIP.ipv4));
    assert.equal(await daemon.stop(), 0);
    await watch.more();
    daemon = await startDaemon('daemon-2', 'writable');
    await watch.more();
    assert.equal(history(await watch.end()), 'answer');
  });

  it('writes nothing to its root even where it could', async () => {
    await daemon.exec(['fairway', 'check']);
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(await daemon.written(), []);
  });
});
