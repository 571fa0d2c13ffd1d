/** The whole daemon on fakes: tables in memory, a source driven by hand, a clock moved by hand. */

import { ApiSource } from '../../daemon/cluster/api-source.ts';
import type { ClusterSource } from '../../daemon/cluster/kinds.ts';
import type { HostFacts } from '../../daemon/cluster/snapshot.ts';
import { metricsStatus } from '../../daemon/commands/measure.ts';
import { UNOBSERVED } from '../../daemon/commands/source.ts';
import { Daemon } from '../../daemon/daemon.ts';
import type { Fields, Log, LogLevel } from '../../daemon/observe/log.ts';
import { Metrics } from '../../daemon/observe/metrics.ts';
import type { BgpControl } from '../../daemon/parts.ts';
import { kindsRead, type Module } from '../../daemon/reconcile/module.ts';
import { lanAnnouncerModule } from '../../modules/lan-announcer/module.ts';
import type { LanAnnouncerOptions } from '../../modules/lan-announcer/options.ts';
import { policyModule } from '../../modules/policy/module.ts';
import type { PolicyOptions } from '../../modules/policy/options.ts';
import { routingModule } from '../../modules/routing/module.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import { servicesModule } from '../../modules/services/module.ts';
import type { ServicesOptions } from '../../modules/services/options.ts';
import { hostFacts } from '../fixtures/cluster.ts';
import { lanOptions } from '../fixtures/lan.ts';
import { policyOptions } from '../fixtures/policy-options.ts';
import { routingOptions } from '../fixtures/routing-options.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { ManualClock } from './clock.ts';
import { MemoryApi } from './memory-api.ts';
import { FakeSource } from './source.ts';
import { fakeTables } from './tables.ts';

export class LogLines implements Log {
  readonly lines: string[] = [];

  error(message: string, fields?: Fields): void {
    this.#add('error', message, fields);
  }

  warn(message: string, fields?: Fields): void {
    this.#add('warn', message, fields);
  }

  info(message: string, fields?: Fields): void {
    this.#add('info', message, fields);
  }

  debug(message: string, fields?: Fields): void {
    this.#add('debug', message, fields);
  }

  /** Lines that match, for counting how often something was said. */
  matching(pattern: RegExp): readonly string[] {
    return this.lines.filter(line => pattern.test(line));
  }

  #add(level: LogLevel, message: string, fields: Fields = {}): void {
    this.lines.push(
      `${level} ${message}${Object.entries(fields)
        .map(([key, value]) => ` ${key}=${String(value)}`)
        .join('')}`,
    );
  }
}

export interface World {
  readonly clock: ManualClock;
  readonly tables: ReturnType<typeof fakeTables>;
  readonly source: FakeSource;
  readonly log: LogLines;
  readonly daemon: Daemon;
  readonly metrics: Metrics;
  /** Called after every round. */
  readonly settled: (() => void)[];
  /** Whether what decides who answers for an address was out of date, each time it was told. */
  readonly blind: boolean[];
}

/** A daemon on node-1 with the services module, started; nothing is listed yet. */
export function startWorld(options: Partial<ServicesOptions> = {}, host: HostFacts = hostFacts()): World {
  return startWorldWith([servicesModule(servicesOptions(options))], host);
}

/** A daemon on node-1 with the policy module, likewise. */
export function startPolicyWorld(options: Partial<PolicyOptions> = {}, host: HostFacts = hostFacts()): World {
  return startWorldWith([policyModule(policyOptions(options))], host);
}

/** A daemon on node-1 with the announcer on the local network, likewise. */
export function startLanWorld(options: Partial<LanAnnouncerOptions> = {}, host: HostFacts = hostFacts()): World {
  return startWorldWith([lanAnnouncerModule(lanOptions(options))], host);
}

export interface RoutingWorld extends World {
  /** How often the daemon said that somebody wants to speak BGP. */
  readonly bgp: { needs: number };
}

/** A daemon on node-1 with the routing module and these others, on a speaker that has told nothing yet. */
export function startRoutingWorld(
  options: Partial<RoutingOptions> = {},
  { host = hostFacts(), others = [] }: { readonly host?: HostFacts; readonly others?: readonly Module[] } = {},
): RoutingWorld {
  const bgp = { needs: 0 };
  const control: BgpControl = {
    need: () => {
      bgp.needs++;
    },
  };
  return { ...startWorldWith([routingModule(routingOptions(options)), ...others], host, control), bgp };
}

export interface ApiWorld extends Omit<World, 'source'> {
  readonly api: MemoryApi;
}

/** A daemon on node-1 with the services module, on an API server in memory. */
export function startApiWorld(options: Partial<ServicesOptions> = {}): ApiWorld {
  const clock = new ManualClock();
  const api = new MemoryApi(clock);
  const modules = [servicesModule(servicesOptions(options))];
  const source = new ApiSource({ kinds: kindsRead(modules), transport: api, clock, random: () => 0.5, observer: UNOBSERVED });
  return { ...startOn(source, clock, modules, hostFacts()), api };
}

function startWorldWith(modules: readonly Module[], host: HostFacts, bgp?: BgpControl): World {
  const source = new FakeSource();
  return { ...startOn(source, new ManualClock(), modules, host, bgp), source };
}

function startOn(
  source: ClusterSource,
  clock: ManualClock,
  modules: readonly Module[],
  host: HostFacts,
  bgp?: BgpControl,
): Omit<World, 'source'> {
  const tables = fakeTables();
  const log = new LogLines();
  const metrics = new Metrics({
    version: 'test',
    clock,
    wallNow: () => clock.now(),
    status: () => metricsStatus(daemon, 0, clock.now()),
  });
  const settled: (() => void)[] = [];
  const blind: boolean[] = [];
  const daemon: Daemon = new Daemon({
    nodeName: 'node-1',
    modules,
    poolsKey: 'kube-system/pools',
    drivers: tables,
    source,
    bgp,
    host,
    clock,
    backoff: { delay: failures => 500 * 2 ** Math.min(failures - 1, 7) },
    breathe: () => Promise.resolve(),
    log,
    metrics,
    auditPeriodMs: 60_000,
    auditPace: 'adaptive',
    cacheSyncTimeoutMs: 60_000,
    onSight: isBlind => {
      blind.push(isBlind);
    },
    onSettled: () => {
      for (const hear of settled) hear();
    },
  });
  daemon.start();
  return { clock, tables, log, daemon, metrics, settled, blind };
}
