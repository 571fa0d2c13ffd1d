/** A gobgpd that others start and stop (`--gobgp-endpoint`): it is called, and called again when it was away. */
import { FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { BgpProcess, BgpProcessEvents, BgpProcessTimings } from './process.ts';
import { askOnce, Pulse } from './pulse.ts';
import type { Speaker } from './speaker.ts';
import { nestedAbort, Waits } from './wait.ts';

export interface EndpointOptions extends BgpProcessEvents {
  /** `HOST:PORT` or `unix:/PATH`. */
  readonly endpoint: string;
  readonly connect: (endpoint: string) => Speaker;
  readonly clock: Clock;
  readonly timings: BgpProcessTimings;
}

export class GobgpEndpoint implements BgpProcess {
  readonly #options: EndpointOptions;
  readonly #stopping = new AbortController();
  readonly #waits: Waits;
  #running: Promise<void> = Promise.resolve();
  #speaker: Speaker | undefined;
  #isTroubled = false;
  #doubt: () => void = () => undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#waits = new Waits({ first: options.timings.firstRetryMs, longest: options.timings.longestRetryMs });
  }

  /** Whether routes were kept while it was away is not ours to know. */
  readonly isRestarting = false;

  start(): void {
    this.#running = this.#run();
  }

  speaker(): Speaker {
    if (this.#speaker === undefined) throw this.#unreachable('it is called again');
    return this.#speaker;
  }

  /** It may have been started anew in the meantime, and answer again: what it has must be read either way. */
  doubt(): void {
    this.#doubt();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('gobgpd is no longer called'));
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, connect, endpoint, timings } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const speaker = connect(endpoint);
      const since = clock.now();
      const reason = (await askOnce(speaker, this.#options, signal)) ?? (await this.#serve(speaker));
      speaker.close();
      if (this.#isStopped()) return;
      if (!this.#isTroubled) this.#options.onTrouble(this.#unreachable(`${reason}; it is called again`));
      this.#isTroubled = true;
      if (clock.now() - since >= timings.settledMs) this.#waits.reset();
      await pause(clock, this.#waits.next(), signal);
    }
  }

  /** Until it no longer answers; gives why. */
  async #serve(speaker: Speaker): Promise<string> {
    const { inner, release } = nestedAbort(this.#stopping.signal);
    this.#doubt = () => {
      inner.abort();
    };
    this.#speaker = speaker;
    this.#isTroubled = false;
    this.#options.onSpeaker(speaker);
    const reason = await new Pulse(speaker, this.#options).untilSilent(inner.signal);
    release();
    this.#doubt = () => undefined;
    this.#speaker = undefined;
    return reason ?? 'the connection broke off';
  }

  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  #unreachable(reason: string): FairwayError {
    return new FairwayError('FW_BGP_UNREACHABLE', `gobgpd at ${this.#options.endpoint} does not answer: ${reason}`);
  }
}
