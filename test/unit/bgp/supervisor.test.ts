import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer as createListener } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { adminHosts } from '../../../daemon/bgp/admin-hosts.ts';
import { GobgpEndpoint } from '../../../daemon/bgp/endpoint.ts';
import type { StopManner } from '../../../daemon/bgp/process.ts';
import type { Speaker } from '../../../daemon/bgp/speaker.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { serviceStarter } from '../../../daemon/kernel/service-process.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { GobgpCliSpeaker, gobgp } from '../../fakes/gobgp-cli.ts';
import { HASTY, isRunning, Supervised, seen, startProcess, withFolder } from '../../fakes/supervised.ts';
import { until } from '../../lab/until.ts';
import { skipBecause } from '../../skip.ts';

const run = promisify(execFile);

async function hasGobgpd(): Promise<boolean> {
  return run('gobgpd', ['--version']).then(
    () => true,
    () => false,
  );
}

async function freePort(): Promise<number> {
  const listener = createListener().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const bound = listener.address();
  listener.close();
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}

/** Resolves when a gobgpd answers on the address and it is so; what cannot be read yet is not so. */
function answersOn(host: string, isSo: () => boolean = () => true): Promise<unknown> {
  const look = async (): Promise<boolean> => {
    try {
      return (await gobgp(host, ['global'])).includes('AS:') && isSo();
    } catch {
      return false;
    }
  };
  return until(`an answer on ${host}`, look, Boolean, 8_000);
}

/** What is to be done after the test that runs, also where it fails: no process is left behind. */
const endings: (() => Promise<unknown>)[] = [];

function supervised(...parameters: ConstructorParameters<typeof Supervised>): Supervised {
  const made = new Supervised(...parameters);
  endings.push(() => made.supervisor.stop('keep routes'));
  return made;
}

/** A process of the test's own. */
async function started(...parameters: Parameters<typeof startProcess>): ReturnType<typeof startProcess> {
  const made = await startProcess(...parameters);
  endings.push(async () => {
    if (isRunning(made.pid)) process.kill(made.pid, 'SIGKILL');
    await made.ended;
  });
  return made;
}

async function endAll(): Promise<void> {
  for (const end of endings.splice(0)) await end();
}

function isUnreachable(thrown: unknown): boolean {
  return thrown instanceof FairwayError && thrown.code === 'FW_BGP_UNREACHABLE';
}

describe('the admin address of gobgpd', () => {
  it('is bound besides 127.0.0.1 where it is one of the host, is 127.0.0.1 where it is none, and nothing with port 0', () => {
    assert.deepEqual(adminHosts('127.0.0.1', 50051), ['127.0.0.1:50051']);
    assert.deepEqual(adminHosts('', 50051), ['127.0.0.1:50051']);
    assert.deepEqual(adminHosts('node-1.example', 50051), ['127.0.0.1:50051']);
    assert.deepEqual(adminHosts('192.0.2.1', 50052), ['192.0.2.1:50052', '127.0.0.1:50052']);
    assert.deepEqual(adminHosts('2001:db8::1', 50052), ['[2001:db8::1]:50052', '127.0.0.1:50052']);
    assert.deepEqual(adminHosts('::1', 50052), ['[::1]:50052']);
    assert.deepEqual(adminHosts('0.0.0.0', 50052), ['0.0.0.0:50052'], 'which includes 127.0.0.1');
    assert.deepEqual(adminHosts('192.0.2.1', 0), []);
  });
});

describe('gobgpd as a child', function () {
  this.timeout(20_000);
  this.slow(5_000);
  afterEach(endAll);

  before(async function () {
    if (!(await hasGobgpd())) skipBecause(this, 'gobgpd is not installed (Debian package gobgpd)');
  });

  it('is started in a folder and a session of its own, over a stale socket, with nothing of our environment', () =>
    withFolder(async parent => {
      const at = supervised(join(parent, 'run'));
      assert.throws(() => at.supervisor.speaker(), isUnreachable);
      await mkdir(at.folder);
      const stale = await started(['gobgpd', `--api-hosts=${at.endpoint}`, '--pprof-disable'], join(parent, 'log'));
      await seen('its socket', () => existsSync(at.socket));
      process.kill(stale.pid, 'SIGKILL');
      await stale.ended;
      assert.ok(existsSync(at.socket), 'left without a server: gobgpd itself refuses to start over it');
      at.supervisor.start();
      await at.spoken(1);
      assert.equal(at.supervisor.speaker(), at.speakers[0]);
      assert.equal(
        await at.speakers[0]!.server(new AbortController().signal),
        undefined,
        'it answers, and is not started as a BGP server',
      );
      assert.equal(statSync(at.folder).mode & 0o777, 0o700);
      const environment = readFileSync(`/proc/${at.pid}/environ`, 'utf8').split('\0').filter(Boolean);
      assert.deepEqual(environment.map(each => each.split('=')[0]).sort(), ['LC_ALL', 'PATH']);
      const [, , , , group, session] = readFileSync(`/proc/${at.pid}/stat`, 'utf8').split(' ');
      assert.equal(Number(group), at.pid);
      assert.equal(Number(session), at.pid);
      assert.deepEqual(at.troubles, []);
      const pid = at.pid;
      await at.supervisor.stop('keep routes');
      assert.equal(isRunning(pid), false);
      assert.equal(existsSync(at.socket), false);
    }));

  it('that dies comes back, is told of once each way, and is restarting only where the kernel still had routes', () =>
    withFolder(async folder => {
      const at = supervised(folder);
      at.supervisor.start();
      await at.spoken(1);
      assert.equal(at.supervisor.isRestarting, false, 'the very first one');
      const [first, started] = [at.pid, performance.now()];
      at.hasRoutesInKernel = true;
      process.kill(first, 'SIGKILL');
      await at.spoken(2);
      assert.ok(performance.now() - started < 2_000);
      assert.notEqual(at.pid, first);
      assert.equal(at.supervisor.isRestarting, true);
      assert.equal(at.supervisor.speaker(), at.speakers[1]);
      assert.equal(at.troubles.length, 1);
      assert.equal(at.troubles[0]!.code, 'FW_BGP_UNREACHABLE');
      assert.match(at.troubles[0]!.message, /it ended with signal SIGKILL/);
      assert.equal(at.log.matching(/gobgpd is started/).length, 2);
      await at.supervisor.stop('keep routes');
      assert.equal(at.troubles.length, 1, 'the end we want is no trouble');
    }));

  it('is restarting only for as long as neighbours keep our routes', () =>
    withFolder(async folder => {
      const at = supervised(folder, { restartMs: () => 300 });
      at.hasRoutesInKernel = true;
      at.supervisor.start();
      await at.spoken(1);
      await seen('the end of the restart', () => !at.supervisor.isRestarting);
      await at.supervisor.stop('keep routes');
    }));

  it('outlives a daemon that is killed, and the next one takes it over as it is', () =>
    withFolder(async folder => {
      const main = join(import.meta.dirname, '../../fakes/supervisor-main.ts');
      const daemon = spawn(process.execPath, [main, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
      endings.push(() => Promise.resolve(daemon.kill('SIGKILL')));
      assert.equal(String((await once(daemon.stdout, 'data'))[0]), 'speaker\n');
      const at = supervised(folder);
      const pid = at.pid;
      endings.push(() => Promise.resolve(isRunning(pid) && process.kill(pid, 'SIGKILL')));
      const listening = ['listen-port', String(await freePort()), 'listen-addresses', '127.0.0.1'];
      await gobgp(at.endpoint, ['global', 'as', '64512', 'router-id', '192.0.2.1', ...listening]);
      daemon.kill('SIGKILL');
      await once(daemon, 'exit');
      // A line of its log while nobody reads: with a pipe in place of the file it would end here.
      await gobgp(at.endpoint, ['neighbor', 'add', '127.0.0.99', 'as', '64513']);
      at.hasRoutesInKernel = true;
      at.supervisor.start();
      await at.spoken(1);
      assert.equal(at.pid, pid);
      assert.notEqual(await at.speakers[0]!.server(new AbortController().signal), undefined, 'what was started in it still is');
      assert.equal(at.supervisor.isRestarting, false, 'nothing was restarted');
      assert.equal(at.log.matching(/taken over/).length, 1);
      process.kill(pid, 'SIGKILL');
      await at.spoken(2);
      assert.notEqual(at.pid, pid, 'and is kept running like one of our own');
      assert.equal(at.supervisor.isRestarting, true);
      await at.supervisor.stop('keep routes');
      assert.equal(existsSync(at.socket), false);
    }));

  it('whose daemon was killed ends when no other comes in time: it would tell neighbours for ever of what nobody looks after', () =>
    withFolder(async folder => {
      const main = join(import.meta.dirname, '../../fakes/supervisor-main.ts');
      const daemon = spawn(process.execPath, [main, folder, '2'], { stdio: ['ignore', 'pipe', 'inherit'] });
      endings.push(() => Promise.resolve(daemon.kill('SIGKILL')));
      assert.equal(String((await once(daemon.stdout, 'data'))[0]), 'speaker\n');
      const { pid } = supervised(folder);
      endings.push(() => Promise.resolve(isRunning(pid) && process.kill(pid, 'SIGKILL')));
      await pause(3_000);
      assert.ok(isRunning(pid), 'it goes on while its daemon lives');
      daemon.kill('SIGKILL');
      await seen('gobgpd ends', () => !isRunning(pid));
    }));

  it('of an earlier run that was never noted is found by its socket; one that hangs is ended and replaced', () =>
    withFolder(async folder => {
      const at = supervised(folder);
      const orphan = await started(['gobgpd', `--api-hosts=${at.endpoint}`, '--pprof-disable'], join(folder, 'gobgp.log'));
      await seen('its socket', () => existsSync(at.socket));
      process.kill(orphan.pid, 'SIGSTOP');
      at.supervisor.start();
      await at.spoken(1);
      assert.equal(await orphan.ended, 'signal SIGKILL');
      assert.notEqual(at.pid, orphan.pid);
      await at.supervisor.stop('withdraw');
    }));

  it('of another container with a folder of the same name is left alone', function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'mount namespaces are for root');
    return withFolder(async parent => {
      const folder = join(parent, 'run');
      await mkdir(folder);
      const at = supervised(folder);
      const elsewhere = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', folder] as const;
      const other = await started([...elsewhere, 'gobgpd', `--api-hosts=${at.endpoint}`, '--pprof-disable'], join(parent, 'log'));
      await seen('the other', () => readFileSync(join(parent, 'log'), 'utf8').includes('gobgpd started'));
      at.supervisor.start();
      await at.spoken(1);
      assert.notEqual(at.pid, other.pid);
      await at.supervisor.stop('withdraw');
      assert.equal(isRunning(other.pid), true);
    });
  });

  it('that hangs is killed and started again', () =>
    withFolder(async folder => {
      const at = supervised(folder);
      at.supervisor.start();
      await at.spoken(1);
      const pid = at.pid;
      process.kill(pid, 'SIGSTOP');
      await at.spoken(2);
      assert.equal(isRunning(pid), false);
      assert.match(at.troubles[0]!.message, /it hung and was killed/);
      await at.supervisor.stop('keep routes');
    }));

  it('goes on without an admin port that another program has, and says so once', () =>
    withFolder(async folder => {
      const other = createListener().listen(0, '127.0.0.1');
      await once(other, 'listening');
      const busy = other.address();
      assert.ok(typeof busy === 'object' && busy !== null);
      const free = await freePort();
      const [taken, served] = [`127.0.0.1:${busy.port}`, `127.0.0.1:${free}`];
      const at = supervised(folder, { adminHosts: [taken, served] });
      // One that is asked for the taken address may answer on its socket for a moment before it ends.
      const answersWithout = (killed?: number): Promise<unknown> =>
        answersOn(served, () => {
          const command = at.pid === killed ? '' : readFileSync(`/proc/${at.pid}/cmdline`, 'utf8');
          return command !== '' && !command.includes(taken);
        });
      at.supervisor.start();
      await answersWithout();
      assert.deepEqual(at.troubles, []);
      const first = at.pid;
      process.kill(first, 'SIGKILL');
      await answersWithout(first);
      assert.equal(at.log.matching(/^warn gobgpd cannot answer on/).length, 1);
      other.close();
      process.kill(at.pid, 'SIGKILL');
      await answersOn(taken);
      assert.equal(at.troubles.length, 2);
      await at.supervisor.stop('keep routes');
    }));

  it('that is not installed is told once, with the package, and started when it is', () =>
    withFolder(async folder => {
      let path = '/nonexistent';
      const at = supervised(folder, { startProcess: (argv, file) => serviceStarter({ path })(argv, file) });
      at.supervisor.start();
      await seen('the trouble', () => at.troubles.length > 0);
      await new Promise(resolve => setTimeout(resolve, 1_000));
      assert.deepEqual(
        at.troubles.map(({ code, message }) => `${code} ${message}`),
        ["FW_CAPABILITY_TOOL_MISSING 'gobgpd' is not installed: install the Debian package 'gobgpd'"],
      );
      assert.deepEqual(at.log.lines, []);
      assert.throws(() => at.supervisor.speaker(), isUnreachable);
      path = process.env['PATH'] ?? '';
      await at.spoken(1);
      await at.supervisor.stop('keep routes');
    }));

  it('that fails again and again is started with longer and longer waits', () =>
    withFolder(async folder => {
      const starts: number[] = [];
      const at = supervised(folder, {
        startProcess: (_argv, file) => {
          starts.push(performance.now());
          return startProcess(['gobgpd', '--api-hosts=192.0.2.250:1', '--pprof-disable'], file);
        },
      });
      at.supervisor.start();
      await seen('five starts', () => starts.length >= 5);
      for (const [index, wait] of [50, 100, 200, 400].entries()) {
        const gap = (starts[index + 1] ?? 0) - (starts[index] ?? 0);
        assert.ok(gap >= 0.9 * wait, `${gap} ms between two starts, and ${wait} ms are to be waited`);
      }
      assert.equal(at.troubles.length, 1);
      assert.match(at.troubles[0]!.message, /exit status 1: failed to listen grpc port: listen tcp 192\.0\.2\.250:1/);
      await at.supervisor.stop('keep routes');
    }));

  it('has its warnings in our log, the same one once', () =>
    withFolder(async folder => {
      const at = supervised(folder);
      at.supervisor.start();
      await at.spoken(1);
      const warning = {
        level: 'warning',
        msg: 'sent notification',
        Topic: 'Peer',
        Key: '192.0.2.9',
        Data: 'a secret',
        time: 'now',
      };
      const others = [{ level: 'info', msg: 'Peer Up' }, 'no object', { level: 'error', msg: 'other' }];
      const lines = [warning, warning, ...others].map(line => `${JSON.stringify(line)}\n`);
      appendFileSync(join(folder, 'gobgp.log'), lines.join(''));
      await seen('the lines', () => at.log.matching(/gobgpd: other/).length === 1);
      assert.deepEqual(at.log.matching(/^(warn|error)/), [
        'warn gobgpd: sent notification topic=Peer key=192.0.2.9',
        'error gobgpd: other',
      ]);
      await at.supervisor.stop('keep routes');
    }));
});

describe('a gobgpd that others run', function () {
  this.timeout(20_000);
  this.slow(5_000);
  afterEach(endAll);

  before(async function () {
    if (!(await hasGobgpd())) skipBecause(this, 'gobgpd is not installed (Debian package gobgpd)');
  });

  it('is called until it answers, called again when it was away, and left alone when we stop', () =>
    withFolder(async folder => {
      const endpoint = `unix://${join(folder, 'theirs.sock')}`;
      const speakers: Speaker[] = [];
      const troubles: string[] = [];
      const theirs = () => started(['gobgpd', `--api-hosts=${endpoint}`, '--pprof-disable'], join(folder, 'log'));
      const called = new GobgpEndpoint({
        endpoint,
        connect: to => new GobgpCliSpeaker(to),
        clock: systemClock(),
        timings: { ...HASTY, probeEveryMs: 100, misses: 2 },
        onSpeaker: speaker => speakers.push(speaker),
        onTrouble: error => troubles.push(error.code),
      });
      endings.push(() => called.stop());
      called.start();
      await seen('the trouble', () => troubles.length === 1);
      assert.throws(() => called.speaker(), isUnreachable);
      const first = await theirs();
      await seen('a speaker', () => speakers.length === 1);
      process.kill(first.pid, 'SIGTERM');
      await seen('the loss', () => troubles.length === 2);
      await first.ended;
      const second = await theirs();
      await seen('a speaker', () => speakers.length === 2);
      assert.equal(called.speaker(), speakers[1]);
      assert.equal(called.isRestarting, false);
      called.doubt();
      await seen('a speaker', () => speakers.length === 3);
      assert.deepEqual(troubles, ['FW_BGP_UNREACHABLE', 'FW_BGP_UNREACHABLE', 'FW_BGP_UNREACHABLE']);
      await called.stop();
      assert.equal(isRunning(second.pid), true);
    }));
});

const NEIGHBOR = `
[global.config]
  as = 64513
  router-id = "127.0.0.2"
  local-address-list = ["127.0.0.2"]
[[neighbors]]
  [neighbors.config]
    neighbor-address = "127.0.0.1"
    peer-as = 64512
  [neighbors.transport.config]
    passive-mode = true
`;

describe('what a neighbour hears when we stop', function () {
  this.timeout(40_000);
  this.slow(20_000);
  const namespace = `fw-bgp-${process.pid}`;
  afterEach(endAll);

  before(async function () {
    if (process.getuid?.() !== 0) skipBecause(this, 'network namespaces are for root');
    if (!(await hasGobgpd())) skipBecause(this, 'gobgpd is not installed (Debian package gobgpd)');
    await run('ip', ['netns', 'add', namespace]);
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
  });

  after(async () => {
    await run('ip', ['netns', 'del', namespace]).catch(() => undefined);
  });

  /** The log of a neighbour with which a session was up when we stopped. */
  function logOfNeighbor(manner: StopManner): Promise<string> {
    return withFolder(async folder => {
      const inside = (argv: readonly string[], file: string) => started(['ip', 'netns', 'exec', namespace, ...argv], file);
      const log = join(folder, 'neighbor.log');
      const said = () => readFileSync(log, 'utf8');
      const target = `unix://${join(folder, 'neighbor.sock')}`;
      // It waits to be called: two that call each other at the same moment end each other's calls for half a minute.
      writeFileSync(join(folder, 'neighbor.toml'), NEIGHBOR);
      await inside(['gobgpd', '-f', join(folder, 'neighbor.toml'), `--api-hosts=${target}`, '--pprof-disable'], log);
      const at = supervised(join(folder, 'run'), { startProcess: inside });
      at.supervisor.start();
      await at.spoken(1);
      await seen('the neighbour', () => said().includes('Add a peer'));
      await gobgp(at.endpoint, ['global', 'as', '64512', 'router-id', '127.0.0.1', 'listen-addresses', '127.0.0.1']);
      await gobgp(at.endpoint, ['neighbor', 'add', '127.0.0.2', 'as', '64513']);
      await seen('a session', () => said().includes('Peer Up'), 30_000);
      await at.supervisor.stop(manner);
      await seen('the end of the session', () => said().includes('Peer Down'));
      return said();
    });
  }

  it('is nothing where it is to keep our routes', async () => {
    const log = await logOfNeighbor('keep routes');
    assert.doesNotMatch(log, /notification/i);
  });

  it('is a notification where it is to drop them', async () => {
    const log = await logOfNeighbor('withdraw');
    assert.match(log, /notification/i);
  });
});
