/**
 * gobgpd as a child of ours. It is kept running, and outlives a daemon that is killed: the next one finds it by its socket and takes it over, sessions and
 * all. What neighbours hear when we stop is decided here: RFC 4724 keeps our routes where the session just breaks, and drops them at a notification.
 */
import { kill } from 'node:process';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import { pause } from '../net/pause.ts';
import { GobgpdLineTeller, GobgpdLogFile } from './gobgpd-log.ts';
import type { BgpProcess, BgpProcessEvents, BgpProcessTimings, ProcessLog, StopManner } from './process.ts';
import { askOnce, Pulse } from './pulse.ts';
import { gobgpdCommand, RunFolder } from './run-folder.ts';
import type { Speaker } from './speaker.ts';
import { limited, nestedAbort, Waits } from './wait.ts';
import { widowCommand } from './widow.ts';

/** A process that was started (`daemon/kernel/service-process.ts`). */
export interface StartedProcess {
  readonly pid: number;
  /** How it ended, once it has. */
  readonly ended: Promise<string>;
}

/** A gobgpd that runs, started by us or by a daemon before us. */
interface Gobgpd extends StartedProcess {
  /** Whether the process id is still its own. */
  readonly isThere: () => Promise<boolean>;
}

export interface SupervisorOptions extends BgpProcessEvents {
  /** Such as `/run/fairway/node1`; made, for root alone. */
  readonly folder: string;
  /** Where it answers besides, see `admin-hosts.ts`. */
  readonly adminHosts: readonly string[];
  /** Starts a program that outlives us, its output appended to a file (`daemon/kernel/service-process.ts`). */
  readonly startProcess: (argv: readonly [string, ...string[]], outputFile: string) => Promise<StartedProcess>;
  /** Likewise, for what ends gobgpd when nobody looks after it any more (`widow.ts`). */
  readonly startWatch: SupervisorOptions['startProcess'];
  /** Seconds that gobgpd goes on without a daemon. */
  readonly graceSeconds: () => number;
  readonly connect: (endpoint: string) => Speaker;
  /** Whether packets still flow by routes of an earlier gobgpd: asked whenever one is started. */
  readonly hasRoutesInKernel: () => boolean;
  /** Milliseconds for which neighbours keep the routes of a speaker that restarts: a later session is not part of the restart. */
  readonly restartMs: () => number;
  readonly clock: Clock;
  readonly log: ProcessLog;
  readonly timings: BgpProcessTimings;
}

/** Milliseconds between two looks at the log of gobgpd. */
const LOG_EVERY_MS = 1_000;
/** Milliseconds between two looks at a process that is not our child. */
const GONE_EVERY_MS = 500;
/** Milliseconds between two looks at a socket that is not there yet. */
const SERVED_EVERY_MS = 50;

export class GobgpdSupervisor implements BgpProcess {
  readonly #options: SupervisorOptions;
  readonly #folder: RunFolder;
  readonly #stopping = new AbortController();
  readonly #waits: Waits;
  readonly #lines: GobgpdLogFile;
  readonly #teller: GobgpdLineTeller;
  #running: Promise<void> = Promise.resolve();
  #manner: StopManner = 'keep routes';
  #speaker: Speaker | undefined;
  #pulse: Pulse | undefined;
  /** Since when a gobgpd runs whose routes were kept from an earlier one. */
  #restartedAt: Instant | undefined;
  /** What the last trouble that still stands said. */
  #standing: string | undefined;
  /** Admin addresses that the present gobgpd does without, since the one before could not bind them. */
  #without: ReadonlySet<string> = new Set();
  /** Those that the present one could not bind. */
  readonly #busy = new Set<string>();
  readonly #busyTold = new Set<string>();
  /** Why the present gobgpd says it gives up. */
  #lastWords = '';

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#folder = new RunFolder(options.folder);
    this.#waits = new Waits({ first: options.timings.firstRetryMs, longest: options.timings.longestRetryMs });
    this.#teller = new GobgpdLineTeller(options.log, options.clock);
    this.#lines = new GobgpdLogFile(this.#folder.log, line => {
      if (line.message === 'listen failed' && options.adminHosts.includes(line.key)) this.#busy.add(line.key);
      else if (line.level === 'fatal' || line.level === 'panic')
        this.#lastWords = [line.message, line.error].filter(Boolean).join(': ');
      else this.#teller.tell(line);
    });
  }

  get isRestarting(): boolean {
    const { clock, restartMs } = this.#options;
    return this.#restartedAt !== undefined && clock.now() - this.#restartedAt < restartMs();
  }

  start(): void {
    this.#running = this.#run();
  }

  speaker(): Speaker {
    if (this.#speaker === undefined) throw unreachable(this.#standing ?? 'gobgpd is being started');
    return this.#speaker;
  }

  doubt(): void {
    this.#pulse?.hasten();
  }

  async stop(manner: StopManner): Promise<void> {
    this.#manner = manner;
    this.#stopping.abort(new Error('gobgpd is stopped'));
    await this.#running;
  }

  async #run(): Promise<void> {
    let next: () => Promise<Gobgpd | undefined> = () => this.#adopted();
    while (!this.#isStopped()) {
      let pauseMs = 0;
      try {
        const gobgpd = (await next()) ?? (await this.#started());
        if (gobgpd === undefined) return;
        const since = this.#options.clock.now();
        const hasFailed = await this.#serve(gobgpd);
        if (this.#options.clock.now() - since >= this.#options.timings.settledMs) this.#waits.reset();
        if (hasFailed) pauseMs = this.#waits.next();
      } catch (thrown) {
        pauseMs = this.#pauseAfter(thrown);
      }
      next = () => Promise.resolve(undefined);
      await pause(this.#options.clock, pauseMs, this.#stopping.signal);
    }
  }

  #pauseAfter(thrown: unknown): number {
    const error = thrown instanceof FairwayError ? thrown : unreachable(`gobgpd cannot be started: ${messageOf(thrown)}`);
    if (!this.#isStopped()) this.#trouble(error);
    return error.code === 'FW_CAPABILITY_TOOL_MISSING' ? this.#options.timings.missingRetryMs : this.#waits.next();
  }

  /** One that an earlier daemon left, if it answers; where it does not, it is ended, so that its ports are free. */
  async #adopted(): Promise<Gobgpd | undefined> {
    const { log } = this.#options;
    await this.#folder.make();
    await this.#folder.own();
    await this.#lines.read();
    const pid = await this.#folder.findGobgpd();
    if (pid === undefined) return undefined;
    const gobgpd = this.#foreign(pid);
    const silence = await this.#silence();
    if (this.#isStopped()) return gobgpd;
    if (silence === undefined) {
      await this.#folder.writePid(pid).catch(() => undefined);
      log.info('gobgpd of an earlier run still answers and is taken over, with its sessions', { pid });
      return gobgpd;
    }
    log.warn(`gobgpd of an earlier run does not answer and is ended: ${silence}`, { pid });
    await this.#kill(gobgpd);
    return undefined;
  }

  /** Why nobody answers on our socket; undefined where somebody does. */
  async #silence(): Promise<string | undefined> {
    const { connect, timings } = this.#options;
    const speaker = connect(this.#folder.endpoint);
    let silence: string | undefined;
    for (let asked = 0; asked < timings.misses && !this.#isStopped(); asked++) {
      silence = await askOnce(speaker, this.#options, this.#stopping.signal);
      if (silence === undefined) break;
    }
    speaker.close();
    return silence;
  }

  /** Undefined where we are stopped meanwhile. */
  async #started(): Promise<Gobgpd | undefined> {
    const { adminHosts, clock, hasRoutesInKernel, log, startProcess } = this.#options;
    await this.#folder.make();
    // What could not be ended, or was lost sight of, must not run beside the next one.
    const left = await this.#folder.findGobgpd();
    if (left !== undefined) await this.#kill(this.#foreign(left));
    await this.#folder.clear();
    await this.#lines.read();
    this.#lastWords = '';
    this.#busy.clear();
    const hosts = [this.#folder.endpoint, ...adminHosts.filter(host => !this.#without.has(host))];
    const isRestart = hasRoutesInKernel();
    if (this.#isStopped()) return undefined;
    const { pid, ended } = await startProcess(gobgpdCommand(hosts), this.#folder.log);
    let hasEnded = false;
    void ended.then(() => {
      hasEnded = true;
    });
    this.#restartedAt = isRestart ? clock.now() : undefined;
    // Without the note it is found by its command line.
    await this.#folder.writePid(pid).catch(() => undefined);
    await this.#watchOver(pid);
    log.info('gobgpd is started', { pid });
    return { pid, ended, isThere: () => Promise.resolve(!hasEnded) };
  }

  async #watchOver(pid: number): Promise<void> {
    const { graceSeconds, log, startWatch } = this.#options;
    const command = widowCommand({ pid, ownerFile: this.#folder.ownerFile, graceSeconds: graceSeconds() });
    await startWatch(command, this.#folder.log).catch((thrown: unknown) => {
      log.warn(`gobgpd would outlive a daemon that is killed, for ever: ${messageOf(thrown)}`);
    });
  }

  /** From its start to its end, or to ours; false where it may be started anew at once. */
  async #serve(gobgpd: Gobgpd): Promise<boolean> {
    const over = nestedAbort(this.#stopping.signal);
    const { signal } = over.inner;
    void gobgpd.ended.then(() => {
      over.inner.abort();
    });
    const reading = this.#readLog(signal);
    const silence = (await this.#untilServed(signal)) ?? (await this.#useUntilSilent(signal));
    over.inner.abort();
    over.release();
    await reading;
    if (this.#isStopped()) {
      await this.#end(gobgpd);
      return false;
    }
    if (silence !== undefined) await this.#kill(gobgpd);
    const how = (await this.#endedInTime(gobgpd)) ?? 'no end to be seen';
    await this.#lines.read();
    return this.#tellEnd(silence ?? `it ended with ${how}${this.#lastWords === '' ? '' : `: ${this.#lastWords}`}`);
  }

  /** False where all that was wrong is an admin address that another program has: gobgpd would rather end than do without. */
  #tellEnd(reason: string): boolean {
    if (this.#busy.size > 0) {
      this.#without = new Set([...this.#without, ...this.#busy]);
      this.#tellBusy();
      return false;
    }
    // Perhaps they are free by the next time.
    this.#without = new Set();
    this.#trouble(unreachable(`gobgpd is started again: ${reason}`));
    return true;
  }

  #tellBusy(): void {
    for (const host of this.#busy) {
      if (this.#busyTold.has(host)) continue;
      this.#busyTold.add(host);
      this.#options.log.warn(
        `gobgpd cannot answer on ${host}, which another program uses or the host does not have, and goes on without: choose another --gobgp-admin-port or --gobgp-admin-address, or port 0 for none`,
      );
    }
  }

  /** Why it never came to answer on its socket; undefined once it does, or when the signal aborts. */
  async #untilServed(signal: AbortSignal): Promise<string | undefined> {
    const { clock, timings } = this.#options;
    for (const since = clock.now(); !signal.aborted; ) {
      if (await this.#folder.isServed()) return undefined;
      if (clock.now() - since > timings.startLimitMs) return `it did not answer within ${timings.startLimitMs} ms`;
      await pause(clock, SERVED_EVERY_MS, signal);
    }
    return undefined;
  }

  /** Why it no longer answers; undefined when the signal aborts. */
  async #useUntilSilent(signal: AbortSignal): Promise<string | undefined> {
    if (signal.aborted) return undefined;
    const speaker = this.#options.connect(this.#folder.endpoint);
    const pulse = new Pulse(speaker, this.#options);
    this.#speaker = speaker;
    this.#pulse = pulse;
    this.#standing = undefined;
    this.#options.onSpeaker(speaker);
    const silence = await pulse.untilSilent(signal);
    this.#pulse = undefined;
    this.#speaker = undefined;
    speaker.close();
    return silence === undefined ? undefined : `it hung and was killed (${silence})`;
  }

  async #readLog(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#options.clock, LOG_EVERY_MS, signal);
      await this.#lines.read();
    }
  }

  /** The end we want, when we stop. */
  async #end(gobgpd: Gobgpd): Promise<void> {
    if (this.#manner === 'withdraw') await this.#sayGoodbye(gobgpd);
    // By SIGKILL no neighbour hears anything: at SIGTERM gobgpd sends notifications, and neighbours drop our routes.
    await this.#kill(gobgpd);
  }

  async #sayGoodbye(gobgpd: Gobgpd): Promise<void> {
    const { clock, connect, timings } = this.#options;
    const never = new AbortController().signal;
    const speaker = connect(this.#folder.endpoint);
    try {
      await limited(clock, timings.probeLimitMs, never, signal => speaker.stopServer(signal));
    } catch {
      // It has no sessions, or does not answer: SIGTERM is the second word.
    }
    speaker.close();
    await this.#signal(gobgpd, 'SIGTERM');
    await this.#endedInTime(gobgpd);
  }

  async #kill(gobgpd: Gobgpd): Promise<void> {
    await this.#signal(gobgpd, 'SIGKILL');
    await this.#endedInTime(gobgpd);
    await this.#folder.clear();
  }

  /** How it ended; undefined where it does not. */
  async #endedInTime({ ended }: Gobgpd): Promise<string | undefined> {
    const limit = new AbortController();
    const never = pause(this.#options.clock, this.#options.timings.endLimitMs, limit.signal).then(() => undefined);
    const how = await Promise.race([ended, never]);
    limit.abort();
    return how;
  }

  async #signal({ pid, isThere }: Gobgpd, signal: NodeJS.Signals): Promise<void> {
    if (!(await isThere())) return;
    try {
      kill(pid, signal);
    } catch {
      // It ended a moment ago.
    }
  }

  /** One whose parent is another: only a look tells whether it is there. */
  #foreign(pid: number): Gobgpd {
    const isThere = (): Promise<boolean> => this.#folder.isOurGobgpd(pid);
    const untilGone = async (): Promise<string> => {
      const never = new AbortController().signal;
      while (await isThere()) await pause(this.#options.clock, GONE_EVERY_MS, never);
      return 'a status that only its parent heard';
    };
    return { pid, isThere, ended: untilGone() };
  }

  /** Told once until it is over; another reason meanwhile is a line of the log. */
  #trouble(error: FairwayError): void {
    if (this.#standing === undefined) this.#options.onTrouble(error);
    else if (this.#standing !== error.message) this.#options.log.warn(error.message, { code: error.code });
    this.#standing = error.message;
  }

  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }
}

function unreachable(reason: string): FairwayError {
  return new FairwayError('FW_BGP_UNREACHABLE', reason);
}
