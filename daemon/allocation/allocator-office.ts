/**
 * Who may hand out load-balancer addresses on this node, and what of that is under way: election, queue of writings and the `Allocation` that planners see
 * are one thing, so that never two of them disagree.
 *
 * After an election all Services are listed anew before anything is handed out: what the former leader wrote last is known then.
 */
import type { ObjectKey, Service } from '../cluster/kinds.ts';
import type { Allocation, Leadership } from '../cluster/snapshot.ts';
import type { Clock } from '../net/clock.ts';
import type { Backoff } from '../reconcile/backoff.ts';
import type { Election, ElectionStatus } from './election.ts';
import type { StatusPort } from './status-port.ts';
import { type StatusObserver, StatusWriter } from './status-writer.ts';

export interface AllocatorOfficeOptions {
  readonly election: Election;
  readonly port: StatusPort;
  /** All Services anew, as `ClusterSource.relist`; resolves at once where what is known is always the newest. */
  readonly relist: () => Promise<void>;
  /** As they are known now. */
  readonly services: () => ReadonlyMap<ObjectKey, Service>;
  readonly clock: Clock;
  readonly backoff: Backoff;
  readonly observer: StatusObserver;
  /** Before the first plan as the leader: what the table was believed to hold is of before. */
  readonly onElected: () => void;
  /** `state()` is another one. */
  readonly onChange: () => void;
}

export interface OfficeStatus extends ElectionStatus {
  /** Writings that are not done yet. */
  readonly pending: number;
}

/** How long a stop waits for what is under way, in milliseconds: as long as one request may take. */
const STOP_MS = 3000;
const LISTING = 'elected; all Services are read anew before addresses are handed out';

export class AllocatorOffice {
  readonly #options: AllocatorOfficeOptions;
  /** The driver of table `serviceStatus`. */
  readonly writer: StatusWriter;
  #leadership: Leadership;
  #state: Allocation;
  /** Counts elections and losses: what an earlier one began is not for this one. */
  #term = 0;
  #isStopped = false;

  constructor(options: AllocatorOfficeOptions) {
    this.#options = options;
    const { port, services, clock, backoff, observer, onChange, election } = options;
    const mayWrite = (): boolean => election.isLeaderNow();
    this.writer = new StatusWriter({ port, mayWrite, services, clock, backoff, observer, onChange });
    this.#leadership = notLeading(election);
    this.#state = { leadership: this.#leadership, handedOver: this.writer.handedOver() };
  }

  /** For snapshots: the same object as long as nothing in it changed. */
  state(): Allocation {
    const handedOver = this.writer.handedOver();
    if (this.#state.handedOver !== handedOver || this.#state.leadership !== this.#leadership)
      this.#state = { leadership: this.#leadership, handedOver };
    return this.#state;
  }

  /** To be told the Services of each snapshot, before `state()` is asked for it. */
  seen(services: ReadonlyMap<ObjectKey, Service>): void {
    this.writer.seen(services);
  }

  status(): OfficeStatus {
    return { ...this.#options.election.status(), pending: this.writer.pending };
  }

  start(): void {
    if (this.#isStopped) return;
    const { election } = this.#options;
    election.start(() => this.#onStanding());
    if (election.standing.isElected) this.#onStanding();
  }

  /** Ends writing first, then gives the office up, unless something may still be written after that. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#term++;
    this.#leadership = { isLeader: false, reason: 'the allocator here has stopped' };
    const end = await this.writer.stop(STOP_MS);
    await this.#options.election.stop(end === 'settled' ? 'release' : 'keep');
  }

  #onStanding(): void {
    if (this.#isStopped) return;
    const { election, onChange } = this.#options;
    const term = ++this.#term;
    this.writer.close();
    this.#leadership = notLeading(election);
    if (election.standing.isElected) void this.#takeOffice(term);
    onChange();
  }

  async #takeOffice(term: number): Promise<void> {
    const { relist, onElected, onChange } = this.#options;
    // What an earlier term of ours sent is in the list then.
    await this.writer.idle();
    if (this.#isOver(term)) return;
    try {
      await relist();
    } catch {
      // The source has ended, and so do we.
      return;
    }
    if (this.#isOver(term)) return;
    this.writer.open();
    this.#leadership = { isLeader: true };
    onElected();
    onChange();
  }

  #isOver(term: number): boolean {
    return term !== this.#term;
  }
}

function notLeading({ standing }: Election): Leadership {
  return { isLeader: false, reason: standing.isElected ? LISTING : standing.reason };
}
