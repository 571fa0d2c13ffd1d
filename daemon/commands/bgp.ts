/** BGP of a running daemon: gobgpd behind a speaker, and what neighbours teach us. */
import { adminHosts } from '../bgp/admin-hosts.ts';
import { GobgpEndpoint } from '../bgp/endpoint.ts';
import { gobgpV3 } from '../bgp/gobgp-v3.ts';
import { LearnedRoutes } from '../bgp/learned-routes.ts';
import { BGP_PROCESS_TIMINGS, type BgpProcess, type BgpProcessEvents } from '../bgp/process.ts';
import { RibSource } from '../bgp/rib.ts';
import { RunFolder } from '../bgp/run-folder.ts';
import { SessionLog } from '../bgp/session-log.ts';
import type { PeerStatus, Speaker } from '../bgp/speaker.ts';
import { GobgpdSupervisor } from '../bgp/supervisor.ts';
import { limited } from '../bgp/wait.ts';
import { type LearnedRoute, NO_RIB, type Rib } from '../cluster/snapshot.ts';
import type { OptionValues } from '../config/options.ts';
import type { Daemon } from '../daemon.ts';
import { FairwayError } from '../errors.ts';
import { serviceStarter } from '../kernel/service-process.ts';
import type { Clock } from '../net/clock.ts';
import type { BgpPicture } from '../observe/bgp-metrics.ts';
import type { Log } from '../observe/log.ts';
import type { BgpControl } from '../parts.ts';
import { type BgpAccess, NO_BGP } from './bgp-access.ts';
import { runFolderOf } from './run-folder.ts';

export interface BgpOptions {
  readonly config: Pick<
    OptionValues,
    'gobgpEndpoint' | 'gobgpAdminAddress' | 'gobgpAdminPort' | 'bgpGracefulRestart' | 'bgpGracefulRestartTime'
  >;
  readonly nodeName: string;
  /** Folders that programs are looked up in. */
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The daemon, once it is there. */
  readonly daemon: () => Daemon | undefined;
  /** Whether the kernel had routes of ours when we came. */
  readonly hadRoutes: boolean;
}

/** Milliseconds that neighbours have to tell all they know after a start, where graceful restart says nothing: the hold time they have for us. */
const SETTLE_MS = 90_000;
/** Seconds that gobgpd goes on after a daemon that was killed, unless graceful restart says how long neighbours would wait. */
const GRACE_SECONDS = 30;
/** Milliseconds that the first round waits for gobgpd at most: the other tables are worth more than one complete round. */
const START_MS = 3_000;
/** Milliseconds that who asks for metrics waits for gobgpd. */
const PICTURE_MS = 8_000;

export class Bgp implements BgpControl, BgpAccess {
  readonly #options: BgpOptions;
  readonly #process: BgpProcess;
  readonly #rib: RibSource;
  readonly #sessions: SessionLog;
  readonly #answered = Promise.withResolvers<'answered'>();
  #isStarted = false;
  #isSettled = false;

  constructor(options: BgpOptions) {
    this.#options = options;
    const { config, clock, log, daemon } = options;
    this.#sessions = new SessionLog({ clock, log, speaker: () => this.#process.speaker() });
    this.#rib = new RibSource({
      clock,
      onSession: () => {
        this.#sessions.notice();
      },
      onChange: (changes, isSettled) => {
        this.#noteSettled(isSettled);
        daemon()?.ribChanged(changes, isSettled);
      },
      onTrouble: error => {
        log.warn(`routes of BGP are not followed: ${error.message}`, { code: error.code });
        this.#process.doubt();
      },
      expectedPeers: () => afterFirstRound(daemon())?.wanted('bgpPeer') ?? Number.POSITIVE_INFINITY,
      settleMs: () => (config.bgpGracefulRestart ? config.bgpGracefulRestartTime : SETTLE_MS),
    });
    this.#process = openProcess(options, {
      onSpeaker: speaker => {
        this.#rib.follow(speaker);
        daemon()?.speakerChanged();
        this.#answered.resolve('answered');
      },
      onTrouble: error => {
        this.#rib.lost();
        log.error(error.message, { code: error.code });
        this.#answered.resolve('answered');
      },
    });
  }

  /** Starts gobgpd ahead of the first round; resolves when it answers, or is not to be had soon. */
  async precede(): Promise<void> {
    this.need();
    const late = Promise.withResolvers<'late'>();
    const cancel = this.#options.clock.after(START_MS, () => {
      late.resolve('late');
    });
    await Promise.race([this.#answered.promise, late.promise]);
    cancel();
  }

  /** Starts or finds gobgpd, at the first time. */
  need(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#process.start();
  }

  /** Throws FW_BGP_UNREACHABLE while there is none. */
  speaker(): Speaker {
    return this.#process.speaker();
  }

  /** Those that there are sessions with, or should be. Rejects while gobgpd does not answer. */
  async neighbors(): Promise<readonly PeerStatus[]> {
    if (!this.#isStarted) return [];
    return limited(this.#options.clock, LOOK_MS, new AbortController().signal, signal => this.speaker().peerStatus(signal));
  }

  isRestarting(): boolean {
    return this.#process.isRestarting;
  }

  restarted(): void {
    this.#options.daemon()?.speakerChanged();
  }

  /** How things stand with gobgpd now; `silent` where it does not answer in time, undefined where nobody wanted it yet. */
  async picture(): Promise<BgpPicture | 'silent' | undefined> {
    if (!this.#isStarted) return undefined;
    const { clock } = this.#options;
    const ask = async (signal: AbortSignal): Promise<BgpPicture> => {
      const speaker = this.#process.speaker();
      const [server, peers] = await Promise.all([speaker.server(signal), speaker.peerStatus(signal)]);
      return { asn: server?.asn ?? 0, peers };
    };
    return await limited(clock, PICTURE_MS, new AbortController().signal, ask).catch(() => 'silent');
  }

  #noteSettled(isSettled: boolean): void {
    if (isSettled && !this.#isSettled)
      this.#options.log.info('BGP: neighbours have told all, or had their time to; routes that nobody told again go');
    this.#isSettled = isSettled;
  }

  /** With graceful restart neighbours go on sending us packets, which the kernel's routes still carry; without, they are told that we go. */
  async stop(): Promise<void> {
    this.#sessions.stop();
    await this.#rib.stop();
    if (this.#isStarted) await this.#process.stop(this.#options.config.bgpGracefulRestart ? 'keep routes' : 'withdraw');
  }
}

/** Before, it knows neither what is wanted nor what is there. */
function afterFirstRound(daemon: Daemon | undefined): Daemon | undefined {
  return daemon?.hasConverged === true ? daemon : undefined;
}

function openProcess(options: BgpOptions, events: BgpProcessEvents): BgpProcess {
  const { config, nodeName, clock, log, daemon, path, hadRoutes } = options;
  const connect = (endpoint: string): Speaker => gobgpV3({ endpoint, clock });
  const timings = BGP_PROCESS_TIMINGS;
  if (config.gobgpEndpoint !== '') {
    return new GobgpEndpoint({ ...events, endpoint: config.gobgpEndpoint, connect, clock, timings });
  }
  return new GobgpdSupervisor({
    ...events,
    folder: runFolderOf(nodeName),
    adminHosts: adminHosts(config.gobgpAdminAddress, config.gobgpAdminPort),
    startProcess: serviceStarter({ path }),
    startWatch: serviceStarter({ path }),
    graceSeconds: () => (config.bgpGracefulRestart ? Math.round(config.bgpGracefulRestartTime / 1000) : GRACE_SECONDS),
    connect,
    hasRoutesInKernel: () => afterFirstRound(daemon())?.hasRoutes() ?? hadRoutes,
    restartMs: () => config.bgpGracefulRestartTime,
    clock,
    log,
    timings,
  });
}

/** What a command that changes nothing sees of BGP. */
export interface BgpView {
  readonly access: BgpAccess;
  readonly rib: Rib;
  close(): void;
}

/** Milliseconds that a gobgpd which is there takes to answer at most. */
const LOOK_MS = 2_000;

/** The gobgpd of a daemon that runs here, or of `--gobgp-endpoint`. Without one nobody can know which routes there will be: none of those that are there is then superfluous. */
export async function lookAtBgp(
  { gobgpEndpoint }: Pick<OptionValues, 'gobgpEndpoint'>,
  nodeName: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<BgpView> {
  const speaker = gobgpV3({ endpoint: gobgpEndpoint || new RunFolder(runFolderOf(nodeName)).endpoint, clock });
  const late = new AbortController();
  const cancel = clock.after(LOOK_MS, () => late.abort(new FairwayError('FW_BGP_UNREACHABLE', 'gobgpd does not answer')));
  try {
    const paths = await speaker.bestPaths('all', AbortSignal.any([signal, late.signal]));
    const routes = new Map<string, LearnedRoute>();
    for (const [prefix, route] of new LearnedRoutes().take('all', paths)) if (route !== undefined) routes.set(prefix, route);
    const access: BgpAccess = { speaker: () => speaker, isRestarting: () => false, restarted: () => undefined };
    return { access, rib: { routes, isSettled: true }, close: () => speaker.close() };
  } catch (thrown) {
    speaker.close();
    if (signal.aborted) throw thrown;
    return { access: NO_BGP, rib: { ...NO_RIB, isSettled: false }, close: () => undefined };
  } finally {
    cancel();
  }
}
