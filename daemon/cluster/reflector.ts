/**
 * One kind of the API server, mirrored: a first full list, then every change, for ever. WatchList (KEP-3157) first, paged lists where
 * the server has none. What was published stays until a newer full list replaces it as a whole.
 *
 * A watch that ends is begun anew where it stopped; only "too old" (410) means a new list. Waits: none after the first clean end, then
 * 0.8 s doubling to 30 s, spread by a quarter; Retry-After where the server names one; a minute after an RBAC refusal.
 */
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { type ErrorCode, FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { jittered, pause, reasonOf } from '../net/pause.ts';
import { Deadline } from './deadline.ts';
import { FirstList, readPages } from './first-list.ts';
import type { Kind, SourceEvents } from './kinds.ts';
import { LineSplitter } from './line-splitter.ts';
import type { Projector } from './project.ts';
import { type Query, ResourceRequests } from './resource-requests.ts';
import type { Resource } from './resources.ts';
import type { ApiTransport } from './transport.ts';
import { protocolTrouble, type Trouble, type TroubleKind, troubleOf, troubleOfStatus, watchListUnsupported } from './trouble.ts';
import { isNewerVersion, parseWatchEvent, type WatchEvent } from './watch-event.ts';

/** Why a kind is listed again from the beginning. */
export type RelistReason = 'gone' | 'watch-list-unsupported' | 'stuck' | 'asked-for';

/** For metrics and the log. Called often; must be cheap. What it throws is ignored. */
export interface ReflectorObserver {
  /** A full list was published. */
  listed(kind: Kind, way: FirstListWay, objects: number): void;
  /** The server accepted a watch. */
  watching(kind: Kind): void;
  /** An object was added, modified or deleted. */
  event(kind: Kind): void;
  bookmark(kind: Kind): void;
  relist(kind: Kind, reason: RelistReason): void;
  failed(kind: Kind, code: ErrorCode, message: string): void;
}

export type FirstListWay = 'watch-list' | 'pages';

/** Milliseconds, except where said. */
export interface ReflectorTimings {
  /** Until the head of a response is there. */
  readonly headersMs: number;
  /** Without a byte, not even a bookmark (the server sends one a minute): the connection is taken for dead. */
  readonly idleMs: number;
  /** After the last initial event without the bookmark that ends them: the server does not know WatchList. */
  readonly initialEventsMs: number;
  /** `timeoutSeconds` of a watch is random between these (seconds), so that watches do not all end together. */
  readonly watchSeconds: readonly [number, number];
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  readonly forbiddenRetryMs: number;
  /** A watch that lived this long was a good one, even if nothing happened. */
  readonly settledMs: number;
}

export const REFLECTOR_TIMINGS: ReflectorTimings = {
  headersMs: 30_000,
  idleMs: 90_000,
  initialEventsMs: 30_000,
  watchSeconds: [240, 480],
  firstRetryMs: 800,
  longestRetryMs: 30_000,
  forbiddenRetryMs: 60_000,
  settledMs: 30_000,
};

export interface ReflectorOptions {
  readonly kind: Kind;
  readonly resource: Resource;
  readonly transport: ApiTransport;
  readonly projector: Projector;
  readonly events: SourceEvents;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly observer: ReflectorObserver;
  readonly timings: ReflectorTimings;
}

interface Awaiting {
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

/** Bytes handled between two turns of the event loop: about 2 ms of parsing. */
const TURN_BYTES = 131_072;
/** Refusals in a row after which the resourceVersion itself is suspected (an etcd restored from a backup counts from lower numbers). */
const STUCK_AFTER = 5;

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #resource: Resource;
  readonly #requests: ResourceRequests;
  /** Where the next watch begins; undefined before the first full list and after a 410. */
  #version: string | undefined;
  #way: FirstListWay = 'watch-list';
  #wasListed = false;
  #failures = 0;
  #hasProgressed = false;
  #formerTrouble: TroubleKind | undefined;
  #bytesSinceTurn = 0;
  /** Who waits for a full list that begins from now on. */
  #awaiting: Awaiting[] = [];
  /** Ends what runs now, for a list that cannot wait. */
  #interruption = new AbortController();
  #isOver = false;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#resource = options.resource;
    this.#requests = new ResourceRequests(options);
  }

  /** Mirrors until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#mirror(signal);
    this.#isOver = true;
    for (const { reject } of this.#awaiting.splice(0)) reject(reasonOf(signal));
  }

  /**
   * Resolves when a full list is published that was begun after this call, and that is the newest state at its beginning (no resourceVersion asks for
   * a consistent read). Until then what was published stays. Rejects when the reflector ends before.
   */
  relist(): Promise<void> {
    if (this.#isOver) return Promise.reject(new Error('stopped'));
    const listed = new Promise<void>((resolve, reject) => {
      this.#awaiting.push({ resolve, reject });
    });
    this.#interruption.abort(new Error('listed anew'));
    return listed;
  }

  async #mirror(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const isStopped = (): boolean => signal.aborted;
    while (!isStopped()) {
      const since = clock.now();
      this.#hasProgressed = false;
      if (this.#interruption.signal.aborted) this.#interruption = new AbortController();
      if (this.#awaiting.length > 0 && this.#version !== undefined) this.#relist('asked-for');
      const interruption = this.#interruption.signal;
      const either = AbortSignal.any([signal, interruption]);
      let wait = 0;
      try {
        await this.#round(either);
        wait = this.#waitAfterEnd(clock.now() - since);
      } catch (error) {
        if (isStopped()) return;
        if (!interruption.aborted) wait = this.#waitAfter(troubleOf(error));
      }
      await pause(clock, wait, either);
    }
  }

  /** A full list where one is needed, then one watch to its end. */
  async #round(signal: AbortSignal): Promise<void> {
    if (this.#version === undefined && this.#way === 'watch-list') {
      await this.#watch(new FirstList(this.#options), signal);
      return;
    }
    if (this.#version === undefined) await this.#list(signal);
    await this.#watch(undefined, signal);
  }

  async #list(signal: AbortSignal): Promise<void> {
    const list = new FirstList(this.#options);
    // 0 takes whatever the server has cached; after a 410 only the newest state is sure not to be older than ours, and who waits for a list wants it too.
    const version = this.#wasListed || this.#awaiting.length > 0 ? '' : '0';
    const open = async <T>(query: Query, read: (body: AsyncIterable<Buffer>) => Promise<T>): Promise<T> =>
      await this.#requests.open('list', query, signal, read);
    this.#publish(
      list,
      'pages',
      await readPages({ open, list, version, resource: this.#resource, turn: bytes => this.#turn(bytes) }),
    );
  }

  /** One watch until the server ends it. With a list, its initial events come first and are published at their end. */
  async #watch(list: FirstList | undefined, signal: AbortSignal): Promise<void> {
    const [shortest, longest] = this.#options.timings.watchSeconds;
    const query: Query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(Math.floor(shortest + (longest - shortest) * this.#options.random())),
      ...(list === undefined
        ? { resourceVersion: this.#version ?? '' }
        : { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }),
    };
    await this.#requests.open('watch', query, signal, async (body, abort) => {
      this.#tell(() => this.#options.observer.watching(this.#options.kind));
      if (list === undefined) this.#tell(() => this.#options.events.degraded(this.#options.kind, undefined));
      await this.#readEvents(body, list, abort);
    });
  }

  async #readEvents(body: AsyncIterable<Buffer>, list: FirstList | undefined, abort: (trouble: Trouble) => void): Promise<void> {
    const lines = new LineSplitter();
    const { clock, timings } = this.#options;
    const unended = watchListUnsupported('the server did not say where its initial events end');
    const initial = new Deadline(clock, timings.initialEventsMs, () => abort(unended));
    let pending = list;
    if (pending === undefined) initial.cancel();
    try {
      for await (const piece of body) {
        for (const line of lines.push(piece)) {
          if (line === '') continue;
          const event = parseWatchEvent(line);
          if (pending === undefined) this.#apply(event);
          else if (this.#collect(event, pending)) initial.extend();
          else {
            initial.cancel();
            pending = undefined;
          }
        }
        await this.#turn(piece.length);
      }
    } finally {
      initial.cancel();
    }
    if (pending !== undefined) throw unended;
    if (lines.pending > 0) throw protocolTrouble(`${this.#resource.name}: the watch ended in the middle of an event`);
  }

  /** False when this was the end of the initial events, which are published then. */
  #collect(event: WatchEvent, list: FirstList): boolean {
    switch (event.type) {
      case 'ADDED':
      case 'MODIFIED':
        list.add(event.object);
        return true;
      case 'DELETED':
        list.delete(event.object);
        return true;
      case 'BOOKMARK':
        if (event.endsInitialEvents) this.#publish(list, 'watch-list', event.version);
        return !event.endsInitialEvents;
      case 'ERROR':
        throw troubleOfStatus(event.status, 'watch', this.#resource);
    }
  }

  /** Within one watch versions only grow, so an event that is not newer was delivered before. */
  #apply(event: WatchEvent): void {
    const { kind, projector, events, observer } = this.#options;
    if (event.type === 'ERROR') throw troubleOfStatus(event.status, 'watch', this.#resource);
    if (event.type === 'BOOKMARK') this.#tell(() => observer.bookmark(kind));
    if (!isNewerVersion(event.version, this.#version)) return;
    this.#version = event.version || this.#version;
    this.#hasProgressed = true;
    switch (event.type) {
      case 'ADDED':
      case 'MODIFIED': {
        const { key, object, complaints } = projector.project(kind, event.object);
        this.#tell(() => (object === undefined ? events.reject(kind, key, complaints) : events.upsert(object, complaints)));
        this.#tell(() => observer.event(kind));
        return;
      }
      case 'DELETED':
        this.#tell(() => events.remove(kind, projector.keyOfRaw(kind, event.object)));
        this.#tell(() => observer.event(kind));
        return;
      case 'BOOKMARK':
        return;
    }
  }

  #publish(list: FirstList, way: FirstListWay, version: string): void {
    const { kind, events, observer } = this.#options;
    this.#version = version;
    this.#wasListed = true;
    this.#hasProgressed = true;
    // Who asked after this list had begun interrupted it.
    const awaiting = this.#interruption.signal.aborted ? [] : this.#awaiting.splice(0);
    this.#tell(() => list.publish(events));
    for (const { resolve } of awaiting) resolve();
    this.#tell(() => observer.listed(kind, way, list.size));
    this.#tell(() => events.degraded(kind, undefined));
  }

  #waitAfterEnd(livedMs: number): number {
    const isGood = this.#hasProgressed || livedMs >= this.#options.timings.settledMs;
    this.#failures = isGood ? 0 : this.#failures + 1;
    return this.#failures < 2 ? 0 : this.#backoff(this.#failures - 1);
  }

  #waitAfter(trouble: Trouble): number {
    const { kind, events, observer, random, timings } = this.#options;
    // A server that is back after an hour has forgotten our version: it answers, and is not to be waited for once more.
    const isAnswer = trouble.kind === 'gone' && this.#formerTrouble !== 'gone';
    this.#failures = this.#hasProgressed || isAnswer ? 1 : this.#failures + 1;
    this.#formerTrouble = trouble.kind;
    if (trouble.kind === 'unsupported') {
      this.#way = 'pages';
      this.#relist('watch-list-unsupported');
      return 0;
    }
    this.#tell(() => observer.failed(kind, trouble.code, trouble.message));
    if (trouble.kind === 'gone') {
      this.#relist('gone');
      return this.#backoff(this.#failures);
    }
    this.#tell(() => events.degraded(kind, new FairwayError(trouble.code, trouble.message)));
    if (trouble.kind === 'forbidden') return jittered(timings.forbiddenRetryMs, random);
    if (trouble.kind === 'throttled') return trouble.retryAfterMs + this.#backoff(1) / 4;
    if (trouble.kind === 'refused' && this.#failures % STUCK_AFTER === 0 && this.#version !== undefined) this.#relist('stuck');
    return this.#backoff(this.#failures);
  }

  #relist(reason: RelistReason): void {
    this.#version = undefined;
    this.#tell(() => this.#options.observer.relist(this.#options.kind, reason));
  }

  #backoff(failures: number): number {
    const { firstRetryMs, longestRetryMs } = this.#options.timings;
    return jittered(Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(failures - 1, 16)), this.#options.random);
  }

  /** Lets timers and other connections have their turn: a list of 40 MB is not one job. */
  async #turn(bytes: number): Promise<void> {
    this.#bytesSinceTurn += bytes;
    if (this.#bytesSinceTurn < TURN_BYTES) return;
    this.#bytesSinceTurn = 0;
    await turnOfLoop();
  }

  /** A listener that throws must not end the watch. */
  #tell(call: () => void): void {
    try {
      call();
    } catch (error) {
      const message = `a listener for ${this.#resource.name} failed: ${messageOf(error)}`;
      try {
        this.#options.observer.failed(this.#options.kind, 'FW_PLAN_FAILED', message);
      } catch {
        // Nobody is left to tell.
      }
    }
  }
}
