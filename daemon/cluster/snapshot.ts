/** The immutable picture of cluster and host that planners read. Unchanged objects keep their identity from one snapshot to the next. */
import type { Family, IpAddress } from '../net/address.ts';
import type { Instant } from '../net/instant.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { AddressPools, EndpointSlice, Namespace, NetworkPolicy, Node, ObjectKey, Pod, Service } from './kinds.ts';

/** This node, from its Node object where there is one, else from the host itself. */
export interface NodeView {
  readonly name: string;
  /** False on bare metal and while the Node object is missing: addresses come from the host then. */
  readonly fromCluster: boolean;
  /** The first InternalIP of each family, else the first ExternalIP: what the rest of the cluster knows us by. */
  readonly primary: Readonly<Partial<Record<Family, IpAddress>>>;
  /** All Internal and External addresses, primary first. */
  readonly addresses: readonly IpAddress[];
  readonly podCIDRs: readonly IpPrefix[];
  readonly zone: string;
  /** It is about to be taken out of the cluster. Never so without a Node object. */
  readonly isLeaving: boolean;
}

/** One address on one link of the host. */
export interface HostAddress {
  readonly link: string;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export interface HostLink {
  /** Bytes. */
  readonly mtu: number;
  /** The bridge (or other link) that it is a port of; '' for none. */
  readonly master: string;
}

/** What the host is like now. A new object only when something in it changed. */
export interface HostFacts {
  readonly hostname: string;
  /** Addresses on all links, in the kernel's order. */
  readonly addresses: readonly HostAddress[];
  /** By name, the links there are. */
  readonly links: ReadonlyMap<string, HostLink>;
  /** Facilities found by probing; a planner leaves out what is not there and says so. */
  readonly capabilities: Capabilities;
}

export interface Capabilities {
  readonly ipvs: boolean;
  readonly ipset: boolean;
  readonly dummyLink: boolean;
  /** Per family: the tool works and its nat and filter tables are there. */
  readonly iptables: Readonly<Record<Family, boolean>>;
  /** Matching `-m ipvs` works. */
  readonly xtIpvs: boolean;
  /** Bridged packets pass iptables (br_netfilter), so that replies between two pods of one bridge meet IPVS again. */
  readonly bridgeNetfilter: boolean;
  /** Rate-limited NFLOG works. */
  readonly nflog: boolean;
  readonly ipv6: boolean;
}

/** Routes that BGP neighbours told us, after import policy and route selection. */
export interface Rib {
  /** By prefix. */
  readonly routes: ReadonlyMap<string, LearnedRoute>;
  /**
   * False while routes may be missing that are still to be heard: BGP was started lately, and not every neighbour has told all it has (RFC 4724: the
   * End-of-RIB marker) or had its time to. What an earlier run learned is left in force until then.
   */
  readonly isSettled: boolean;
}

export interface LearnedRoute {
  readonly prefix: IpPrefix;
  /** Of the best paths, sorted by address, each address once. At least one. */
  readonly nextHops: readonly LearnedNextHop[];
}

export interface LearnedNextHop {
  readonly address: IpAddress;
  /** Told by a neighbour of our own AS number: another node. */
  readonly isInternal: boolean;
}

/** What there is without BGP. */
export const NO_RIB: Rib = { routes: new Map(), isSettled: true };

export interface Snapshot {
  readonly revision: number;
  /** The only clock a planner sees. */
  readonly now: Instant;
  readonly node: NodeView;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly services: ReadonlyMap<ObjectKey, Service>;
  /** By the key of the owning Service; slices of one Service in the order of their names. */
  readonly endpointSlicesOf: ReadonlyMap<ObjectKey, readonly EndpointSlice[]>;
  readonly pods: ReadonlyMap<ObjectKey, Pod>;
  /** By name. */
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly networkPolicies: ReadonlyMap<ObjectKey, NetworkPolicy>;
  /** Undefined where none are configured, or what would hold them is not there. */
  readonly addressPools: AddressPools | undefined;
  readonly host: HostFacts;
  readonly rib: Rib;
  /** Names of Nodes whose heartbeat stopped for longer than its Lease lasts. */
  readonly silentNodes: ReadonlySet<string>;
  readonly allocation: Allocation;
}

/** Who hands out load-balancer addresses, and what of that Services do not show yet. */
export interface Allocation {
  readonly leadership: Leadership;
  /** By the key of the Service, statuses that were handed over to be written and that the Service as it is known may not show yet. */
  readonly handedOver: ReadonlyMap<ObjectKey, HandedOverStatus>;
}

/** One allocator at a time hands out addresses. `reason`: why another one does, or nobody. */
export type Leadership = { readonly isLeader: true } | { readonly isLeader: false; readonly reason: string };

export interface HandedOverStatus {
  /** Of the Service that it is for: another of the same name has nothing to do with it. */
  readonly uid: string;
  /** Ours, in their order; empty where what the Service had is taken back. */
  readonly addresses: readonly IpAddress[];
  /**
   * What the Service may have as long as there is no version: what was found there, and what was handed over before. Until it is known to be gone, it is
   * nobody else's.
   */
  readonly inPlaceOf?: readonly IpAddress[];
  /** `resourceVersion` of the Service with it; undefined while it is on its way, or nobody knows whether it was written. */
  readonly version: string | undefined;
  /** Why the last try to write it failed; undefined before one has. */
  readonly trouble: string | undefined;
}

/** Where no module hands out addresses. */
export const NO_ALLOCATION: Allocation = {
  leadership: { isLeader: false, reason: 'no allocator runs here' },
  handedOver: new Map(),
};
