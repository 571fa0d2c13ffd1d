import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'mocha';
import { folderAt } from '../../../daemon/cluster/folder.ts';
import { FolderChanges } from '../../../daemon/cluster/folder-changes.ts';
import { JoinedSource } from '../../../daemon/cluster/joined-source.ts';
import { ManifestSource } from '../../../daemon/cluster/manifests.ts';
import { PoolsFileSource } from '../../../daemon/cluster/pools-file.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { Recorder } from '../../fakes/recorder.ts';
import { addressPool } from '../../fixtures/address-pools.ts';

const QUICK = { clock: systemClock(), settleMs: 5, pollMs: 2000 };

function poolsText(name: string, address: string): string {
  return `pools: [{name: ${name}, addresses: [${address}]}]\n`;
}

describe('a file of named pools', () => {
  let directory: string;
  let path: string;
  let told: Recorder;
  let source: { stop(): Promise<void> } | undefined;
  const start = async (): Promise<void> => {
    const file = new PoolsFileSource({ path, ...QUICK });
    source = file;
    file.start(told);
    await told.until(() => told.replaced.length === 1);
  };
  /** What is known of the file, but for who it is. */
  const known = (): unknown => {
    const object = told.get('ConfigMap', path);
    return object?.kind === 'ConfigMap' ? [object.pools, object.unreadable] : undefined;
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'pools-'));
    path = join(directory, 'pools.yaml');
    told = new Recorder();
  });
  afterEach(async () => {
    await source?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is read at the start and followed live, written in place or put in the place of the former', async () => {
    writeFileSync(path, poolsText('web', '192.0.2.1'));
    await start();
    assert.deepEqual(known(), [[addressPool('web', ['192.0.2.1'])], []]);
    writeFileSync(path, poolsText('web', '192.0.2.2'));
    await told.until(() => told.changes.length === 1);
    assert.deepEqual(known(), [[addressPool('web', ['192.0.2.2'])], []]);
    writeFileSync(join(directory, 'new'), 'pools: []');
    renameSync(join(directory, 'new'), path);
    await told.until(() => told.changes.length === 2);
    assert.deepEqual(known(), [[], []]);
    assert.deepEqual([told.reasons, [...told.complaints]], [[], []]);
  });

  it('is followed through the links of a mounted ConfigMap', async () => {
    for (const name of ['one', 'two']) mkdirSync(join(directory, name));
    writeFileSync(join(directory, 'one/pools.yaml'), poolsText('web', '192.0.2.1'));
    writeFileSync(join(directory, 'two/pools.yaml'), poolsText('web', '192.0.2.2'));
    symlinkSync('one', join(directory, '..data'));
    symlinkSync('..data/pools.yaml', path);
    await start();
    symlinkSync('two', join(directory, '..data_tmp'));
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
    await told.until(() => told.changes.length === 1);
    assert.deepEqual(known(), [[addressPool('web', ['192.0.2.2'])], []]);
  });

  it('keeps nobody waiting where it is not there, and is read when it comes', async () => {
    await start();
    assert.deepEqual(known(), [[], undefined]);
    assert.deepEqual(told.reasons, [
      `pools file ${path}: there is no such file; the pools it held before stay; write it, with "pools: []" for none, or correct --loadbalancer-pools`,
    ]);
    writeFileSync(path, poolsText('web', '192.0.2.1'));
    await told.until(() => told.degradations.size === 0);
    assert.deepEqual(known(), [[addressPool('web', ['192.0.2.1'])], []]);
  });

  it('that goes leaves what it held, and says so once', async () => {
    writeFileSync(path, poolsText('web', '192.0.2.1'));
    await start();
    rmSync(path);
    await told.until(() => told.degradations.size === 1);
    mkdirSync(path);
    assert.deepEqual(known(), [[addressPool('web', ['192.0.2.1'])], []]);
    rmSync(path, { recursive: true });
    writeFileSync(path, poolsText('db', '192.0.2.1'));
    await told.until(() => told.degradations.size === 0);
    assert.deepEqual([told.reasons.length, known()], [1, [[addressPool('db', ['192.0.2.1'])], []]]);
  });

  it('is named where something in it is wrong', async () => {
    writeFileSync(path, 'pools: [{name: web, addresses: [x, 192.0.2.1]}]');
    await start();
    const [complaint] = told.complaints.get(`ConfigMap ${path}`) ?? [];
    assert.deepEqual([complaint?.key, complaint?.message.slice(0, 29)], [path, 'pools[web].addresses[]: "x": ']);
  });

  it('stands beside a folder of manifests, whose ConfigMaps are then nobody’s business', async () => {
    const folder = join(directory, 'manifests');
    mkdirSync(folder);
    const configMap = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'pools' }, data: { 'pools.yaml': 'pools: []' } };
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } };
    writeFileSync(join(folder, 'all.json'), JSON.stringify({ kind: 'List', items: [configMap, node] }));
    writeFileSync(path, poolsText('web', '192.0.2.1'));
    const joined = new JoinedSource([
      new ManifestSource({ directory: folder, kinds: ['Node'], ...QUICK }),
      new PoolsFileSource({ path, ...QUICK }),
    ]);
    source = joined;
    joined.start(told);
    await told.until(() => told.replaced.length === 2);
    assert.deepEqual([...told.objects.keys()].sort(), [`ConfigMap ${path}`, 'Node n1']);
  });
});

describe('a folder of manifests with pools in it', () => {
  it('gives the one ConfigMap that is asked for, the Leases of nodes, and no other', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'manifests-'));
    const named = (kind: string, namespace: string, name: string, rest: object = {}): object => ({
      apiVersion: kind === 'Lease' ? 'coordination.k8s.io/v1' : 'v1',
      kind,
      metadata: { namespace, name },
      ...rest,
    });
    const items = [
      named('ConfigMap', 'kube-system', 'pools', { data: { 'pools.yaml': poolsText('web', '192.0.2.1') } }),
      named('ConfigMap', 'default', 'pools', { data: { 'pools.yaml': 'pools: []' } }),
      named('ConfigMap', 'kube-system', 'coredns', { data: { Corefile: '.:53' } }),
      named('Lease', 'kube-node-lease', 'node-1'),
      named('Lease', 'kube-system', 'kube-scheduler'),
    ];
    writeFileSync(join(directory, 'all.json'), JSON.stringify({ kind: 'List', items }));
    const told = new Recorder();
    const configMap = { namespace: 'kube-system', name: 'pools' };
    const source = new ManifestSource({ directory, kinds: ['ConfigMap', 'Lease', 'Node'], configMap, ...QUICK });
    source.start(told);
    await told.until(() => told.replaced.length === 3);
    await source.stop();
    rmSync(directory, { recursive: true });
    assert.deepEqual([...told.objects.keys()].sort(), ['ConfigMap kube-system/pools', 'Lease kube-node-lease/node-1']);
    assert.deepEqual([...told.complaints], []);
  });

  it('without Leases tells at once that there are none', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'manifests-'));
    const told = new Recorder();
    const source = new ManifestSource({ directory, kinds: ['Lease'], ...QUICK });
    source.start(told);
    await told.until(() => told.replaced.length === 1);
    await source.stop();
    rmSync(directory, { recursive: true });
    assert.deepEqual([told.replaced, [...told.objects]], [['Lease'], []]);
  });
});

describe('looking at a folder again and again', () => {
  it('leaves nothing behind at the signal that ends it', async () => {
    const clock = new ManualClock();
    const changes = new FolderChanges({ folder: folderAt('/nowhere'), clock });
    const stop = new AbortController();
    for (let look = 0; look < 3; look++) {
      changes.watch();
      const next = changes.next(stop.signal);
      assert.equal(getEventListeners(stop.signal, 'abort').length, 1);
      await Promise.all([clock.advance(1000), next]);
    }
    assert.equal(getEventListeners(stop.signal, 'abort').length, 0);
  });
});
