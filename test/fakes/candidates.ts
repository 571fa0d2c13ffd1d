/** Several candidates for one Lease on an API server in memory, on one clock moved by hand; each can be frozen like a process under SIGSTOP. */
import { type ElectionObserver, LeaderElection, type LeaderElectionOptions } from '../../daemon/allocation/leader-election.ts';
import { ApiObjects } from '../../daemon/cluster/api-objects.ts';
import type { ApiRequest, ApiResponse, ApiTransport } from '../../daemon/cluster/transport.ts';
import type { Clock } from '../../daemon/net/clock.ts';
import type { Instant } from '../../daemon/net/instant.ts';
import { type ManualClock, settle } from './clock.ts';
import type { MemoryApi } from './memory-api.ts';

/** A process of its own: its timers and the answers to its requests come to it only while it runs. Its monotonic clock goes on. */
export class Proc implements Clock, ApiTransport {
  readonly #clock: ManualClock;
  readonly #api: MemoryApi;
  /** By the clock: until then nothing comes on its watches. */
  deafUntil = 0;
  /** What came while it did not run, and which timers ran out. */
  #frozen: { readonly heard: (() => void)[]; readonly timers: (() => void)[] } | undefined;

  constructor(clock: ManualClock, api: MemoryApi) {
    this.#clock = clock;
    this.#api = api;
  }

  freeze(): void {
    this.#frozen ??= { heard: [], timers: [] };
  }

  /** What it heard comes before its timers, the worst order for who counts on these: a process may be stopped right between them. */
  async thaw(): Promise<void> {
    const { heard = [], timers = [] } = this.#frozen ?? {};
    this.#frozen = undefined;
    for (const go of heard) go();
    await settle();
    for (const go of timers) go();
    await settle();
  }

  now(): Instant {
    return this.#clock.now();
  }

  after(milliseconds: number, fire: () => void): () => void {
    let isCancelled = false;
    const cancel = this.#clock.after(milliseconds, () => {
      const go = (): void => {
        if (!isCancelled) fire();
      };
      if (this.#frozen === undefined) go();
      else this.#frozen.timers.push(go);
    });
    return () => {
      isCancelled = true;
      cancel();
    };
  }

  async request(request: ApiRequest): Promise<ApiResponse> {
    try {
      const response = await this.#api.request(request);
      await this.#running();
      return { ...response, body: this.#heard(response.body, request.path.includes('watch=true')) };
    } catch (thrown) {
      await this.#running();
      throw thrown;
    }
  }

  close(): void {
    // The server is shared.
  }

  async *#heard(body: AsyncIterable<Buffer>, isWatch: boolean): AsyncGenerator<Buffer, void> {
    for await (const piece of body) {
      const left = this.deafUntil - this.#clock.now();
      if (isWatch && left > 0) await new Promise<void>(resolve => this.#clock.after(left, resolve));
      await this.#running();
      yield piece;
    }
  }

  #running(): Promise<void> {
    return new Promise(resolve => {
      if (this.#frozen === undefined) resolve();
      else this.#frozen.heard.push(resolve);
    });
  }
}

export class Candidate {
  readonly process: Proc;
  readonly election: LeaderElection;
  /** What the standing became, in order. */
  readonly told: string[] = [];
  elections = 0;
  /** Milliseconds by which its wall clock is ahead. */
  wallAhead = 0;

  constructor(identity: string, clock: ManualClock, api: MemoryApi, changes: Partial<LeaderElectionOptions> = {}) {
    this.process = new Proc(clock, api);
    const observer: ElectionObserver = { elected: () => this.elections++, deposed: () => undefined };
    this.election = new LeaderElection({
      objects: new ApiObjects({ transport: this.process, clock: this.process }),
      lease: { namespace: 'kube-system', name: 'kube-router-lballoc' },
      identity,
      clock: this.process,
      wallNow: () => clock.now() + this.wallAhead,
      random: () => 0.5,
      observer,
      ...changes,
    });
  }

  start(): void {
    this.election.start(() => {
      const { standing } = this.election;
      this.told.push(standing.isElected ? 'elected' : standing.reason);
    });
  }
}
