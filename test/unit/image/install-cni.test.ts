import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const SCRIPT = resolve(import.meta.dirname, '../../../manifests/install-cni.sh');
const PLUGINS = ['bridge', 'host-local', 'loopback', 'portmap'];
const TEMPLATE = '{"cniVersion": "1.0.0"}\n';
const NAME = '10-kuberouter.conflist';

describe('install-cni, with a folder as the node', () => {
  let node = '';
  const bin = (): string => join(node, 'opt/cni/bin');
  const configs = (): string => join(node, 'etc/cni/net.d');
  const conf = (): string => join(configs(), NAME);

  beforeEach(async () => {
    node = await mkdtemp(join(tmpdir(), 'fairway-install-cni-'));
    await mkdir(join(node, 'plugins'));
    for (const name of PLUGINS) await writeFile(join(node, 'plugins', name), `plugin ${name} of the image\n`);
    await writeFile(join(node, 'template.json'), TEMPLATE);
    await mkdir(configs(), { recursive: true });
  });

  afterEach(async () => {
    await rm(node, { recursive: true });
  });

  const run = (environment: Readonly<Record<string, string>> = {}, before = ''): { status: number | null; said: string } => {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', `${before} exec sh ${SCRIPT}`], {
      encoding: 'utf8',
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        CNI_PLUGINS: join(node, 'plugins'),
        CNI_BIN_FOLDER: bin(),
        CNI_CONF_TEMPLATE: join(node, 'template.json'),
        KUBE_ROUTER_CNI_CONF_FILE: conf(),
        ...environment,
      },
    });
    return { status, said: `${stdout}${stderr}`.replaceAll(node, '') };
  };

  const identities = async (folder: string): Promise<readonly string[]> => {
    const names = (await readdir(folder)).sort();
    return await Promise.all(
      names.map(async name => {
        const { ino, mtimeMs, mode } = await stat(join(folder, name));
        return `${name} ${ino} ${mtimeMs} ${(mode & 0o777).toString(8)}`;
      }),
    );
  };

  it('installs the plugins and the configuration, and changes nothing when run again', async () => {
    assert.deepEqual(run(), {
      status: 0,
      said: `${PLUGINS.map(name => `install-cni: /opt/cni/bin/${name} installed\n`).join('')}install-cni: /etc/cni/net.d/${NAME} installed from /template.json\n`,
    });
    assert.deepEqual((await readdir(bin())).sort(), PLUGINS);
    assert.equal(await readFile(conf(), 'utf8'), TEMPLATE);
    const before = [...(await identities(bin())), ...(await identities(configs()))];
    assert.deepEqual(
      before.map(line => line.split(' ').at(-1)),
      [...PLUGINS.map(() => '755'), '644'],
    );
    assert.deepEqual(run(), {
      status: 0,
      said: `${PLUGINS.map(name => `install-cni: /opt/cni/bin/${name} is there\n`).join('')}install-cni: /etc/cni/net.d/${NAME} is there and stays as it is\n`,
    });
    assert.deepEqual([...(await identities(bin())), ...(await identities(configs()))], before);
  });

  describe('where a plugin is at work', () => {
    let working: ChildProcess;

    beforeEach(async () => {
      await mkdir(bin(), { recursive: true });
      await copyFile('/bin/sleep', join(bin(), 'bridge'));
      await chmod(join(bin(), 'bridge'), 0o755);
      working = spawn(join(bin(), 'bridge'), ['60']);
    });

    afterEach(() => {
      working.kill();
    });

    it("leaves the node's own, and installs the others", async () => {
      const own = await readFile(join(bin(), 'bridge'));
      assert.equal(run().status, 0);
      assert.ok(own.equals(await readFile(join(bin(), 'bridge'))));
      assert.deepEqual((await readdir(bin())).sort(), PLUGINS);
    });
  });

  it('sets a lone .conf of others aside, and no other file', async () => {
    await writeFile(join(configs(), '10-flannel.conf'), 'of others');
    await writeFile(join(configs(), '99-loopback.conflist'), 'of the runtime');
    const { status, said } = run();
    assert.equal(status, 0);
    assert.match(
      said,
      /^install-cni: \/etc\/cni\/net\.d\/10-flannel\.conf set aside as \/etc\/cni\/net\.d\/10-flannel\.conf\.before-fairway: 10-kuberouter\.conflist takes its place$/m,
    );
    assert.deepEqual((await readdir(configs())).sort(), ['10-flannel.conf.before-fairway', NAME, '99-loopback.conflist']);
    assert.equal(await readFile(join(configs(), '10-flannel.conf.before-fairway'), 'utf8'), 'of others');
  });

  it('leaves several .conf files, and says that their order counts', async () => {
    for (const name of ['10-one.conf', '20-two.conf']) await writeFile(join(configs(), name), '{}');
    const { status, said } = run();
    assert.equal(status, 0);
    assert.match(
      said,
      /^install-cni: \/etc\/cni\/net\.d holds 2 other \.conf files, which stay; .*see that it is 10-kuberouter\.conflist$/m,
    );
    assert.deepEqual((await readdir(configs())).sort(), [NAME, '10-one.conf', '20-two.conf']);
  });

  it('leaves a configuration that is there, whatever else is', async () => {
    await writeFile(conf(), 'with ranges');
    await writeFile(join(configs(), '20-other.conf'), '{}');
    assert.equal(run().status, 0);
    assert.equal(await readFile(conf(), 'utf8'), 'with ranges');
    assert.deepEqual((await readdir(configs())).sort(), [NAME, '20-other.conf']);
  });

  it('installs plugins alone where no file is named, or there is no template for it', async () => {
    await writeFile(join(configs(), '20-other.conf'), '{}');
    assert.match(run({ KUBE_ROUTER_CNI_CONF_FILE: '' }).said, /no configuration is asked for/);
    assert.match(
      run({ CNI_CONF_TEMPLATE: '/nowhere' }).said,
      /is left to the daemon, which makes one: there is no template at \/nowhere/,
    );
    assert.deepEqual(await readdir(configs()), ['20-other.conf']);
    assert.deepEqual((await readdir(bin())).sort(), PLUGINS);
  });

  it('fails with the remedy where the disk is full, and leaves no half file', async () => {
    // A limit to the size of files has the effect of a full disk: what is written ends early.
    await writeFile(join(node, 'plugins', 'bridge'), Buffer.alloc(100_000));
    const { status, said } = run({}, 'ulimit -f 1;');
    assert.equal(status, 1);
    assert.match(said, /\/opt\/cni\/bin\/bridge could not be written: .*see that its disk has room$/m);
    assert.deepEqual(await readdir(bin()), []);
    await writeFile(join(bin(), '.bridge.install-cni'), 'left by one that was killed');
    assert.equal(run().status, 0);
    assert.deepEqual((await readdir(bin())).sort(), PLUGINS);
  });

  it('fails with the remedy where the folder is none, or the image has no plugins', async () => {
    await mkdir(join(node, 'opt/cni'), { recursive: true });
    await writeFile(bin(), '');
    const { status, said } = run();
    assert.equal(status, 1);
    assert.match(
      said,
      /^install-cni: \/opt\/cni\/bin is not there and could not be made: mount the node's folder there, writable$/m,
    );
    const other = run({ CNI_PLUGINS: '/nowhere', CNI_BIN_FOLDER: join(node, 'other') });
    assert.equal(other.status, 1);
    assert.match(other.said, /\/nowhere holds no plugins/);
  });
});
