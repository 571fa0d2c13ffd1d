/** What the host is like, followed: read once, then again whenever `ip monitor` tells of a change. */
import type { Disturbance } from '../cluster/disturbance.ts';
import type { Capabilities, HostAddress, HostFacts, HostLink } from '../cluster/snapshot.ts';
import { asFairwayError, FairwayError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import type { CommandRunner } from './command.ts';
import { DISTURBANCES, DisturbanceListener, disturbanceOf, goneRouteOf, type LinkState, linkState } from './disturbance.ts';
import type { AddressStanding } from './lan-address-record.ts';

export interface HostFactsOptions {
  readonly runner: CommandRunner;
  readonly clock: Clock;
  readonly hostname: string;
  /** Another object once the host can do more. */
  readonly capabilities: () => Capabilities;
  /** Whether a link is one that we make and fill ourselves: neither it nor its addresses are facts about the host. */
  readonly isOwnLink: (name: string) => boolean;
  /**
   * What an address on a link of the host is to us. One that we put there, to answer for it on the local network, is no fact about the host either: no
   * connection comes from it, no node port is on it, and nobody knows the node by it.
   */
  readonly standingOf: (entry: HostAddress) => AddressStanding;
  /** Called with every new picture; never for one equal to the last. */
  readonly onChange: (facts: HostFacts) => void;
  /**
   * Called when something went that may be back already, or that no picture shows: once a kind for all that happens within a tenth of a second,
   * and after the picture of that time. With `routes` go the keys of those that were seen to go; none are given where any may have gone.
   */
  readonly onDisturbance: (what: Disturbance, goneRoutes?: ReadonlySet<string>) => void;
  /** Why the host is not followed at the moment; undefined when it is again. What was last known stays. */
  readonly onTrouble: (error: FairwayError | undefined) => void;
}

export interface HostFactsSource {
  /** The latest picture. */
  readonly facts: HostFacts;
  /** Reads again soon, as if the kernel had told of a change. */
  refresh(): void;
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/** Milliseconds from a change to the reading: a new pod's link makes five or six changes at once. */
const SETTLE_MS = 100;

/** Milliseconds after which a monitor that was started listens, however busy the machine. */
const LISTENING_MS = 1_000;

/** Milliseconds to wait before a monitor that ended is started again: doubling, afresh after one that ran longer than the longest wait. */
const RESTART_MS = { first: 1_000, longest: 60_000 };

/** The longest time limit a timer takes, 24.8 days: the monitor is to run for ever, and is started again when it ends. */
const NO_LIMIT_MS = 2 ** 31 - 1;

/** Reads the host and follows it from then on. Throws a FairwayError where `ip` cannot be asked at all. */
export async function followHostFacts(options: HostFactsOptions, signal: AbortSignal): Promise<HostFactsSource> {
  const host = await readHost(options.runner, signal);
  return new Follower(options, host, signal);
}

class Follower implements HostFactsSource {
  readonly #options: HostFactsOptions;
  readonly #stopping = new AbortController();
  readonly #signal: AbortSignal;
  readonly #monitoring: Promise<void>;
  #facts: HostFacts;
  #isMonitored = false;
  #isTroubled = false;
  readonly #listener: DisturbanceListener;
  readonly #disturbances = new Set<Disturbance>();
  /** Keys; undefined where any may have gone. */
  #goneRoutes: Set<string> | undefined = new Set();
  #reading: Promise<void> = Promise.resolve();
  #cancelRead: (() => void) | undefined;
  #cancelTell: (() => void) | undefined;

  constructor(options: HostFactsOptions, host: Host, signal: AbortSignal) {
    this.#options = options;
    this.#facts = factsOf(host, options);
    const { isOwnLink, standingOf } = options;
    this.#listener = new DisturbanceListener({ isOwnLink, standingOf, addresses: () => this.#facts.addresses }, host.states);
    this.#signal = AbortSignal.any([signal, this.#stopping.signal]);
    this.#monitoring = this.#monitor();
  }

  get facts(): HostFacts {
    return this.#facts;
  }

  refresh(): void {
    if (this.#isStopped()) return;
    this.#cancelRead ??= this.#options.clock.after(SETTLE_MS, () => {
      this.#cancelRead = undefined;
      // One at a time: what is read later is what counts.
      this.#reading = this.#reading.then(() => this.#read());
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the host is no longer followed'));
    this.#cancelRead?.();
    this.#cancelTell?.();
    await this.#monitoring;
    await this.#reading;
  }

  #isStopped(): boolean {
    return this.#signal.aborted;
  }

  async #read(): Promise<void> {
    if (this.#isStopped()) return;
    try {
      const host = await readHost(this.#options.runner, this.#signal);
      this.#listener.learn(host.states);
      const next = factsOf(host, this.#options);
      if (this.#isMonitored) this.#trouble(undefined);
      if (sameFacts(next, this.#facts)) return;
      this.#facts = next;
      this.#options.onChange(next);
    } catch (thrown) {
      if (this.#isStopped()) return;
      this.#trouble(asFairwayError(thrown, 'FW_COMMAND_FAILED'));
    }
  }

  /** One line of the monitor. */
  #hear(line: string): void {
    const link = monitoredLink(line);
    if (link === undefined) {
      const what = disturbanceOf(line);
      if (what === 'routes') this.#goneRoute(goneRouteOf(line));
      this.#disturbed(what);
      return;
    }
    if (!this.#options.isOwnLink(link) && this.#listener.concernsHost(link, line)) this.refresh();
    this.#disturbed(this.#listener.hearLink(link, line));
  }

  #goneRoute(key: string | undefined): void {
    if (key === undefined) this.#goneRoutes = undefined;
    else this.#goneRoutes?.add(key);
  }

  /** Settles as readings do, and waits for the one under way. */
  #disturbed(what: Disturbance | undefined): void {
    if (what === undefined || this.#isStopped()) return;
    this.#disturbances.add(what);
    this.#cancelTell ??= this.#options.clock.after(SETTLE_MS, () => {
      this.#cancelTell = undefined;
      this.#reading = this.#reading.then(() => this.#tellDisturbances());
    });
  }

  #tellDisturbances(): void {
    if (this.#isStopped()) return;
    const told = DISTURBANCES.filter(what => this.#disturbances.has(what));
    const goneRoutes = this.#goneRoutes;
    this.#disturbances.clear();
    this.#goneRoutes = new Set();
    for (const what of told) {
      if (what === 'routes' && goneRoutes !== undefined) this.#options.onDisturbance(what, goneRoutes);
      else this.#options.onDisturbance(what);
    }
  }

  /** Tells of what is wrong, and once of its end. */
  #trouble(error: FairwayError | undefined): void {
    if (error === undefined && !this.#isTroubled) return;
    this.#isTroubled = error !== undefined;
    this.#options.onTrouble(error);
  }

  /** Keeps a monitor running until stopped. */
  async #monitor(): Promise<void> {
    const { clock, runner } = this.#options;
    let missed: readonly Disturbance[] = [];
    for (let wait = RESTART_MS.first; !this.#isStopped(); ) {
      const startedAt = clock.now();
      // What changes before the monitor listens is in no line of its: hence one reading when it surely does.
      const unheard = missed;
      const cancelRefresh = clock.after(LISTENING_MS, () => {
        this.refresh();
        if (unheard.includes('routes')) this.#goneRoute(undefined);
        for (const what of unheard) this.#disturbed(what);
      });
      const argv = ['ip', '-o', '-N', 'monitor', 'link', 'address', 'route', 'rule'] as const;
      const onLine = (line: string): void => this.#hear(line);
      this.#isMonitored = true;
      try {
        const result = await runner.lines({ argv, timeoutMs: NO_LIMIT_MS }, onLine, this.#signal);
        const reason = result.stderr.trim() || `exit status ${result.status}`;
        this.#trouble(new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' ended: ${reason}; it is started again`));
      } catch (thrown) {
        if (!this.#isStopped()) this.#trouble(asFairwayError(thrown, 'FW_COMMAND_FAILED'));
      }
      cancelRefresh();
      this.#isMonitored = false;
      this.#listener.forget();
      missed = DISTURBANCES;
      if (clock.now() - startedAt > RESTART_MS.longest) wait = RESTART_MS.first;
      await this.#pause(wait);
      wait = Math.min(wait * 2, RESTART_MS.longest);
    }
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise(resolve => {
      if (this.#isStopped()) {
        resolve();
        return;
      }
      const done = (): void => {
        cancel();
        this.#signal.removeEventListener('abort', done);
        resolve();
      };
      const cancel = this.#options.clock.after(milliseconds, done);
      this.#signal.addEventListener('abort', done, { once: true });
    });
  }
}

function isOfHost(standing: AddressStanding): boolean {
  return standing === "the host's" || standing === 'left';
}

/** The link that a line of `ip -o monitor link address route rule` is about: `8: eth0    inet ...`, `9: veth1@if2: <...`, `Deleted 9: ...`. */
export function monitoredLink(line: string): string | undefined {
  return /^(?:Deleted )?[0-9]+: ([^\s:@]+)/.exec(line)?.[1];
}

interface Host {
  readonly addresses: readonly HostAddress[];
  readonly links: ReadonlyMap<string, HostLink>;
  readonly states: ReadonlyMap<string, LinkState>;
}

function factsOf(host: Host, options: HostFactsOptions): HostFacts {
  const { hostname, capabilities, isOwnLink, standingOf } = options;
  return {
    hostname,
    capabilities: capabilities(),
    addresses: host.addresses.filter(entry => !isOwnLink(entry.link) && isOfHost(standingOf(entry))),
    links: new Map([...host.links].filter(([link]) => !isOwnLink(link))),
  };
}

function sameFacts(one: HostFacts, other: HostFacts): boolean {
  return (
    one.hostname === other.hostname &&
    one.capabilities === other.capabilities &&
    one.links.size === other.links.size &&
    [...one.links].every(([name, link]) => sameLink(link, other.links.get(name))) &&
    one.addresses.length === other.addresses.length &&
    one.addresses.every((address, index) => {
      const counterpart = other.addresses[index];
      return (
        address.link === counterpart?.link &&
        address.address === counterpart.address &&
        address.prefixLength === counterpart.prefixLength
      );
    })
  );
}

function sameLink(one: HostLink, other: HostLink | undefined): boolean {
  return one.mtu === other?.mtu && one.master === other.master;
}

async function readHost(runner: CommandRunner, signal: AbortSignal): Promise<Host> {
  const result = await runner.run({ argv: ['ip', '-j', 'addr', 'show'] }, signal);
  if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'ip -j addr show' failed: ${result.stderr.trim()}`);
  return parseHost(result.stdout);
}

/**
 * Links and addresses from `ip -j addr show`, in the kernel's order. Addresses that failed duplicate address detection are in nobody's use.
 * Throws FW_READ_UNPARSABLE.
 */
export function parseHost(json: string): Host {
  const addresses: HostAddress[] = [];
  const links = new Map<string, HostLink>();
  const states = new Map<string, LinkState>();
  for (const link of listOf(parseJson(json))) {
    const name = link['ifname'];
    if (typeof name !== 'string') continue;
    const { mtu, flags, master } = link;
    if (Array.isArray(flags)) states.set(name, linkState(flags.map(String)));
    links.set(name, { mtu: typeof mtu === 'number' ? mtu : 0, master: typeof master === 'string' ? master : '' });
    for (const entry of listOf(link['addr_info'] ?? [])) {
      const local = entry['local'];
      const prefixlen = entry['prefixlen'];
      const address = typeof local === 'string' ? parseAddress(local) : undefined;
      if (address === undefined || typeof prefixlen !== 'number' || entry['dadfailed'] === true) continue;
      addresses.push({ link: name, address, prefixLength: prefixlen });
    }
  }
  return { addresses, links, states };
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new FairwayError('FW_READ_UNPARSABLE', "'ip -j addr show' printed no JSON: iproute2 4.17 or newer is needed", {
      cause,
    });
  }
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (!Array.isArray(value)) throw new FairwayError('FW_READ_UNPARSABLE', "'ip -j addr show' printed no list of links");
  return value.filter(isRecord);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
