// Runs inside a kernel with IPVS that holds no virtual services of its own: in the lab's guest, or in a fresh network namespace.
// Address plan: virtual addresses 10.96.0.10 and fd00:96::a, the destination 127.0.0.1 of a server in this process.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { readServiceTraffic } from '../../daemon/kernel/ipvs-stats.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { ServiceTraffic } from '../../daemon/reconcile/service-traffic.ts';
import { listenerKey } from '../../daemon/reconcile/tables.ts';
import { until } from '../lab/until.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock() });
const LONG = '[2001:db8:1111:2222:3333:4444:5555:6666]:65535';
const CONNECTIONS = 5;

function tool(name: string, args: string, stdin = ''): void {
  const { stderr, status } = spawnSync(name, args.split(' '), { input: stdin, encoding: 'utf8' });
  assert.equal(status, 0, `${name} ${args}: ${stderr}`);
}

describe('what IPVS counts', () => {
  let server: Server;

  before(async () => {
    tool('ip', 'link set lo up');
    tool('ip', 'addr add 10.96.0.10/32 dev lo');
    server = createServer(socket => socket.end('hello'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const script = [
      '-A -t 10.96.0.10:80 -s rr',
      `-a -t 10.96.0.10:80 -r 127.0.0.1:${(server.address() as AddressInfo).port} -m`,
      '-A -u 10.96.0.10:53 -s rr -o',
      '-A --sctp-service 10.96.0.10:132 -s rr',
      `-A -u ${LONG} -s mh`,
      '-A -f 4660 -s rr',
      '-A -f 4660 -6 -s rr',
      '-A -f 3000000000 -s rr',
    ];
    tool('ipvsadm', '-R', `${script.join('\n')}\n`);
  });

  after(() => {
    spawnSync('ipvsadm', ['-C']);
    spawnSync('ip', ['addr', 'del', '10.96.0.10/32', 'dev', 'lo']);
    server.close();
  });

  it('is read of all kinds of virtual services', async () => {
    const traffic = await readServiceTraffic(runner, never);
    assert.deepEqual(traffic.map(({ listener }) => listenerKey(listener)).sort(), [
      'FWM 3000000000 ipv4',
      'FWM 4660 ipv4',
      'FWM 4660 ipv6',
      'SCTP 10.96.0.10:132',
      'TCP 10.96.0.10:80',
      'UDP 10.96.0.10:53',
      `UDP ${LONG}`,
    ]);
  });

  it('is connections, packets and bytes of both ways', async function () {
    this.timeout(15_000);
    for (let index = 0; index < CONNECTIONS; index++) {
      const socket = connect(80, '10.96.0.10').resume();
      await once(socket, 'close');
    }
    const isWeb = ({ listener }: ServiceTraffic): boolean => listenerKey(listener) === 'TCP 10.96.0.10:80';
    const traffic = await until(
      'the kernel has counted all',
      () => readServiceTraffic(runner, never),
      seen => (seen.find(isWeb)?.connections ?? 0) >= CONNECTIONS,
      10_000,
    );
    const web = traffic.find(isWeb);
    assert.ok(web !== undefined);
    assert.equal(web.connections, CONNECTIONS);
    // At least SYN, ACK and FIN the one way, SYN and FIN with 5 bytes the other; headers count.
    assert.ok(web.packetsIn >= 3 * CONNECTIONS && web.packetsOut >= 2 * CONNECTIONS, JSON.stringify(web));
    assert.ok(web.bytesIn >= 40 * web.packetsIn && web.bytesOut >= 40 * web.packetsOut + 5 * CONNECTIONS, JSON.stringify(web));
    assert.ok(traffic.filter(each => each !== web).every(({ connections }) => connections === 0));
  });
});
