/** BGP speakers that nobody here wrote, as external peers of a lab's nodes: what they are told to be, and what they say they have. */
import type { LabHost } from '../addresses.ts';
import type { Family } from '../objects.ts';

/** A node as its peer is told of it. */
export interface PeerNeighbor {
  readonly address: string;
  /** 64512 unless told, the AS number of nodes that were told none. */
  readonly asn?: number;
  /** TCP MD5; none unless told. */
  readonly password?: string;
  /** For a node behind a router. */
  readonly multihopTtl?: number;
  /** The peer calls the node on this TCP port; otherwise it waits for the node's call, so that it is the node that finds the port. */
  readonly callsOn?: number;
  /** Offered to the node; 9 unless told, so that a dead session is seen soon. */
  readonly holdSeconds?: number;
}

export interface PeerOptions {
  readonly host: LabHost;
  readonly asn: number;
  /** TCP port it listens on; 179 unless told. */
  readonly port?: number;
  readonly neighbors: readonly PeerNeighbor[];
  /** Announced from the start. */
  readonly announces?: readonly string[];
}

/** A path in a peer's table. */
export interface PeerPath {
  readonly prefix: string;
  /** The neighbour that told it. */
  readonly from: string;
  readonly nextHop: string;
  readonly asPath: readonly number[];
  /** Standard ones, as `64512:100`, in the peer's order. */
  readonly communities: readonly string[];
  /** Kept of a session that is gone (RFC 4724). */
  readonly isStale: boolean;
}

/** A session as the peer sees it. */
export interface PeerSession {
  readonly isEstablished: boolean;
  /** Changes with every new session: a time, or a count of them. */
  readonly incarnation: string;
}

/** What all of them can do. */
export interface Peer {
  readonly options: PeerOptions;
  sessions(): Promise<ReadonlyMap<string, PeerSession>>;
  /** Every path it was told and kept, best or not; with `about` those to prefixes that begin so. */
  paths(family: Family, about?: string): Promise<readonly PeerPath[]>;
  announce(...prefixes: readonly string[]): Promise<void>;
  withdraw(...prefixes: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

export const NODE_ASN = 64_512;
export const HOLD_SECONDS = 9;
export const BGP_PORT = 179;

/** Families of a list of prefixes, each with its own. */
export function byFamily(prefixes: readonly string[]): readonly (readonly [Family, readonly string[]])[] {
  const isIpv6 = (prefix: string): boolean => prefix.includes(':');
  return [
    ['ipv4', prefixes.filter(prefix => !isIpv6(prefix))],
    ['ipv6', prefixes.filter(isIpv6)],
  ];
}
