import assert from 'node:assert/strict';
import { FairwayError } from '../../../daemon/errors.ts';
import type { Health, ModuleHealth } from '../../../daemon/observe/health.ts';
import { askedBySystemd, ServiceNotices, statusLine } from '../../../daemon/observe/sd-notify.ts';
import { ManualClock, settle } from '../../fakes/clock.ts';
import { LogLines } from '../../fakes/daemon.ts';

const OK: ModuleHealth = { state: 'ok' };
const STARTING: ModuleHealth = { state: 'starting' };

function health(modules: Readonly<Record<string, ModuleHealth>>, state: Partial<Health> = {}): Health {
  return { isLive: true, isNodeLeaving: false, modules: new Map(Object.entries(modules)), ...state };
}

function degraded(reason: string): ModuleHealth {
  return { state: 'degraded', reason, since: 0 };
}

/** What systemd is told by a daemon whose health a test sets. */
function serviceWith(watchdogMs: number | undefined) {
  const clock = new ManualClock();
  const log = new LogLines();
  const told: string[] = [];
  const abort = new AbortController();
  const world = { health: health({ services: STARTING }), refuses: undefined as Error | undefined };
  const notices = new ServiceNotices({
    send: assignments => {
      if (world.refuses !== undefined) return Promise.reject(world.refuses);
      told.push([...assignments].sort().join(' | '));
      return Promise.resolve();
    },
    health: () => world.health,
    watchdogMs,
    clock,
    log,
    signal: abort.signal,
  });
  return { clock, log, told, world, notices };
}

describe('what systemd hears of the daemon', () => {
  it('is that it is ready once every module has converged, at once and a single time', async () => {
    const { clock, told, world, notices } = serviceWith(undefined);
    notices.start();
    await settle();
    world.health = health({ services: OK, policy: STARTING });
    notices.look();
    await settle();
    assert.deepEqual(told, ['STATUS=waits for the first full lists: services']);
    world.health = health({ services: OK, policy: OK });
    notices.look();
    await settle();
    assert.deepEqual(told.slice(1), ['READY=1 | STATUS=in force: services, policy']);
    await clock.advance(120_000);
    assert.equal(told.length, 2);
  });

  it('is what it complains of when that changes, and no more often than every two seconds', async () => {
    const { clock, told, world, notices } = serviceWith(undefined);
    world.health = health({ services: OK });
    notices.start();
    await settle();
    for (const name of ['a', 'b', 'c']) {
      world.health = health({ services: degraded(`virtualServer ${name}: refused\nby the kernel`) });
      notices.look();
      await clock.advance(100);
    }
    assert.deepEqual(told.slice(1), []);
    await clock.advance(2000);
    assert.deepEqual(told.slice(1), ['STATUS=services degraded: virtualServer c: refused by the kernel']);
    world.health = health({ services: OK });
    await clock.advance(30_000);
    assert.deepEqual(told.slice(2), ['STATUS=in force: services']);
  });

  it('is a beat at half the time of the watchdog while the loop is live, and none while it is wedged', async () => {
    const { clock, told, world, notices } = serviceWith(60_000);
    world.health = health({ services: OK });
    notices.start();
    await settle();
    const beats = () => told.filter(text => text.includes('WATCHDOG=1')).length;
    await clock.advance(120_000);
    assert.equal(beats(), 4);
    world.health = health({ services: OK }, { isLive: false });
    await clock.advance(120_000);
    assert.equal(beats(), 4);
    assert.match(told.at(-1) ?? '', /^STATUS=the reconcile loop has not ticked in time/);
    world.health = health({ services: OK });
    await clock.advance(30_000);
    assert.equal(beats(), 5);
  });

  it('is that it stops, after which there is no beat', async () => {
    const { clock, told, world, notices } = serviceWith(60_000);
    world.health = health({ services: OK });
    notices.start();
    await settle();
    await notices.stop();
    assert.match(told.at(-1) ?? '', /^STATUS=stops .* \| STOPPING=1$/);
    notices.look();
    await clock.advance(120_000);
    assert.equal(told.length, 2);
  });

  it('comes late where it was refused at first, with what is then true', async () => {
    const { clock, told, log, world, notices } = serviceWith(60_000);
    world.refuses = new FairwayError('FW_COMMAND_FAILED', "'systemd-notify': Failed to notify init system: Connection refused");
    world.health = health({ services: OK });
    notices.start();
    await clock.advance(60_000);
    assert.deepEqual(told, []);
    world.refuses = undefined;
    await clock.advance(30_000);
    assert.deepEqual(told, ['READY=1 | STATUS=in force: services | WATCHDOG=1']);
    assert.equal(log.matching(/^warn systemd does not hear of our state.*Connection refused/).length, 1);
    assert.equal(log.matching(/^info systemd hears of our state again/).length, 1);
  });

  it('is nothing where systemd-notify is not installed, said once', async () => {
    const { clock, told, log, world, notices } = serviceWith(60_000);
    world.refuses = new FairwayError(
      'FW_CAPABILITY_TOOL_MISSING',
      "'systemd-notify' is not installed: install the Debian package 'systemd'",
    );
    world.health = health({ services: OK });
    notices.start();
    await clock.advance(600_000);
    await notices.stop();
    assert.deepEqual(told, []);
    assert.equal(log.matching(/systemd-notify' is not installed/).length, 1);
  });

  it('fits into one line of bounded length', () => {
    const line = statusLine(health({ services: degraded('x'.repeat(1000)) }, { isNodeLeaving: true }));
    assert.equal(line.length, 300);
    assert.doesNotMatch(line, /\n/);
  });
});

describe('the environment that systemd starts a service with', () => {
  it('says whether and how often systemd wants to hear of it', () => {
    assert.equal(askedBySystemd({}), undefined);
    assert.equal(askedBySystemd({ NOTIFY_SOCKET: '', WATCHDOG_USEC: '60000000' }), undefined);
    assert.deepEqual(askedBySystemd({ NOTIFY_SOCKET: '/run/systemd/notify' }), { watchdogMs: undefined });
    assert.deepEqual(askedBySystemd({ NOTIFY_SOCKET: '@x', WATCHDOG_USEC: '60000000' }), { watchdogMs: 60_000 });
  });
});
