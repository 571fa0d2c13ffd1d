/**
 * A BGP speaker in memory. Sessions, what neighbours tell and the loss of the speaker are moved by hand; selection is that of RFC 4271 as far as origin
 * decides: our own paths first, then those of other AS numbers, then internal ones; equal ones share. Policies are kept and not applied.
 */

import type { BestPath, PeerStatus, SessionState, Speaker, SpeakerEvents } from '../../daemon/bgp/speaker.ts';
import { FairwayError } from '../../daemon/errors.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import type { BgpPath, BgpPeer, BgpPolicy, BgpServer } from '../../daemon/reconcile/routing-tables.ts';

interface Session {
  readonly peer: BgpPeer;
  state: SessionState;
  isComplete: boolean;
  readonly told: Map<IpPrefix, IpAddress>;
}

interface Watcher {
  readonly events: SpeakerEvents;
  readonly reject: (reason: FairwayError) => void;
}

export class FakeSpeaker implements Speaker {
  /** Calls of the methods that read, such as `bestPaths all` or `bestPaths 3`. */
  readonly calls: string[] = [];
  /** What reading rejects with while set. */
  refusal: FairwayError | undefined;
  isClosed = false;
  #server: BgpServer | undefined;
  #sessions = new Map<IpAddress, Session>();
  #policies = new Map<BgpPolicy['direction'], BgpPolicy>();
  #local = new Map<IpPrefix, BgpPath>();
  #watchers = new Set<Watcher>();
  #isLost = false;

  // By hand.

  /** The session comes up; a neighbour has told nothing then. */
  establish(address: IpAddress): void {
    this.#session(address).state = 'established';
    this.#tellSession(address);
  }

  /** The session ends: what the neighbour told is withdrawn. */
  drop(address: IpAddress): void {
    const session = this.#session(address);
    session.state = 'active';
    session.isComplete = false;
    const gone = [...session.told.keys()];
    session.told.clear();
    this.#tellSession(address);
    this.#tellChanged(gone);
  }

  /** The neighbour tells routes by way of a next hop. */
  tell(address: IpAddress, prefixes: readonly IpPrefix[], nextHop: IpAddress = address): void {
    const session = this.#session(address);
    if (session.state !== 'established') throw new Error(`no session with ${address}`);
    for (const prefix of prefixes) session.told.set(prefix, nextHop);
    this.#tellChanged(prefixes);
  }

  withdraw(address: IpAddress, prefixes: readonly IpPrefix[]): void {
    for (const prefix of prefixes) this.#session(address).told.delete(prefix);
    this.#tellChanged(prefixes);
  }

  /** The neighbour marks the end of its routes, with or without an event of it. */
  complete(address: IpAddress, event: 'event' | 'no event' = 'event'): void {
    this.#session(address).isComplete = true;
    if (event === 'event') this.#tellSession(address);
  }

  /** The process behind it dies: nothing answers any more. */
  lose(): void {
    this.#isLost = true;
    this.endWatches();
  }

  /** Only the watches end; the speaker goes on. */
  endWatches(): void {
    for (const { reject } of this.#watchers) reject(unreachable());
    this.#watchers.clear();
  }

  /** Says that prefixes changed, whether they did or not. */
  say(prefixes: readonly IpPrefix[]): void {
    this.#tellChanged(prefixes);
  }

  // The speaker's own part.

  async server(signal: AbortSignal): Promise<BgpServer | undefined> {
    this.#answer('server', signal);
    return this.#server;
  }

  async startServer(server: BgpServer, signal: AbortSignal): Promise<void> {
    this.#answer('startServer', signal);
    if (this.#server !== undefined) throw new FairwayError('FW_BGP_REFUSED', 'the server is started already');
    this.#server = server;
  }

  async stopServer(signal: AbortSignal): Promise<void> {
    this.#answer('stopServer', signal);
    const gone = [...this.#sessions.values()].flatMap(({ told }) => [...told.keys()]);
    this.#server = undefined;
    this.#sessions.clear();
    this.#policies.clear();
    this.#local.clear();
    this.#tellChanged(gone);
  }

  async peers(signal: AbortSignal): Promise<readonly BgpPeer[]> {
    this.#answer('peers', signal);
    return [...this.#sessions.values()].map(({ peer }) => peer);
  }

  async addPeer(peer: BgpPeer, _options: unknown, signal: AbortSignal): Promise<void> {
    this.#answer('addPeer', signal);
    if (this.#sessions.has(peer.address)) throw new FairwayError('FW_BGP_REFUSED', `peer ${peer.address} is there already`);
    this.#sessions.set(peer.address, { peer, state: 'active', isComplete: false, told: new Map() });
  }

  async updatePeer(_from: BgpPeer, to: BgpPeer, signal: AbortSignal): Promise<void> {
    this.#answer('updatePeer', signal);
    this.#sessions.set(to.address, { ...this.#session(to.address), peer: to });
  }

  async deletePeer(address: IpAddress, signal: AbortSignal): Promise<void> {
    this.#answer('deletePeer', signal);
    const { told } = this.#session(address);
    this.#sessions.delete(address);
    this.#tellSession(address);
    this.#tellChanged([...told.keys()]);
  }

  async policies(signal: AbortSignal): Promise<readonly BgpPolicy[]> {
    this.#answer('policies', signal);
    return [...this.#policies.values()];
  }

  async setPolicy(policy: BgpPolicy, signal: AbortSignal): Promise<void> {
    this.#answer('setPolicy', signal);
    this.#policies.set(policy.direction, policy);
  }

  async deletePolicy(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<void> {
    this.#answer('deletePolicy', signal);
    this.#policies.delete(direction);
  }

  async localPaths(signal: AbortSignal): Promise<readonly BgpPath[]> {
    this.#answer('localPaths', signal);
    return [...this.#local.values()];
  }

  async addPaths(paths: readonly BgpPath[], signal: AbortSignal): Promise<void> {
    this.#answer('addPaths', signal);
    for (const path of paths) this.#local.set(path.prefix, path);
    this.#tellChanged(paths.map(({ prefix }) => prefix));
  }

  async deletePaths(prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<void> {
    this.#answer('deletePaths', signal);
    for (const prefix of prefixes) this.#local.delete(prefix);
    this.#tellChanged(prefixes);
  }

  async bestPaths(prefixes: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<readonly BestPath[]> {
    this.#answer(`bestPaths ${prefixes === 'all' ? 'all' : prefixes.length}`, signal);
    const asked = prefixes === 'all' ? this.#prefixes() : prefixes;
    return [...asked].flatMap(prefix => this.#best(prefix));
  }

  async peerStatus(signal: AbortSignal): Promise<readonly PeerStatus[]> {
    this.#answer('peerStatus', signal);
    return [...this.#sessions.values()].map(({ peer, state, isComplete, told }) => ({
      address: peer.address,
      asn: peer.asn,
      state,
      isComplete,
      received: told.size,
      advertised: this.#local.size,
    }));
  }

  watch(events: SpeakerEvents, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isLost) {
        reject(unreachable());
        return;
      }
      const watcher = { events, reject };
      this.#watchers.add(watcher);
      signal.addEventListener(
        'abort',
        () => {
          this.#watchers.delete(watcher);
          resolve();
        },
        { once: true },
      );
    });
  }

  close(): void {
    this.isClosed = true;
  }

  #answer(call: string, signal: AbortSignal): void {
    this.calls.push(call);
    signal.throwIfAborted();
    if (this.#isLost) throw unreachable();
    if (this.refusal !== undefined) throw this.refusal;
  }

  #session(address: IpAddress): Session {
    const session = this.#sessions.get(address);
    if (session === undefined) throw new FairwayError('FW_BGP_REFUSED', `there is no peer ${address}`);
    return session;
  }

  #prefixes(): ReadonlySet<IpPrefix> {
    return new Set([...this.#local.keys(), ...[...this.#sessions.values()].flatMap(({ told }) => [...told.keys()])]);
  }

  #best(prefix: IpPrefix): readonly BestPath[] {
    const local = this.#local.get(prefix);
    if (local !== undefined) return [{ prefix, nextHop: local.nextHop, origin: 'local', neighbor: undefined }];
    const paths = [...this.#sessions.values()].flatMap(({ peer, told }): readonly BestPath[] => {
      const nextHop = told.get(prefix);
      const origin = peer.asn === this.#server?.asn ? 'internal' : 'external';
      return nextHop === undefined ? [] : [{ prefix, nextHop, origin, neighbor: peer.address }];
    });
    const external = paths.filter(({ origin }) => origin === 'external');
    return external.length > 0 ? external : paths;
  }

  #tellChanged(prefixes: readonly IpPrefix[]): void {
    if (prefixes.length === 0) return;
    for (const { events } of this.#watchers) events.changed(new Set(prefixes));
  }

  #tellSession(address: IpAddress): void {
    for (const { events } of this.#watchers) events.session(address);
  }
}

function unreachable(): FairwayError {
  return new FairwayError('FW_BGP_UNREACHABLE', 'the speaker is lost');
}
