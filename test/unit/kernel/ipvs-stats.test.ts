import assert from 'node:assert/strict';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { readServiceTraffic } from '../../../daemon/kernel/ipvs-stats.ts';
import { listenerKey } from '../../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;

/** Printed by ipvsadm 1.31 on Linux 6.1.192; `--rate` has the same form. */
const STATS = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
FWM  -1294967296                         0        0        0        0        0
TCP  10.96.0.10:80                      40      200      200    10960    50720
  -> 10.244.1.5:8080                    40      200      200    10960    50720
TCP  10.96.0.10:6379                     0        0        0        0        0
UDP  10.96.0.10:53                       0        0        0        0        0
SCTP 10.96.0.10:132                      0        0        0        0        0
TCP  [fd00:96::a]:80                     0        0        0        0        0
  -> [fd00:10:1::5]:8080                 0        0        0        0        0
FWM  4660                                0        0        0        0        0
  -> 10.244.1.5:0                        0        0        0        0        0
FWM  4660 IPv6                           0        0        0        0        0
`;
const RATE = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
FWM  -1294967296                         0        0        0        0        0
TCP  10.96.0.10:80                       4       22       22     1199     5547
  -> 10.244.1.5:8080                     4       22       22     1199     5547
TCP  10.96.0.10:6379                     0        0        0        0        0
UDP  10.96.0.10:53                       0        0        0        0        0
SCTP 10.96.0.10:132                      0        0        0        0        0
TCP  [fd00:96::a]:80                     0        0        0        0        0
  -> [fd00:10:1::5]:8080                 0        0        0        0        0
FWM  4660                                0        0        0        0        0
  -> 10.244.1.5:0                        0        0        0        0        0
FWM  4660 IPv6                           0        0        0        0        0
`;

/** An ipvsadm that prints this. */
function printing(stats: string, rate: string, result: Partial<CommandResult> = {}): CommandRunner {
  return {
    run: () => Promise.reject(new Error('its output is too large to hold')),
    lines({ argv }, onLine) {
      for (const line of (argv.includes('--stats') ? stats : rate).split('\n')) onLine(line);
      return Promise.resolve({ status: 0, stdout: '', stderr: '', ...result });
    },
  };
}

describe('what IPVS counts', () => {
  it('is read of every virtual service, not of its destinations', async () => {
    const traffic = await readServiceTraffic(printing(STATS, RATE), never);
    assert.deepEqual(
      traffic.map(({ listener }) => listenerKey(listener)),
      [
        'FWM 3000000000 ipv4',
        'TCP 10.96.0.10:80',
        'TCP 10.96.0.10:6379',
        'UDP 10.96.0.10:53',
        'SCTP 10.96.0.10:132',
        'TCP [fd00:96::a]:80',
        'FWM 4660 ipv4',
        'FWM 4660 ipv6',
      ],
    );
    assert.deepEqual(traffic[1], {
      listener: { by: 'address', protocol: 'TCP', address: '10.96.0.10', port: 80 },
      connections: 40,
      packetsIn: 200,
      packetsOut: 200,
      bytesIn: 10960,
      bytesOut: 50720,
      connectionRate: 4,
      packetRateIn: 22,
      packetRateOut: 22,
      byteRateIn: 1199,
      byteRateOut: 5547,
    });
  });

  it('may be wider than its columns', async () => {
    const wide = 'UDP  [2001:db8:1111:2222:3333:4444:5555:6666]:65535 123456789012 1 2 9876543210123 18446744073709551615\n';
    const [traffic] = await readServiceTraffic(printing(wide, wide), never);
    assert.ok(traffic !== undefined);
    assert.equal(traffic.connections, 123_456_789_012);
    assert.equal(traffic.bytesIn, 9_876_543_210_123);
    assert.equal(traffic.bytesOut, 2 ** 64);
  });

  it('is left out of a virtual service that came or went meanwhile', async () => {
    const rate = RATE.replace(/^UDP.*\n/m, 'UDP  10.96.0.99:53                       0        0        0        0        0\n');
    const traffic = await readServiceTraffic(printing(STATS, rate), never);
    assert.equal(traffic.length, 7);
    assert.ok(!traffic.some(({ listener }) => listener.by === 'address' && listener.port === 53));
  });

  it('cannot be read where ipvsadm fails or prints another thing', async () => {
    const failing = printing('', '', { status: 2, stderr: "Can't initialize ipvs: Protocol not available\n" });
    await assert.rejects(readServiceTraffic(failing, never), {
      code: 'FW_COMMAND_FAILED',
      message: "'ipvsadm -Ln --stats --exact' failed: Can't initialize ipvs: Protocol not available",
    });
    for (const line of ['TCP  nonsense:80   1 2 3 4 5', 'TCP  10.96.0.10:80   1234M 2 3 4 5', 'ESP  10.96.0.10:0 1 2 3 4 5'])
      await assert.rejects(readServiceTraffic(printing(line, ''), never), { code: 'FW_READ_UNPARSABLE' }, line);
  });
});
