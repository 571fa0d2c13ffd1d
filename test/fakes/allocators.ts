/** Nodes that hand out load-balancer addresses: each a whole daemon on one API server in memory, each to be frozen by itself. */
import { AllocatorOffice } from '../../daemon/allocation/allocator-office.ts';
import { ApiStatusPort } from '../../daemon/allocation/api-status-port.ts';
import { ApiObjects } from '../../daemon/cluster/api-objects.ts';
import { ApiSource } from '../../daemon/cluster/api-source.ts';
import type { LoadBalancer, Service } from '../../daemon/cluster/kinds.ts';
import { isNewerVersion } from '../../daemon/cluster/watch-event.ts';
import { metricsStatus } from '../../daemon/commands/measure.ts';
import { UNOBSERVED } from '../../daemon/commands/source.ts';
import { Daemon } from '../../daemon/daemon.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { Metrics } from '../../daemon/observe/metrics.ts';
import { entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { kindsRead, type Module } from '../../daemon/reconcile/module.ts';
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

  constructor(name: string, clock: ManualClock, api: MemoryApi, allocator: Module) {
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
      onElected: () => this.daemon.elected(),
      onChange: () => this.daemon.allocationChanged(),
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

/** The least that an allocator must do: the asked or the lowest free address of 192.0.2.0/24 for each Service, in the order of their keys. */
export function plainAllocator(): Module {
  return {
    name: 'lb-allocator',
    reads: ['Service'],
    writes: ['serviceStatus'],
    plan({ services, allocation: { leadership, handedOver } }) {
      if (!leadership.isLeader) return { fragments: new Map(), undecided: ['serviceStatus'] };
      const all = [...services].filter((pair): pair is [string, Balancer] => pair[1].type === 'LoadBalancer');
      const held = new Map<string, readonly IpAddress[]>();
      for (const [key, { meta, loadBalancer }] of all) {
        const handed = handedOver.get(key);
        const isNewer =
          handed?.uid === meta.uid &&
          (handed.version === undefined || isNewerVersion(handed.version, loadBalancer.resourceVersion));
        held.set(key, isNewer ? handed.addresses : loadBalancer.ingressIPs);
      }
      const taken = new Set([...held.values()].flat());
      const fragments = new Map<string, Fragment>();
      for (const [key, { meta, loadBalancer }] of all.sort(([a], [b]) => (a < b ? -1 : 1))) {
        const found = held.get(key) ?? [];
        const address = found[0] ?? freeOf(taken, loadBalancer.loadBalancerIP);
        if (address === undefined) continue;
        taken.add(address);
        const value = { namespace: meta.namespace, name: meta.name, uid: meta.uid, addresses: [address], found };
        const owner = { kind: 'Service', key, since: 0 } as const;
        fragments.set(ownerKey(owner), { owner, entries: [entry('serviceStatus', value)], diagnostics: [] });
      }
      return { fragments };
    },
  };
}

type Balancer = Service & { readonly loadBalancer: LoadBalancer };

function freeOf(taken: ReadonlySet<string>, asked: string): IpAddress | undefined {
  if (asked !== '') return taken.has(asked) ? undefined : (asked as IpAddress);
  for (let last = 1; last < 255; last++) if (!taken.has(`192.0.2.${last}`)) return `192.0.2.${last}` as IpAddress;
  return undefined;
}
