/** Nodes that hand out load-balancer addresses: each a whole daemon on one API server in memory, each to be frozen by itself. */
import { AllocatorOffice } from '../../daemon/allocation/allocator-office.ts';
import { ApiStatusPort } from '../../daemon/allocation/api-status-port.ts';
import { ApiObjects } from '../../daemon/cluster/api-objects.ts';
import { ApiSource } from '../../daemon/cluster/api-source.ts';
import { metricsStatus } from '../../daemon/commands/measure.ts';
import { UNOBSERVED } from '../../daemon/commands/source.ts';
import { Daemon } from '../../daemon/daemon.ts';
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

export class AllocatorNode {
  readonly candidate: Candidate;
  readonly office: AllocatorOffice;
  readonly daemon: Daemon;
  readonly log = new LogLines();

  /** @param pool `--loadbalancer-ip-range` */
  constructor(name: string, clock: ManualClock, api: MemoryApi, pool: string) {
    const allocator = lbAllocatorModule({ flagRanges: ranges(pool), hasNamedPools: false, servesDefaultClass: true });
    this.candidate = new Candidate(name, clock, api);
    const { process, election } = this.candidate;
    const source = new ApiSource({
      kinds: kindsRead([allocator]),
      transport: process,
      clock: process,
      random: () => 0.5,
      observer: UNOBSERVED,
    });
    const backoff = { delay: (failures: number) => 500 * 2 ** Math.min(failures - 1, 7) };
    this.office = new AllocatorOffice({
      election,
      port: new ApiStatusPort(new ApiObjects({ transport: process, clock: process })),
      relist: () => source.relist('Service'),
      services: () => this.daemon.services(),
      clock: process,
      backoff,
      observer: { written: () => undefined, failed: () => undefined },
      onElected: () => this.daemon.allocationChanged('elected'),
      onChange: () => this.daemon.allocationChanged('progress'),
    });
    const metrics: Metrics = new Metrics({
      version: 'test',
      clock: process,
      wallNow: () => clock.now(),
      status: () => metricsStatus(this.daemon, 0, clock.now()),
    });
    this.daemon = new Daemon({
      nodeName: name,
      poolsKey: '',
      modules: [allocator],
      poolsKey: 'kube-system/pools',
      drivers: { ...fakeTables(), serviceStatus: this.office.writer },
      source,
      bgp: undefined,
      allocation: this.office,
      host: hostFacts(),
      clock: process,
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
    this.office.start();
  }

  /** As a machine that sleeps: nothing runs and nothing is sent; what was sent arrives. */
  freeze(): void {
    this.candidate.process.freeze();
  }

  async thaw(): Promise<void> {
    await this.candidate.process.thaw();
  }

  async stop(): Promise<void> {
    await this.office.stop();
    await this.daemon.stop();
  }
}

export function balancer(name: string, loadBalancerIP = ''): ApiObject {
  const metadata = { namespace: 'shop', name, uid: `uid-${name}`, creationTimestamp: '2026-01-02T03:04:05Z' };
  const spec = { type: 'LoadBalancer', clusterIP: '10.96.0.10', ports: [{ port: 80 }], loadBalancerIP };
  return { apiVersion: 'v1', kind: 'Service', metadata, spec, status: { loadBalancer: {} } };
}
