/**
 * What systemd hears of us as a service of Type=notify (systemd.service(5), sd_notify(3)): when we are ready, what we do or complain of, that the loop
 * is alive, and that we stop. Nothing waits for it, and nothing depends on it.
 */
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { type Health, isReady } from './health.ts';
import type { Log } from './log.ts';

/** The state changes with rounds; systemd is told at most this often, in milliseconds, since each word costs a process. */
const PACE_MS = 2000;
/** What could not be told is tried again after this many milliseconds, and the state is looked at when nothing else makes us. */
const LOOK_MS = 30_000;
/** `systemctl status` shows it in one line. */
const STATUS_LENGTH = 300;

export interface ServiceNoticesOptions {
  /** Hands assignments over; rejects where they were not taken. */
  readonly send: (assignments: readonly string[], signal: AbortSignal) => Promise<void>;
  readonly health: () => Health;
  /** Milliseconds within which systemd wants to hear that we live; undefined where it does not. */
  readonly watchdogMs: number | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class ServiceNotices {
  readonly #options: ServiceNoticesOptions;
  /** Not told yet, or not taken; the latest value of each. */
  readonly #untold = new Map<string, string>();
  #status = '';
  #isReady = false;
  #isStopping = false;
  #isMute = false;
  #hasTrouble = false;
  #sending: Promise<void> | undefined;
  #nextAt = 0;
  #cancelSend: (() => void) | undefined;
  #cancelBeat: (() => void) | undefined;

  constructor(options: ServiceNoticesOptions) {
    this.#options = options;
  }

  start(): void {
    this.look();
    this.#armBeat();
  }

  /** Something may be other than it was: after every round. */
  look(): void {
    if (this.#isStopping) return;
    const health = this.#options.health();
    if (!this.#isReady && isReady(health)) {
      this.#isReady = true;
      this.#untold.set('READY', '1');
      // Whoever waits for us waits no longer than need be.
      this.#nextAt = 0;
    }
    this.#tellStatus(statusLine(health));
    this.#sendSoon();
  }

  /** Resolves when systemd knows that we stop, or could not be told. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#cancelBeat?.();
    this.#cancelSend?.();
    await this.#sending;
    this.#untold.set('STOPPING', '1');
    this.#tellStatus('stops after the round under way; what is programmed stays in force');
    await this.#send();
  }

  /** Half the time allowed, as sd_watchdog_enabled(3) recommends. A loop that does not turn comes by here no more; one that is wedged in a round is not live. */
  #armBeat(): void {
    const { clock, watchdogMs, health } = this.#options;
    this.#cancelBeat = clock.after(watchdogMs === undefined ? LOOK_MS : watchdogMs / 2, () => {
      if (watchdogMs !== undefined && health().isLive) {
        this.#untold.set('WATCHDOG', '1');
        this.#nextAt = 0;
      }
      this.look();
      this.#armBeat();
    });
  }

  #tellStatus(status: string): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#untold.set('STATUS', status);
  }

  /** Now, or as soon as the pace allows; what comes meanwhile goes along. */
  #sendSoon(): void {
    if (this.#untold.size === 0 || this.#sending !== undefined) return;
    this.#cancelSend?.();
    this.#cancelSend = undefined;
    const wait = this.#nextAt - this.#options.clock.now();
    if (wait > 0) {
      this.#cancelSend = this.#options.clock.after(wait, () => this.#sendSoon());
      return;
    }
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
      if (!this.#isStopping) this.#sendSoon();
    });
  }

  async #send(): Promise<void> {
    const { send, clock, signal } = this.#options;
    const told = new Map(this.#untold);
    this.#untold.clear();
    if (this.#isMute) return;
    try {
      await send(
        [...told].map(([name, value]) => `${name}=${value}`),
        signal,
      );
      this.#nextAt = clock.now() + PACE_MS;
      this.#tellTrouble(undefined);
    } catch (thrown) {
      // A beat is true at its moment only.
      told.delete('WATCHDOG');
      for (const [name, value] of told) if (!this.#untold.has(name)) this.#untold.set(name, value);
      this.#nextAt = clock.now() + LOOK_MS;
      this.#tellTrouble(thrown);
    }
  }

  #tellTrouble(thrown: unknown): void {
    const { log, signal } = this.#options;
    if (thrown === undefined) {
      if (this.#hasTrouble) log.info('systemd hears of our state again');
      this.#hasTrouble = false;
      return;
    }
    if (signal.aborted) return;
    // A tool that is not there does not come while we run.
    this.#isMute = thrown instanceof FairwayError && thrown.code === 'FW_CAPABILITY_TOOL_MISSING';
    if (!this.#hasTrouble)
      log.warn(`systemd does not hear of our state (readiness, watchdog): ${messageOf(thrown)}`, {
        code: thrown instanceof FairwayError ? thrown.code : 'FW_COMMAND_FAILED',
      });
    this.#hasTrouble = true;
  }
}

/** What `systemctl status` shows. No numbers that every round changes: each new line is a process. */
export function statusLine({ isLive, isNodeLeaving, modules }: Health): string {
  const inState = (wanted: 'starting' | 'ok'): string =>
    [...modules].flatMap(([name, { state }]) => (state === wanted ? [name] : [])).join(', ');
  const complaints = [...modules].flatMap(([name, module]) =>
    module.state === 'degraded' ? [`${name} degraded: ${module.reason}`] : [],
  );
  const parts = [
    ...(isLive ? [] : ['the reconcile loop has not ticked in time']),
    ...(inState('starting') === '' ? [] : [`waits for the first full lists: ${inState('starting')}`]),
    ...complaints,
    ...(inState('ok') === '' ? [] : [`in force: ${inState('ok')}`]),
    ...(isNodeLeaving ? ['this node is about to be deleted'] : []),
  ];
  const line = parts.join('; ').replace(/\s+/g, ' ');
  return line.length <= STATUS_LENGTH ? line : `${line.slice(0, STATUS_LENGTH - 1)}…`;
}

/** What systemd asks of its services, by the environment it starts them with (sd_notify(3), sd_watchdog_enabled(3)); undefined where it does not. */
export function askedBySystemd(
  environment: Readonly<Record<string, string | undefined>>,
): { readonly watchdogMs: number | undefined } | undefined {
  if ((environment['NOTIFY_SOCKET'] ?? '') === '') return undefined;
  // WATCHDOG_PID is not looked at: an older Node.js that hands over to the pinned one waits as the main process, and a beat too many does no harm.
  const microseconds = Number(environment['WATCHDOG_USEC']);
  return { watchdogMs: microseconds > 0 ? microseconds / 1000 : undefined };
}
