/** The tables of pod routing: what an entry is and what identifies it. They are part of `tables.ts`, where the stages stand. */
import type { Family, IpAddress } from '../net/address.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { Secret } from '../net/secret.ts';
import type { Requirement, TableDefinition } from './tables.ts';

/** A UDP port on which the kernel takes GUE packets in and hands on what is inside (ip-fou(8)). */
export interface FouPort {
  /** Of the outer packets. */
  readonly family: Family;
  readonly port: number;
}

/** The main routing table, by number (rt_tables: `main`). */
export const MAIN_TABLE = 254;
/** kube-router's table of routes to nodes behind a tunnel, asked for packets of this node's pods. No name is written to rt_tables. */
export const POD_SOURCE_TABLE = 77;

/** One way of a route. */
export interface NextHop {
  /** The link it leaves by. */
  readonly link: string;
  /** The router on that link; undefined where the link itself leads there (a tunnel). */
  readonly gateway: IpAddress | undefined;
  /** The node to which the packet is sent by VXLAN (`encap ip id 1 dst ADDRESS`); undefined on other links. */
  readonly vxlanRemote: IpAddress | undefined;
}

/** A route of ours to pods or addresses elsewhere (ip-route(8), type unicast), marked by our protocol number. */
export interface UnicastRoute {
  readonly table: typeof MAIN_TABLE | typeof POD_SOURCE_TABLE;
  readonly destination: IpPrefix;
  /** As read back: none where kube-router's route to the same prefix still stands there. As wanted: at least one, sorted by {@link nextHopKey}, each once. Several share the flows (ECMP). */
  readonly nextHops: readonly NextHop[];
  /** Of connections from the node itself; undefined where the kernel is to choose. */
  readonly source: IpAddress | undefined;
}

/** A rule (ip-rule(8)): packets from this prefix ask that table first. Its priority is the kernel's to give. */
export interface SourceRule {
  readonly from: IpPrefix;
  readonly table: typeof POD_SOURCE_TABLE;
}

/**
 * What the CNI configuration file (`.conf` or `.conflist`) must say of this node's pods; everything else in it is its author's. Written over by
 * rename, and made from a template where there is none.
 */
export interface CniConfig {
  readonly path: string;
  /** Each a range set of its own for host-local; none is left that is not among them. */
  readonly podCIDRs: readonly IpPrefix[];
  /** Of pods' links, in bytes; undefined leaves what the file says. */
  readonly mtu: number | undefined;
  /** What must be in force before pods may start. */
  readonly needs: readonly Requirement[];
}

/** Our BGP speaker itself. There is one. */
export interface BgpServer {
  readonly asn: number;
  /** BGP identifier (RFC 4271, 4.2), a dotted quad. */
  readonly routerId: IpAddress;
  readonly port: number;
  /** Addresses it listens on, sorted; none where nothing may call. */
  readonly listenAddresses: readonly IpAddress[];
}

export interface GracefulRestart {
  /** Restart Time of RFC 4724, told to peers. */
  readonly restartSeconds: number;
  /** Selection_Deferral_Timer of RFC 4724. */
  readonly deferralSeconds: number;
}

/** A BGP neighbour and the session with it. */
export interface BgpPeer {
  readonly address: IpAddress;
  readonly asn: number;
  readonly localAddress: IpAddress | undefined;
  /** TCP port it is called on. */
  readonly port: number;
  /** TCP MD5 (RFC 2385); an empty secret for none. */
  readonly password: Secret;
  readonly holdSeconds: number;
  /** TTL of an eBGP session with a neighbour further away than one hop; 0 for a direct one. */
  readonly multihopTtl: number;
  /** Address families of routes exchanged, ipv4 first. */
  readonly families: readonly Family[];
  readonly gracefulRestart: GracefulRestart | undefined;
  /** Cluster id (RFC 4456) where the neighbour is a client of ours as a route reflector. */
  readonly reflectorClusterId: IpAddress | undefined;
}

/** Where a route came from: made here, from a neighbour of our AS number, or of another. */
export type RouteOrigin = 'local' | 'internal' | 'external';

/** Who may hear of a path that we make: the other nodes and the fabric, or the fabric alone. Written into the path, so that the policy is constant. */
export type Audience = 'everyone' | 'fabric';

export interface PrefixRange {
  readonly prefix: IpPrefix;
  /** Lengths of the prefixes inside it that are meant, both included. */
  readonly minLength: number;
  readonly maxLength: number;
}

/** One statement of a policy: all conditions that are given must hold. The first statement whose conditions hold decides. */
export interface BgpStatement {
  /** Host addresses of neighbours the route comes from (import) or goes to (export); undefined for any, never empty. */
  readonly neighbors: readonly IpAddress[] | undefined;
  readonly prefixes: readonly PrefixRange[] | undefined;
  readonly origin: RouteOrigin | undefined;
  /** Of a path of ours. */
  readonly audience: Audience | undefined;
  readonly verdict: 'accept' | 'reject';
  /** On what is accepted; all undefined changes nothing. */
  readonly actions: BgpActions;
}

export interface BgpActions {
  /** These 32-bit communities (RFC 1997) in place of all that the path has, so that no mark of ours leaves the node; undefined leaves them. */
  readonly setCommunities: readonly number[] | undefined;
  readonly prepend: { readonly asn: number; readonly times: number } | undefined;
  /** The address of our end of the session as next hop. */
  readonly nextHopSelf: boolean;
}

/** What is taken in from neighbours, or what is told to them. One a direction, for all neighbours. */
export interface BgpPolicy {
  readonly direction: 'import' | 'export';
  readonly statements: readonly BgpStatement[];
  /** Of what no statement decides. */
  readonly otherwise: 'accept' | 'reject';
}

/** A path that we originate. */
export interface BgpPath {
  readonly prefix: IpPrefix;
  readonly nextHop: IpAddress;
  readonly audience: Audience;
}

export interface RoutingTableTypes {
  readonly fouPort: FouPort;
  readonly unicastRoute: UnicastRoute;
  readonly rule: SourceRule;
  readonly cniConfig: CniConfig;
  readonly bgpServer: BgpServer;
  readonly bgpPolicy: BgpPolicy;
  readonly bgpPath: BgpPath;
  readonly bgpPeer: BgpPeer;
}

const NOTHING: readonly Requirement[] = [];
const SERVER: Requirement = { table: 'bgpServer', key: 'global' };
/** No session and no path before it is settled who hears of what. */
const SERVER_AND_POLICIES: readonly Requirement[] = [
  SERVER,
  { table: 'bgpPolicy', key: 'import' },
  { table: 'bgpPolicy', key: 'export' },
];

/** Our mark on routes (rtm_protocol). No name is written to rt_protos; iproute2 and the routing daemons give this number to nobody. */
export const ROUTE_PROTOCOL = 70;

/** Behind every route that others make (0 and 1024 are the kernel's own, 100 and on network managers', 20100 and on those of doubtful links). */
export const ROUTE_METRIC = 32070;

/** Whether a link of this name is one of ours to other nodes. */
export function isOverlayLink(name: string): boolean {
  return /^tun-[0-9a-f]{11}$/.test(name) || name === VXLAN_LINK;
}

/** One for all nodes and both families; the routes say where to. */
export const VXLAN_LINK = 'fairway-vxlan';

export function nextHopKey({ link, gateway, vxlanRemote }: NextHop): string {
  return `${gateway ?? ''} ${link} ${vxlanRemote ?? ''}`;
}

/** @param table a number */
export function unicastRouteKey(table: number, destination: IpPrefix): string {
  return `${table} ${destination}`;
}

export function fouPortKey(family: Family, port: number): string {
  return `${family} ${port}`;
}

/** The part of `TABLES` for these tables. */
export const ROUTING_TABLES: { readonly [K in keyof RoutingTableTypes]: TableDefinition<RoutingTableTypes[K]> } = {
  fouPort: {
    key: ({ family, port }) => fouPortKey(family, port),
    same: () => true,
    requires: () => NOTHING,
  },
  unicastRoute: {
    key: ({ table, destination }) => unicastRouteKey(table, destination),
    same: (actual, desired) => actual.source === desired.source && sameList(actual.nextHops, desired.nextHops, nextHopKey),
    requires: ({ nextHops }) =>
      nextHops.filter(({ link }) => isOverlayLink(link)).map(({ link }): Requirement => ({ table: 'link', key: link })),
  },
  rule: {
    key: ({ from, table }) => `${from} ${table}`,
    same: () => true,
    requires: () => NOTHING,
  },
  cniConfig: {
    key: ({ path }) => path,
    same: (actual, desired) => actual.mtu === desired.mtu && sameList(actual.podCIDRs, desired.podCIDRs, String),
    requires: ({ needs }) => needs,
  },
  bgpServer: {
    key: () => 'global',
    same: (actual, desired) =>
      actual.asn === desired.asn &&
      actual.routerId === desired.routerId &&
      actual.port === desired.port &&
      sameList(actual.listenAddresses, desired.listenAddresses, String),
    requires: () => NOTHING,
  },
  bgpPolicy: {
    key: ({ direction }) => direction,
    same: (actual, desired) => JSON.stringify(policyText(actual)) === JSON.stringify(policyText(desired)),
    requires: () => [SERVER],
  },
  bgpPath: {
    key: ({ prefix }) => prefix,
    same: (actual, desired) => actual.nextHop === desired.nextHop && actual.audience === desired.audience,
    requires: () => SERVER_AND_POLICIES,
  },
  bgpPeer: {
    key: ({ address }) => address,
    same: (actual, desired) => JSON.stringify(peerText(actual)) === JSON.stringify(peerText(desired)),
    requires: () => SERVER_AND_POLICIES,
  },
};

function sameList<T>(one: readonly T[], other: readonly T[], key: (item: T) => string): boolean {
  return one === other || (one.length === other.length && one.every((item, index) => key(item) === key(other[index] as T)));
}

function policyText({ statements, otherwise }: BgpPolicy): unknown {
  return [
    otherwise,
    statements.map(({ neighbors, prefixes, origin, audience, verdict, actions }) => [
      neighbors ?? null,
      prefixes?.map(({ prefix, minLength, maxLength }) => [prefix, minLength, maxLength]) ?? null,
      origin ?? null,
      audience ?? null,
      verdict,
      actions.setCommunities ?? null,
      actions.prepend === undefined ? null : [actions.prepend.asn, actions.prepend.times],
      actions.nextHopSelf,
    ]),
  ];
}

/** The password stands in it: never printed. */
function peerText(peer: BgpPeer): unknown {
  return [
    peer.asn,
    peer.localAddress ?? null,
    peer.port,
    peer.password.reveal(),
    peer.holdSeconds,
    peer.multihopTtl,
    peer.families,
    peer.gracefulRestart === undefined ? null : [peer.gracefulRestart.restartSeconds, peer.gracefulRestart.deferralSeconds],
    peer.reflectorClusterId ?? null,
  ];
}
