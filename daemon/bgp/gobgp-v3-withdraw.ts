/**
 * What a new export policy no longer lets by is withdrawn here: GoBGP 3.10 tells neighbours of what is accepted, but not of what no longer is, neither at a
 * soft reset nor when they ask for a refresh. A path made here is taken back and made again, which tells all neighbours that it is gone and those that
 * may hear of it that it is there. What others told us we cannot take back: the session with a neighbour that knows such a path begins anew.
 */
import type { IpAddress } from '../net/address.ts';
import { parseAddress } from '../net/address.ts';
import type { BgpPolicy } from '../reconcile/routing-tables.ts';
import type { GobgpCalls } from './gobgp-v3-calls.ts';
import { familyToApi } from './gobgp-v3-family.ts';
import { bestFactsOf, type RouteFacts } from './gobgp-v3-path.ts';
import { restated } from './gobgp-v3-peer.ts';
import { accepts, asksForPrefix } from './policy-verdict.ts';
import {
  AddPathStreamRequest,
  ListPathRequest,
  ListPeerRequest,
  type Path,
  type Peer,
  PeerState_SessionState,
  PeerType,
} from './proto/gobgp.ts';

/** Paths in one message. */
const CHUNK = 1_000;

interface Neighbor {
  readonly address: IpAddress;
  readonly isInternal: boolean;
  readonly isClient: boolean;
  readonly peer: Peer;
}

export interface PolicyChange {
  /** Any of them may have been in force when neighbours were told what they know. */
  readonly before: readonly BgpPolicy[];
  /** Undefined where nothing is told any more. */
  readonly after: BgpPolicy | undefined;
}

export async function withdrawRejected(
  calls: GobgpCalls,
  change: PolicyChange,
  ownAsn: number,
  signal: AbortSignal,
): Promise<void> {
  if (change.before.length === 0) return;
  const neighbors = await establishedNeighbors(calls, signal);
  if (neighbors.length === 0) return;
  const routes = await bestRoutes(calls, ownAsn, signal);
  const losersOf = loserFinder(change, neighbors);
  const lost = routes.map(route => ({ route, losers: losersOf(route).filter(neighbor => wasTold(neighbor, route, neighbors)) }));
  await remake(
    calls,
    lost.filter(({ route, losers }) => route.origin === 'local' && losers.length > 0).map(({ route }) => route.path),
    signal,
  );
  const begunAnew = new Set(lost.flatMap(({ route, losers }) => (route.origin === 'local' ? [] : losers)));
  for (const { address, peer } of begunAnew) {
    const what = `peer ${address}`;
    await calls.unary(what, (api, ...rest) => api.deletePeer({ address, interface: '' }, ...rest), signal);
    await calls.unary(what, (api, ...rest) => api.addPeer({ peer: restated(peer, undefined) }, ...rest), signal);
  }
}

async function establishedNeighbors(calls: GobgpCalls, signal: AbortSignal): Promise<readonly Neighbor[]> {
  const answer = await calls.list('its peers', (api, options) => api.listPeer(ListPeerRequest.fromPartial({}), options), signal);
  return answer.flatMap(({ peer }) => {
    const address = parseAddress(peer?.conf?.neighborAddress ?? '');
    if (peer === undefined || address === undefined) return [];
    if (peer.state?.sessionState !== PeerState_SessionState.ESTABLISHED) return [];
    const isClient = peer.routeReflector?.routeReflectorClient === true;
    return [{ address, isInternal: peer.conf?.type === PeerType.INTERNAL, isClient, peer }];
  });
}

async function bestRoutes(calls: GobgpCalls, ownAsn: number, signal: AbortSignal): Promise<readonly RouteFacts[]> {
  const routes: RouteFacts[] = [];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const request = ListPathRequest.fromPartial({ family: familyToApi(family) });
    const answer = await calls.list('its routes', (api, options) => api.listPath(request, options), signal);
    for (const { destination } of answer) {
      const facts = destination === undefined ? undefined : bestFactsOf(destination, ownAsn);
      if (facts !== undefined) routes.push(facts);
    }
  }
  return routes;
}

/** Who was let hear of a route and no longer is. Routes that no statement tells apart are looked at once. */
function loserFinder(
  { before, after }: PolicyChange,
  neighbors: readonly Neighbor[],
): (route: RouteFacts) => readonly Neighbor[] {
  const known = new Map<string, readonly Neighbor[]>();
  const hasPrefixes = [...before, ...(after === undefined ? [] : [after])].some(asksForPrefix);
  return route => {
    const kind = `${route.origin} ${route.audience ?? ''} ${hasPrefixes ? route.prefix : ''}`;
    const found =
      known.get(kind) ??
      neighbors.filter(
        ({ address }) =>
          before.some(policy => accepts(policy, address, route)) && !(after !== undefined && accepts(after, address, route)),
      );
    known.set(kind, found);
    return found;
  };
}

/** Nobody hears from us what it told us itself, nor what one internal neighbour told us another but by reflection (RFC 4456). */
function wasTold(neighbor: Neighbor, route: RouteFacts, neighbors: readonly Neighbor[]): boolean {
  if (route.neighbor === neighbor.address) return false;
  if (route.origin !== 'internal' || !neighbor.isInternal || neighbor.isClient) return true;
  return neighbors.some(({ address, isClient }) => address === route.neighbor && isClient);
}

async function remake(calls: GobgpCalls, paths: readonly Path[], signal: AbortSignal): Promise<void> {
  const requests: AddPathStreamRequest[] = [];
  for (let start = 0; start < paths.length; start += CHUNK) {
    const again = paths.slice(start, start + CHUNK).map(({ family, nlri, pattrs }) => ({ family, nlri, pattrs }));
    const gone = again.map(path => ({ ...path, isWithdraw: true }));
    requests.push(AddPathStreamRequest.fromPartial({ paths: [...gone, ...again] }));
  }
  if (requests.length > 0) await calls.send('paths made anew', (api, ...rest) => api.addPathStream(...rest), requests, signal);
}
