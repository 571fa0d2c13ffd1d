/** The speaker behind the API of GoBGP 3 (`apipb.GobgpApi`). */
import { FairwayError } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { type IpPrefix, prefixFamily } from '../net/prefix.ts';
import type { BgpPath, BgpPeer, BgpPolicy, BgpServer } from '../reconcile/routing-tables.ts';
import { GobgpCalls } from './gobgp-v3-calls.ts';
import { familyToApi } from './gobgp-v3-family.ts';
import { bestPathsOf, localPathOfApi, pathToApi, prefixOfApi, withdrawalToApi } from './gobgp-v3-path.ts';
import { peerOfApi, peerToApi, statusOfApi } from './gobgp-v3-peer.ts';
import {
  AUDIENCE_SETS,
  directionToApi,
  policyNumber,
  policyOfApi,
  policyToApi,
  sameConditions,
  verdictToApi,
} from './gobgp-v3-policy.ts';
import {
  type DefinedSet,
  DefinedType,
  type Destination,
  type ListDefinedSetResponse,
  type Path,
  type Policy,
  type PolicyAssignment,
  ResetPeerRequest_SoftResetDirection,
  RouteAction,
  TableLookupPrefix_Type,
  TableType,
  WatchEventRequest_Table_Filter_Type,
  type WatchEventResponse,
} from './proto/gobgp.ts';
import type { AddPeerOptions, BestPath, PeerStatus, Speaker, SpeakerEvents } from './speaker.ts';

export interface GobgpV3Options {
  /** `unix:///PATH`, `unix:PATH` or `HOST:PORT`. */
  readonly endpoint: string;
  /** Milliseconds since the epoch, by the clock that gobgpd has too. */
  readonly now: () => number;
}

/** All neighbours that have no policy of their own; the name is GoBGP's. */
const EVERYONE = 'global';
const ALL_PEERS = '';
/** Paths in one message. */
const PATHS_A_MESSAGE = 500;
/** Prefixes asked for in one call. */
const PREFIXES_A_CALL = 500;
/** No listener at all. */
const NO_PORT = -1;

export function gobgpV3(options: GobgpV3Options): Speaker {
  return new GobgpV3(new GobgpCalls(options));
}

class GobgpV3 implements Speaker {
  readonly #calls: GobgpCalls;

  constructor(calls: GobgpCalls) {
    this.#calls = calls;
  }

  async server(signal: AbortSignal): Promise<BgpServer | undefined> {
    const { global } = await this.#calls.unary('to be asked', this.#calls.api.getBgp, {}, signal);
    // Before it is started it has no AS number.
    const routerId = parseAddress(global?.routerId ?? '');
    if (global === undefined || global.asn === 0 || routerId === undefined) return undefined;
    const isListening = global.listenPort !== NO_PORT;
    return {
      asn: global.asn,
      routerId,
      port: isListening ? global.listenPort : 0,
      listenAddresses: isListening ? global.listenAddresses.flatMap(text => parseAddress(text) ?? []).sort() : [],
    };
  }

  async startServer({ asn, routerId, port, listenAddresses }: BgpServer, signal: AbortSignal): Promise<void> {
    const global = {
      asn,
      routerId,
      listenPort: listenAddresses.length === 0 ? NO_PORT : port,
      listenAddresses: [...listenAddresses],
      useMultiplePaths: true,
      families: [],
      routeSelectionOptions: undefined,
      defaultRouteDistance: undefined,
      confederation: undefined,
      gracefulRestart: undefined,
      applyPolicy: undefined,
      bindToDevice: '',
    };
    await this.#calls.unary(`BGP of AS ${asn}, router id ${routerId}`, this.#calls.api.startBgp, { global }, signal);
  }

  async stopServer(signal: AbortSignal): Promise<void> {
    await this.#calls.unary('to stop BGP', this.#calls.api.stopBgp, {}, signal);
  }

  async peers(signal: AbortSignal): Promise<readonly BgpPeer[]> {
    const found = await this.#listPeers(signal);
    return found.flatMap(({ peer }) => (peer === undefined ? [] : (peerOfApi(peer) ?? [])));
  }

  async peerStatus(signal: AbortSignal): Promise<readonly PeerStatus[]> {
    const found = await this.#listPeers(signal);
    return found.flatMap(({ peer }) => (peer === undefined ? [] : (statusOfApi(peer, this.#calls.now) ?? [])));
  }

  #listPeers(signal: AbortSignal) {
    return this.#calls.list('to list peers', this.#calls.api.listPeer, { address: '', enableAdvertised: false }, signal);
  }

  async addPeer(peer: BgpPeer, options: AddPeerOptions, signal: AbortSignal): Promise<void> {
    await this.#calls.unary(`peer ${peer.address}`, this.#calls.api.addPeer, { peer: peerToApi(peer, options) }, signal);
  }

  /** Everything that identifies a session or is said in its OPEN wants a new one; nothing else changes. */
  async updatePeer(_from: BgpPeer, to: BgpPeer, signal: AbortSignal): Promise<void> {
    await this.deletePeer(to.address, signal);
    await this.addPeer(to, { isRestarting: false }, signal);
  }

  async deletePeer(address: IpAddress, signal: AbortSignal): Promise<void> {
    await this.#calls.unary(`to delete peer ${address}`, this.#calls.api.deletePeer, { address, interface: '' }, signal);
  }

  async policies(signal: AbortSignal): Promise<readonly BgpPolicy[]> {
    const sets = await this.#sets(signal);
    const found = await Promise.all(DIRECTIONS.map(direction => this.#policy(direction, sets, signal)));
    return found.filter(policy => policy !== undefined);
  }

  async #policy(
    direction: BgpPolicy['direction'],
    sets: ReadonlyMap<string, DefinedSet>,
    signal: AbortSignal,
  ): Promise<BgpPolicy | undefined> {
    const assignment = await this.#assignment(direction, signal);
    const [policy, ...others] = assignment?.policies ?? [];
    // Together with one of someone else's it is not ours that is in force.
    if (assignment === undefined || policy === undefined || others.length > 0) return undefined;
    if (policyNumber(direction, policy.name) === undefined) return undefined;
    return policyOfApi(direction, policy, sets, assignment.defaultAction);
  }

  async setPolicy(policy: BgpPolicy, signal: AbortSignal): Promise<void> {
    const { direction, otherwise } = policy;
    const former = await this.#policy(direction, await this.#sets(signal), signal);
    const olds = await this.#ownPolicies(direction, signal);
    const number = Math.max(0, ...olds.map(({ name }) => policyNumber(direction, name) ?? 0)) + 1;
    const { policy: next, sets } = policyToApi(policy, number);
    const { api } = this.#calls;
    // Adding to a set that is there appends to it, and changes nothing where all is in it.
    for (const set of [...AUDIENCE_SETS, ...sets])
      await this.#calls.unary(`set ${set.name}`, api.addDefinedSet, { definedSet: set }, signal);
    await this.#calls.unary(`policy ${next.name}`, api.addPolicy, { policy: next, referExistingStatements: false }, signal);
    await this.#assign(direction, [next.name], verdictToApi(otherwise), signal);
    for (const old of olds) await this.#discard(old, signal);
    await this.#enforce(direction, former !== undefined && !sameConditions(former, policy), signal);
  }

  /** Nothing is told to anyone any more, and all is taken in. */
  async deletePolicy(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<void> {
    await this.#assign(direction, [], direction === 'export' ? RouteAction.REJECT : RouteAction.ACCEPT, signal);
    for (const old of await this.#ownPolicies(direction, signal)) await this.#discard(old, signal);
    await this.#enforce(direction, true, signal);
  }

  /**
   * A soft reset looks at everything again; but what was told and may not be told any more, a soft reset out of this version does not take back. Withdrawing a
   * path and telling it again does: neighbours that may still hear of it see it go and come within a moment.
   */
  async #enforce(direction: BgpPolicy['direction'], mayBeLess: boolean, signal: AbortSignal): Promise<void> {
    if (direction === 'export' && mayBeLess) {
      const paths = await this.localPaths(signal);
      await this.#send(
        paths.flatMap(path => [withdrawalToApi(path.prefix), pathToApi(path)]),
        signal,
      );
    }
    const { IN, OUT } = ResetPeerRequest_SoftResetDirection;
    const request = { address: ALL_PEERS, communication: '', soft: true, direction: direction === 'import' ? IN : OUT };
    await this.#calls.unary('to look at all routes again', this.#calls.api.resetPeer, request, signal);
  }

  async #assignment(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<PolicyAssignment | undefined> {
    const request = { name: EVERYONE, direction: directionToApi(direction) };
    const found = await this.#calls.list('to list assignments', this.#calls.api.listPolicyAssignment, request, signal);
    return found.map(({ assignment }) => assignment).find(assignment => assignment?.name === EVERYONE);
  }

  async #assign(
    direction: BgpPolicy['direction'],
    names: readonly string[],
    defaultAction: RouteAction,
    signal: AbortSignal,
  ): Promise<void> {
    const assignment = {
      name: EVERYONE,
      direction: directionToApi(direction),
      policies: names.map(name => ({ name, statements: [] })),
      defaultAction,
    };
    await this.#calls.unary(`the ${direction} policy`, this.#calls.api.setPolicyAssignment, { assignment }, signal);
  }

  async #ownPolicies(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<readonly Policy[]> {
    const found = await this.#calls.list('to list policies', this.#calls.api.listPolicy, { name: '' }, signal);
    return found.flatMap(({ policy }) =>
      policy !== undefined && policyNumber(direction, policy.name) !== undefined ? [policy] : [],
    );
  }

  /** The policy with its statements, then the sets that only they used. */
  async #discard(policy: Policy, signal: AbortSignal): Promise<void> {
    const { api } = this.#calls;
    const name = policy.name;
    await this.#calls.unary(
      `to delete policy ${name}`,
      api.deletePolicy,
      { policy: { name, statements: [] }, preserveStatements: false, all: true },
      signal,
    );
    for (const set of (await this.#sets(signal)).values()) {
      if (!set.name.startsWith(`${name}-`)) continue;
      await this.#calls.unary(`to delete set ${set.name}`, api.deleteDefinedSet, { definedSet: set, all: true }, signal);
    }
  }

  async #sets(signal: AbortSignal): Promise<ReadonlyMap<string, DefinedSet>> {
    const types = [DefinedType.PREFIX, DefinedType.NEIGHBOR];
    const found = await Promise.all(types.map(definedType => this.#setsOf(definedType, signal)));
    return new Map(found.flat().flatMap(({ definedSet }) => (definedSet === undefined ? [] : [[definedSet.name, definedSet]])));
  }

  /** Before there was a set of a type, the type is refused. */
  #setsOf(definedType: DefinedType, signal: AbortSignal): Promise<readonly ListDefinedSetResponse[]> {
    return unlessRefused('invalid defined-set type', () =>
      this.#calls.list('to list sets', this.#calls.api.listDefinedSet, { definedType, name: '' }, signal),
    );
  }

  async localPaths(signal: AbortSignal): Promise<readonly BgpPath[]> {
    const destinations = await this.#destinations('all', signal);
    return destinations.flatMap(({ paths }) => paths.flatMap(path => localPathOfApi(path) ?? []));
  }

  addPaths(paths: readonly BgpPath[], signal: AbortSignal): Promise<void> {
    return this.#send(paths.map(pathToApi), signal);
  }

  deletePaths(prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<void> {
    return this.#send(prefixes.map(withdrawalToApi), signal);
  }

  async #send(paths: readonly Path[], signal: AbortSignal): Promise<void> {
    if (paths.length === 0) return;
    const requests = Array.from({ length: Math.ceil(paths.length / PATHS_A_MESSAGE) }, (_, index) => ({
      tableType: TableType.GLOBAL,
      vrfId: '',
      paths: paths.slice(index * PATHS_A_MESSAGE, (index + 1) * PATHS_A_MESSAGE),
    }));
    const what = `${paths.length} paths, ${shownPrefix(paths[0])} the first`;
    await this.#calls.send(what, callback => this.#calls.api.addPathStream(callback), requests, signal);
  }

  async bestPaths(prefixes: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<readonly BestPath[]> {
    const [server, destinations] = await Promise.all([this.server(signal), this.#destinations(prefixes, signal)]);
    return destinations.flatMap(destination => bestPathsOf(destination, server?.asn ?? 0));
  }

  async #destinations(prefixes: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<readonly Destination[]> {
    const found: Destination[] = [];
    for (const family of ['ipv4', 'ipv6'] as const) {
      const wanted = prefixes === 'all' ? [] : prefixes.filter(prefix => prefixFamily(prefix) === family);
      if (prefixes !== 'all' && wanted.length === 0) continue;
      for (let start = 0; start === 0 || start < wanted.length; start += PREFIXES_A_CALL) {
        const asked = wanted.slice(start, start + PREFIXES_A_CALL);
        found.push(...(await this.#listPaths(family, asked, signal)));
      }
    }
    return found;
  }

  async #listPaths(family: 'ipv4' | 'ipv6', prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<readonly Destination[]> {
    const request = {
      tableType: TableType.GLOBAL,
      name: '',
      family: familyToApi(family),
      prefixes: prefixes.map(prefix => ({ prefix, type: TableLookupPrefix_Type.EXACT })),
      sortType: 0,
      enableFiltered: false,
      enableNlriBinary: false,
      enableAttributeBinary: false,
      enableOnlyBinary: false,
    } as const;
    // A server that is not started has none.
    const answers = await unlessRefused("bgp server hasn't started yet", () =>
      this.#calls.list('to list paths', this.#calls.api.listPath, { ...request, prefixes: [...request.prefixes] }, signal),
    );
    return answers.flatMap(({ destination }) => destination ?? []);
  }

  /** Until the signal is aborted; a stream that ends by itself is a speaker that is lost. */
  async watch(events: SpeakerEvents, signal: AbortSignal): Promise<void> {
    const request = {
      peer: {},
      table: { filters: [{ type: WatchEventRequest_Table_Filter_Type.BEST, init: false }] },
    };
    const onItem = (response: WatchEventResponse): void => {
      tell(response, events);
    };
    await this.#calls.stream('to be watched', this.#calls.api.watchEvent, request, onItem, signal);
    if (!signal.aborted) throw new FairwayError('FW_BGP_UNREACHABLE', 'gobgpd ended the stream of events');
  }

  close(): void {
    this.#calls.close();
  }
}

const DIRECTIONS: readonly BgpPolicy['direction'][] = ['import', 'export'];

/** What is listed; nothing where the refusal only says that there is nothing yet. */
async function unlessRefused<R>(saying: string, list: () => Promise<readonly R[]>): Promise<readonly R[]> {
  try {
    return await list();
  } catch (thrown) {
    if (thrown instanceof FairwayError && thrown.message.includes(saying)) return [];
    throw thrown;
  }
}

function tell({ event }: WatchEventResponse, events: SpeakerEvents): void {
  if (event?.$case === 'table') {
    const prefixes = new Set(event.value.paths.flatMap(path => prefixOfApi(path) ?? []));
    if (prefixes.size > 0) events.changed(prefixes);
  } else if (event?.$case === 'peer') {
    // The end of the initial list is told with the address '<nil>'.
    const address = parseAddress(event.value.peer?.state?.neighborAddress ?? '');
    if (address !== undefined) events.session(address);
  }
}

function shownPrefix(path: Path | undefined): string {
  const prefix = path === undefined ? undefined : prefixOfApi(path);
  return prefix ?? 'an unknown one';
}
