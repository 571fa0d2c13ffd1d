/** `fairway run`: the daemon, until a signal ends it. */
import { setImmediate as breathe } from 'node:timers/promises';
import { PREDECESSORS } from '../config/options-commands.ts';
import { Daemon } from '../daemon.ts';
import { messageOf } from '../errors.ts';
import { setTimeouts } from '../kernel/ipvsadm.ts';
import { programFolders } from '../kernel/process-runner.ts';
import { systemdNotify } from '../kernel/systemd-notify.ts';
import { hasLink, runningAs } from '../leftovers/running.ts';
import { LeftoverWatch, type LeftoverWatchOptions } from '../leftovers/watch.ts';
import { type Clock, systemClock } from '../net/clock.ts';
import { type HttpListener, healthPages, metricsPages, type Page } from '../observe/http.ts';
import { listenForGood } from '../observe/lasting-listener.ts';
import { createLog, type Log, RecentLines } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { askedBySystemd, ServiceNotices } from '../observe/sd-notify.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import { kindsRead } from '../reconcile/module.ts';
import { VERSION } from '../version.ts';
import type { Bgp } from './bgp.ts';
import { NO_BGP } from './bgp-access.ts';
import { controlSocketOf, openControl } from './control.ts';
import { controlPages } from './control-pages.ts';
import { followHost, type Host, openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { lookForLacks, tellFullFlowTable, tellLacks } from './lacks.ts';
import { measure, measuresOf, metricsStatus, openMetrics } from './measure.ts';
import { enabledModules } from './modules.ts';
import { requireRoot } from './privilege.ts';
import { openSource } from './source.ts';

/** Resolves with the exit status after SIGINT or SIGTERM; rejects where the configuration cannot work. */
export async function run(invocation: Invocation): Promise<number> {
  const { config, environment, nodeName } = invocation;
  requireRoot();
  const clock = systemClock();
  const startedAt = clock.now();
  const recentLines = new RecentLines();
  const log = createLog({
    verbosity: config.v,
    format: config.logFormat,
    descriptor: 2,
    onLine: line => {
      recentLines.add(line);
    },
  });
  log.info(`fairway ${VERSION} starts`, { node: nodeName, nodejs: process.version });
  for (const warning of invocation.warnings) log.warn(warning.message);

  const stopping = new AbortController();
  const stopped = stopSignal(log);
  const modules = await enabledModules(invocation);
  let daemon: Daemon | undefined;
  let bgp: Bgp | undefined;
  const leftovers = new LeftoverWatch({
    ground: config,
    clock,
    log,
    running: runningAs,
    hasLink,
    takeOver: config.takeOver,
    concerns: PREDECESSORS.filter(of => of === 'kube-router' || modules.some(({ name }) => name === 'services')),
    progress: () => progressOf(daemon),
  });
  const pages = controlPages({
    daemon: () => daemon,
    config,
    explicit: invocation.explicit,
    clock,
    startedAt,
    neighbors: () => bgp?.neighbors(),
    remarks: () => leftovers.remarks(),
    recentLog: () => recentLines.all,
  });
  const waiting = new AbortController();
  void stopped.then(() => {
    waiting.abort();
  });
  const control = await openControl({ path: controlSocketOf(config, nodeName), pages, clock, log }, waiting.signal);
  let host: Host | undefined;
  const metrics = openMetrics(clock, () => metricsStatus(daemon, host?.draining() ?? 0, clock.now()));
  const source = await openSource({
    config,
    environment,
    kinds: kindsRead(modules),
    clock,
    observer: metrics.api,
    onRemark: message => log.warn(message),
  });
  host = await openHost(
    {
      config,
      environment,
      nodeName,
      clock,
      services: {
        log,
        isHealthy: () => daemon?.health().isLive ?? false,
        graceOf: address => daemon?.terminationGrace(address),
      },
      bgp: {
        speaker: () => (bgp ?? NO_BGP).speaker(),
        isRestarting: () => (bgp ?? NO_BGP).isRestarting(),
        restarted: () => bgp?.restarted(),
      },
      sharedSetsOf: modules.map(({ name }) => name),
      onSpawn: argv => {
        metrics.spawned(argv[0] ?? '');
      },
      measures: measuresOf(metrics.kubeRouter),
      onForeignChain: name => leftovers.chainSeen(name),
    },
    stopping.signal,
  );
  tellLacks({ host, modules, log });
  const follower = await followHost(
    host,
    {
      clock,
      onChange: facts => daemon?.hostChanged(facts),
      onDisturbance: (what, goneRoutes) => daemon?.disturbed(what, goneRoutes),
      onTrouble: error => {
        if (error === undefined) log.info('the host is followed again');
        else log.error(`the host is not followed: ${error.message}`, { code: error.code });
      },
    },
    stopping.signal,
  );

  if (modules.some(({ writes }) => writes.includes('bgpServer'))) {
    // An earlier run may have been killed while it was closed.
    await host.bgpGate.clear();
    // gRPC is a tenth of the program's memory.
    const { Bgp } = await import('./bgp.ts');
    bgp = new Bgp({
      config,
      nodeName,
      path: programFolders(environment),
      clock,
      log,
      daemon: () => daemon,
      hadRoutes: await hasRoutes(host, stopping.signal),
    });
  }
  const asked = askedBySystemd(environment);
  const notices =
    asked === undefined
      ? undefined
      : new ServiceNotices({
          ...asked,
          send: systemdNotify(host.runner),
          health: () => running.health(),
          clock,
          log,
          signal: stopping.signal,
        });
  const running = new Daemon({
    nodeName,
    modules,
    drivers: host.drivers,
    source,
    bgp,
    host: follower.facts,
    clock,
    backoff: exponentialBackoff(Math.random),
    breathe: () => breathe(),
    log,
    metrics,
    auditPeriodMs: config.auditPeriod,
    // A period that was asked for is kept, whatever it costs.
    auditPace: invocation.explicit.has('audit-period') ? 'fixed' : 'adaptive',
    cacheSyncTimeoutMs: config.cacheSyncTimeout,
    onSettled: () => notices?.look(),
  });
  daemon = running;
  lookForLacks(
    {
      host,
      modules,
      clock,
      log,
      onFound: () => {
        follower.refresh();
      },
    },
    stopping.signal,
  );
  tellFullFlowTable({ clock, log }, stopping.signal);
  const listeners = await listen(invocation, daemon, metrics, { clock, log });
  measure({ modules, daemon, bgp, metrics, host, clock, log }, stopping.signal);
  if (modules.some(({ writes }) => writes.includes('virtualServer')))
    await setTimeouts(host.runner, ipvsTimeouts(invocation), stopping.signal).catch((thrown: unknown) => {
      log.error(`the IPVS timeouts stay as they are: ${messageOf(thrown)}`);
    });
  if (bgp !== undefined && isBgpCertain(config)) await bgp.precede();
  notices?.start();
  daemon.start();
  leftovers.start(host.runner);
  await stopped;
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
async function listen(
  { config }: Invocation,
  daemon: Daemon,
  metrics: Metrics,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): Promise<readonly HttpListener[]> {
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
