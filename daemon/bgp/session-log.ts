/** Tells the log which sessions come and go, and which do not come: an operator sees a wrong password or AS number nowhere else. */
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import type { ProcessLog } from './process.ts';
import type { PeerStatus, Speaker } from './speaker.ts';
import { limited } from './wait.ts';

export interface SessionLogOptions {
  readonly clock: Clock;
  readonly log: ProcessLog;
  /** Throws while there is none. */
  readonly speaker: () => Speaker;
}

interface Session {
  readonly isUp: boolean;
  readonly since: Instant;
  /** Whether it was told that it does not come up. */
  readonly isTold: boolean;
}

/** Milliseconds from an event to the look: sessions come and go by the hundred. */
const COALESCE_MS = 1_000;
/** Milliseconds without a session after which that is told: gobgpd tries a neighbour every 5 to 10 seconds. */
const PATIENCE_MS = 20_000;
/** Milliseconds between two looks while there is something to wait for that comes without an event. */
const LOOK_MS = 5_000;
const ANSWER_MS = 30_000;

export class SessionLog {
  readonly #options: SessionLogOptions;
  readonly #stopping = new AbortController();
  #sessions: ReadonlyMap<string, Session> = new Map();
  #cancel: (() => void) | undefined;

  constructor(options: SessionLogOptions) {
    this.#options = options;
  }

  /** A session may be another: it is looked at soon. */
  notice(): void {
    this.#lookAfter(COALESCE_MS);
  }

  stop(): void {
    this.#stopping.abort();
    this.#cancel?.();
  }

  #lookAfter(milliseconds: number): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancel ??= this.#options.clock.after(milliseconds, () => {
      this.#cancel = undefined;
      void this.#look();
    });
  }

  async #look(): Promise<void> {
    const { clock, speaker } = this.#options;
    const statuses = await limited(clock, ANSWER_MS, this.#stopping.signal, signal => speaker().peerStatus(signal)).catch(
      () => undefined,
    );
    // A speaker that does not answer is told of by others.
    if (statuses === undefined || this.#stopping.signal.aborted) return;
    const judged = statuses.map(status => ({ status, session: this.#judged(status) }));
    this.#tell(judged);
    this.#sessions = new Map(judged.map(({ status, session }) => [status.address, session]));
    if (judged.some(({ session: { isUp, isTold } }) => !isUp && !isTold)) this.#lookAfter(LOOK_MS);
  }

  #tell(judged: readonly { readonly status: PeerStatus; readonly session: Session }[]): void {
    const { log } = this.#options;
    const up: string[] = [];
    const lost: string[] = [];
    const awaited: string[] = [];
    for (const { status, session } of judged) {
      const before = this.#sessions.get(status.address);
      const name = `${status.address} (AS ${status.asn})`;
      if (session.isUp !== (before?.isUp ?? false)) (session.isUp ? up : lost).push(name);
      else if (session.isTold && before?.isTold !== true) awaited.push(`${name}, ${status.state}`);
    }
    if (up.length > 0) log.info(`BGP: in session with ${someOf(up)}`);
    if (lost.length > 0) log.warn(`BGP: lost the session with ${someOf(lost)}`);
    if (awaited.length > 0)
      log.warn(
        `BGP: no session for ${PATIENCE_MS / 1000} s with ${someOf(awaited)}: is it there, does it expect our AS number, and do both have one password?`,
      );
  }

  #judged({ address, state }: PeerStatus): Session {
    const now = this.#options.clock.now();
    const isUp = state === 'established';
    const before = this.#sessions.get(address) ?? { isUp: false, since: now, isTold: false };
    if (isUp !== before.isUp) return { isUp, since: now, isTold: false };
    return isUp || before.isTold || now - before.since < PATIENCE_MS ? before : { ...before, isTold: true };
  }
}

/** Neighbours named in one line; a mesh of hundreds is told by its number. */
const NAMED = 5;

function someOf(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return `${names.slice(0, NAMED).join('; ')}${more}`;
}
