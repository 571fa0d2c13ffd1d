/**
 * Follows what a speaker knows and hands out what changed. Level-triggered: an event says only which prefixes to read again.
 *
 * A speaker that is lost takes nothing with it: its routes stay as they are, unsettled, until the next one has told all it will (RFC 4724: every neighbour
 * is there and has marked the end of its routes), or has had its time to. Only then what was not told again is gone.
 */
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import { pause } from '../net/pause.ts';
import type { IpPrefix } from '../net/prefix.ts';
import { LearnedRoutes, type RouteChanges } from './learned-routes.ts';
import type { PeerStatus, Speaker, SpeakerEvents } from './speaker.ts';
import { aborted, limited, nestedAbort, Waits } from './wait.ts';

export interface RibOptions {
  readonly clock: Clock;
  /** Called with what changed and with whether routes may still be missing, where one of the two is new. */
  readonly onChange: (changes: RouteChanges, isSettled: boolean) => void;
  /** Why a speaker is not followed at the moment; it is tried again until another is given. Once for failures in a row. */
  readonly onTrouble: (error: FairwayError) => void;
  /** A session came or went, or is tried. */
  readonly onSession: () => void;
  /** How many neighbours are to be there before all is told; Infinity where that is not known yet. */
  readonly expectedPeers: () => number;
  /** Milliseconds that a new speaker's neighbours have to tell all. */
  readonly settleMs: () => number;
}

/** Milliseconds from an event to the reading: updates of one message come as many events. */
const COALESCE_MS = 10;
/** With more prefixes than this to read again, all are read. */
const MANY = 500;
/** After a reading of all, the next comes after this many times what it took: a flood of updates costs a third of the time. */
const REST = 2;
/** Sooner where nothing was told for so many milliseconds: the flood is over. */
const QUIET_MS = 50;
/** Milliseconds after which a watch that was begun tells of everything, however busy the machine. */
const LISTENING_MS = 1_000;
/** Milliseconds between two looks at whether all is told: the end of a neighbour's routes may come without an event. */
const SETTLE_LOOK_MS = 1_000;
/** Milliseconds that an answer may take. */
const ANSWER_MS = 30_000;
/** Milliseconds to wait before a speaker that failed is followed again; afresh after it was followed longer than the longest wait. */
const RETRY_MS = { first: 500, longest: 30_000 };

export class RibSource {
  readonly #options: RibOptions;
  readonly #routes = new LearnedRoutes();
  #isSettled = false;
  #following: Following | undefined;

  constructor(options: RibOptions) {
    this.#options = options;
  }

  /** A speaker is there, new or again. */
  follow(speaker: Speaker): void {
    this.lost();
    const following = new Following(speaker, this.#options, {
      doubt: () => {
        this.#doubt();
      },
      isSettled: () => this.#isSettled,
      take: changes => {
        if (changes.size > 0) this.#options.onChange(changes, this.#isSettled);
      },
      settle: () => {
        this.#isSettled = true;
        this.#options.onChange(this.#routes.forgetUntold(), true);
      },
      routes: this.#routes,
    });
    this.#following = following;
    following.start();
  }

  /** The speaker is gone; what it told stays. */
  lost(): void {
    this.#following?.end();
    this.#following = undefined;
    this.#doubt();
  }

  /** Resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    const following = this.#following;
    this.#following = undefined;
    following?.end();
    await following?.ended;
  }

  #doubt(): void {
    this.#routes.doubt();
    if (!this.#isSettled) return;
    this.#isSettled = false;
    this.#options.onChange(new Map(), false);
  }
}

/** What one speaker's follower does to what is known. */
interface Known {
  readonly routes: LearnedRoutes;
  readonly isSettled: () => boolean;
  readonly doubt: () => void;
  readonly take: (changes: RouteChanges) => void;
  readonly settle: () => void;
}

/** One speaker, followed until it is lost or another takes its place. */
class Following {
  readonly #speaker: Speaker;
  readonly #options: RibOptions;
  readonly #known: Known;
  readonly #ending = new AbortController();
  readonly #since: Instant;
  readonly #waits = new Waits(RETRY_MS);
  #isTroubled = false;
  ended: Promise<void> = Promise.resolve();

  constructor(speaker: Speaker, options: RibOptions, known: Known) {
    this.#speaker = speaker;
    this.#options = options;
    this.#known = known;
    this.#since = options.clock.now();
  }

  start(): void {
    this.ended = this.#run();
  }

  end(): void {
    this.#ending.abort(new Error('another speaker is followed'));
  }

  async #run(): Promise<void> {
    const { clock, onTrouble } = this.#options;
    while (!this.#isEnded()) {
      const since = clock.now();
      const failure = await this.#once();
      if (this.#isEnded()) return;
      if (clock.now() - since > RETRY_MS.longest) {
        this.#waits.reset();
        this.#isTroubled = false;
      }
      // While nobody watched, anything may have come and gone.
      this.#known.doubt();
      if (!this.#isTroubled) onTrouble(asTrouble(failure));
      this.#isTroubled = true;
      await pause(clock, this.#waits.next(), this.#ending.signal);
    }
  }

  /** Watches and reads until one of the two fails; gives why. */
  async #once(): Promise<unknown> {
    const { inner: over, release } = nestedAbort(this.#ending.signal);
    const { signal } = over;
    const due = new Due(this.#options.onSession);
    // Begun before the first reading, so that no change falls between them.
    const watching = this.#speaker.watch(due.events, signal).then(() => {
      if (!signal.aborted) throw new FairwayError('FW_BGP_UNREACHABLE', 'gobgpd ended the watch over its routes');
    });
    const reading = this.#readAsTold(due, signal);
    try {
      await Promise.race([watching, reading]);
      return undefined;
    } catch (thrown) {
      return thrown;
    } finally {
      over.abort(new Error('the watch over the routes begins anew'));
      release();
      await Promise.allSettled([watching, reading]);
    }
  }

  /** Reads all, then what events name; rejects where it cannot, resolves when the signal aborts. */
  async #readAsTold(due: Due, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const cancelSecond = clock.after(LISTENING_MS, () => {
      due.all();
    });
    try {
      due.all();
      while (!signal.aborted) {
        // Looked at before the reading: what neighbours told before they marked the end is then in the answer.
        const isNowTold = !this.#known.isSettled() && (await this.#isAllTold(signal));
        const named = due.take();
        const asked = isNowTold ? 'all' : named;
        const tookMs = await this.#read(asked, signal);
        if (isNowTold) this.#known.settle();
        await (asked === 'all'
          ? this.#untilQuiet(due, Math.max(COALESCE_MS, tookMs * REST), signal)
          : pause(clock, COALESCE_MS, signal));
        await this.#untilDue(due, signal);
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      cancelSecond();
    }
  }

  /** Gives the milliseconds it took. */
  async #read(asked: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<number> {
    const { clock } = this.#options;
    const since = clock.now();
    if (asked !== 'all' && asked.length === 0) return 0;
    const paths = await limited(clock, ANSWER_MS, signal, inTime => this.#speaker.bestPaths(asked, inTime));
    signal.throwIfAborted();
    this.#known.take(this.#known.routes.take(asked, paths));
    return clock.now() - since;
  }

  /** Until nothing was told for a while, for so many milliseconds at the most. */
  async #untilQuiet(due: Due, longestMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const end = clock.now() + longestMs;
    for (let told = -1; told !== due.told && clock.now() < end && !signal.aborted; ) {
      told = due.told;
      await pause(clock, Math.min(QUIET_MS, end - clock.now()), signal);
    }
  }

  /** Until there is something to read or, while unsettled, it is time for another look. */
  async #untilDue(due: Due, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    if (due.isAny()) return;
    const { inner, release } = nestedAbort(signal);
    due.onAny(() => {
      inner.abort();
    });
    if (this.#known.isSettled()) await aborted(inner.signal);
    else await pause(clock, SETTLE_LOOK_MS, inner.signal);
    release();
    // Those that come along with the first one.
    if (due.isAny()) await pause(clock, COALESCE_MS, signal);
  }

  async #isAllTold(signal: AbortSignal): Promise<boolean> {
    const { clock, expectedPeers, settleMs } = this.#options;
    if (clock.now() - this.#since >= settleMs()) return true;
    const peers = await limited(clock, ANSWER_MS, signal, inTime => this.#speaker.peerStatus(inTime));
    signal.throwIfAborted();
    return peers.length >= expectedPeers() && peers.every(hasToldAll);
  }

  #isEnded(): boolean {
    return this.#ending.signal.aborted;
  }
}

/** What is to be read next. */
class Due {
  #prefixes = new Set<IpPrefix>();
  #isAll = false;
  /** A session changed: only a look at whether all is told is due. */
  #isLook = false;
  #wake: () => void = () => undefined;
  readonly #onSession: () => void;
  /** How often prefixes were told of. */
  told = 0;
  readonly events: SpeakerEvents = {
    changed: prefixes => {
      for (const prefix of prefixes) this.#prefixes.add(prefix);
      this.told++;
      this.#wake();
    },
    session: () => {
      this.#onSession();
      this.#isLook = true;
      this.#wake();
    },
  };

  constructor(onSession: () => void) {
    this.#onSession = onSession;
  }

  all(): void {
    this.#isAll = true;
    this.#wake();
  }

  isAny(): boolean {
    return this.#isAll || this.#isLook || this.#prefixes.size > 0;
  }

  /** Calls when there is something again; the one callback of before is forgotten. */
  onAny(wake: () => void): void {
    this.#wake = wake;
  }

  take(): 'all' | readonly IpPrefix[] {
    const asked = this.#isAll || this.#prefixes.size > MANY ? 'all' : [...this.#prefixes];
    this.#prefixes = new Set();
    this.#isAll = false;
    this.#isLook = false;
    return asked;
  }
}

function hasToldAll({ state, isComplete }: PeerStatus): boolean {
  return state === 'established' && isComplete;
}

function asTrouble(thrown: unknown): FairwayError {
  return thrown instanceof FairwayError
    ? thrown
    : new FairwayError('FW_BGP_UNREACHABLE', `gobgpd does not tell its routes: ${messageOf(thrown)}; it is asked again`, {
        cause: thrown,
      });
}
