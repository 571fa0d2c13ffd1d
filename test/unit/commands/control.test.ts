import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask, openControl, textOf } from '../../../daemon/commands/control.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { type HttpListener, listenSocket, type Page, respond } from '../../../daemon/observe/http.ts';
import { ManualClock } from '../../fakes/clock.ts';

const HELLO: ReadonlyMap<string, Page> = new Map([
  ['/hello', (query, response) => respond(response, 200, `hello ${query.get('who')}`)],
]);

describe("a daemon's socket for its commands", () => {
  let directory: string;
  let path: string;
  const open: HttpListener[] = [];
  const errors: string[] = [];
  const listen = async (pages = HELLO, clock = systemClock()): Promise<HttpListener | undefined> => {
    const log = { error: (message: string) => errors.push(message) };
    const listener = await openControl({ path, pages, clock, log }, new AbortController().signal);
    if (listener !== undefined) open.push(listener);
    return listener;
  };

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'control-'));
    path = join(directory, 'node1', 'fairway.sock');
    errors.length = 0;
  });
  afterEach(async () => {
    for (const listener of open.splice(0)) await listener.close();
    rmSync(directory, { recursive: true });
  });

  it('answers, for root alone', async () => {
    await listen();
    assert.equal(await textOf(await ask(path, '/hello?who=you')), 'hello you');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(directory, 'node1')).mode & 0o777, 0o700);
  });

  it('is not there: the command is told where it was looked for', async () => {
    await assert.rejects(ask(path, '/hello'), (error: unknown) => {
      assert.ok(error instanceof FairwayError);
      assert.equal(error.code, 'FW_DAEMON_ABSENT');
      assert.ok(error.message.includes(path));
      return true;
    });
  });

  it('says what is wrong with a request in its own words', async () => {
    await listen(new Map([['/no', (_query, response) => respond(response, 400, 'not so\n')]]));
    await assert.rejects(ask(path, '/no'), { code: 'FW_DAEMON_REFUSED', message: 'not so' });
  });

  it('is taken over from a daemon that was killed', async () => {
    const first = await listen();
    await first?.close();
    // What SIGKILL leaves: a socket in the file system that nobody listens behind.
    const dead = createServer();
    await new Promise<void>(resolve => dead.listen(path, resolve));
    renameSync(path, `${path}.kept`);
    await new Promise<void>(resolve => dead.close(() => resolve()));
    renameSync(`${path}.kept`, path);
    assert.ok((await listen()) !== undefined);
    assert.equal(await textOf(await ask(path, '/hello?who=me')), 'hello me');
  });

  it("is another one's: refused with the process, once that had its time to end", async () => {
    await listen();
    const clock = new ManualClock();
    const refusal = assert.rejects(listen(HELLO, clock), (error: unknown) => {
      assert.ok(error instanceof FairwayError);
      assert.equal(error.code, 'FW_HOST_SECOND_DAEMON');
      assert.match(error.message, new RegExp(`pid ${process.pid}, `));
      return true;
    });
    const over = refusal.then(() => 'over' as const);
    while ((await Promise.race([over, clock.advance(500)])) !== 'over');
    assert.equal(await textOf(await ask(path, '/hello?who=first')), 'hello first', 'the first goes on');
  });

  it('is one of another network namespace: left to it, and told', async () => {
    const who: Page = (_query, response) => respond(response, 200, JSON.stringify({ pid: 7, namespace: 'net:[1]' }));
    mkdirSync(join(directory, 'node1'));
    open.push(await listenSocket(path, new Map([['/who', who]])));
    assert.equal(await listen(), undefined);
    assert.match(errors.join(), /another network namespace \(pid 7\)/);
  });

  it('cannot be made: the daemon goes on, and says what does not work', async () => {
    path = join(directory, 'a-file', 'fairway.sock');
    writeFileSync(join(directory, 'a-file'), '');
    assert.equal(await listen(), undefined);
    assert.match(
      errors.join(),
      /status, plan, why and snapshot do not reach this daemon: .*\/a-file\/fairway\.sock cannot be listened on: /,
    );
  });
});
