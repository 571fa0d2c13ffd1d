/**
 * Events on Services, for who looks with `kubectl describe`: why there is no address, and which one was given or taken back. Nothing depends on them: what
 * cannot be told in time is dropped and counted, and without the right to write them (kube-router's ClusterRole has none) all else goes on.
 */
import { type ApiObjects, refusedWith } from '../cluster/api-objects.ts';
import type { ObjectKey, Service } from '../cluster/kinds.ts';
import { messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { Log } from '../observe/log.ts';
import type { Diagnostic } from '../reconcile/fragment.ts';
import { EVENT_REASONS, eventObject, eventPlace, eventTime, type ServiceEvent, type WrittenEvent } from './event-object.ts';
import type { StatusOrder } from './status-port.ts';

export interface ServiceEventsOptions {
  readonly objects: ApiObjects;
  /** Who tells: the node's name. */
  readonly host: string;
  /** Only who hands out addresses tells. */
  readonly isLeader: () => boolean;
  readonly clock: Clock;
  /** Milliseconds since the epoch. */
  readonly wallNow: () => number;
  readonly log: Log;
}

const QUEUE_LIMIT = 1000;
/** Events whose repetition is counted in place. */
const REMEMBERED = 1000;
/** Milliseconds between two of them: ten a second. */
const PACE_MS = 100;
const DENIED_MS = 3_600_000;
const RETRY_MS = 10_000;
const TRIES = 3;

export class ServiceEvents {
  readonly #options: ServiceEventsOptions;
  readonly #stopped = new AbortController();
  /** What is wrong is told before what went well: that may be thousands at a first start. */
  readonly #queues: Readonly<Record<ServiceEvent['type'], ServiceEvent[]>> = { Warning: [], Normal: [] };
  /** What stands, by Service: a Service may have two of one code. */
  #told: ReadonlySet<string> = new Set();
  /** By what was told, the oldest first. */
  readonly #written = new Map<string, WrittenEvent>();
  #isSending = false;
  #sequence = 0;
  #dropped = 0;
  #deniedUntil = 0;
  #isDenialTold = false;

  constructor(options: ServiceEventsOptions) {
    this.#options = options;
  }

  /** Since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** After each round, all that is wrong now: what is new in it, or says something else, is told. */
  diagnosed(diagnostics: readonly Diagnostic[], services: ReadonlyMap<ObjectKey, Service>): void {
    if (!this.#options.isLeader()) {
      // Who leads next tells all of it.
      this.#told = new Set();
      this.#clear();
      return;
    }
    const now = new Set<string>();
    for (const { code, object, message } of diagnostics) {
      const reason = EVENT_REASONS[code];
      const service = object.kind === 'Service' && reason !== undefined ? services.get(object.key) : undefined;
      if (service === undefined || reason === undefined) continue;
      const { namespace, name, uid } = service.meta;
      const id = `${uid} ${code} ${message}`;
      now.add(id);
      if (this.#told.has(id)) continue;
      this.#put({ namespace, name, uid, type: 'Warning', reason, message });
    }
    this.#told = now;
  }

  /** The status of a Service was written. */
  written({ namespace, name, uid, addresses, found }: StatusOrder): void {
    const tell = (reason: string, verb: string, those: readonly string[]): void => {
      if (those.length === 0) return;
      this.#put({ namespace, name, uid, type: 'Normal', reason, message: `${verb} ${those.join(', ')}` });
    };
    tell(
      'AddressAllocated',
      'Allocated',
      addresses.filter(address => !found.includes(address)),
    );
    tell(
      'AddressReleased',
      'Took back',
      found.filter(address => !addresses.includes(address)),
    );
  }

  stop(): void {
    this.#clear();
    this.#stopped.abort(new Error('stopped'));
  }

  #put(event: ServiceEvent): void {
    if (this.#options.clock.now() < this.#deniedUntil || this.#stopped.signal.aborted) return;
    const { Warning, Normal } = this.#queues;
    if (Warning.length + Normal.length >= QUEUE_LIMIT) {
      this.#drop('there are more of them than the API server is to be given');
      if (event.type === 'Normal' || Normal.pop() === undefined) return;
    }
    this.#queues[event.type].push(event);
    if (!this.#isSending) void this.#sendAll();
  }

  #next(): ServiceEvent | undefined {
    return this.#queues.Warning.shift() ?? this.#queues.Normal.shift();
  }

  #clear(): void {
    for (const queue of Object.values(this.#queues)) queue.length = 0;
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    for (let event = this.#next(); event !== undefined; event = this.#next()) {
      await this.#send(event);
      await pause(this.#options.clock, PACE_MS, this.#stopped.signal);
    }
    this.#isSending = false;
  }

  async #send(event: ServiceEvent): Promise<void> {
    for (let tries = 1; tries <= TRIES; tries++) {
      try {
        await this.#write(event);
        this.#isDenialTold = false;
        return;
      } catch (thrown) {
        if (this.#stopped.signal.aborted || !(await this.#isWorthAnotherTry(thrown))) return;
      }
    }
    this.#drop('the API server did not take it');
  }

  async #isWorthAnotherTry(thrown: unknown): Promise<boolean> {
    const { clock, log } = this.#options;
    const status = refusedWith(thrown);
    const message = messageOf(thrown);
    if (status === 403 && !message.includes('being terminated')) {
      this.#clear();
      this.#deniedUntil = clock.now() + DENIED_MS;
      if (!this.#isDenialTold)
        log.warn(`no Events on Services (all else goes on without; tried again in an hour): ${message}`, {
          code: 'FW_API_DENIED',
        });
      this.#isDenialTold = true;
      return false;
    }
    // Its namespace is going or gone, or it cannot be said like this: that stays so.
    if (status !== undefined && status < 500 && status !== 429) return false;
    await pause(clock, RETRY_MS, this.#stopped.signal);
    return !this.#stopped.signal.aborted;
  }

  /** One Event object for all times that the same is told: its count grows, as client-go's recorder has it. */
  async #write(event: ServiceEvent): Promise<void> {
    const { objects, host, wallNow } = this.#options;
    const options = { signal: this.#stopped.signal };
    const id = `${event.uid} ${event.reason} ${event.message}`;
    const time = eventTime(wallNow());
    const former = this.#written.get(id);
    if (former !== undefined && (await this.#isCounted(id, former, time))) return;
    const place = eventPlace(event, (BigInt(Math.floor(wallNow())) * 1_000_000n + BigInt(this.#sequence++)).toString(16));
    await objects.create(place, eventObject(event, place, time, host), options);
    this.#remember(id, { place, count: 1 });
  }

  /** False where it is gone: Events live for an hour. */
  async #isCounted(id: string, { place, count }: WrittenEvent, lastTimestamp: string): Promise<boolean> {
    try {
      await this.#options.objects.patch(place, { count: count + 1, lastTimestamp }, { signal: this.#stopped.signal });
    } catch (thrown) {
      if (refusedWith(thrown) !== 404) throw thrown;
      return false;
    }
    this.#remember(id, { place, count: count + 1 });
    return true;
  }

  #remember(id: string, event: WrittenEvent): void {
    this.#written.delete(id);
    this.#written.set(id, event);
    const [oldest] = this.#written.keys();
    if (this.#written.size > REMEMBERED && oldest !== undefined) this.#written.delete(oldest);
  }

  #drop(why: string): void {
    if (this.#dropped++ === 0)
      this.#options.log.warn(`an Event on a Service is not written: ${why}; further ones are only counted`);
  }
}
