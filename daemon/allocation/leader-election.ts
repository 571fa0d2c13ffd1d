/**
 * Leader election on a Lease, as client-go's `leaderelection` does it (and so kube-router, whose Lease it is): the holder renews, the others take over
 * when they have not seen the record change for as long as it says, by their own clock; no wall clocks are compared.
 *
 * Stricter than client-go in three things, since an address must never be handed out twice: a leader counts its time from when it sent the renewal;
 * a record of our own name that this process did not write is another's until it expires; and a Lease that was deleted is not taken before the holder
 * that stood in it has run out.
 */
import { type ApiObjects, type ObjectPlace, refusedWith, type WriteOptions } from '../cluster/api-objects.ts';
import { isRawObject, type RawObject } from '../cluster/raw-object.ts';
import { asFairwayError, type FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { Election, ElectionStatus, Standing } from './election.ts';
import { type LeaseRecord, microTime, recordOf, sameRecord } from './lease-record.ts';

/** Milliseconds. */
export interface ElectionTimings {
  /** How long the others wait for a holder that does not renew. */
  readonly leaseMs: number;
  /** How long the holder counts itself elected after it sent its last good renewal. What it sent until then has the rest of the lease to arrive. */
  readonly renewMs: number;
  readonly retryMs: number;
  readonly requestMs: number;
}

/** kube-router's. */
export const ELECTION_TIMINGS: ElectionTimings = { leaseMs: 15_000, renewMs: 10_000, retryMs: 2000, requestMs: 5000 };

/** For metrics. */
export interface ElectionObserver {
  elected(): void;
  deposed(): void;
}

export interface LeaderElectionOptions {
  readonly objects: ApiObjects;
  readonly lease: { readonly namespace: string; readonly name: string };
  /** Of nobody else who stands for this Lease. */
  readonly identity: string;
  readonly clock: Clock;
  /** Milliseconds since the epoch by the wall clock: it goes on while the machine sleeps, and the other one does not. */
  readonly wallNow: () => number;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly observer: ElectionObserver;
  readonly timings?: ElectionTimings;
}

/** How often a Lease is read in one attempt that others are faster in. */
const READINGS = 3;

interface Moment {
  readonly clock: number;
  readonly wall: number;
}

/** What we last saw in the Lease. */
interface Observed {
  readonly record: LeaseRecord;
  readonly at: number;
}

export class LeaderElection implements Election {
  readonly #options: LeaderElectionOptions;
  readonly #timings: ElectionTimings;
  readonly #place: ObjectPlace;
  readonly #stopped = new AbortController();
  #onChange: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();
  #standing: Standing;
  /** What tells one reason from another: texts of errors differ from try to try. */
  #reasonKind = '';
  #since: number;
  /** The Lease as last read or written; undefined where it has to be read before it is written. */
  #lease: RawObject | undefined;
  #observed: Observed | undefined;
  /** `renewTime` of what this process wrote, or may have. */
  readonly #written = new Set<string>();
  /** When the last good renewal was sent. */
  #renewedAt: Moment | undefined;
  #cancelExpiry: () => void = () => undefined;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#timings = options.timings ?? ELECTION_TIMINGS;
    this.#place = { group: 'coordination.k8s.io', resource: 'leases', subresource: '', ...options.lease };
    this.#standing = { isElected: false, reason: `not elected yet: the Lease ${this.#name} is still to be read` };
    this.#since = options.clock.now();
  }

  get standing(): Standing {
    return this.#standing;
  }

  isLeaderNow(): boolean {
    return this.#standing.isElected && this.#isInTime();
  }

  status(): ElectionStatus {
    const holder = this.#observed?.record.holderIdentity ?? '';
    return { lease: this.#name, holder, observedAt: this.#observed?.at, since: this.#since };
  }

  start(onChange: () => void): void {
    this.#onChange = onChange;
    this.#running = this.#run(this.#stopped.signal);
  }

  async stop(how: 'release' | 'keep'): Promise<void> {
    this.#stopped.abort(new Error('stopped'));
    await this.#running;
    const isOurs = this.isLeaderNow();
    this.#depose('stopped', 'stopped');
    if (how === 'release' && isOurs) await this.#release();
  }

  get #name(): string {
    return `${this.#options.lease.namespace}/${this.#options.lease.name}`;
  }

  #isInTime(): boolean {
    if (this.#renewedAt === undefined) return false;
    const { clock, wall } = this.#renewedAt;
    const now = this.#now();
    return Math.max(now.clock - clock, now.wall - wall) < this.#timings.renewMs;
  }

  #now(): Moment {
    return { clock: this.#options.clock.now(), wall: this.#options.wallNow() };
  }

  /** Stands for ever: who lost stands again. */
  async #run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    const isStopped = (): boolean => signal.aborted;
    while (!isStopped()) {
      // A machine that slept finds out here at the latest.
      if (this.#standing.isElected && !this.#isInTime()) this.#lost();
      try {
        await this.#attempt({ signal, deadlineMs: this.#timings.requestMs });
      } catch (thrown) {
        if (isStopped()) return;
        this.#lease = undefined;
        if (!this.#standing.isElected) this.#follow(...this.#reasonOf(asFairwayError(thrown, 'FW_API_UNREACHABLE')));
      }
      // As client-go's JitterFactor: between one and 2.2 times; who holds it must not be late.
      const spread = this.#standing.isElected ? 0 : 1.2 * random();
      await pause(clock, this.#timings.retryMs * (1 + spread), signal);
    }
  }

  async #attempt(options: WriteOptions): Promise<void> {
    const known = this.#lease;
    if (known !== undefined && this.isLeaderNow() && (await this.#isTaken(known, options))) return;
    // Where somebody else wrote it in between, it is read again: then it is theirs.
    for (let tries = 0; tries < READINGS; tries++) {
      const lease = await this.#read(options);
      const isHeld = lease === undefined ? this.#leftOfHolder() > 0 : this.#followsHolderOf(lease);
      if (lease === undefined && isHeld)
        this.#follow('deleted', `the Lease ${this.#name} was deleted; who held it may not know yet`);
      if (isHeld || (await this.#isTaken(lease, options))) return;
    }
  }

  /** False where somebody else was faster. */
  async #isTaken(lease: RawObject | undefined, options: WriteOptions): Promise<boolean> {
    try {
      await this.#take(lease, options);
      return true;
    } catch (thrown) {
      if (![404, 409].includes(refusedWith(thrown) ?? 0)) throw thrown;
      return false;
    }
  }

  /** True where another one holds it. */
  #followsHolderOf(lease: RawObject): boolean {
    const { holderIdentity } = recordOf(lease);
    if (this.#leftOfHolder() === 0) return false;
    this.#follow(`held ${holderIdentity}`, this.#heldBy(holderIdentity));
    return true;
  }

  #heldBy(holder: string): string {
    const whose =
      holder === this.#options.identity ? ', which is our own name: by an earlier run, or by another daemon of that name' : '';
    return `the Lease ${this.#name} is held by ${holder}${whose}`;
  }

  /** Milliseconds until the holder that was last seen has run out by our clock; 0 for nobody, and for ourselves. */
  #leftOfHolder(): number {
    if (this.#observed === undefined) return 0;
    const { record, at } = this.#observed;
    if (record.holderIdentity === '' || this.#isOurs(record)) return 0;
    const durationMs = record.leaseDurationSeconds > 0 ? record.leaseDurationSeconds * 1000 : this.#timings.leaseMs;
    return Math.max(0, at + durationMs - this.#options.clock.now());
  }

  #isOurs({ holderIdentity, renewTime }: LeaseRecord): boolean {
    return holderIdentity === this.#options.identity && this.#written.has(renewTime);
  }

  /** Undefined where there is none. */
  async #read(options: WriteOptions): Promise<RawObject | undefined> {
    try {
      const lease = await this.#options.objects.get(this.#place, options);
      this.#observe(recordOf(lease));
      return lease;
    } catch (thrown) {
      if (refusedWith(thrown) === 404) return undefined;
      throw thrown;
    }
  }

  #observe(record: LeaseRecord): void {
    if (this.#observed !== undefined && sameRecord(this.#observed.record, record)) return;
    this.#observed = { record, at: this.#options.clock.now() };
  }

  /** Writes ourselves into the Lease. Who else wrote it meanwhile has won: the server refuses. */
  async #take(lease: RawObject | undefined, options: WriteOptions): Promise<void> {
    const sentAt = this.#now();
    const time = microTime(sentAt.wall, this.#options.random());
    const former = lease === undefined ? undefined : recordOf(lease);
    const isStill = former !== undefined && former.holderIdentity === this.#options.identity;
    const record: LeaseRecord = {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: this.#timings.leaseMs / 1000,
      acquireTime: isStill && former.acquireTime !== '' ? former.acquireTime : time,
      renewTime: time,
      leaseTransitions: former === undefined ? 0 : former.leaseTransitions + (isStill ? 0 : 1),
    };
    this.#remember(time);
    this.#lease = await this.#write(lease, record, options);
    this.#observe(record);
    this.#renewedAt = sentAt;
    // An answer that took that long is worth nothing: somebody else may have counted us out.
    if (this.#isInTime()) this.#elect();
    else if (this.#standing.isElected) this.#lost();
  }

  async #write(lease: RawObject | undefined, record: LeaseRecord, options: WriteOptions): Promise<RawObject> {
    const { objects, lease: metadata } = this.#options;
    if (lease === undefined) {
      const kind = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };
      return await objects.create(this.#place, { ...kind, metadata, spec: record }, options);
    }
    const spec = isRawObject(lease['spec']) ? lease['spec'] : {};
    return await objects.replace(this.#place, { ...lease, spec: { ...spec, ...record } }, options);
  }

  /** What was written long ago is in no answer any more. */
  #remember(time: string): void {
    this.#written.add(time);
    for (const oldest of this.#written) {
      if (this.#written.size <= 16) break;
      this.#written.delete(oldest);
    }
  }

  #elect(): void {
    this.#cancelExpiry();
    // Also while a request hangs.
    const age = this.#options.clock.now() - (this.#renewedAt?.clock ?? 0);
    this.#cancelExpiry = this.#options.clock.after(this.#timings.renewMs - age, () => {
      if (this.#standing.isElected && !this.#isInTime()) this.#lost();
    });
    if (this.#standing.isElected) return;
    this.#stand({ isElected: true }, 'elected');
    this.#options.observer.elected();
  }

  #lost(): void {
    this.#depose('lost', `the Lease ${this.#name} was not renewed in time`);
  }

  #follow(kind: string, reason: string): void {
    if (this.#standing.isElected) this.#depose(kind, reason);
    else if (kind !== this.#reasonKind) this.#stand({ isElected: false, reason }, kind);
  }

  #depose(kind: string, reason: string): void {
    this.#cancelExpiry();
    this.#renewedAt = undefined;
    if (!this.#standing.isElected) return;
    this.#options.observer.deposed();
    this.#stand({ isElected: false, reason }, kind);
  }

  #stand(standing: Standing, kind: string): void {
    this.#standing = standing;
    this.#reasonKind = kind;
    this.#since = this.#options.clock.now();
    this.#onChange();
  }

  /** What tells the kind of failure, and what is said of it. */
  #reasonOf(error: FairwayError): readonly [kind: string, reason: string] {
    const status = refusedWith(error);
    const remedy = status === 403 ? '; an allocator needs the verbs get, create and update on leases of coordination.k8s.io' : '';
    return [`${error.code} ${status}`, `the Lease ${this.#name} cannot be read or written: ${error.message}${remedy}`];
  }

  /** So that the next one need not wait (`ReleaseOnCancel`). Where that fails, the Lease runs out. */
  async #release(): Promise<void> {
    const options = { signal: new AbortController().signal };
    for (let tries = 0; tries < 2; tries++) {
      try {
        // The renewal that was broken off may have been written.
        const lease = await this.#read(options);
        if (lease === undefined || !this.#isOurs(recordOf(lease))) return;
        const time = microTime(this.#options.wallNow(), this.#options.random());
        const { leaseTransitions } = recordOf(lease);
        const nobody = { holderIdentity: '', leaseDurationSeconds: 1, acquireTime: time, renewTime: time, leaseTransitions };
        await this.#write(lease, nobody, options);
        return;
      } catch (thrown) {
        if (refusedWith(thrown) !== 409) return;
      }
    }
  }
}
