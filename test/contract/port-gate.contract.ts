// Runs as root in a network namespace of its own: in the lab's guest, or under `unshare -n`.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { toolOf } from '../../daemon/kernel/iptables-flavour.ts';
import { GATE_LIMIT_MS, type PortGate, portGate } from '../../daemon/kernel/port-gate.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { ManualClock } from '../fakes/clock.ts';
import { until } from '../lab/until.ts';

const PORT = 11790;
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: () => undefined });

for (const flavour of ['legacy', 'nft'] as const) {
  describe(`a gate of a port, by iptables (${flavour}),`, function () {
    this.timeout(30_000);
    const tools = {
      flavour,
      reason: 'chosen by the test',
      byFamily: { ipv4: toolOf(flavour, 'ipv4'), ipv6: toolOf(flavour, 'ipv6') },
    };
    const clock = new ManualClock();
    const gateOf = (port = PORT): PortGate => portGate({ runner, tools, clock, port, reason: 'fairway: a test, not yet' });
    const rules = (): string =>
      ['iptables', 'ip6tables']
        .map(program => spawnSync(`${program}-${flavour}`, ['-S', 'INPUT'], { encoding: 'utf8' }).stdout)
        .join('');
    let listener: Server;
    const sockets: Socket[] = [];

    before(async () => {
      spawnSync('ip', ['link', 'set', 'lo', 'up']);
      listener = createServer(socket => socket.on('error', () => undefined).pipe(socket)).listen(PORT, '::');
      await once(listener, 'listening');
    });
    afterEach(async () => {
      await gateOf().clear();
      for (const socket of sockets.splice(0)) socket.destroy();
    });
    after(() => {
      listener.close();
    });

    const call = (host: string): Socket => {
      const socket = connect(PORT, host);
      sockets.push(socket);
      return socket;
    };

    for (const host of ['127.0.0.1', '::1']) {
      it(`holds who calls ${host} until it opens, and nobody who is connected`, async () => {
        const connected = call(host);
        await once(connected, 'connect');
        const gate = gateOf();
        await gate.close();
        const caller = call(host);
        const events: string[] = [];
        caller.on('connect', () => events.push('connect')).on('error', ({ message }) => events.push(message));
        connected.write('still here');
        assert.equal(String((await once(connected, 'data'))[0]), 'still here');
        await pause(500);
        assert.deepEqual(events, []);
        await gate.open();
        await until(
          'the caller is connected',
          async () => events.join(),
          seen => seen === 'connect',
          10_000,
        );
        assert.doesNotMatch(rules(), /DROP/);
      });
    }

    it('opens by itself', async () => {
      await gateOf().close();
      assert.equal(rules().match(/not yet/g)?.length, 2, 'one rule a family, which says why');
      await clock.advance(GATE_LIMIT_MS);
      await until(
        'no rule',
        async () => rules(),
        seen => !seen.includes('DROP'),
        10_000,
      );
    });

    it('is cleared of what killed processes left, and of nothing else', async () => {
      await gateOf().close();
      await gateOf().close();
      const other = gateOf(PORT + 1);
      await other.close();
      await gateOf().clear();
      assert.equal(rules().match(/DROP/g)?.length, 2);
      assert.doesNotMatch(rules(), new RegExp(`--dport ${PORT} `));
      await other.open();
    });

    it('stays open where iptables does not work', async () => {
      const gate = portGate({ runner, tools: { ...tools, byFamily: {} }, clock, port: PORT, reason: 'none' });
      await gate.close();
      await once(call('127.0.0.1'), 'connect');
      await gate.open();
    });
  });
}
