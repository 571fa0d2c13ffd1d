/** The drivers of Services that know more than one tool: IPVS with what drains and with its flows, tunnels in pods, health ports. */
import { join } from 'node:path';
import type { OptionValues } from '../config/options.ts';
import { type FairwayError, messageOf } from '../errors.ts';
import type { CommandRunner } from '../kernel/command.ts';
import { DrainingIpvs } from '../kernel/ipvs-drain.ts';
import { forgettingFlows } from '../kernel/ipvs-flows.ts';
import { ipvsDriver } from '../kernel/ipvsadm.ts';
import { podTunnelDriver } from '../kernel/pod-tunnel.ts';
import { sparingMarks } from '../kernel/spared-marks.ts';
import { type StateFile, stateFile } from '../kernel/state-file.ts';
import { procLines } from '../kernel/text-lines.ts';
import { kubeRoutersMarks } from '../leftovers/rule-sweep.ts';
import type { IpAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { instantOf } from '../net/instant.ts';
import { type HealthPortDriver, healthPortDriver } from '../observe/health-ports.ts';
import type { Log } from '../observe/log.ts';
import type { TableDriver } from '../reconcile/driver.ts';
import type { Drivers } from '../reconcile/reconciler.ts';

/** What only a running daemon has. */
export interface ServiceHooks {
  readonly log: Log;
  /** For health ports: whether Services are kept up to date. */
  readonly isHealthy: () => boolean;
  /** Milliseconds that the pod of this address takes to end; undefined where no pod is known to have it. */
  readonly graceOf: (address: IpAddress) => number | undefined;
}

export interface ServiceDriverOptions {
  readonly config: Pick<OptionValues, 'excludedCidrs' | 'ipvsGracefulTermination' | 'ipvsGracefulPeriod' | 'runtimeEndpoint'>;
  readonly runner: CommandRunner;
  readonly clock: Clock;
  /** For root alone, by node. */
  readonly runFolder: string;
  /** Undefined for a command that only looks, or clears away. */
  readonly hooks: ServiceHooks | undefined;
}

/** Milliseconds that a removed endpoint stays at weight 0, so that what was asked of it in that moment is answered: a lookup, a short request. */
const LINGER_MS = 300;

export interface ServiceDrivers extends Pick<Drivers, 'virtualServer' | 'podTunnel' | 'healthPort'> {
  /** How many endpoints take their leave at the moment. */
  readonly draining: () => number;
  /** Ends what runs by itself. */
  readonly close: () => Promise<void>;
}

export function serviceDrivers(options: ServiceDriverOptions): ServiceDrivers {
  const { config, runner, clock, runFolder, hooks } = options;
  const ipvs = sparingMarks({
    inner: ipvsDriver({ runner, readLines: procLines(() => clock.now()), excludedCidrs: config.excludedCidrs }),
    marksOfOthers: signal => kubeRoutersMarks(runner, signal),
  });
  const podTunnel = podTunnelDriver({
    runner,
    clock,
    criSocket: config.runtimeEndpoint,
    records: stateFile(join(runFolder, 'pod-tunnels')),
  });
  const record = stateFile(join(runFolder, 'draining'));
  if (hooks === undefined) {
    // What a running daemon drains is no matter of who only looks.
    const virtualServer = config.ipvsGracefulTermination ? drainingIpvs(ipvs, options, lookingOnly(record), NO_TIMER) : ipvs;
    return { virtualServer, podTunnel, healthPort: elsewhere(), draining: () => 0, close: () => Promise.resolve() };
  }
  const flows = forgettingFlows({ inner: ipvs, runner, onTrouble: toldOf(hooks.log) });
  const draining = drainingIpvs(flows, options, lenient(record, hooks.log), clock, hooks.graceOf);
  const healthPort: HealthPortDriver = healthPortDriver({ isHealthy: hooks.isHealthy });
  return {
    virtualServer: draining,
    podTunnel,
    healthPort,
    draining: () => draining.count,
    close: async () => {
      draining.stop();
      await healthPort.close();
    },
  };
}

function drainingIpvs(
  inner: Drivers['virtualServer'],
  { config, clock }: ServiceDriverOptions,
  record: StateFile,
  timer: Pick<Clock, 'after'>,
  graceOf: ServiceHooks['graceOf'] = () => undefined,
): DrainingIpvs {
  return new DrainingIpvs({
    inner,
    startedAt: instantOf(clock.now() - millisecondsUp()),
    clock: { now: () => clock.now(), after: (milliseconds, fire) => timer.after(milliseconds, fire) },
    readLines: procLines(() => clock.now()),
    record,
    graceOf: config.ipvsGracefulTermination ? address => graceOf(address) ?? config.ipvsGracefulPeriod : undefined,
    lingerMs: LINGER_MS,
  });
}

const NO_TIMER: Pick<Clock, 'after'> = { after: () => () => undefined };

function lookingOnly(file: StateFile): StateFile {
  return { read: () => file.read().catch(() => undefined), write: () => Promise.resolve() };
}

/** Of the host, by a clock that nobody sets (clock_gettime(2), CLOCK_MONOTONIC). */
function millisecondsUp(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** What cannot be kept is told, once until it can be again; draining goes on without. */
export function lenient(file: StateFile, log: Pick<Log, 'info' | 'warn'>): StateFile {
  let told: string | undefined;
  const tell = (thrown: unknown): undefined => {
    const reason = messageOf(thrown);
    if (reason !== told)
      log.warn(`which endpoints drain cannot be kept over a restart: ${reason}; free space below /run, or make it writable`, {
        code: 'FW_COMMAND_FAILED',
      });
    told = reason;
  };
  const isKept = (): void => {
    if (told !== undefined) log.info('which endpoints drain is kept again');
    told = undefined;
  };
  return { read: () => file.read().catch(tell), write: text => file.write(text).then(isKept, tell) };
}

function toldOf(log: Log): (error: FairwayError | undefined) => void {
  return error => {
    if (error === undefined) log.info('flows of conntrack can be forgotten again');
    else log.warn(`UDP and SCTP clients may stay with endpoints that are gone: ${error.message}`, { code: error.code });
  };
}

/** What a daemon that may be running holds in its own process, or leads elsewhere: nothing here can look into it. */
export function elsewhere<T>(): TableDriver<T> {
  return {
    read: expected => Promise.resolve(new Map(expected)),
    apply: () => Promise.resolve({ failed: new Map() }),
    render: () => '',
  };
}
