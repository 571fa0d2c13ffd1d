/**
 * A BGP speaker in our words, whatever answers behind them: one adapter an API version of GoBGP (`gobgp-v3.ts`). All methods ask or tell the speaker
 * itself and remember nothing; what is refused rejects with a FairwayError `FW_BGP_REFUSED`, a speaker that does not answer in time with
 * `FW_BGP_UNREACHABLE`. Passwords never stand in a message.
 */
import type { IpAddress } from '../net/address.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { BgpPath, BgpPeer, BgpPolicy, BgpServer, RouteOrigin } from '../reconcile/routing-tables.ts';

/** The states of RFC 4271, 8.2.2. */
export type SessionState = 'idle' | 'connect' | 'active' | 'opensent' | 'openconfirm' | 'established';

/** What a session is like now. */
export interface PeerStatus {
  readonly address: IpAddress;
  readonly asn: number;
  readonly state: SessionState;
  /** True once the neighbour has told all it has of every family (RFC 4724, End-of-RIB), or where it does not mark that end. */
  readonly isComplete: boolean;
  /** Prefixes taken in from it, and told to it. */
  readonly received: number;
  readonly advertised: number;
}

/** One of the best paths to a prefix, after import policy and selection. */
export interface BestPath {
  readonly prefix: IpPrefix;
  readonly nextHop: IpAddress;
  readonly origin: RouteOrigin;
  /** Who told it; undefined for a local one. */
  readonly neighbor: IpAddress | undefined;
}

/** What a watched speaker tells. */
export interface SpeakerEvents {
  /** Best paths to these prefixes may be others now: {@link Speaker.bestPaths} says which. */
  changed(prefixes: ReadonlySet<IpPrefix>): void;
  /** A session came or went, or a neighbour has told all it has. */
  session(address: IpAddress): void;
}

export interface AddPeerOptions {
  /**
   * Whether our routes to others were kept in the kernel while we were away (RFC 4724: the R bit, and F for every family): said in the first OPEN
   * of sessions with graceful restart.
   */
  readonly isRestarting: boolean;
}

export interface Speaker {
  /** Undefined while it is not started. */
  server(signal: AbortSignal): Promise<BgpServer | undefined>;
  startServer(server: BgpServer, signal: AbortSignal): Promise<void>;
  /** Ends all sessions with a notification; neighbours drop our routes at once. */
  stopServer(signal: AbortSignal): Promise<void>;

  peers(signal: AbortSignal): Promise<readonly BgpPeer[]>;
  addPeer(peer: BgpPeer, options: AddPeerOptions, signal: AbortSignal): Promise<void>;
  /** In place where the session can stay up, else by a new session. */
  updatePeer(from: BgpPeer, to: BgpPeer, signal: AbortSignal): Promise<void>;
  /** Its routes are withdrawn at once, graceful restart or not. */
  deletePeer(address: IpAddress, signal: AbortSignal): Promise<void>;

  /** Of the two directions those that are in force and ours. */
  policies(signal: AbortSignal): Promise<readonly BgpPolicy[]>;
  /** Puts it in force for all that neighbours told already and for all that they are told, without ending a session. */
  setPolicy(policy: BgpPolicy, signal: AbortSignal): Promise<void>;
  /** Without a policy of ours nothing is told to anyone, and all is taken in. */
  deletePolicy(direction: BgpPolicy['direction'], signal: AbortSignal): Promise<void>;

  /** Those we originate and marked as ours; what others put into the same speaker is left alone. */
  localPaths(signal: AbortSignal): Promise<readonly BgpPath[]>;
  /** Adds, or replaces the one to the same prefix. Many at once; rejected for all where one is refused. */
  addPaths(paths: readonly BgpPath[], signal: AbortSignal): Promise<void>;
  deletePaths(prefixes: readonly IpPrefix[], signal: AbortSignal): Promise<void>;

  /** Equal best paths to these prefixes, or to all; local ones included. A prefix without one is not in the answer. */
  bestPaths(prefixes: 'all' | readonly IpPrefix[], signal: AbortSignal): Promise<readonly BestPath[]>;
  peerStatus(signal: AbortSignal): Promise<readonly PeerStatus[]>;
  /** Tells of changes until the signal is aborted (resolves) or the speaker is lost (rejects). */
  watch(events: SpeakerEvents, signal: AbortSignal): Promise<void>;
  /** Closes connections; nothing at the speaker changes. */
  close(): void;
}
