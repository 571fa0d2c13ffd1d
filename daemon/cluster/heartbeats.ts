/**
 * Which Nodes have fallen silent. A kubelet renews its Lease every quarter of what it lasts (KEP-589), and who has not done so for as long as it lasts
 * is not heard any more: sooner than the node controller says so. Clocks of machines differ, so that only one counts: ours, from the moment at which
 * we saw the Lease change (as client-go's leader election does).
 *
 * A heartbeat costs a look into a map: who listens hears only of nodes that fall silent or are heard again.
 */
import type { Clock } from '../net/clock.ts';
import { type Instant, instantOf } from '../net/instant.ts';
import type { Lease, ObjectKey } from './kinds.ts';

/** Where the Leases of Nodes are; those of other namespaces are somebody's locks. */
const NAMESPACE = 'kube-node-lease';

export interface HeartbeatsOptions {
  readonly clock: Clock;
  /** A node fell silent or is heard again: {@link Heartbeats.silent} is another one. */
  readonly onChange: () => void;
}

/** The last beat of a Node. */
interface Pulse {
  readonly renewTime: string;
  readonly lastsMs: number;
  readonly heardAt: Instant;
}

export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  /** By the name of the Node. */
  readonly #pulses = new Map<string, Pulse>();
  #silent: ReadonlySet<string> = new Set();
  /** Until then nobody could be heard, or we did not listen: no earlier beat is held against anybody. */
  #listensSince: Instant;
  /**
   * `troubled`: the watch says that it misses events. `quiet`: nobody beats, not even our own kubelet. Rather the API server takes no renewals, or the
   * connection is dead (PINGs find that out later than a Lease ends), than that all nodes died at once. In neither state does anybody fall silent.
   */
  #watch: 'well' | 'troubled' | 'quiet' = 'well';
  #timer: { readonly at: Instant; readonly cancel: () => void } | undefined;

  constructor(options: HeartbeatsOptions) {
    this.#options = options;
    this.#listensSince = options.clock.now();
  }

  /** Names of the Nodes whose heartbeat stopped; the same set as long as it has the same names. */
  get silent(): ReadonlySet<string> {
    return this.#silent;
  }

  /** Nodes with a Lease. */
  get size(): number {
    return this.#pulses.size;
  }

  upsert(lease: Lease): void {
    if (lease.meta.namespace === NAMESPACE && this.#beat(lease)) this.#hear([lease.meta.name]);
  }

  /** The Node is judged by its own conditions alone from now on. */
  remove(key: ObjectKey): void {
    const name = key.slice(key.indexOf('/') + 1);
    if (key !== `${NAMESPACE}/${name}`) return;
    this.#pulses.delete(name);
    this.#hear([name]);
  }

  replace(leases: readonly Lease[]): void {
    const ours = leases.filter(({ meta }) => meta.namespace === NAMESPACE);
    const heard = ours.filter(lease => this.#beat(lease)).map(({ meta }) => meta.name);
    const listed = new Set(ours.map(({ meta }) => meta.name));
    const gone = [...this.#pulses.keys()].filter(name => !listed.has(name));
    for (const name of gone) this.#pulses.delete(name);
    this.#hear([...heard, ...gone]);
  }

  /** Whether the watch is in trouble: what it does not tell is no silence. */
  degraded(isTroubled: boolean): void {
    if (isTroubled) this.#pause('troubled');
    else if (this.#watch === 'troubled') this.#resume();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** False for an event that is no beat. Seen for the first time counts as one: what was before is not known. */
  #beat({ meta: { name }, renewTime, leaseDurationSeconds }: Lease): boolean {
    const lastsMs = leaseDurationSeconds * 1000;
    const former = this.#pulses.get(name);
    const isBeat = former?.renewTime !== renewTime;
    if (!isBeat && former.lastsMs === lastsMs) return false;
    const now = this.#options.clock.now();
    const pulse = { renewTime, lastsMs, heardAt: isBeat ? now : former.heardAt };
    this.#pulses.set(name, pulse);
    if (this.#watch === 'quiet') this.#resume();
    else if (this.#watch === 'well') this.#arm(this.#dueAt(pulse));
    return isBeat;
  }

  /** Nobody of these is silent. */
  #hear(names: readonly string[]): void {
    if (!names.some(name => this.#silent.has(name))) return;
    const heard = new Set(names);
    this.#tell(new Set([...this.#silent].filter(name => !heard.has(name))));
  }

  #pause(watch: 'troubled' | 'quiet'): void {
    this.#watch = watch;
    this.stop();
  }

  #resume(): void {
    this.#watch = 'well';
    this.#listensSince = this.#options.clock.now();
    this.#armForFirst();
  }

  #dueAt({ heardAt, lastsMs }: Pulse): Instant {
    return instantOf(Math.max(heardAt, this.#listensSince) + lastsMs);
  }

  /** One timer for the first who is due. It is left where it is when that one beats: once a lease's time it wakes for nothing, and looks anew. */
  #arm(at: Instant): void {
    if (this.#timer !== undefined && this.#timer.at <= at) return;
    this.#timer?.cancel();
    const { clock } = this.#options;
    const cancel = clock.after(Math.max(0, at - clock.now()), () => {
      this.#timer = undefined;
      this.#look();
    });
    this.#timer = { at, cancel };
  }

  #armForFirst(): void {
    let first: Instant | undefined;
    for (const [name, pulse] of this.#pulses) {
      const at = this.#dueAt(pulse);
      if (!this.#silent.has(name) && (first === undefined || at < first)) first = at;
    }
    if (first !== undefined) this.#arm(first);
  }

  #look(): void {
    const now = this.#options.clock.now();
    const due = [...this.#pulses].filter(([name, pulse]) => !this.#silent.has(name) && this.#dueAt(pulse) <= now);
    if (due.length > 0 && !this.#isAnybodyHeard(now)) {
      this.#pause('quiet');
      return;
    }
    if (due.length > 0) this.#tell(new Set([...this.#silent, ...due.map(([name]) => name)]));
    this.#armForFirst();
  }

  /** Who lives renews four times while its Lease lasts: not two beats that everybody left out. */
  #isAnybodyHeard(now: Instant): boolean {
    return [...this.#pulses.values()].some(({ heardAt, lastsMs }) => now - heardAt < lastsMs / 2);
  }

  #tell(silent: ReadonlySet<string>): void {
    this.#silent = silent;
    this.#options.onChange();
  }
}
