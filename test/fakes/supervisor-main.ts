/** A process that keeps a gobgpd running until it is killed: what a daemon that dies leaves behind. Takes the folder. */
import { BGP_PROCESS_TIMINGS } from '../../daemon/bgp/process.ts';
import { GobgpdSupervisor } from '../../daemon/bgp/supervisor.ts';
import { serviceStarter } from '../../daemon/kernel/service-process.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { LogLines } from './daemon.ts';
import { GobgpCliSpeaker } from './gobgp-cli.ts';

new GobgpdSupervisor({
  folder: process.argv[2] ?? '',
  adminHosts: [],
  startProcess: serviceStarter({ path: process.env['PATH'] ?? '' }),
  startWatch: serviceStarter({ path: process.env['PATH'] ?? '' }),
  graceSeconds: () => Number(process.argv[3] ?? 60),
  connect: endpoint => new GobgpCliSpeaker(endpoint),
  hasRoutesInKernel: () => false,
  restartMs: () => 90_000,
  clock: systemClock(),
  log: new LogLines(),
  timings: BGP_PROCESS_TIMINGS,
  onSpeaker: () => process.stdout.write('speaker\n'),
  onTrouble: error => process.stdout.write(`${error.message}\n`),
}).start();
