/** Whether a gobgpd still answers: a process that is there may hang all the same. */
import { messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { BgpProcessTimings } from './process.ts';
import type { Speaker } from './speaker.ts';
import { limited, nestedAbort } from './wait.ts';

export interface PulseOptions {
  readonly clock: Clock;
  readonly timings: BgpProcessTimings;
}

/** Why it does not answer; undefined where it does. */
export async function askOnce(
  speaker: Speaker,
  { clock, timings }: PulseOptions,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    await limited(clock, timings.probeLimitMs, signal, inTime => speaker.server(inTime));
    return undefined;
  } catch (thrown) {
    return messageOf(thrown);
  }
}

export class Pulse {
  readonly #speaker: Speaker;
  readonly #options: PulseOptions;
  #hasten: () => void = () => undefined;

  constructor(speaker: Speaker, options: PulseOptions) {
    this.#speaker = speaker;
    this.#options = options;
  }

  /** The next probe is due now. */
  hasten(): void {
    this.#hasten();
  }

  /** Resolves with the reason once it no longer answers, or with undefined when the signal aborts. */
  async untilSilent(signal: AbortSignal): Promise<string | undefined> {
    const { clock, timings } = this.#options;
    for (let misses = 0; ; ) {
      const { inner, release } = nestedAbort(signal);
      this.#hasten = () => {
        inner.abort();
      };
      await pause(clock, timings.probeEveryMs, inner.signal);
      release();
      const reason = await askOnce(this.#speaker, this.#options, signal);
      if (signal.aborted) return undefined;
      misses = reason === undefined ? 0 : misses + 1;
      if (reason !== undefined && misses >= timings.misses) return reason;
    }
  }
}
