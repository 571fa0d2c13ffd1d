import assert from 'node:assert/strict';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cniConfigDriver } from '../../../daemon/kernel/cni-config.ts';
import { cniFiles } from '../../../daemon/kernel/cni-files.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import type { CniConfig } from '../../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;

describe('the CNI configuration file', () => {
  let folder = '';
  let wanted: CniConfig;
  let create: Change<CniConfig>;
  let expected: ReadonlyMap<string, CniConfig>;
  const driver = (): ReturnType<typeof cniConfigDriver> =>
    cniConfigDriver({ files: cniFiles({ pluginFolders: [join(folder, 'none'), join(folder, 'bin')] }) });
  const apply = async (change: Change<CniConfig> = create): Promise<string | undefined> =>
    (await driver().apply([change], never)).failed.get(change.key)?.message;
  const read = async (): Promise<CniConfig | undefined> => (await driver().read(expected, never)).get(wanted.path);
  const write = (text: string, mode = 0o644): void => {
    mkdirSync(join(folder, 'net.d'), { recursive: true });
    writeFileSync(wanted.path, text, { mode });
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-cni-'));
    wanted = {
      path: join(folder, 'net.d', '10-kuberouter.conflist'),
      podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'].map(mustParsePrefix),
      mtu: 1480,
      needs: [],
    };
    create = { op: 'create', key: TABLES.cniConfig.key(wanted), to: wanted };
    expected = new Map([[create.key, wanted]]);
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  it('is made where there is none, with its folder, for everyone to read and with nothing beside it', async () => {
    mkdirSync(join(folder, 'bin'));
    writeFileSync(join(folder, 'bin', 'portmap'), '', { mode: 0o755 });
    writeFileSync(join(folder, 'bin', 'bandwidth'), 'not to be run', { mode: 0o644 });
    assert.equal(await read(), undefined);
    assert.equal(await apply(), undefined);
    assert.equal(await read(), wanted, 'the very object expected');
    assert.deepEqual(readdirSync(join(folder, 'net.d')), ['10-kuberouter.conflist']);
    assert.equal(statSync(wanted.path).mode & 0o777, 0o644);
    const { plugins } = JSON.parse(readFileSync(wanted.path, 'utf8')) as { plugins: readonly { type: string }[] };
    assert.deepEqual(
      plugins.map(({ type }) => type),
      ['bridge', 'portmap'],
    );
  });

  it('is replaced by another file where something differs, with the same mode; otherwise it is not touched', async () => {
    write('{"plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}', 0o600);
    const before = statSync(wanted.path).ino;
    const found = (await read()) ?? assert.fail('it is there');
    assert.equal(TABLES.cniConfig.same(found, wanted), false);
    assert.equal(await apply({ op: 'update', key: create.key, from: found, to: wanted }), undefined);
    assert.equal(await read(), wanted);
    const { ino, mode, mtimeMs } = statSync(wanted.path);
    assert.notEqual(ino, before, 'who reads it meanwhile reads all of the old one');
    assert.equal(mode & 0o777, 0o600);
    assert.equal(await apply(), undefined);
    assert.deepEqual([statSync(wanted.path).ino, statSync(wanted.path).mtimeMs], [ino, mtimeMs]);
  });

  it('that was left empty by a crash is made anew; what a crash of ours left beside it goes', async () => {
    write('\n');
    writeFileSync(join(folder, 'net.d', '.10-kuberouter.conflist.fairway'), '{"plug', { mode: 0o600 });
    assert.equal(await read(), undefined);
    assert.equal(await apply(), undefined);
    assert.equal(await read(), wanted);
    assert.deepEqual(readdirSync(join(folder, 'net.d')), ['10-kuberouter.conflist']);
    assert.equal(statSync(wanted.path).mode & 0o777, 0o644);
  });

  it('that we cannot use is left alone, counts as not there, and applying says why', async () => {
    for (const text of ['{"plugins": [', '{"plugins":[{"type":"cilium-cni"}]}']) {
      write(text);
      assert.equal(await read(), undefined);
      assert.match((await apply()) ?? '', new RegExp(`^the CNI configuration ${wanted.path} .*: (repair|add) `));
      assert.equal(readFileSync(wanted.path, 'utf8'), text);
    }
    rmSync(wanted.path);
    mkdirSync(wanted.path);
    assert.equal(await read(), undefined);
    assert.match((await apply()) ?? '', /cannot be kept: EISDIR/);
  });

  it('that is a link stays one', async () => {
    const target = join(folder, 'elsewhere.conflist');
    mkdirSync(join(folder, 'net.d'));
    writeFileSync(target, '{"plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}');
    symlinkSync(target, wanted.path);
    assert.equal(await apply(), undefined);
    assert.equal(await read(), wanted);
    assert.match(readFileSync(target, 'utf8'), /"subnet":"10\.244\.1\.0\/24"/);
    assert.deepEqual(readdirSync(join(folder, 'net.d')), ['10-kuberouter.conflist']);
    assert.ok(lstatSync(wanted.path).isSymbolicLink());
  });

  it('stays when it is not wanted any more: running pods end by it', async () => {
    await apply();
    const before = readFileSync(wanted.path, 'utf8');
    assert.equal(await apply({ op: 'delete', key: create.key, from: wanted }), undefined);
    assert.equal(readFileSync(wanted.path, 'utf8'), before);
    assert.deepEqual(await driver().read(new Map(), never), new Map());
  });

  it('is shown by what we see to in it', () => {
    const text = driver().render([create, { op: 'delete', key: 'x', from: wanted }]);
    const ranges = '[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00:10:244:1::/64"}]]';
    assert.equal(text, `${wanted.path}: {"mtu":1480,"ipam":{"ranges":${ranges}}}\n`);
  });
});
