/** A RIB that follows fake speakers by a clock moved by hand, and what it handed out. */
import { RibSource } from '../../daemon/bgp/rib.ts';
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { bgpPeer, bgpServer } from '../fixtures/bgp.ts';
import { ManualClock, settle } from './clock.ts';
import { FakeSpeaker } from './speaker.ts';

export class RibWorld {
  readonly clock = new ManualClock();
  readonly routes = new Map<IpPrefix, LearnedRoute>();
  /** What each call of onChange told: how many routes, and whether settled. */
  readonly told: { readonly changes: number; readonly isSettled: boolean }[] = [];
  readonly troubles: string[] = [];
  expectedPeers = 0;
  settleMs = 90_000;
  readonly rib: RibSource;
  readonly #never = new AbortController().signal;

  constructor() {
    this.rib = new RibSource({
      onSession: () => undefined,
      clock: this.clock,
      onChange: (changes, isSettled) => {
        for (const [prefix, route] of changes) {
          if (route === undefined) this.routes.delete(prefix);
          else this.routes.set(prefix, route);
        }
        this.told.push({ changes: changes.size, isSettled });
      },
      onTrouble: error => this.troubles.push(error.message),
      expectedPeers: () => this.expectedPeers,
      settleMs: () => this.settleMs,
    });
  }

  get isSettled(): boolean {
    return this.told.at(-1)?.isSettled ?? false;
  }

  /** `PREFIX via HOP HOP` of every route, sorted; hops by neighbours of other AS numbers marked with `*`. */
  shown(): readonly string[] {
    return [...this.routes.values()]
      .map(({ prefix, nextHops }) => `${prefix} via ${nextHops.map(hop => hop.address + (hop.isInternal ? '' : '*')).join(' ')}`)
      .sort();
  }

  /** A started speaker with these neighbours, which must call yet; the RIB does not follow it yet. */
  async speaker(...peers: readonly (string | { readonly address: string; readonly asn: number })[]): Promise<FakeSpeaker> {
    const speaker = new FakeSpeaker();
    await speaker.startServer(bgpServer(), this.#never);
    for (const peer of peers) {
      const made = typeof peer === 'string' ? bgpPeer(peer) : bgpPeer(peer.address, { asn: peer.asn });
      await speaker.addPeer(made, { isRestarting: false }, this.#never);
    }
    return speaker;
  }

  async follow(speaker: FakeSpeaker): Promise<void> {
    this.rib.follow(speaker);
    await settle();
  }
}
