import assert from 'node:assert/strict';
import { type SysctlFiles, sysctlDriver } from '../../../daemon/kernel/sysctl.ts';
import type { Sysctl } from '../../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;

function errno(code: string): Error {
  return Object.assign(new Error(`${code}: not that`), { code });
}

/** Files in memory; a content that is an Error is thrown by whoever writes. */
function filesOf(contents: Record<string, string | Error>): { files: SysctlFiles; contents: Record<string, string | Error> } {
  const find = (path: string): string | Error => {
    const content = contents[path.replace('/proc/sys/', '')];
    if (content === undefined) throw errno('ENOENT');
    return content;
  };
  return {
    contents,
    files: {
      async readFile(path) {
        const content = find(path);
        return content instanceof Error ? '0\n' : content;
      },
      async writeFile(path, text) {
        const content = find(path);
        if (content instanceof Error) throw content;
        contents[path.replace('/proc/sys/', '')] = `${text}\n`;
      },
    },
  };
}

const sysctl = (path: string, value: string, more: Partial<Sysctl> = {}): Sysctl => ({
  path,
  value,
  alsoGood: [],
  whenMissing: 'fail',
  ...more,
});
const create = (to: Sysctl) => ({ op: 'create', key: to.path, to }) as const;

describe('sysctls', () => {
  it('are written, and left alone where another value is as good', async () => {
    const { files, contents } = filesOf({ 'net/a': '0\n', 'net/b': '0\n', 'net/c': '1\t2\n' });
    const driver = sysctlDriver({ files });
    const wanted = [sysctl('net/a', '1'), sysctl('net/b', '2', { alsoGood: ['0'] }), sysctl('net/c', '1 2')];
    assert.deepEqual(await driver.apply(wanted.map(create), never), { failed: new Map() });
    assert.deepEqual(contents, { 'net/a': '1\n', 'net/b': '0\n', 'net/c': '1\t2\n' });
    const found = await driver.read(new Map(wanted.map(entry => [entry.path, entry])), never);
    assert.equal(found.get('net/a'), wanted[0]);
    assert.deepEqual(found.get('net/b'), { ...wanted[1], value: '0' });
    assert.equal(found.get('net/c'), wanted[2]);
  });

  it('that the kernel does not have are an error that names them, or nothing at all where that is agreed', async () => {
    const driver = sysctlDriver(filesOf({}));
    const optional = sysctl('net/optional', '1', { whenMissing: 'skip' });
    const { failed } = await driver.apply([create(sysctl('net/needed', '1')), create(optional)], never);
    assert.deepEqual(
      [...failed].map(([key, error]) => [key, error.code]),
      [['net/needed', 'FW_CAPABILITY_KERNEL']],
    );
    const expected = new Map([[optional.path, optional]]);
    assert.deepEqual(await driver.read(expected, never), expected);
  });

  it('that cannot be written name the path and the remedy, and stop no other', async () => {
    const { files, contents } = filesOf({ 'net/ro': errno('EROFS'), 'net/denied': errno('EACCES'), 'net/ok': '0\n' });
    const wanted = [sysctl('net/ro', '1'), sysctl('net/denied', '1'), sysctl('../etc/passwd', '1'), sysctl('net/ok', '1')];
    const { failed } = await sysctlDriver({ files }).apply(wanted.map(create), never);
    assert.deepEqual([...failed.keys()], ['net/ro', 'net/denied', '../etc/passwd']);
    assert.match(failed.get('net/ro')?.message ?? '', /^\/proc\/sys\/net\/ro cannot be set to '1': .*mount \/proc\/sys writable/);
    assert.match(failed.get('net/denied')?.message ?? '', /CAP_NET_ADMIN/);
    assert.equal(contents['net/ok'], '1\n');
  });

  it('that take the write and keep their value are an error', async () => {
    const files: SysctlFiles = { readFile: async () => '7\n', writeFile: async () => undefined };
    const { failed } = await sysctlDriver({ files }).apply([create(sysctl('net/stubborn', '1'))], never);
    assert.match(failed.get('net/stubborn')?.message ?? '', /was set to '1' and reads '7'/);
  });

  it('keep their value when nobody wants it any more', async () => {
    const { files, contents } = filesOf({ 'net/a': '1\n' });
    const from = sysctl('net/a', '1');
    await sysctlDriver({ files }).apply([{ op: 'delete', key: from.path, from }], never);
    assert.deepEqual(contents, { 'net/a': '1\n' });
  });

  it('are shown as sysctl.d(5) writes them', () => {
    assert.equal(sysctlDriver(filesOf({})).render([create(sysctl('net/a', '1'))]), 'net/a = 1\n');
  });
});
