/** GoBGP 3.x as a {@link Speaker}. */
import { FairwayError } from '../errors.ts';
import { type Family, type IpAddress, parseAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { type IpPrefix, prefixFamily } from '../net/prefix.ts';
import { wallNow } from '../net/wall-clock.ts';
import type { BgpPath, BgpPeer, BgpPolicy, BgpServer } from '../reconcile/routing-tables.ts';
import { GobgpCalls, isNotStarted } from './gobgp-v3-calls.ts';
import { familyToApi } from './gobgp-v3-family.ts';
import { bestPathsOf, localPathOfApi, pathToApi, prefixOfApi, withdrawalToApi } from './gobgp-v3-path.ts';
import { differsInTimes, peerOfApi, peerToApi, restated, statusOfApi } from './gobgp-v3-peer.ts';
import { GobgpPolicies } from './gobgp-v3-policies.ts';
import { deferralSeconds } from './gobgp-v3-restart.ts';
import {
  AddPathStreamRequest,
  type Destination,
  Global,
  ListPathRequest,
  type Path,
  type Peer,
  TableLookupPrefix_Type,
  WatchEventRequest,
  WatchEventRequest_Table_Filter_Type,
  type WatchEventResponse,
} from './proto/gobgp.ts';
import type { AddPeerOptions, BestPath, PeerStatus, Speaker, SpeakerEvents } from './speaker.ts';

export interface GobgpOptions {
  /** `unix:///PATH`, `unix:PATH` or `HOST:PORT`. */
  readonly endpoint: string;
  readonly clock: Clock;
}

/** Paths in one message. */
const CHUNK = 1_000;
const FAMILIES = ['ipv4', 'ipv6'] as const;

export function gobgpV3(options: GobgpOptions): Speaker {
  return new GobgpV3(new GobgpCalls(options));
}

class GobgpV3 implements Speaker {
  readonly #calls: GobgpCalls;
  readonly #policies: GobgpPolicies;

  constructor(calls: GobgpCalls) {
    this.#calls = calls;
    this.#policies = new GobgpPolicies(calls);
  }

  async server(signal: AbortSignal): Promise<BgpServer | undefined> {
    const { asn, routerId, listenPort, listenAddresses } = await this.#global(signal);
    const address = parseAddress(routerId);
    if (asn === 0 || address === undefined) return undefined;
    return {
      asn,
      routerId: address,
      port: Math.abs(listenPort),
      listenAddresses: listenPort < 0 ? [] : listenAddresses.flatMap(text => parseAddress(text) ?? []),
    };
  }

  async startServer({ asn, routerId, port, listenAddresses }: BgpServer, signal: AbortSignal): Promise<void> {
    if ((await this.#global(signal)).asn !== 0)
      throw new FairwayError('FW_BGP_REFUSED', 'gobgpd has a BGP server started already');
    const global = Global.fromPartial({
      asn,
      routerId,
      // Any negative port makes no listener, and is given back.
      listenPort: listenAddresses.length === 0 ? -port : port,
      listenAddresses: [...listenAddresses],
      useMultiplePaths: true,
    });
    try {
      const what = `to start its BGP server (port ${port}, addresses ${listenAddresses.join(', ')})`;
      await this.#calls.unary(what, (api, ...rest) => api.startBgp({ global }, ...rest), signal);
      // By itself GoBGP tells everyone everything.
      await this.#policies.assign('export', [], signal);
    } catch (thrown) {
      // Addresses that it could listen on stay taken otherwise, for the next try too.
      await this.stopServer(signal).catch(() => undefined);
      throw thrown;
    }
  }

  async stopServer(signal: AbortSignal): Promise<void> {
    await this.#calls.unary('to stop its BGP server', (api, ...rest) => api.stopBgp({}, ...rest), signal);
  }

  async peers(signal: AbortSignal): Promise<readonly BgpPeer[]> {
    return (await this.#listPeers('', false, signal)).flatMap(peer => peerOfApi(peer) ?? []);
  }

  async addPeer(peer: BgpPeer, options: AddPeerOptions, signal: AbortSignal): Promise<void> {
    const exported = options.isRestarting ? await this.#policies.inForce('export', signal) : undefined;
    const added = peerToApi(peer, options, { deferralSeconds: deferralSeconds(peer, options, exported) });
    await this.#calls.unary(`peer ${peer.address}`, (api, ...rest) => api.addPeer({ peer: added }, ...rest), signal);
  }

  async updatePeer(from: BgpPeer, to: BgpPeer, signal: AbortSignal): Promise<void> {
    if (!differsInTimes(from, to)) {
      const options = { isRestarting: false };
      await this.#replacePeer(
        peerToApi(to, options, { deferralSeconds: deferralSeconds(to, options, undefined) }),
        to.address,
        signal,
      );
      return;
    }
    const [found] = await this.#listPeers(to.address, false, signal);
    if (found === undefined) throw new FairwayError('FW_BGP_REFUSED', `gobgpd knows no peer ${to.address}`);
    await this.#replacePeer(restated(found, to), to.address, signal);
  }

  async deletePeer(address: IpAddress, signal: AbortSignal): Promise<void> {
    const [found] = await this.#listPeers(address, false, signal);
    // Its listeners would go on asking this neighbour for the password for ever.
    if (found?.conf !== undefined && found.conf.authPassword !== '') {
      const open = restated(found, undefined);
      await this.#replacePeer({ ...open, conf: { ...found.conf, authPassword: '', adminDown: true } }, address, signal);
    }
    await this.#calls.unary(`peer ${address}`, (api, ...rest) => api.deletePeer({ address, interface: '' }, ...rest), signal);
  }

  async policies(signal: AbortSignal): Promise<readonly BgpPolicy[]> {
    if ((await this.#global(signal)).asn === 0) return [];
    const found = [await this.#policies.inForce('import', signal), await this.#policies.inForce('export', signal)];
    return found.filter(policy => policy !== undefined);
  }

  async setPolicy(policy: BgpPolicy, signal: AbortSignal): Promise<void> {
    await this.#policies.change(policy.direction, policy, (await this.#global(signal)).asn, signal);
  }

  async deletePolicy(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<void> {
    await this.#policies.change(direction, undefined, (await this.#global(signal)).asn, signal);
  }

  async localPaths(signal: AbortSignal): Promise<readonly BgpPath[]> {
    const destinations = await this.#listAll(signal);
    return destinations.flatMap(({ paths }) => paths.flatMap(path => localPathOfApi(path) ?? []));
  }

  async addPaths(paths: readonly BgpPath[], signal: AbortSignal): Promise<void> {
    await this.#sendPaths(named(paths.map(({ prefix }) => prefix)), paths.map(pathToApi), signal);
  }

  async deletePaths(prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<void> {
    await this.#sendPaths(named(prefixes), prefixes.map(withdrawalToApi), signal);
  }

  async bestPaths(prefixes: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<readonly BestPath[]> {
    const { asn } = await this.#global(signal);
    const destinations = prefixes === 'all' ? await this.#listAll(signal) : await this.#listSome(prefixes, signal);
    return destinations.flatMap(destination => bestPathsOf(destination, asn));
  }

  async peerStatus(signal: AbortSignal): Promise<readonly PeerStatus[]> {
    const now = wallNow();
    return (await this.#listPeers('', true, signal)).flatMap(peer => statusOfApi(peer, now) ?? []);
  }

  async watch(events: SpeakerEvents, signal: AbortSignal): Promise<void> {
    const request = WatchEventRequest.fromPartial({
      peer: {},
      table: { filters: [{ type: WatchEventRequest_Table_Filter_Type.BEST, init: false }] },
    });
    const told = new Told(events);
    await this.#calls.stream('a watch', (api, options) => api.watchEvent(request, options), told.take, signal);
    if (!signal.aborted) throw new FairwayError('FW_BGP_UNREACHABLE', 'gobgpd ended the watch');
  }

  close(): void {
    this.#calls.close();
  }

  async #global(signal: AbortSignal): Promise<Global> {
    const { global } = await this.#calls.unary<{ global: Global | undefined }>(
      'to tell of its BGP server',
      (api, ...rest) => api.getBgp({}, ...rest),
      signal,
    );
    return global ?? Global.fromPartial({});
  }

  /** One, or all where the address is empty. */
  async #listPeers(address: string, enableAdvertised: boolean, signal: AbortSignal): Promise<readonly Peer[]> {
    const request = { address, enableAdvertised };
    const answer = await this.#calls.list('to tell its peers', (api, options) => api.listPeer(request, options), signal);
    return answer.flatMap(({ peer }) => peer ?? []);
  }

  /** One call at gobgpd: where the session cannot stay up, the neighbour goes and comes in one. */
  async #replacePeer(peer: Peer, address: IpAddress, signal: AbortSignal): Promise<void> {
    const request = { peer, doSoftResetIn: false };
    await this.#calls.unary(`peer ${address}`, (api, ...rest) => api.updatePeer(request, ...rest), signal);
  }

  async #listAll(signal: AbortSignal): Promise<readonly Destination[]> {
    const found = FAMILIES.map(family => this.#listPaths(family, [], signal));
    return (await Promise.all(found)).flat();
  }

  async #listSome(prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<readonly Destination[]> {
    const found = FAMILIES.map(family => {
      const asked = prefixes.filter(prefix => prefixFamily(prefix) === family);
      // No prefix at all would ask for every one.
      return asked.length === 0 ? Promise.resolve([]) : this.#listPaths(family, asked, signal);
    });
    return (await Promise.all(found)).flat();
  }

  async #listPaths(family: Family, prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<readonly Destination[]> {
    const request = ListPathRequest.fromPartial({
      family: familyToApi(family),
      prefixes: prefixes.map(prefix => ({ prefix, type: TableLookupPrefix_Type.EXACT })),
    });
    try {
      const answer = await this.#calls.list('to tell its routes', (api, options) => api.listPath(request, options), signal);
      return answer.flatMap(({ destination }) => destination ?? []);
    } catch (thrown) {
      if (isNotStarted(thrown)) return [];
      throw thrown;
    }
  }

  async #sendPaths(what: string, paths: readonly Path[], signal: AbortSignal): Promise<void> {
    const requests: AddPathStreamRequest[] = [];
    for (let start = 0; start < paths.length; start += CHUNK)
      requests.push(AddPathStreamRequest.fromPartial({ paths: paths.slice(start, start + CHUNK) }));
    if (requests.length > 0) await this.#calls.send(what, (api, ...rest) => api.addPathStream(...rest), requests, signal);
  }
}

/** Gathers the prefixes of events that come together. */
class Told {
  readonly #events: SpeakerEvents;
  #prefixes = new Set<IpPrefix>();

  constructor(events: SpeakerEvents) {
    this.#events = events;
  }

  readonly take = ({ event }: WatchEventResponse): void => {
    if (event?.$case === 'table') this.#takePaths(event.value.paths);
    else if (event?.$case === 'peer') {
      // The end of the first list is told as a peer without an address.
      const address = parseAddress(event.value.peer?.conf?.neighborAddress ?? '');
      if (address !== undefined) this.#events.session(address);
    }
  };

  #takePaths(paths: readonly Path[]): void {
    if (this.#prefixes.size === 0) setImmediate(() => this.#tell());
    for (const path of paths) {
      const prefix = prefixOfApi(path);
      if (prefix !== undefined) this.#prefixes.add(prefix);
    }
  }

  #tell(): void {
    const prefixes = this.#prefixes;
    this.#prefixes = new Set();
    if (prefixes.size > 0) this.#events.changed(prefixes);
  }
}

function named(prefixes: readonly IpPrefix[]): string {
  const [first = '', ...more] = prefixes;
  return more.length === 0 ? `path ${first}` : `paths ${first} and ${more.length} more`;
}
