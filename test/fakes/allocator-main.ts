/**
 * An allocator of load-balancer addresses as a process, with a Lease of three seconds:
 *
 *     node test/fakes/allocator-main.ts KUBECONFIG NAME POOL
 *
 * Each line on stdout is a change: `{"leader":true}`. It ends on SIGTERM, having given up the Lease.
 */
import { readFile } from 'node:fs/promises';
import { LeaderElection } from '../../daemon/allocation/leader-election.ts';
import { ApiObjects } from '../../daemon/cluster/api-objects.ts';
import { openCredentials } from '../../daemon/cluster/kubeconfig.ts';
import { Transport } from '../../daemon/cluster/transport.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { AllocatorNode } from './allocators.ts';

const [, , kubeconfig = '', name = '', pool = ''] = process.argv;
const clock = systemClock();
const credentials = await openCredentials({ kubeconfig, master: '', environment: {}, readFile: path => readFile(path) });
const transport = new Transport({ credentials, clock, userAgent: `${name}/test` });
const election = new LeaderElection({
  objects: new ApiObjects({ transport, clock }),
  lease: { namespace: 'kube-system', name: 'kube-router-lballoc' },
  identity: name,
  clock,
  wallNow: () => Date.now(),
  random: Math.random,
  observer: { elected: () => tell(true), deposed: () => tell(false) },
  timings: { leaseMs: 3000, renewMs: 2000, retryMs: 250, requestMs: 1000 },
});
const node = new AllocatorNode({ name, clock, transport, election, pool });
node.start();
process.once('SIGTERM', () => {
  void node.stop().then(() => process.exit(0));
});

function tell(leader: boolean): void {
  process.stdout.write(`${JSON.stringify({ leader })}\n`);
}
