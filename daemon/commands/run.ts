/** `fairway run`: the daemon, until a signal ends it. */
import { setImmediate as breathe } from 'node:timers/promises';
import type { HostFacts } from '../cluster/snapshot.ts';
import { PREDECESSORS } from '../config/options-commands.ts';
import { Daemon } from '../daemon.ts';
import { asFairwayError, messageOf } from '../errors.ts';
import type { HostFactsSource } from '../kernel/host-facts.ts';
import { setTimeouts } from '../kernel/ipvsadm.ts';
import { programFolders } from '../kernel/process-runner.ts';
import { systemdNotify } from '../kernel/systemd-notify.ts';
import { hasLink, runningAs } from '../leftovers/running.ts';
import { LeftoverWatch, type LeftoverWatchOptions } from '../leftovers/watch.ts';
import { type Clock, systemClock } from '../net/clock.ts';
import type { Health } from '../observe/health.ts';
import { type HttpListener, healthPages, metricsPages, type Page } from '../observe/http.ts';
import { listenForGood } from '../observe/lasting-listener.ts';
import { createLog, type Log, RecentLines } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { askedBySystemd, ServiceNotices } from '../observe/sd-notify.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import { kindsRead, type Module } from '../reconcile/module.ts';
import { VERSION } from '../version.ts';
import { allocationLines, type OpenedAllocation, openAllocation } from './allocation.ts';
import type { Bgp } from './bgp.ts';
import { NO_BGP } from './bgp-access.ts';
import { controlSocketOf, openControl } from './control.ts';
import { controlPages } from './control-pages.ts';
import { followHost, type Host, openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { lookForLacks, tellFullFlowTable, tellLacks } from './lacks.ts';
import { giveBack } from './lan-driver.ts';
import { measure, measuresOf, metricsStatus, openMetrics } from './measure.ts';
import { enabledModules } from './modules.ts';
import { requireRoot } from './privilege.ts';
import { openCluster } from './source.ts';

/** What comes one after another at the start, and looks at each other while it runs. */
interface Parts {
  daemon?: Daemon;
  host?: Host;
  /** Where a module speaks it. */
  bgp?: Bgp;
  allocation?: OpenedAllocation;
}

/** What the parts are made of. */
interface Setting {
  readonly invocation: Invocation;
  readonly modules: readonly Module[];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly leftovers: LeftoverWatch;
  /** Aborted when all is over. */
  readonly signal: AbortSignal;
}

/** Resolves with the exit status after SIGINT or SIGTERM; rejects where the configuration cannot work. */
export async function run(invocation: Invocation): Promise<number> {
  const { config } = invocation;
  requireRoot();
  const clock = systemClock();
  const recentLines = new RecentLines();
  const log = openLog(config, recentLines);
  log.info(`fairway ${VERSION} starts`, { node: invocation.nodeName, nodejs: process.version });
  for (const warning of invocation.warnings) log.warn(warning.message);

  const stopping = new AbortController();
  const stopped = stopSignal(log);
  const modules = await enabledModules(invocation);
  const parts: Parts = {};
  const leftovers = new LeftoverWatch({
    ground: config,
    clock,
    log,
    running: runningAs,
    hasLink,
    takeOver: config.takeOver,
    concerns: PREDECESSORS.filter(of => of === 'kube-router' || modules.some(({ name }) => name === 'services')),
    progress: () => progressOf(parts.daemon),
  });
  const control = await listenForCommands({ invocation, modules, clock, log, parts, leftovers, recentLines, stopped });
  if (control === 'stopped') return 0;
  const metrics = openMetrics(clock, () => metricsStatus(parts.daemon, parts.host?.draining() ?? 0, clock.now()));
  const setting: Setting = { invocation, modules, clock, log, metrics, leftovers, signal: stopping.signal };

  const allocation = await allocationOf(setting, parts);
  const { host, follower } = await hostOf(setting, parts);
  const bgp = await bgpOf(setting, parts, host);
  const notices = noticesOf(setting, parts, host);
  const daemon = daemonOf(setting, { host, facts: follower.facts, bgp, notices, allocation });
  Object.assign(parts, { daemon });
  const refresh = (): void => {
    follower.refresh();
  };
  lookForLacks({ host, modules, clock, log, onFound: refresh }, stopping.signal);
  tellFullFlowTable({ clock, log }, stopping.signal);
  const listeners = await listen(setting, daemon);
  measure({ modules, daemon, bgp, office: allocation.office, metrics, host, clock, log }, stopping.signal);
  if (modules.some(({ writes }) => writes.includes('virtualServer')))
    await setTimeouts(host.runner, ipvsTimeouts(invocation), stopping.signal).catch((thrown: unknown) => {
      log.error(`the IPVS timeouts stay as they are: ${messageOf(thrown)}`);
    });
  if (bgp !== undefined && isBgpCertain(config)) await bgp.precede();
  if (!modules.some(({ writes }) => writes.includes('lanAddress'))) await giveBackAnnounced(setting, host);
  notices?.start();
  daemon.start();
  leftovers.start(host.runner);
  await stopped;
  allocation.events?.stop();
  await allocation.office?.stop();
  await Promise.all([notices?.stop(), daemon.stop(), follower.stop(), leftovers.stop()]);
  await bgp?.stop();
  await host.bgpGate.open();
  await host.closeDrivers();
  stopping.abort();
  const open = control === undefined ? listeners : [...listeners, control];
  await Promise.all(open.map(listener => listener.close()));
  log.info('stopped; what is programmed stays in force');
  return 0;
}

function openLog({ v, logFormat }: Invocation['config'], recentLines: RecentLines): Log {
  return createLog({
    verbosity: v,
    format: logFormat,
    descriptor: 2,
    onLine: line => {
      recentLines.add(line);
    },
  });
}

interface CommandsOptions extends Pick<Setting, 'invocation' | 'modules' | 'clock' | 'log' | 'leftovers'> {
  readonly parts: Parts;
  readonly recentLines: RecentLines;
  readonly stopped: Promise<void>;
}

/** Before anything of the host is touched: another daemon may have it. `stopped` where a signal came while that one was waited for. */
async function listenForCommands(options: CommandsOptions): Promise<HttpListener | 'stopped' | undefined> {
  const { invocation, modules, clock, log, parts, leftovers, recentLines, stopped } = options;
  const { config, explicit, nodeName } = invocation;
  const pages = controlPages({
    daemon: () => parts.daemon,
    config,
    explicit,
    clock,
    startedAt: clock.now(),
    neighbors: () => parts.bgp?.neighbors(),
    loadBalancer: () => parts.allocation?.office && allocationLines(parts.allocation.office, modules),
    remarks: () => leftovers.remarks(),
    recentLog: () => recentLines.all,
  });
  const waiting = new AbortController();
  void stopped.then(() => {
    waiting.abort();
  });
  try {
    return await openControl({ path: controlSocketOf(config, nodeName), pages, clock, log }, waiting.signal);
  } catch (thrown) {
    if (waiting.signal.aborted) return 'stopped';
    throw thrown;
  }
}

/** The cluster's objects, with who hands out addresses among them. */
async function allocationOf({ invocation, modules, clock, log, metrics }: Setting, parts: Parts): Promise<OpenedAllocation> {
  const { config, environment } = invocation;
  const onRemark = (message: string): void => {
    log.warn(message);
  };
  const kinds = kindsRead(modules);
  const cluster = await openCluster({ config, environment, kinds, clock, observer: metrics.api, onRemark });
  parts.allocation = await openAllocation({ invocation, cluster, clock, log, daemon: () => parts.daemon });
  return parts.allocation;
}

/** The tools and tables of the host, and the host as it is from now on. */
async function hostOf(setting: Setting, parts: Parts): Promise<{ readonly host: Host; readonly follower: HostFactsSource }> {
  const { invocation, modules, clock, log, metrics, leftovers, signal } = setting;
  const { config, environment, nodeName } = invocation;
  const host = await openHost(
    {
      config,
      environment,
      nodeName,
      clock,
      services: {
        log,
        isHealthy: () => parts.daemon?.health().isLive ?? false,
        graceOf: address => parts.daemon?.terminationGrace(address),
      },
      bgp: {
        speaker: () => (parts.bgp ?? NO_BGP).speaker(),
        isRestarting: () => (parts.bgp ?? NO_BGP).isRestarting(),
        restarted: () => parts.bgp?.restarted(),
      },
      serviceStatus: parts.allocation?.office?.writer,
      onLanMoved: () => parts.daemon?.lanMoved(),
      sharedSetsOf: modules.map(({ name }) => name),
      onSpawn: argv => {
        metrics.spawned(argv[0] ?? '');
      },
      measures: measuresOf(metrics.kubeRouter),
      onForeignChain: name => {
        leftovers.chainSeen(name);
      },
    },
    signal,
  );
  parts.host = host;
  tellLacks({ host, modules, log });
  const follower = await followHost(
    host,
    {
      clock,
      onChange: facts => parts.daemon?.hostChanged(facts),
      onDisturbance: (what, goneRoutes) => {
        if (what === 'hostLinks') host.announceAgain();
        parts.daemon?.disturbed(what, goneRoutes);
      },
      onTrouble: error => {
        if (error === undefined) log.info('the host is followed again');
        else log.error(`the host is not followed: ${error.message}`, { code: error.code });
      },
    },
    signal,
  );
  return { host, follower };
}

/** An earlier run may have announced what this one does not: it would go on being answered for here, beside its new owner. */
async function giveBackAnnounced({ log, signal }: Setting, host: Host): Promise<void> {
  try {
    const count = await giveBack(host.drivers.lanAddress, signal);
    if (count > 0) log.info('addresses that an earlier run announced on the local network were given back', { count });
  } catch (thrown) {
    const { code, message } = asFairwayError(thrown, 'FW_COMMAND_FAILED');
    log.error(`addresses that an earlier run announced on the local network stay: ${message}; see fairway cleanup`, { code });
  }
}

/** Undefined where no module speaks BGP. */
async function bgpOf({ invocation, modules, clock, log, signal }: Setting, parts: Parts, host: Host): Promise<Bgp | undefined> {
  if (!modules.some(({ writes }) => writes.includes('bgpServer'))) return undefined;
  const { config, environment, nodeName } = invocation;
  // An earlier run may have been killed while it was closed.
  await host.bgpGate.clear();
  // gRPC is a tenth of the program's memory.
  const { Bgp } = await import('./bgp.ts');
  parts.bgp = new Bgp({
    config,
    nodeName,
    path: programFolders(environment),
    clock,
    log,
    daemon: () => parts.daemon,
    hadRoutes: await hasRoutes(host, signal),
  });
  return parts.bgp;
}

/** Undefined where systemd did not start us, or does not want to hear of us. */
function noticesOf({ invocation, clock, log, signal }: Setting, parts: Parts, host: Host): ServiceNotices | undefined {
  const asked = askedBySystemd(invocation.environment);
  if (asked === undefined) return undefined;
  const health = (): Health => parts.daemon?.health() ?? { isLive: true, isNodeLeaving: false, modules: new Map() };
  return new ServiceNotices({ ...asked, send: systemdNotify(host.runner), health, clock, log, signal });
}

interface DaemonNeeds {
  readonly host: Host;
  readonly facts: HostFacts;
  readonly bgp: Bgp | undefined;
  readonly notices: ServiceNotices | undefined;
  readonly allocation: OpenedAllocation;
}

function daemonOf(setting: Setting, { host, facts, bgp, notices, allocation }: DaemonNeeds): Daemon {
  const { invocation, modules, clock, log, metrics } = setting;
  const { config, nodeName, explicit } = invocation;
  const daemon: Daemon = new Daemon({
    nodeName,
    modules,
    poolsKey: config.loadbalancerPools,
    drivers: host.drivers,
    source: allocation.source,
    bgp,
    allocation: allocation.office,
    host: facts,
    clock,
    backoff: exponentialBackoff(Math.random),
    breathe: () => breathe(),
    log,
    metrics,
    auditPeriodMs: config.auditPeriod,
    // A period that was asked for is kept, whatever it costs.
    auditPace: explicit.has('audit-period') ? 'fixed' : 'adaptive',
    cacheSyncTimeoutMs: config.cacheSyncTimeout,
    onSight: isBlind => {
      host.blind(isBlind);
    },
    onSettled: () => {
      notices?.look();
      allocation.events?.diagnosed(daemon.diagnostics(), daemon.services());
    },
  });
  return daemon;
}

/** How far ours is in force. */
function progressOf(daemon: Daemon | undefined): ReturnType<LeftoverWatchOptions['progress']> {
  if (daemon === undefined || !daemon.hasConverged) return 'none';
  const isWhole = daemon.tables().every(({ failures, unreadable }) => failures.length === 0 && unreadable === undefined);
  return isWhole ? 'whole' : 'first round';
}

/** Whether BGP is spoken whatever the cluster's objects say. */
function isBgpCertain({ podRoutes, enableIbgp, peerRouterIps }: Invocation['config']): boolean {
  return (podRoutes === 'bgp' && enableIbgp) || peerRouterIps.length > 0;
}

/** Whether an earlier run left routes in force. What cannot be read is told when the table is. */
async function hasRoutes({ drivers }: Host, signal: AbortSignal): Promise<boolean> {
  const routes = await drivers.unicastRoute.read(new Map(), signal).catch(() => new Map<string, never>());
  return routes.size > 0;
}

/** Seconds, as ipvsadm takes them; flags are in milliseconds. */
function ipvsTimeouts({ config }: Invocation): { tcp: number; tcpFin: number; udp: number } {
  const seconds = (milliseconds: number): number => Math.round(milliseconds / 1000);
  return {
    tcp: seconds(config.serviceTcpTimeout),
    tcpFin: seconds(config.serviceTcpfinTimeout),
    udp: seconds(config.serviceUdpTimeout),
  };
}

/** Health and metrics pages. Port 0 is off. A port in use is told and is no reason to leave the node without Services. */
async function listen({ invocation, metrics, clock, log }: Setting, daemon: Daemon): Promise<readonly HttpListener[]> {
  const { config } = invocation;
  const wanted: readonly { address: string; port: number; pages: ReadonlyMap<string, Page>; flag: string }[] = [
    { address: config.healthAddr, port: config.healthPort, pages: healthPages(() => daemon.health()), flag: '--health-port' },
    {
      address: config.metricsAddr,
      port: config.metricsPort,
      pages: metricsPages(config.metricsPath, metrics),
      flag: '--metrics-port',
    },
  ];
  return await Promise.all(wanted.filter(({ port }) => port !== 0).map(each => listenForGood({ ...each, clock, log })));
}

/** Resolves at the first SIGINT or SIGTERM; the second ends the process at once. */
function stopSignal(log: Log): Promise<void> {
  return new Promise(resolve => {
    const stop = (signal: NodeJS.Signals): void => {
      log.info(`${signal}: stopping after the round under way`);
      resolve();
    };
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
  });
}
