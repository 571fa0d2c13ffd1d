import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { listenForGood } from '../../../daemon/observe/lasting-listener.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { LogLines } from '../../fakes/daemon.ts';

describe('a page whose port another program has', () => {
  it('is told once with the flag and how to find that program, and served when the port is free', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const [clock, log] = [new ManualClock(), new LogLines()];
    const pages = new Map([['/healthz', (_query: unknown, response: { end(text: string): void }) => response.end('OK\n')]]);
    const listener = await listenForGood({ address: '127.0.0.1', port, pages, flag: '--health-port', clock, log });
    assert.match(log.lines.join('\n'), new RegExp(`^error --health-port=${port} cannot be listened on: .*EADDRINUSE.*ss -ltnp`));
    await clock.advance(60_000);
    assert.equal(log.lines.length, 1);
    other.close();
    await once(other, 'close');
    await clock.advance(10_000);
    // Listening is the system's work, not the clock's.
    while (log.matching(/is listened on now/).length === 0) await new Promise(resolve => setImmediate(resolve));
    assert.match(log.lines[1] ?? '', /^info --health-port=\d+ is listened on now/);
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/healthz`)).text(), 'OK\n');
    await listener.close();
    await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`));
  });

  it('is left at the stop while it is still tried', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const listener = await listenForGood({
      address: '127.0.0.1',
      port,
      pages: new Map(),
      flag: '--metrics-port',
      clock: new ManualClock(),
      log: new LogLines(),
    });
    await listener.close();
    other.close();
  });
});
