import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, it } from 'mocha';
import { ApiObjects } from '../../../daemon/cluster/api-objects.ts';
import { ApiSource } from '../../../daemon/cluster/api-source.ts';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import { Transport } from '../../../daemon/cluster/transport.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { Recorder } from '../../fakes/recorder.ts';
import { service } from '../cluster/api-harness.ts';

const main = resolve(import.meta.dirname, '../../fakes/api-server-main.ts');

describe('the fake API server as a process', () => {
  let running: ChildProcess | undefined;
  afterEach(() => running?.kill('SIGKILL'));

  it('serves a daemon by the kubeconfig it writes and obeys commands on stdin', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'fake-api-main-'));
    const child = spawn(process.execPath, [main, '--dir', directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    running = child;
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async (): Promise<Record<string, unknown>> =>
      JSON.parse((await answers.next()).value ?? 'null') as Record<string, unknown>;
    const order = async (command: object): Promise<Record<string, unknown>> => {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      return await answer();
    };
    const { kubeconfig } = await answer();
    writeFileSync(join(directory, 'objects.json'), JSON.stringify({ kind: 'List', items: [service('a'), service('b')] }));
    assert.deepEqual(await order({ op: 'load', file: join(directory, 'objects.json') }), { ok: true, revision: 1002 });
    const clock = systemClock();
    const told = new Recorder();
    const credentials = await openCredentials({
      kubeconfig: String(kubeconfig),
      master: '',
      environment: {},
      readFile: path => readFile(path),
    });
    const transport = new Transport({ credentials, clock, userAgent: 'fairway/test' });
    const source = new ApiSource({ kinds: ['Service'], transport, clock, random: () => 0.5, observer: told });
    source.start(told);
    await told.until(() => told.objects.size === 2);
    await order({ op: 'put', object: service('c') });
    await order({ op: 'delete', kind: 'Service', namespace: 'shop', name: 'a' });
    await told.until(() => told.changes.length === 2);
    assert.deepEqual([...told.keys('Service')].sort(), ['shop/b', 'shop/c']);
    const got = async (name: string): Promise<unknown> =>
      (await order({ op: 'get', kind: 'Service', namespace: 'shop', name }))['object'];
    assert.deepEqual([((await got('c')) as { kind: string }).kind, await got('a')], ['Service', null]);
    assert.equal(((await order({ op: 'list', resource: 'services' }))['objects'] as unknown[]).length, 2);
    await order({ op: 'fault', match: 'get services', fault: 'lost' });
    await order({ op: 'role', rules: [{ apiGroups: [''], resources: ['services'], verbs: ['get'] }] });
    const objects = new ApiObjects({ transport, clock });
    const place = { group: '', resource: 'services', subresource: '', namespace: 'shop', name: 'c' };
    const { signal } = new AbortController();
    await assert.rejects(objects.get(place, { signal }), { code: 'FW_API_UNREACHABLE' });
    await assert.rejects(objects.replace(place, await objects.get(place, { signal }), { signal }), { status: 403 });
    assert.equal((await order({ op: 'nonsense' }))['ok'], false);
    assert.deepEqual((await order({ op: 'requests' }))['connections'], 1);
    await source.stop();
    child.stdin.end();
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    rmSync(directory, { recursive: true });
  });
});
