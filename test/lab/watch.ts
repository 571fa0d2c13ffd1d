/**
 * A pair of hosts under watch: a fresh flow every few milliseconds, each with its outcome and time, so that a test can say that a way was
 * never open or never shut while something changed.
 */

import type { LabHost } from './addresses.ts';
import { type Agent, type Exchange, LabError } from './agent.ts';
import { type Reply, reply, type Target, targetFields } from './probe.ts';

/** Milliseconds on the clock of the lab's agent: only to be compared with each other. */
export type Moment = number;

/** One flow. */
export interface Attempt {
  readonly began: Moment;
  readonly ended: Moment;
  readonly reply: Reply;
}

export interface WatchOptions {
  /** Milliseconds between the beginnings of two flows; 10 unless told. */
  readonly everyMs?: number;
}

/**
 * One SYN and no second one: a flow is judged once. So many milliseconds without an answer are silence.
 */
const SILENCE_MS = 800;

export class Watch {
  readonly #agent: Agent;
  readonly #attempts: Attempt[] = [];
  readonly #waiting = new Set<{ readonly since: Moment; left: number; readonly resolve: () => void }>();
  readonly #started = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  readonly #exchange: Exchange;

  private constructor(agent: Agent, fields: readonly string[]) {
    this.#agent = agent;
    // Of a lab that ended tells whatever is asked next.
    this.#over.promise.catch(() => {});
    this.#exchange = agent.open('watch', fields, {
      told: (verb, told) => {
        if (verb === 'done') this.#started.resolve();
        if (verb === 'attempt') this.#take(told.map(String));
        if (verb === 'over') this.#over.resolve();
      },
      failed: error => {
        this.#started.reject(error);
        this.#over.reject(error);
      },
    });
  }

  /** Begins; the first flow is on its way when this resolves. */
  static async begin(agent: Agent, from: LabHost, target: Target, options: WatchOptions = {}): Promise<Watch> {
    const fields = targetFields(from.name, { timeoutMs: SILENCE_MS, ...target });
    const watch = new Watch(agent, [String(options.everyMs ?? 10), ...fields]);
    await watch.#started.promise;
    return watch;
  }

  /** Now: what began later is a flow of afterwards, what ended before is one of before. */
  async now(): Promise<Moment> {
    const [time] = await this.#agent.ask('clock');
    return Number(String(time));
  }

  /** Waits until so many flows that begin from now on have ended. */
  async more(count = 20): Promise<void> {
    const since = await this.now();
    const enough = Promise.withResolvers<void>();
    this.#waiting.add({ since, left: count, resolve: enough.resolve });
    await Promise.race([enough.promise, this.#over.promise]);
  }

  /** Waits for the flows on their way and gives all, in the order they began. */
  async end(): Promise<readonly Attempt[]> {
    this.#exchange.send('unwatch');
    await this.#over.promise;
    this.#exchange.close();
    return this.#attempts.sort((one, other) => one.began - other.began);
  }

  #take([began, ended, outcome = '', text = '']: readonly string[]): void {
    const attempt = { began: Number(began), ended: Number(ended), reply: reply(outcome, text) };
    this.#attempts.push(attempt);
    for (const waiting of this.#waiting) {
      if (attempt.began < waiting.since || --waiting.left > 0) continue;
      this.#waiting.delete(waiting);
      waiting.resolve();
    }
  }
}

/** Those that began after one moment and ended before another. */
export function between(
  attempts: readonly Attempt[],
  { after = Number.NEGATIVE_INFINITY, before = Number.POSITIVE_INFINITY },
): readonly Attempt[] {
  return attempts.filter(({ began, ended }) => began >= after && ended <= before);
}

/** The longest time without a flow that is answered, in milliseconds, between two that are. Rejects too few of these. */
export function longestSilence(attempts: readonly Attempt[]): number {
  const answered = attempts.filter(({ reply: { outcome } }) => outcome === 'answer').map(({ began }) => began);
  if (answered.length < 2) throw new LabError(`only ${answered.length} flows of ${attempts.length} were answered`);
  return Math.round(Math.max(...answered.slice(1).map((began, index) => began - answered[index]!)));
}

/**
 * Outcomes in the order of the flows, runs of the same taken together: `refused`, `refused answer`, `answer timeout answer`. Rejects too
 * few flows to say anything.
 */
export function history(attempts: readonly Attempt[], atLeast = 5): string {
  if (attempts.length < atLeast) throw new LabError(`only ${attempts.length} flows were watched`);
  const outcomes = attempts.map(attempt => attempt.reply.outcome);
  return outcomes.filter((outcome, index) => outcome !== outcomes[index - 1]).join(' ');
}
