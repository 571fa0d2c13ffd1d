/**
 * IPVS with endpoints that take their leave: a destination that is not wanted any more stays at weight 0, where it keeps its connections and gets no new
 * ones. With `--ipvs-graceful-termination` until it has none or its time is up; else for a moment, so that what was asked of it just now is answered.
 * Whoever reads the table does not see it; where it is wanted again, it has its weight back. What drains for long stands in a record, so that a daemon
 * that was killed leaves nothing for ever and cuts nothing short.
 */
import type { IpAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { earliest, type Instant, instantOf } from '../net/instant.ts';
import type { ApplyResult, Change, TableDriver } from '../reconcile/driver.ts';
import { type Destination, destinationKey, TABLES, type VirtualServer } from '../reconcile/tables.ts';
import { type Draining, parseRecord, recordText } from './drain-record.ts';
import { connectionsOf } from './ipvs-connections.ts';
import { addressesOf } from './ipvs-flows.ts';
import type { StateFile } from './state-file.ts';
import type { ReadLines } from './text-lines.ts';

export interface DrainOptions {
  readonly inner: TableDriver<VirtualServer>;
  readonly clock: Clock;
  /** When the host was started, by the clock; unless told, where the clock begins. */
  readonly startedAt?: Instant;
  readonly readLines: ReadLines;
  /** Must not reject: without the file, the next daemon begins to drain anew. */
  readonly record: StateFile;
  /** Milliseconds that a TCP destination of this address may take to drain; undefined where none drains for long. */
  readonly graceOf: ((address: IpAddress) => number) | undefined;
  /** Milliseconds that any other stays, whatever its connections; 0 for not at all. */
  readonly lingerMs: number;
}

/** Milliseconds between two looks at the connections of what drains: kube-router's. */
const LOOK_MS = 5000;
/** A look that takes long comes less often: this share of the time at most. */
const LOOK_SHARE = 0.05;
/** Milliseconds between two batches of deletions: hundreds of endpoints may go each second. */
const BATCH_MS = 250;
/**
 * So many in a batch; of more, the next ones a second later. The kernel keeps what is deleted for two minutes and longer, and searches all of it for each
 * destination that comes (`ip_vs_trash_get_dest`): with 24,000 of them, adding takes five times as long as with none. At weight 0 they cost nothing.
 */
const BATCH_SIZE = 50;
const FULL_BATCH_MS = 1000;

type Servers = ReadonlyMap<string, VirtualServer>;

export class DrainingIpvs implements TableDriver<VirtualServer> {
  readonly #options: DrainOptions;
  readonly #startedAt: Instant;
  /** By virtual service and destination. */
  readonly #draining = new Map<string, Map<string, Draining>>();
  /** As they stand in the kernel, of services that have something to drain: what drains included. */
  readonly #servers = new Map<string, VirtualServer>();
  #isLoaded = false;
  #written = '';
  /** Reading, changing and looking never overlap. */
  #turn: Promise<unknown> = Promise.resolve();
  #cancelLook: (() => void) | undefined;
  #lookPeriodMs = LOOK_MS;
  /** When the next look comes if no deadline comes before. Reading and changing do not put it off. */
  #nextLook: Instant | undefined;
  /** Deadlines up to here have had their look: what could not be deleted then waits for the next one. */
  #lookedAt = instantOf(Number.NEGATIVE_INFINITY);
  #isLooking = false;
  /** The last batch was full. */
  #isPartial = false;
  readonly #stopping = new AbortController();

  constructor(options: DrainOptions) {
    this.#options = options;
    this.#startedAt = options.startedAt ?? instantOf(0);
  }

  render(changes: readonly Change<VirtualServer>[]): string {
    return this.#options.inner.render(changes);
  }

  read(expected: Servers, signal: AbortSignal): Promise<Servers> {
    return this.#inTurn(() => this.#read(expected, signal));
  }

  apply(changes: readonly Change<VirtualServer>[], signal: AbortSignal): Promise<ApplyResult> {
    return this.#inTurn(() => this.#apply(changes, signal));
  }

  /** Endpoints that take their leave, each once for every virtual service it was behind. */
  get count(): number {
    let count = 0;
    for (const destinations of this.#draining.values()) count += destinations.size;
    return count;
  }

  /** What drains goes on draining; the next daemon looks after it. */
  stop(): void {
    this.#cancelLook?.();
    this.#stopping.abort();
  }

  async #read(expected: Servers, signal: AbortSignal): Promise<Servers> {
    await this.#load();
    const actual = new Map(await this.#options.inner.read(this.#withDraining(expected), signal));
    for (const [key, drained] of [...this.#draining]) {
      const server = actual.get(key);
      const rest = server?.destinations.filter(each => each.weight > 0 || !drained.has(destinationKey(each))) ?? [];
      if (server === undefined || rest.length === server.destinations.length) {
        this.#forget(key);
        continue;
      }
      const there = new Set(server.destinations.filter(({ weight }) => weight === 0).map(destinationKey));
      for (const destination of [...drained.keys()]) if (!there.has(destination)) drained.delete(destination);
      this.#servers.set(key, server);
      const visible = { ...server, destinations: rest };
      const wanted = expected.get(key);
      actual.set(key, wanted !== undefined && TABLES.virtualServer.same(visible, wanted) ? wanted : visible);
    }
    await this.#write();
    this.#armLook();
    return actual;
  }

  async #apply(changes: readonly Change<VirtualServer>[], signal: AbortSignal): Promise<ApplyResult> {
    await this.#load();
    const now = this.#options.clock.now();
    const whole = changes.map(change => this.#whole(change, now));
    // First the record: a weight of 0 that nobody knows of would stay.
    await this.#write();
    try {
      const result = await this.#options.inner.apply(whole, signal);
      for (const change of whole) {
        if (!this.#draining.has(change.key)) this.#servers.delete(change.key);
        else if (change.op !== 'delete' && !result.failed.has(change.key)) this.#servers.set(change.key, change.to);
      }
      return result;
    } finally {
      this.#armLook();
    }
  }

  /** What an earlier process left draining. */
  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    this.#written = (await this.#options.record.read()) ?? '';
    for (const each of parseRecord(this.#written, this.#startedAt)) this.#note(each);
    this.#isLoaded = true;
  }

  /** The change with what drains: it is there before, and after it is there what is to drain from now on. */
  #whole(change: Change<VirtualServer>, now: Instant): Change<VirtualServer> {
    const { key } = change;
    if (change.op !== 'update') {
      this.#forget(key);
      return change;
    }
    const { to } = change;
    const drained = this.#draining.get(key);
    const from = drained === undefined ? change.from : this.#wholeServer(key, change.from, drained);
    const wanted = new Set(to.destinations.map(destinationKey));
    if (drained !== undefined) for (const destination of wanted) drained.delete(destination);
    for (const destination of change.from.destinations) {
      const name = destinationKey(destination);
      if (wanted.has(name) || drained?.has(name) === true) continue;
      const leave = this.#leaveOf(to, destination.address);
      if (leave !== undefined)
        this.#note({
          server: key,
          destination: name,
          address: destination.address,
          deadline: instantOf(now + leave.ms),
          isBrief: leave.isBrief,
          mayWait: hasEnds(to),
        });
    }
    if (keepsSending(to)) this.#forget(key);
    const left = this.#draining.get(key);
    if (left === undefined || left.size === 0) {
      this.#forget(key);
      return { ...change, from };
    }
    const leaving = from.destinations
      .filter(destination => left.has(destinationKey(destination)))
      .map(destination => ({ ...destination, weight: 0 }));
    return { ...change, from, to: { ...to, destinations: [...to.destinations, ...leaving] } };
  }

  /** How long a destination of this server may stay, and whether that is no matter of its connections; undefined for not at all. */
  #leaveOf(server: VirtualServer, address: IpAddress): { readonly ms: number; readonly isBrief: boolean } | undefined {
    const { graceOf, lingerMs } = this.#options;
    if (keepsSending(server)) return undefined;
    if (graceOf !== undefined && hasEnds(server)) return { ms: graceOf(address), isBrief: false };
    return lingerMs > 0 ? { ms: lingerMs, isBrief: true } : undefined;
  }

  /** With those that drain, as they were read or written last. */
  #wholeServer(key: string, server: VirtualServer, drained: ReadonlyMap<string, Draining>): VirtualServer {
    const known = new Set(server.destinations.map(destinationKey));
    const isHidden = (name: string): boolean => drained.has(name) && !known.has(name);
    const hidden = this.#servers.get(key)?.destinations.filter(destination => isHidden(destinationKey(destination))) ?? [];
    return { ...server, destinations: [...server.destinations, ...hidden] };
  }

  #withDraining(expected: Servers): Servers {
    if (this.#draining.size === 0) return expected;
    const whole = new Map(expected);
    for (const [key, drained] of this.#draining) {
      const server = expected.get(key);
      if (server !== undefined) whole.set(key, this.#wholeServer(key, server, drained));
    }
    return whole;
  }

  #armLook(): void {
    const { clock } = this.#options;
    this.#cancelLook?.();
    if (this.#isLooking) return;
    const all = [...this.#draining.values()].flatMap(drained => [...drained.values()]);
    if (!all.some(({ isBrief }) => !isBrief)) this.#nextLook = undefined;
    if (all.length === 0 || this.#stopping.signal.aborted) return;
    const now = clock.now();
    if (all.some(({ isBrief }) => !isBrief)) this.#nextLook ??= instantOf(now + this.#lookPeriodMs);
    // Those whose time was up at the last batch and who are still there: it was full, or they could not be deleted.
    const hasLeft = all.some(({ deadline }) => deadline <= this.#lookedAt);
    const isFull = hasLeft && this.#isPartial;
    const ahead = all.filter(({ deadline, mayWait }) => deadline > this.#lookedAt && !(isFull && mayWait));
    const again = instantOf(this.#lookedAt + (isFull ? FULL_BATCH_MS : this.#lookPeriodMs));
    const batch = earliest([...ahead.map(({ deadline }) => deadline), ...(hasLeft ? [again] : [])]);
    const at = earliest([
      ...(this.#nextLook === undefined ? [] : [this.#nextLook]),
      ...(batch === undefined ? [] : [instantOf(Math.max(batch, this.#lookedAt + BATCH_MS))]),
    ]);
    if (at === undefined) return;
    this.#cancelLook = clock.after(Math.max(0, at - now), () => {
      void this.#look();
    });
  }

  /** Deletes what has no connection left, or no time. What cannot be deleted is tried again at the next look. */
  async #look(): Promise<void> {
    const { clock } = this.#options;
    this.#isLooking = true;
    try {
      const idle = await this.#idle(clock.now());
      await this.#inTurn(() => this.#end(idle));
    } catch {
      // A look that fails comes again; who applies changes is told what fails then.
    } finally {
      this.#isLooking = false;
      this.#armLook();
    }
  }

  /**
   * Those without connections, where it is time to look at them. Nobody waits for this: it can take seconds, and at weight 0 none comes while it does.
   */
  async #idle(now: Instant): Promise<readonly Draining[]> {
    if (this.#nextLook === undefined || this.#nextLook > now) return [];
    const { clock, readLines } = this.#options;
    const looked = [...this.#draining.values()].flatMap(drained => [...drained.values()].filter(({ isBrief }) => !isBrief));
    try {
      const servers = new Set(looked.map(({ server }) => server));
      const connections = await connectionsOf(readLines, servers, this.#stopping.signal);
      this.#lookPeriodMs = Math.max(LOOK_MS, (clock.now() - now) / LOOK_SHARE);
      // One that the kernel does not list is not known to have none.
      return looked.filter(({ server, destination }) => connections.get(server)?.get(destination) === 0);
    } catch {
      return [];
    } finally {
      this.#nextLook = undefined;
    }
  }

  async #end(idle: readonly Draining[]): Promise<void> {
    const now = this.#options.clock.now();
    this.#lookedAt = now;
    for (const entry of idle) {
      const drained = this.#draining.get(entry.server);
      // One that came back meanwhile, or has left anew since, is another.
      if (drained?.get(entry.destination) === entry) drained.set(entry.destination, { ...entry, deadline: now, isBrief: true });
    }
    const changes = this.#batch(now);
    if (changes.length > 0) await this.#remove(changes, await this.#options.inner.apply(changes, this.#stopping.signal));
    else await this.#write();
  }

  /** The deletions that are due, or as many as are good at once. */
  #batch(now: Instant): readonly Change<VirtualServer>[] {
    const changes: Change<VirtualServer>[] = [];
    let room = BATCH_SIZE;
    this.#isPartial = false;
    for (const [key, drained] of this.#draining) {
      const from = this.#servers.get(key);
      if (from === undefined) continue;
      const isTaken = (destination: Destination): boolean => {
        const entry = drained.get(destinationKey(destination));
        // Where the weight could not be set to 0 it gets connections still.
        if (entry === undefined || destination.weight > 0 || entry.deadline > now) return false;
        if (entry.mayWait && room <= 0) {
          this.#isPartial = true;
          return false;
        }
        room--;
        return true;
      };
      const destinations = from.destinations.filter(destination => !isTaken(destination));
      if (destinations.length < from.destinations.length)
        changes.push({ op: 'update', key, from, to: { ...from, destinations } });
    }
    return changes;
  }

  async #remove(changes: readonly Change<VirtualServer>[], { failed }: ApplyResult): Promise<void> {
    for (const change of changes) {
      if (change.op !== 'update' || failed.has(change.key)) continue;
      const left = new Set(change.to.destinations.map(destinationKey));
      const drained = this.#draining.get(change.key);
      for (const name of [...(drained?.keys() ?? [])]) if (!left.has(name)) drained?.delete(name);
      if (drained?.size === 0) this.#forget(change.key);
      else this.#servers.set(change.key, change.to);
    }
    await this.#write();
  }

  #note(entry: Draining): void {
    const drained = this.#draining.get(entry.server) ?? new Map<string, Draining>();
    drained.set(entry.destination, entry);
    this.#draining.set(entry.server, drained);
  }

  #forget(key: string): void {
    this.#draining.delete(key);
    this.#servers.delete(key);
  }

  async #write(): Promise<void> {
    const text = recordText(
      [...this.#draining.values()].flatMap(drained => [...drained.values()].filter(({ isBrief }) => !isBrief)),
      this.#startedAt,
    );
    if (text === this.#written) return;
    await this.#options.record.write(text);
    this.#written = text;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** Schedulers that go on choosing a destination of weight 0 for its share of clients, and then refuse them (kernel: ip_vs_sh.c, ip_vs_dh.c). */
function keepsSending({ scheduler, schedulerFlags }: VirtualServer): boolean {
  return scheduler === 'dh' || (scheduler === 'sh' && !schedulerFlags.includes('flag-1'));
}

/** UDP and SCTP flows have no end to wait for (`forgettingFlows`). */
function hasEnds(server: VirtualServer): boolean {
  const addresses = addressesOf(server);
  return addresses.length > 0 && addresses.every(({ protocol }) => protocol === 'TCP');
}
