/** Two processes that hand out load-balancer addresses, of which the leader is stopped (SIGSTOP) in the middle of its work and goes on later. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { balancer } from '../fakes/allocators.ts';
import { FakeApiServer } from '../fakes/api-server.ts';

const main = resolve(import.meta.dirname, '../fakes/allocator-main.ts');

describe('a process that hands out addresses', () => {
  const running: ChildProcess[] = [];
  let directory: string;
  let fake: FakeApiServer;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'allocators-'));
    fake = await FakeApiServer.start({ directory });
  });

  after(() => {
    for (const child of running) child.kill('SIGKILL');
    fake.stop();
    rmSync(directory, { recursive: true });
  });

  function start(name: string): {
    readonly name: string;
    readonly child: ChildProcess;
    readonly standing: AsyncIterator<string>;
  } {
    const child = spawn(process.execPath, [main, fake.writeKubeconfig(), name, '192.0.2.0/24'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    running.push(child);
    return { name, child, standing: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
  }

  function addresses(): readonly string[] {
    return fake.store.list('services').flatMap(({ json }) => {
      const { status } = JSON.parse(json) as { status: { loadBalancer: { ingress?: { ip: string }[] } } };
      return (status.loadBalancer.ingress ?? []).map(({ ip }) => ip);
    });
  }

  /** Resolves as soon as that many Services have an address. */
  async function served(count: number): Promise<void> {
    while (addresses().length < count)
      await new Promise<void>(heard => {
        const forget = fake.store.onChange(() => {
          forget();
          heard();
        });
      });
  }

  it('writes nothing more when it goes on after another one was elected', async () => {
    const twice: string[] = [];
    fake.store.onChange(() => twice.push(...addresses().filter((address, index, all) => all.indexOf(address) !== index)));
    const both = [start('a'), start('b')].map(each => ({ ...each, next: each.standing.next() }));
    const first = await Promise.race(both.map(async each => await each.next.then(() => each)));
    const second = both.find(each => each !== first);
    assert.ok(second);
    assert.equal((await first.next).value, '{"leader":true}');
    fake.put(balancer('first'));
    await served(1);
    // Its next requests get no answer: it is stopped with some of them under way and the rest in its queue.
    for (let count = 0; count < 8; count++) fake.faultNext('get services', 'hang');
    fake.put(...Array.from({ length: 30 }, (_, index) => balancer(`s${index}`)));
    await fake.awaitRequests('get', 'services', 9);
    first.child.kill('SIGSTOP');
    fake.put(balancer('a-first'), balancer('asks', '192.0.2.5'));
    assert.equal((await second.next).value, '{"leader":true}');
    await served(32);
    const count = fake.requests.length;
    const deposed = first.standing.next();
    first.child.kill('SIGCONT');
    assert.equal((await deposed).value, '{"leader":false}');
    // It has stood again, as a follower, which it has when it asked for the Lease twice.
    const asked = (): number =>
      fake.requests
        .slice(count)
        .filter(
          ({ userAgent, verb, resource }) => userAgent.startsWith(`${first.name}/`) && verb === 'get' && resource === 'leases',
        ).length;
    while (asked() < 2) await fake.awaitRequests('get', 'leases', fake.seen('get', 'leases').length + 1);
    const writers = fake.requests
      .slice(count)
      .filter(({ verb, resource }) => verb === 'update' && resource === 'services/status');
    assert.deepEqual(
      writers.filter(({ userAgent }) => userAgent.startsWith(`${first.name}/`)),
      [],
    );
    assert.deepEqual(twice, []);
    second.child.kill('SIGTERM');
    await once(second.child, 'exit');
    assert.equal((await first.standing.next()).value, '{"leader":true}', 'and leads again when the other one is stopped');
  }).timeout(30_000);
});
