/** A neighbour as GoBGP 3 has it. */
import { type Family, familyOf, type IpAddress, mustParseAddress, parseAddress } from '../net/address.ts';
import { Secret } from '../net/secret.ts';
import type { BgpPeer, GracefulRestart as BgpRestart } from '../reconcile/routing-tables.ts';
import { familyOfApi, familyToApi } from './gobgp-v3-family.ts';
import { type AfiSafi, type GracefulRestart as ApiRestart, Peer, PeerState_SessionState, TimersConfig } from './proto/gobgp.ts';
import type { AddPeerOptions, PeerStatus, SessionState } from './speaker.ts';

/** Seconds between two tries to connect; five is GoBGP's least, and it waits up to as much again. */
const CONNECT_RETRY_SECONDS = 5;

/** What GoBGP says where no local address was asked for. */
const UNSPECIFIED: Readonly<Record<Family, IpAddress>> = { ipv4: mustParseAddress('0.0.0.0'), ipv6: mustParseAddress('::') };

/** Milliseconds after which a neighbour that does not mark the end of its routes is taken to have told all. */
const QUIET_MS = 3_000;

/**
 * What a neighbour's description begins with where it is ours. GoBGP says of a session that is up the address it has, of a deferral time the one that
 * runs, and `UpdatePeer` sees no change of hop limit or cluster: what was asked for stands in the description.
 */
const OURS = 'fairway';

export interface PeerTimes {
  /** Seconds that we tell nothing after a restart until all neighbours have told all they know; see `gobgp-v3-restart.ts`. */
  readonly deferralSeconds: number;
}

export function peerToApi(peer: BgpPeer, { isRestarting }: AddPeerOptions, { deferralSeconds }: PeerTimes): Peer {
  const { gracefulRestart } = peer;
  const hasRestart = gracefulRestart !== undefined;
  return Peer.fromPartial({
    conf: {
      neighborAddress: peer.address,
      peerAsn: peer.asn,
      authPassword: peer.password.reveal(),
      description: descriptionOf(peer),
    },
    timers: { config: timersOf(peer) },
    transport: { localAddress: peer.localAddress ?? UNSPECIFIED[familyOf(peer.address)], remotePort: peer.port },
    ebgpMultihop: { enabled: peer.multihopTtl > 0, multihopTtl: peer.multihopTtl },
    routeReflector: {
      routeReflectorClient: peer.reflectorClusterId !== undefined,
      routeReflectorClusterId: peer.reflectorClusterId ?? '',
    },
    gracefulRestart: {
      enabled: hasRestart,
      // 0 stands for the hold time.
      restartTime: hasRestart ? Math.max(1, gracefulRestart.restartSeconds) : 0,
      deferralTime: hasRestart ? deferralSeconds : 0,
      localRestarting: hasRestart && isRestarting,
    },
    // Without them GoBGP enables the family of the session alone.
    afiSafis: peer.families.map(family => ({
      config: { family: familyToApi(family), enabled: true },
      mpGracefulRestart: { config: { enabled: hasRestart } },
    })),
  });
}

/** What GoBGP has of a neighbour, to be given back to it: without its state, but for other timers where given. */
export function restated(found: Peer, peer: BgpPeer | undefined): Peer {
  const { transport, timers, gracefulRestart, afiSafis } = found;
  const family = familyOf(parseAddress(found.conf?.neighborAddress ?? '') ?? UNSPECIFIED.ipv4);
  const localAddress = notedOf(found)?.get('local') ?? UNSPECIFIED[family];
  return Peer.fromPartial({
    ...found,
    state: undefined,
    timers: { config: peer === undefined ? timers?.config : timersOf(peer) },
    transport: { ...transport, localAddress },
    gracefulRestart: { ...gracefulRestart, localRestarting: false },
    afiSafis: afiSafis.map(({ config, addPaths, mpGracefulRestart }) => ({
      config,
      addPaths: { config: addPaths?.config },
      mpGracefulRestart: { config: mpGracefulRestart?.config },
    })),
  });
}

/** Undefined for one that others have added. */
export function peerOfApi(peer: Peer): BgpPeer | undefined {
  const { conf, timers, transport, ebgpMultihop, routeReflector, gracefulRestart, afiSafis } = peer;
  const address = parseAddress(conf?.neighborAddress ?? '');
  const noted = notedOf(peer);
  if (address === undefined || noted === undefined) return undefined;
  const restart = gracefulRestart?.enabled === true ? gracefulRestart : undefined;
  return {
    address,
    asn: conf?.peerAsn ?? 0,
    localAddress: noted.has('local') ? parseAddress(transport?.localAddress ?? '') : undefined,
    port: transport?.remotePort ?? 0,
    password: new Secret(conf?.authPassword ?? ''),
    holdSeconds: timers?.config?.holdTime ?? 0,
    multihopTtl: ebgpMultihop?.enabled === true ? ebgpMultihop.multihopTtl : 0,
    families: familiesOf(afiSafis),
    gracefulRestart: restart === undefined ? undefined : restartOf(restart, noted),
    reflectorClusterId:
      routeReflector?.routeReflectorClient === true ? parseAddress(routeReflector.routeReflectorClusterId) : undefined,
  };
}

function restartOf({ restartTime, deferralTime }: ApiRestart, noted: ReadonlyMap<string, string>): BgpRestart {
  return {
    restartSeconds: Number(noted.get('restart') ?? restartTime),
    deferralSeconds: Number(noted.get('deferral') ?? deferralTime),
  };
}

/** Whether the session can go on with the new settings: only its times differ, which count from the next OPEN. */
export function differsInTimes(from: BgpPeer, to: BgpPeer): boolean {
  const text = (peer: BgpPeer): string =>
    JSON.stringify([peer.asn, peer.port, peer.password.reveal(), peer.families, peer.gracefulRestart, descriptionOf(peer)]);
  return from.holdSeconds !== to.holdSeconds && text(from) === text(to);
}

function descriptionOf({ localAddress, multihopTtl, reflectorClusterId, gracefulRestart }: BgpPeer): string {
  const noted = [
    ['local', localAddress],
    ['ttl', multihopTtl === 0 ? undefined : multihopTtl],
    ['cluster', reflectorClusterId],
    ['restart', gracefulRestart?.restartSeconds],
    ['deferral', gracefulRestart?.deferralSeconds],
  ] as const;
  return [OURS, ...noted.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))].join(' ');
}

/** Undefined where the description is not ours. */
function notedOf({ conf }: Peer): ReadonlyMap<string, string> | undefined {
  const [first, ...rest] = (conf?.description ?? '').split(' ');
  if (first !== OURS) return undefined;
  return new Map(rest.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
}

function timersOf({ holdSeconds }: BgpPeer): TimersConfig {
  return TimersConfig.fromPartial({
    holdTime: holdSeconds,
    keepaliveInterval: Math.max(1, Math.floor(holdSeconds / 3)),
    connectRetry: CONNECT_RETRY_SECONDS,
  });
}

function familiesOf(afiSafis: readonly AfiSafi[]): readonly Family[] {
  const families = afiSafis.flatMap(({ config }) => familyOfApi(config?.family) ?? []);
  return (['ipv4', 'ipv6'] as const).filter(family => families.includes(family));
}

const STATES: Readonly<Record<number, SessionState>> = {
  [PeerState_SessionState.CONNECT]: 'connect',
  [PeerState_SessionState.ACTIVE]: 'active',
  [PeerState_SessionState.OPENSENT]: 'opensent',
  [PeerState_SessionState.OPENCONFIRM]: 'openconfirm',
  [PeerState_SessionState.ESTABLISHED]: 'established',
};

/** `now` in milliseconds since the epoch. */
export function statusOfApi(peer: Peer, now: number): PeerStatus | undefined {
  const address = parseAddress(peer.conf?.neighborAddress ?? '');
  if (address === undefined) return undefined;
  const state = STATES[peer.state?.sessionState ?? 0] ?? 'idle';
  return {
    address,
    asn: peer.state?.peerAsn ?? peer.conf?.peerAsn ?? 0,
    state,
    isComplete: state === 'established' && hasToldAll(peer, now),
    received: peer.afiSafis.reduce((total, { state: family }) => total + (family?.accepted ?? 0), 0),
    advertised: state === 'established' ? peer.afiSafis.reduce((total, family) => total + advertisedOf(family), 0) : 0,
  };
}

/** GoBGP counts the End-of-RIB marker among the paths. */
function advertisedOf({ state, mpGracefulRestart }: AfiSafi): number {
  const marker = mpGracefulRestart?.state?.received === true ? 1 : 0;
  return Math.max(0, (state?.advertised ?? 0) - marker);
}

function hasToldAll({ afiSafis, timers }: Peer, now: number): boolean {
  const marked = afiSafis.flatMap(({ mpGracefulRestart }) => mpGracefulRestart?.state ?? []).filter(({ received }) => received);
  if (marked.length > 0) return marked.every(({ endOfRibReceived }) => endOfRibReceived);
  const uptime = timers?.state?.uptime?.getTime();
  return uptime !== undefined && now - uptime >= QUIET_MS;
}
