/** The daemon as a service of systemd: what is told when, and by the real tool to a real socket. */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable } from 'node:stream';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemdNotify } from '../../daemon/kernel/systemd-notify.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { ServiceNotices } from '../../daemon/observe/sd-notify.ts';
import { settle } from '../fakes/clock.ts';
import { startWorld } from '../fakes/daemon.ts';
import { node, service, slice } from '../fixtures/cluster.ts';
import { skipBecause } from '../skip.ts';

/** Receives datagrams as systemd does, one message a line, its assignments parted by blanks. A descriptor that comes along is closed, which ends the barrier. */
const LISTENER = `
use Socket;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($socket, sockaddr_un($ARGV[0])) or die $!;
$| = 1;
print "listens\\n";
while (defined recv($socket, my $message, 65536, 0)) { $message =~ tr/\\n/ /; print "$message\\n" }
`;

function hasTool(): boolean {
  try {
    execFileSync('systemd-notify', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('a daemon started by systemd', function () {
  this.timeout(20_000);
  const folder = mkdtempSync(join(tmpdir(), 'fairway-notify-'));
  const socket = join(folder, 'notify');
  let listener: ChildProcessByStdio<null, Readable, null> | undefined;
  let lines: Interface | undefined;
  const heard: string[] = [];
  let sent = Promise.resolve();

  before(async function () {
    if (!hasTool()) skipBecause(this, 'systemd-notify is not installed');
    listener = spawn('perl', ['-e', LISTENER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    lines = createInterface(listener.stdout);
    lines.on('line', line => heard.push(line));
    await hears(/^listens$/);
  });
  after(() => {
    lines?.close();
    listener?.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Waits until so many messages of this kind have come in all; the last of them. */
  async function hears(pattern: RegExp, count = 1): Promise<string> {
    const found = Promise.withResolvers<string>();
    const look = (): void => {
      const line = heard.filter(text => pattern.test(text))[count - 1];
      if (line !== undefined) found.resolve(line);
    };
    lines?.on('line', look);
    look();
    const line = await found.promise;
    lines?.off('line', look);
    // The clock is moved by hand: only when the tool has ended may the next word come.
    await sent;
    await settle();
    return line;
  }

  it('says by systemd-notify that it waits, lives, is ready, complains and stops', async () => {
    const world = startWorld();
    const runner = processRunner({ environment: { PATH: process.env['PATH'], NOTIFY_SOCKET: socket }, clock: systemClock() });
    const send = systemdNotify(runner);
    const notices = new ServiceNotices({
      send: (assignments, signal) => {
        const sending = send(assignments, signal);
        sent = sending;
        return sending;
      },
      health: () => world.daemon.health(),
      watchdogMs: 60_000,
      clock: world.clock,
      log: world.log,
      signal: new AbortController().signal,
    });
    world.settled.push(() => notices.look());
    notices.start();
    assert.equal(await hears(/STATUS/), 'STATUS=waits for the first full lists: services');
    for (const beats of [1, 2, 3]) {
      await world.clock.advance(30_000);
      await hears(/WATCHDOG=1/, beats);
    }
    assert.deepEqual(
      heard.filter(line => line.includes('READY')),
      [],
    );
    world.source.list('Node', [node(1)]);
    world.source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    world.source.list('Service', [service('web')]);
    await world.clock.advance(100);
    assert.match(await hears(/READY=1/), /STATUS=in force: services/);
    world.source.fails('Service', 'the API server refuses us');
    await world.clock.advance(30_000);
    assert.match(await hears(/degraded/), /services degraded: Service: the API server refuses us/);
    await Promise.all([notices.stop(), world.daemon.stop()]);
    await hears(/STOPPING=1/);
    assert.deepEqual(world.log.matching(/systemd does not hear/), []);
  });
});
