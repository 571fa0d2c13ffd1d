/** Our adapter on a gobgpd of its own, and neighbours of the tests' making. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { gobgpV3 } from '../../daemon/bgp/gobgp-v3.ts';
import type { Speaker } from '../../daemon/bgp/speaker.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { BgpActions, BgpPath, BgpPeer, BgpPolicy, BgpServer, BgpStatement } from '../../daemon/reconcile/routing-tables.ts';
import { address, bgpPeer, bgpServer } from '../fixtures/bgp.ts';
import { until } from '../lab/until.ts';
import { BGP_PORT, Gobgpd, type NeighborSettings, neighborConfiguration } from './gobgpd.ts';

export const never = new AbortController().signal;
/** All addresses are on lo, and none is a loopback address: GoBGP takes no route by way of those. Nobody is 198.51.100.66. */
export const WE = { address: '198.51.100.1', asn: 4_200_000_001 };
export const FABRIC_ASN = 4_200_000_099;
export const SERVER: BgpServer = bgpServer({
  asn: WE.asn,
  routerId: address('192.0.2.1'),
  port: BGP_PORT,
  listenAddresses: [address(WE.address)],
});
const UNCHANGED: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };
const ANY = { neighbors: undefined, prefixes: undefined, origin: undefined, audience: undefined } as const;

export function statement(conditions: Partial<BgpStatement>, actions: Partial<BgpActions> = {}): BgpStatement {
  return { ...ANY, verdict: 'accept', ...conditions, actions: { ...UNCHANGED, ...actions } };
}

export function exporting(statements: readonly BgpStatement[], otherwise: BgpPolicy['otherwise'] = 'reject'): BgpPolicy {
  return { direction: 'export', statements, otherwise };
}

export function importing(statements: readonly BgpStatement[], otherwise: BgpPolicy['otherwise'] = 'accept'): BgpPolicy {
  return { direction: 'import', statements, otherwise };
}

export const TELL_OURS = exporting([statement({ origin: 'local' })]);

export function path(prefix: string, overrides: Partial<BgpPath> = {}): BgpPath {
  const nextHop = address(prefix.includes(':') ? 'fd00:1::1' : WE.address);
  return { prefix: mustParsePrefix(prefix), nextHop, audience: 'everyone', ...overrides };
}

export function peerAt(at: string, overrides: Partial<BgpPeer> = {}): BgpPeer {
  return bgpPeer(at, { asn: FABRIC_ASN, port: BGP_PORT, localAddress: address(WE.address), multihopTtl: 5, ...overrides });
}

export function configured(at: string, overrides: Partial<NeighborSettings> = {}): string {
  return neighborConfiguration({ address: at, asn: FABRIC_ASN, speaker: WE, ...overrides });
}

export function secondsSince(begin: number): number {
  return Math.round((performance.now() - begin) / 100) / 10;
}

function ip(args: string): void {
  const { status, stderr } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
}

type IpFamily = 'ipv4' | 'ipv6';

export class GobgpWorld {
  readonly #endings: (() => Promise<void> | void)[] = [];
  #ours: Gobgpd | undefined;
  #speaker: Speaker | undefined;

  /** The addresses that all talk by. */
  static prepare(): void {
    ip('link set lo up');
    for (const at of [1, 2, 3, 4]) ip(`addr replace 198.51.100.${at}/32 dev lo`);
  }

  get ours(): Gobgpd {
    assert.ok(this.#ours);
    return this.#ours;
  }

  get speaker(): Speaker {
    assert.ok(this.#speaker);
    return this.#speaker;
  }

  /** A gobgpd of ours with nothing but its server. */
  async fresh(server: BgpServer = SERVER): Promise<void> {
    await this.empty();
    await this.speaker.startServer(server, never);
  }

  /** A gobgpd of ours that was told nothing yet. */
  async empty(): Promise<void> {
    const ours = new Gobgpd();
    this.#ours = ours;
    this.#endings.push(() => ours.end());
    await ours.start();
    const speaker = gobgpV3({ endpoint: ours.endpoint, clock: systemClock() });
    this.#speaker = speaker;
    this.#endings.push(() => speaker.close());
  }

  async neighbor(at: string, overrides: Partial<NeighborSettings> = {}): Promise<Gobgpd> {
    const made = new Gobgpd();
    this.#endings.push(() => made.end());
    await made.start(configured(at, overrides));
    return made;
  }

  async end(): Promise<void> {
    for (const end of this.#endings.splice(0).reverse()) await end();
  }

  established(at: string, limitMs = 25_000): Promise<unknown> {
    const isUp = async (): Promise<boolean> => {
      const peers = await this.speaker.peerStatus(never);
      return peers.some(each => each.address === at && each.state === 'established');
    };
    return until(`a session with ${at}`, isUp, Boolean, limitMs);
  }

  /** When the session came up, as gobgpd says. */
  async uptimeOf(at: string): Promise<string> {
    const found = JSON.parse(await this.ours.cli('neighbor', at, '-j')) as { timers: { state: { uptime: { seconds: number } } } };
    return String(found.timers.state.uptime.seconds);
  }

  async prefixesOf(neighbor: Gobgpd, family: IpFamily = 'ipv4'): Promise<string> {
    return Object.keys(await neighbor.rib(family))
      .sort()
      .join(' ');
  }

  told(neighbor: Gobgpd, expected: string, family: IpFamily = 'ipv4', limitMs = 3_000): Promise<string> {
    const look = (): Promise<string> => this.prefixesOf(neighbor, family);
    return until(`the neighbour has ${expected || 'nothing'}`, look, seen => seen === expected, limitMs);
  }
}
