/** Nodes that hand out load-balancer addresses: each a whole daemon, with nothing else to do. */

import { AllocatorOffice } from '../../daemon/allocation/allocator-office.ts';
import { ApiStatusPort } from '../../daemon/allocation/api-status-port.ts';
import type { Election } from '../../daemon/allocation/election.ts';
import { ApiObjects } from '../../daemon/cluster/api-objects.ts';
import { ApiSource } from '../../daemon/cluster/api-source.ts';
import type { ApiTransport } from '../../daemon/cluster/transport.ts';
import { metricsStatus } from '../../daemon/commands/measure.ts';
import { UNOBSERVED } from '../../daemon/commands/source.ts';
import { Daemon } from '../../daemon/daemon.ts';
import type { Clock } from '../../daemon/net/clock.ts';
import { Metrics } from '../../daemon/observe/metrics.ts';
import { kindsRead } from '../../daemon/reconcile/module.ts';
import { lbAllocatorModule } from '../../modules/lb-allocator/module.ts';
import { ranges } from '../fixtures/address-pools.ts';
import { hostFacts } from '../fixtures/cluster.ts';
import { Candidate } from './candidates.ts';
import type { ManualClock } from './clock.ts';
import { LogLines } from './daemon.ts';
import type { MemoryApi } from './memory-api.ts';
import type { ApiObject } from './object-store.ts';
import { fakeTables } from './tables.ts';

export interface AllocatorOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly transport: ApiTransport;
  readonly election: Election;
  /** `--loadbalancer-ip-range`. */
  readonly pool: string;
}

export class AllocatorNode {
  readonly office: AllocatorOffice;
  readonly daemon: Daemon;
  readonly log = new LogLines();

  constructor({ name, clock, transport, election, pool }: AllocatorOptions) {
    const allocator = lbAllocatorModule({ flagRanges: ranges(pool), hasNamedPools: false, servesDefaultClass: true });
    const source = new ApiSource({
      kinds: kindsRead([allocator]),
      transport,
      clock,
      random: () => 0.5,
      observer: UNOBSERVED,
    });
    const backoff = { delay: (failures: number) => 500 * 2 ** Math.min(failures - 1, 7) };
    this.office = new AllocatorOffice({
      election,
      port: new ApiStatusPort(new ApiObjects({ transport, clock })),
      relist: () => source.relist('Service'),
      services: () => this.daemon.services(),
      clock,
      backoff,
      observer: { written: () => undefined, failed: () => undefined },
      onElected: () => this.daemon.elected(),
      onChange: () => this.daemon.allocationChanged(),
    });
    const metrics: Metrics = new Metrics({
      version: 'test',
      clock,
      wallNow: () => clock.now(),
      status: () => metricsStatus(this.daemon, 0, clock.now()),
    });
    this.daemon = new Daemon({
      nodeName: name,
      poolsKey: '',
      modules: [allocator],
      drivers: { ...fakeTables(), serviceStatus: this.office.writer },
      source,
      bgp: undefined,
      allocation: this.office,
      host: hostFacts(),
      clock,
      backoff,
      breathe: () => Promise.resolve(),
      log: this.log,
      metrics,
      auditPeriodMs: 60_000,
      auditPace: 'adaptive',
      cacheSyncTimeoutMs: 60_000,
    });
  }

  start(): void {
    this.daemon.start();
  }

  async stop(): Promise<void> {
    await this.office.stop();
    await this.daemon.stop();
  }
}

/** On one API server in memory, to be frozen by itself. */
export class SleepyAllocator extends AllocatorNode {
  readonly candidate: Candidate;

  constructor(name: string, clock: ManualClock, api: MemoryApi, pool: string) {
    const candidate = new Candidate(name, clock, api);
    super({ name, clock: candidate.process, transport: candidate.process, election: candidate.election, pool });
    this.candidate = candidate;
  }

  /** As a machine that sleeps: nothing runs and nothing is sent; what was sent arrives. */
  freeze(): void {
    this.candidate.process.freeze();
  }

  async thaw(): Promise<void> {
    await this.candidate.process.thaw();
  }
}

export function balancer(name: string, loadBalancerIP = ''): ApiObject {
  const metadata = { namespace: 'shop', name, uid: `uid-${name}`, creationTimestamp: '2026-01-02T03:04:05Z' };
  const spec = { type: 'LoadBalancer', clusterIP: '10.96.0.10', ports: [{ port: 80 }], loadBalancerIP };
  return { apiVersion: 'v1', kind: 'Service', metadata, spec, status: { loadBalancer: {} } };
}
