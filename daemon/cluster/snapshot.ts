/** The immutable picture of cluster and host that planners read. Unchanged objects keep their identity from one snapshot to the next. */
import type { Family, IpAddress } from '../net/address.ts';
import type { Instant } from '../net/instant.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { EndpointSlice, Namespace, NetworkPolicy, Node, ObjectKey, Pod, Service } from './kinds.ts';

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
}

/** One address on one link of the host. */
export interface HostAddress {
  readonly link: string;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** What the host is like now. A new object only when something in it changed. */
export interface HostFacts {
  readonly hostname: string;
  /** Addresses on all links, in the kernel's order. */
  readonly addresses: readonly HostAddress[];
  /** Names of the links there are. */
  readonly links: ReadonlySet<string>;
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
  readonly host: HostFacts;
}
