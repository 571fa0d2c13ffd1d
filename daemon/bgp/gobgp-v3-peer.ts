/** A neighbour as GoBGP 3 has it. */
import { addressOfBytes, bytesOf, type Family, type IpAddress, parseAddress } from '../net/address.ts';
import { Secret } from '../net/secret.ts';
import type { BgpPeer } from '../reconcile/routing-tables.ts';
import { familyOfApi, familyToApi } from './gobgp-v3-family.ts';
import { type AfiSafi, Peer, PeerState_SessionState } from './proto/gobgp.ts';
import type { AddPeerOptions, PeerStatus, SessionState } from './speaker.ts';

/** Seconds between two tries to connect; five is GoBGP's least, and it waits up to as much again. */
const CONNECT_RETRY_SECONDS = 5;

/** Milliseconds after which a neighbour that does not mark the end of its routes is taken to have told all. */
const QUIET_MS = 3_000;

/**
 * `localRestarting` defers what we tell until every neighbour has marked the end of its routes, or the deferral time is over, which counts from the
 * start of each session by itself: a neighbour that is dead delays the others by that at most.
 */
export function peerToApi(peer: BgpPeer, { isRestarting }: AddPeerOptions): Peer {
  const { gracefulRestart } = peer;
  const hasRestart = gracefulRestart !== undefined;
  return Peer.fromPartial({
    conf: { neighborAddress: peer.address, peerAsn: peer.asn, authPassword: peer.password.reveal() },
    timers: {
      config: {
        holdTime: peer.holdSeconds,
        keepaliveInterval: Math.max(1, Math.floor(peer.holdSeconds / 3)),
        connectRetry: CONNECT_RETRY_SECONDS,
      },
    },
    transport: { localAddress: peer.localAddress ?? '', remotePort: peer.port },
    ebgpMultihop: { enabled: peer.multihopTtl > 0, multihopTtl: peer.multihopTtl },
    routeReflector: {
      routeReflectorClient: peer.reflectorClusterId !== undefined,
      routeReflectorClusterId: peer.reflectorClusterId ?? '',
    },
    gracefulRestart: {
      enabled: hasRestart,
      restartTime: gracefulRestart?.restartSeconds ?? 0,
      deferralTime: gracefulRestart?.deferralSeconds ?? 0,
      localRestarting: hasRestart && isRestarting,
    },
    // Without them GoBGP enables the family of the session alone.
    afiSafis: peer.families.map(family => ({
      config: { family: familyToApi(family), enabled: true },
      mpGracefulRestart: { config: { enabled: hasRestart } },
    })),
  });
}

/** Undefined for one that is not addressed by an IP address: not ours. */
export function peerOfApi(peer: Peer): BgpPeer | undefined {
  const { conf, timers, transport, ebgpMultihop, routeReflector, gracefulRestart, afiSafis } = peer;
  const address = parseAddress(conf?.neighborAddress ?? '');
  if (address === undefined) return undefined;
  const restart = gracefulRestart?.enabled === true ? gracefulRestart : undefined;
  return {
    address,
    asn: conf?.peerAsn ?? 0,
    localAddress: localAddressOf(transport?.localAddress ?? ''),
    port: transport?.remotePort ?? 0,
    password: new Secret(conf?.authPassword ?? ''),
    holdSeconds: timers?.config?.holdTime ?? 0,
    multihopTtl: ebgpMultihop?.enabled === true ? ebgpMultihop.multihopTtl : 0,
    families: familiesOf(afiSafis),
    gracefulRestart:
      restart === undefined ? undefined : { restartSeconds: restart.restartTime, deferralSeconds: restart.deferralTime },
    reflectorClusterId:
      routeReflector?.routeReflectorClient === true ? clusterIdOf(routeReflector.routeReflectorClusterId) : undefined,
  };
}

/** Where none was asked for GoBGP says the unspecified address. */
function localAddressOf(text: string): IpAddress | undefined {
  const address = parseAddress(text);
  return address === '0.0.0.0' || address === '::' ? undefined : address;
}

function familiesOf(afiSafis: readonly AfiSafi[]): readonly Family[] {
  const families = afiSafis.flatMap(({ config }) => familyOfApi(config?.family) ?? []);
  return (['ipv4', 'ipv6'] as const).filter(family => families.includes(family));
}

/** A dotted quad, or the number it stands for. */
function clusterIdOf(text: string): IpAddress | undefined {
  const address = parseAddress(text);
  if (address !== undefined || !/^[0-9]+$/.test(text))
    return address === undefined ? undefined : addressOfBytes(bytesOf(address));
  const number = Number(text);
  return addressOfBytes(Uint8Array.from([number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255]));
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
  const sum = (of: 'accepted' | 'advertised'): number =>
    peer.afiSafis.reduce((total, { state: family }) => total + (family?.[of] ?? 0), 0);
  return {
    address,
    asn: peer.state?.peerAsn ?? peer.conf?.peerAsn ?? 0,
    state,
    isComplete: state === 'established' && hasToldAll(peer, now),
    received: sum('accepted'),
    advertised: sum('advertised'),
  };
}

function hasToldAll({ afiSafis, timers }: Peer, now: number): boolean {
  const marked = afiSafis.flatMap(({ mpGracefulRestart }) => mpGracefulRestart?.state ?? []).filter(({ received }) => received);
  if (marked.length > 0) return marked.every(({ endOfRibReceived }) => endOfRibReceived);
  const uptime = timers?.state?.uptime?.getTime();
  return uptime !== undefined && now - uptime >= QUIET_MS;
}
