/** What a running daemon is measured by: metrics that are asked of the daemon, of its tools and of gobgpd. */
import { setImmediate as breathe } from 'node:timers/promises';
import { CHAINS } from '../../modules/policy/names.ts';
import type { AllocatorOffice } from '../allocation/allocator-office.ts';
import type { Daemon } from '../daemon.ts';
import { chainPackets } from '../kernel/chain-packets.ts';
import { readServiceTraffic } from '../kernel/ipvs-stats.ts';
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import { BgpMetrics } from '../observe/bgp-metrics.ts';
import type { KubeRouterMetrics } from '../observe/kube-router-metrics.ts';
import { type LoadBalancerPicture, registerLoadBalancer } from '../observe/load-balancer-metrics.ts';
import type { Log } from '../observe/log.ts';
import { Metrics } from '../observe/metrics.ts';
import { registerPolicy } from '../observe/policy-metrics.ts';
import { ServiceMetrics } from '../observe/service-metrics.ts';
import type { MetricsStatus } from '../observe/state-metrics.ts';
import type { Claim } from '../reconcile/claims.ts';
import type { Module } from '../reconcile/module.ts';
import { VERSION } from '../version.ts';
import type { Bgp } from './bgp.ts';
import type { Host, HostMeasures } from './host.ts';

export function openMetrics(clock: Clock, status: () => MetricsStatus): Metrics {
  return new Metrics({ version: VERSION, clock, wallNow: () => Date.now(), status });
}

/** How the daemon stands, with how many endpoints drain. */
export function metricsStatus(daemon: Daemon | undefined, drainingEndpoints: number, now: Instant): MetricsStatus {
  const diagnostics = new Map<string, number>();
  for (const { code } of daemon?.diagnostics() ?? []) diagnostics.set(code, (diagnostics.get(code) ?? 0) + 1);
  return {
    tables: (daemon?.tables() ?? []).map(({ table, entries, wanted, failures }) => ({
      table,
      entries,
      wanted,
      failures: failures.length,
    })),
    diagnostics,
    modules: new Map(
      [...(daemon?.health().modules ?? [])].map(([name, { state }]) => {
        const at = daemon?.succeededAt(name);
        return [name, { state, successAgeMs: at === undefined ? undefined : now - at }];
      }),
    ),
    policyChains: daemon?.inForce('iptables', isPolicyChain).length ?? 0,
    policySets: daemon?.inForce('ipset', isPolicySet).length ?? 0,
    // A Service counts once, whichever of its addresses has nobody behind it.
    servicesWithoutEndpoints: new Set(daemon?.inForce('virtualServer', isEmpty).map(({ owner }) => owner.key)).size,
    drainingEndpoints,
  };
}

function isPolicyChain({ module, entry }: Claim): boolean {
  return module === 'policy' && entry.table === 'iptables' && entry.value.kind === 'chain';
}

function isPolicySet({ module, entry }: Claim): boolean {
  return entry.table === 'ipset' && entry.value.kind === 'set' && module === 'policy';
}

function isEmpty({ entry }: Claim): boolean {
  return entry.table === 'virtualServer' && entry.value.destinations.length === 0;
}

/** What a host tells of its tools and paths while it works. */
export function measuresOf(metrics: KubeRouterMetrics): HostMeasures {
  return {
    ran: (command, milliseconds) => metrics.ran(command, milliseconds),
    advertised: changes => {
      for (const { op, path } of changes) {
        const isVip = path.audience === 'fabric';
        // kube-router knows no name for a pod route that is withdrawn: its nodes only ever tell theirs.
        if (op === 'told') metrics.advertised(isVip ? 'advertise-vip' : 'pod-route', 1);
        else if (isVip) metrics.advertised('withdraw-vip', 1);
      }
    },
  };
}

export interface Measured {
  readonly modules: readonly Module[];
  readonly daemon: Daemon;
  readonly bgp: Bgp | undefined;
  /** Undefined where no allocator of load-balancer addresses runs. */
  readonly office: AllocatorOffice | undefined;
  readonly metrics: Metrics;
  readonly host: Host;
  readonly clock: Clock;
  readonly log: Log;
}

/** Metrics that only some modules have, read when somebody asks for them. */
export function measure(measured: Measured, signal: AbortSignal): void {
  const { modules, daemon, bgp, metrics, host, clock, log } = measured;
  const { registry } = metrics;
  const { runner, abilities } = host;
  if (modules.some(({ writes }) => writes.includes('serviceStatus') || writes.includes('lanAddress')))
    registerLoadBalancer({ registry, read: () => loadBalancerPicture(measured) });
  if (bgp !== undefined) new BgpMetrics({ registry, clock, read: () => bgp.picture() });
  if (modules.some(({ name }) => name === 'policy'))
    registerPolicy({ registry, read: () => chainPackets({ runner, tools: abilities.iptables, chain: CHAINS.deny }, signal) });
  if (!modules.some(({ writes }) => writes.includes('virtualServer'))) return;
  metrics.add(
    new ServiceMetrics({
      clock,
      read: () => readServiceTraffic(runner, signal),
      serviceOf: listener => daemon.serviceOf(listener),
      breathe: () => breathe(),
      onRead: milliseconds => metrics.kubeRouter.exported(milliseconds),
      onTrouble: error => {
        if (error !== undefined) log.warn(`no metrics of Services' traffic: ${error.message}`, { code: error.code });
      },
    }),
  );
}

function loadBalancerPicture({ modules, daemon, office }: Measured): LoadBalancerPicture {
  return {
    isLeader: office?.state().leadership.isLeader,
    allocated: modules.map(module => module.summary?.()).find(summary => summary !== undefined),
    lanAddresses: daemon.tables().find(({ table }) => table === 'lanAddress')?.entries,
  };
}
