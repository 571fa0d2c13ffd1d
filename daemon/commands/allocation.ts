/** Who hands out load-balancer addresses in this process: by election where there is an API server, else unopposed, with a book of its own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AllocatorOffice, type AllocatorOfficeOptions } from '../allocation/allocator-office.ts';
import { ApiStatusPort } from '../allocation/api-status-port.ts';
import { Unopposed } from '../allocation/election.ts';
import { LeaderElection } from '../allocation/leader-election.ts';
import { leaseIdentity, leasePlace } from '../allocation/lease-place.ts';
import { type OwnStatuses, openOwnStatuses } from '../allocation/own-statuses.ts';
import { ServiceEvents } from '../allocation/service-events.ts';
import type { StatusOrder } from '../allocation/status-port.ts';
import { StatusWriter } from '../allocation/status-writer.ts';
import { ApiObjects } from '../cluster/api-objects.ts';
import type { ClusterSource } from '../cluster/kinds.ts';
import type { Allocation } from '../cluster/snapshot.ts';
import type { ApiTransport } from '../cluster/transport.ts';
import { isEnabled } from '../config/config.ts';
import type { Daemon } from '../daemon.ts';
import { lastingFile } from '../kernel/state-file.ts';
import type { Clock } from '../net/clock.ts';
import { wallNow } from '../net/wall-clock.ts';
import type { Log } from '../observe/log.ts';
import type { LoadBalancerLines } from '../observe/status.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import type { Module } from '../reconcile/module.ts';
import type { Drivers } from '../reconcile/reconciler.ts';
import type { Invocation } from './invocation.ts';
import { stateFolderOf } from './run-folder.ts';
import type { Cluster } from './source.ts';

export interface AllocationOptions {
  readonly invocation: Invocation;
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined while it is not made yet. */
  readonly daemon: () => Daemon | undefined;
}

export interface OpenedAllocation {
  /** That of the cluster, or where there is no API server the same with the addresses that we handed out. */
  readonly source: ClusterSource;
  /** Undefined where the module is off. */
  readonly office: AllocatorOffice | undefined;
  /** Undefined likewise, and where there is no API server. */
  readonly events: ServiceEvents | undefined;
}

export async function openAllocation(options: AllocationOptions): Promise<OpenedAllocation> {
  const { invocation, cluster } = options;
  if (!isEnabled('lb-allocator', invocation.config)) return { source: cluster.source, office: undefined, events: undefined };
  return cluster.transport === undefined
    ? await allocationAlone(options)
    : { source: cluster.source, ...(await allocationByElection(options, cluster.transport)) };
}

/** For a command that looks: what would be handed out if it were for us to do it. Nothing is written. */
export async function lookAtAllocation(
  options: Pick<AllocationOptions, 'invocation' | 'cluster' | 'clock' | 'log'> & Pick<AllocatorOfficeOptions, 'services'>,
): Promise<{
  readonly source: ClusterSource;
  readonly serviceStatus: Drivers['serviceStatus'];
  readonly allocation: Allocation;
}> {
  const { invocation, cluster, clock, services } = options;
  const isAlone = isEnabled('lb-allocator', invocation.config) && cluster.transport === undefined;
  const serviceStatus = new StatusWriter({
    port: { write: () => Promise.resolve({ kind: 'withheld' }) },
    mayWrite: () => false,
    services,
    clock,
    backoff: exponentialBackoff(Math.random),
    observer: { written: () => undefined, failed: () => undefined },
    onChange: () => undefined,
  });
  const allocation: Allocation = { leadership: { isLeader: true }, handedOver: new Map() };
  return { source: isAlone ? await openBook(options) : cluster.source, serviceStatus, allocation };
}

function openBook({ invocation, cluster, clock, log }: Omit<AllocationOptions, 'daemon'>): Promise<OwnStatuses> {
  const file = lastingFile(join(stateFolderOf(invocation.nodeName), 'load-balancer.json'));
  return openOwnStatuses({ source: cluster.source, file, clock, log, wallNow });
}

async function allocationAlone(options: AllocationOptions): Promise<OpenedAllocation> {
  const own = await openBook(options);
  const office = new AllocatorOffice({
    ...common(options, () => undefined),
    election: new Unopposed(),
    port: own,
    relist: () => Promise.resolve(),
  });
  return { source: own, office, events: undefined };
}

async function allocationByElection(
  options: AllocationOptions,
  transport: ApiTransport,
): Promise<{ readonly office: AllocatorOffice; readonly events: ServiceEvents }> {
  const { invocation, cluster, clock, log } = options;
  const { config, nodeName } = invocation;
  const objects = new ApiObjects({ transport, clock });
  const election = new LeaderElection({
    objects,
    lease: await leasePlace(config.environment, path => readFile(path, 'utf8')),
    identity: leaseIdentity(config.environment, nodeName),
    clock,
    wallNow,
    random: Math.random,
    observer: {
      elected: () => {
        log.info('elected: load-balancer addresses are handed out here');
      },
      deposed: () => {
        log.warn('no longer elected: load-balancer addresses are handed out elsewhere');
      },
    },
  });
  const events = new ServiceEvents({
    objects,
    host: nodeName,
    isLeader: () => office.state().leadership.isLeader,
    clock,
    wallNow,
    log,
  });
  const office: AllocatorOffice = new AllocatorOffice({
    ...common(options, order => {
      events.written(order);
    }),
    election,
    port: new ApiStatusPort(objects),
    relist: () => cluster.source.relist?.('Service') ?? Promise.resolve(),
  });
  return { office, events };
}

/** `onWritten`: who tells users of it. */
function common(
  { clock, log, daemon }: AllocationOptions,
  onWritten: (order: StatusOrder) => void,
): Omit<AllocatorOfficeOptions, 'election' | 'port' | 'relist'> {
  return {
    services: () => daemon()?.services() ?? new Map(),
    clock,
    backoff: exponentialBackoff(Math.random),
    observer: {
      written: order => {
        const { key, addresses } = order;
        onWritten(order);
        log.info(
          addresses.length === 0
            ? `Service ${key}: its load-balancer addresses are taken back`
            : `Service ${key} has ${addresses.join(', ')}`,
        );
      },
      // What stays wrong is a diagnostic of the Service.
      failed: () => undefined,
    },
    onElected: () => daemon()?.elected(),
    onChange: () => daemon()?.allocationChanged(),
  };
}

/** For `fairway status`. */
export function allocationLines(office: AllocatorOffice, modules: readonly Module[]): LoadBalancerLines {
  const { leadership } = office.state();
  const { holder } = office.status();
  const summary = modules.map(module => module.summary?.()).find(found => found !== undefined);
  return {
    leadership: leadership.isLeader ? 'addresses are handed out here' : leadership.reason,
    holder: holder === '' ? undefined : holder,
    pools: summary?.pools ?? [],
    waiting: summary?.waiting ?? 0,
  };
}
