// Address plan: pods of this node 10.244.1.0/24 and fd00:244:1::/64.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { namespacePathsOf, sandboxesOf } from '../../../daemon/kernel/cri.ts';
import { encodeListRequest } from '../../../daemon/kernel/cri-messages.ts';
import { type Clock, systemClock } from '../../../daemon/net/clock.ts';
import { type FakeRuntime, type FakeSandbox, startFakeRuntime } from '../../fakes/cri.ts';

const never = new AbortController().signal;

describe('the verbose status of a sandbox', () => {
  it("of containerd and CRI-O names the namespace's file, and the first process", () => {
    const spec = { linux: { namespaces: [{ type: 'pid' }, { type: 'network', path: '/var/run/netns/cni-1' }] } };
    assert.deepEqual(namespacePathsOf(JSON.stringify({ pid: 4711, runtimeSpec: spec, config: {} })), [
      '/var/run/netns/cni-1',
      '/proc/4711/ns/net',
    ]);
  });

  it('may name the process alone', () => {
    const specs = [undefined, {}, { linux: {} }, { linux: { namespaces: [{ type: 'network' }, { type: 'ipc', path: '/x' }] } }];
    for (const runtimeSpec of specs)
      assert.deepEqual(namespacePathsOf(JSON.stringify({ pid: 7, runtimeSpec })), ['/proc/7/ns/net']);
  });

  it('that is none, or of another shape, names nothing', () => {
    const odd = [
      ...['', '{', 'null', '[]', '"x"', '{"pid":0}', '{"pid":"7"}', '{"pid":1.5}', '{"runtimeSpec":[]}'],
      '{"runtimeSpec":{"linux":{"namespaces":{"type":"network"}}}}',
      '{"runtimeSpec":{"linux":{"namespaces":[null,{"type":"network","path":"relative"}]}}}',
    ];
    for (const text of odd) assert.deepEqual(namespacePathsOf(text), [], text);
  });
});

describe('the request for a list', () => {
  it('asks for those that are ready, in so many words', () => {
    // filter { state { state: SANDBOX_READY } }
    assert.equal(encodeListRequest().toString('hex'), '0a0412020800');
  });
});

describe('sandboxes of the container runtime', () => {
  let folder = '';
  let runtime: FakeRuntime | undefined;
  let sandboxes: readonly FakeSandbox[] = [];
  const socket = (): string => join(folder, 'cri.sock');

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-cri-'));
    sandboxes = [
      { id: 'old', ips: ['10.244.1.5'], netns: '/run/netns/old' },
      { id: 'new', ips: ['10.244.1.5', 'FD00:244:1:0::5'], netns: '/run/netns/new', pid: 12 },
      { id: 'host', ips: [], pid: 13 },
      { id: 'odd', ips: ['10.244.1.6'], refusal: 'metadata is damaged' },
    ];
    runtime = await startFakeRuntime(socket(), () => sandboxes);
  });

  afterEach(() => {
    runtime?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('are found by each address, of two with one address the newer; one that is refused hides no other', async () => {
    const found = await sandboxesOf({ socket: `unix://${socket()}`, clock: systemClock() })(never);
    const newer = { id: 'new', namespacePaths: ['/run/netns/new', '/proc/12/ns/net'] };
    assert.deepEqual(
      [...found],
      [
        ['10.244.1.5', newer],
        ['fd00:244:1::5', newer],
      ],
    );
  });

  it('are asked for their status once; those that are gone are forgotten', async () => {
    const ask = sandboxesOf({ socket: socket(), clock: systemClock() });
    await ask(never);
    await ask(never);
    const { statusCalls } = runtime!;
    assert.deepEqual([statusCalls.get('new'), statusCalls.get('host')], [1, 1]);
    const [old] = sandboxes;
    sandboxes = [old!];
    assert.deepEqual([...(await ask(never))], [['10.244.1.5', { id: 'old', namespacePaths: ['/run/netns/old'] }]]);
  });

  it('without a socket, and of a runtime that went, the error names the flag', async () => {
    const clock = systemClock();
    const missing = sandboxesOf({ socket: '/nowhere/cri.sock', clock });
    await assert.rejects(missing(never), /FairwayError: .*\/nowhere\/cri\.sock is no socket: correct --runtime-endpoint/);
    const ask = sandboxesOf({ socket: socket(), clock });
    await ask(never);
    runtime?.close();
    await assert.rejects(ask(never), { code: 'FW_COMMAND_FAILED', message: /--runtime-endpoint/ });
  });

  it('of a runtime that takes calls and says nothing are not waited for: past the limit the error says so', async () => {
    const silent = createServer(connection => connection.on('error', () => undefined));
    const path = join(folder, 'silent.sock');
    await new Promise<void>(resolve => {
      silent.listen(path, resolve);
    });
    const limits: number[] = [];
    const soon: Clock = {
      ...systemClock(),
      after(milliseconds, fire) {
        limits.push(milliseconds);
        return systemClock().after(50, fire);
      },
    };
    await assert.rejects(sandboxesOf({ socket: path, clock: soon })(never), /silent\.sock .*: no answer within 10 s/);
    assert.deepEqual(limits, [10_000]);
    const stop = AbortSignal.timeout(50);
    await assert.rejects(sandboxesOf({ socket: path, clock: systemClock() })(stop), { name: 'TimeoutError' });
    silent.close();
  });
});
