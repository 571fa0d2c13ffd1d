/**
 * The cluster as the modules see it: narrow types, projected from API objects on arrival (`project.ts`). Fields that no module
 * reads are not kept. Names are the Kubernetes API's; addresses are canonical; absent lists are empty.
 */
import type { FairwayError } from '../errors.ts';
import type { Family, IpAddress } from '../net/address.ts';
import type { AddressRange } from '../net/address-range.ts';
import type { Protocol } from '../net/port.ts';
import type { IpPrefix } from '../net/prefix.ts';

/** What every object has. `creationTimestamp` in milliseconds since the epoch, 0 where the API gave none. */
export interface ObjectMeta {
  /** '' for cluster-scoped objects. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly creationTimestamp: number;
}

/** `namespace/name`, or `name` for cluster-scoped objects. A slash is in neither (RFC 1123 names), so keys never collide. */
export type ObjectKey = string;

export function keyOf(meta: { readonly namespace: string; readonly name: string }): ObjectKey {
  return meta.namespace === '' ? meta.name : `${meta.namespace}/${meta.name}`;
}

export type ServiceType = 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
export type TrafficPolicy = 'Cluster' | 'Local';

export interface ServicePort {
  /** '' for the one unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** Undefined where the Service has no node port. */
  readonly nodePort: number | undefined;
}

export interface Service {
  readonly kind: 'Service';
  readonly meta: ObjectMeta;
  readonly type: ServiceType;
  /** `spec.clusterIPs`; empty for headless Services. */
  readonly clusterIPs: readonly IpAddress[];
  readonly externalIPs: readonly IpAddress[];
  /** `status.loadBalancer.ingress[].ip` whose `ipMode` is not `Proxy`. */
  readonly loadBalancerIPs: readonly IpAddress[];
  readonly ports: readonly ServicePort[];
  readonly internalTrafficPolicy: TrafficPolicy;
  readonly externalTrafficPolicy: TrafficPolicy;
  /** `spec.sessionAffinityConfig.clientIP.timeoutSeconds` where `sessionAffinity` is ClientIP, else undefined. Seconds. */
  readonly sessionAffinitySeconds: number | undefined;
  readonly ipFamilies: readonly Family[];
  /** Those that `ownAnnotation` keeps. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Label `service.kubernetes.io/service-proxy-name`; '' where absent. */
  readonly proxyName: string;
  /** True with the label `service.kubernetes.io/headless` or `clusterIP: None`. */
  readonly headless: boolean;
  readonly healthCheckNodePort: number | undefined;
  /** Source ranges that parse; what did not parse is a {@link Complaint}. */
  readonly loadBalancerSourceRanges: readonly IpPrefix[];
  /** It asked for source ranges, and none can be read: its load-balancer addresses are not served, whatever they are. */
  readonly isClosed: boolean;
  /** `spec.trafficDistribution`; '' where absent. */
  readonly trafficDistribution: string;
  /** Undefined for a Service of another type than LoadBalancer whose status names no address. */
  readonly loadBalancer: LoadBalancer | undefined;
}

export type IpFamilyPolicy = 'SingleStack' | 'PreferDualStack' | 'RequireDualStack';

/** What the allocation of load-balancer addresses asks of a Service, and what the Service has. */
export interface LoadBalancer {
  /** `spec.loadBalancerClass`; '' where absent. */
  readonly loadBalancerClass: string;
  /** `spec.loadBalancerIP` as written; '' where absent. */
  readonly loadBalancerIP: string;
  readonly ipFamilyPolicy: IpFamilyPolicy;
  readonly labels: Readonly<Record<string, string>>;
  /** `spec.selector` as one text, equal for equal selectors; '' where absent. */
  readonly selector: string;
  /** `status.loadBalancer.ingress[].ip`, whatever its `ipMode`, in their order. */
  readonly ingressIPs: readonly IpAddress[];
  /** `status.loadBalancer.ingress[].hostname`: never ours. */
  readonly ingressHostnames: readonly string[];
  /** The field manager (`metadata.managedFields`) of `status.loadBalancer.ingress`; '' where the server does not say. */
  readonly writtenBy: string;
  /** When it did, in milliseconds since the epoch; 0 likewise. */
  readonly writtenAt: number;
  /** `metadata.resourceVersion`: whether a status that was written is in it; '' where absent. */
  readonly resourceVersion: string;
}

/** One endpoint of a slice. `ready` follows the API's advice that nil means ready; `serving` nil means the value of ready. */
export interface Endpoint {
  /** The first address: the API says the others are not to be used for anything. */
  readonly address: IpAddress;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** '' where the API gave none. */
  readonly nodeName: string;
  readonly zone: string;
  /** `hints.forZones[].name`, `hints.forNodes[].name`. */
  readonly forZones: readonly string[];
  readonly forNodes: readonly string[];
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface EndpointSlice {
  readonly kind: 'EndpointSlice';
  readonly meta: ObjectMeta;
  /** Label `kubernetes.io/service-name`: the owning Service, in the slice's namespace. */
  readonly serviceKey: ObjectKey;
  readonly family: Family;
  /** Ports without a number (API: "null means not for us") are left out. */
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

export interface Node {
  readonly kind: 'Node';
  readonly meta: ObjectMeta;
  readonly labels: Readonly<Record<string, string>>;
  /** Those that `ownAnnotation` keeps. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly internalIPs: readonly IpAddress[];
  readonly externalIPs: readonly IpAddress[];
  readonly podCIDRs: readonly IpPrefix[];
  /** Being deleted (`metadata.deletionTimestamp`), or tainted `ToBeDeletedByClusterAutoscaler`: load balancers are to leave it (KEP-3836). */
  readonly isLeaving: boolean;
  /** False where its condition `Ready` is False or Unknown. A Node that says nothing of it counts as ready. */
  readonly isReady: boolean;
}

/** A port that a container declares under a name. */
export interface ContainerPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface Pod {
  readonly kind: 'Pod';
  readonly meta: ObjectMeta;
  readonly labels: Readonly<Record<string, string>>;
  /** `spec.nodeName`; '' while the pod is not placed. */
  readonly nodeName: string;
  /** `status.hostIPs`, or `status.hostIP`. */
  readonly hostIPs: readonly IpAddress[];
  /** It lives in its node's network namespace: its addresses are the node's. */
  readonly hostNetwork: boolean;
  /** Phase Succeeded or Failed: its addresses are free for others. */
  readonly finished: boolean;
  /** `status.podIPs`, or `status.podIP`. */
  readonly addresses: readonly IpAddress[];
  /** `spec.terminationGracePeriodSeconds`; 30 where absent, as the API has it. */
  readonly terminationGracePeriodSeconds: number;
  /** Of containers and of init containers that keep running (`restartPolicy: Always`); ports without a name are left out. */
  readonly namedPorts: readonly ContainerPort[];
}

export interface Namespace {
  readonly kind: 'Namespace';
  readonly meta: ObjectMeta;
  readonly labels: Readonly<Record<string, string>>;
}

export type LabelOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';

/** One requirement of a selector (metav1.LabelSelectorRequirement). `values` is sorted, each once; empty for Exists and DoesNotExist. */
export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

/**
 * metav1.LabelSelector; `matchLabels` stand as requirements `In [value]`. All requirements must hold, so that one without any matches
 * everything. Sorted by key, operator and values, each once: selectors of one meaning mostly have one text.
 */
export interface LabelSelector {
  readonly requirements: readonly LabelRequirement[];
}

/** networking/v1 NetworkPolicyPort. */
export type PolicyPort =
  /** Every port of the protocol. */
  | { readonly match: 'all'; readonly protocol: Protocol }
  /** `port` to `endPort`, both included; equal for a single port. */
  | { readonly match: 'range'; readonly protocol: Protocol; readonly first: number; readonly last: number }
  /** The port that the destination pod declares under this name. */
  | { readonly match: 'name'; readonly protocol: Protocol; readonly name: string };

/** networking/v1 NetworkPolicyPeer. */
export type PolicyPeer =
  | {
      readonly match: 'pods';
      /** Undefined: pods of the policy's own namespace. */
      readonly namespaceSelector: LabelSelector | undefined;
      /** Undefined where the policy gave none: every pod of the namespaces. */
      readonly podSelector: LabelSelector | undefined;
    }
  | { readonly match: 'block'; readonly cidr: IpPrefix; readonly except: readonly IpPrefix[] };

/** networking/v1 NetworkPolicyIngressRule or NetworkPolicyEgressRule. */
export interface PolicyRule {
  /** Empty for everyone. */
  readonly peers: readonly PolicyPeer[];
  /** Empty for every port of every protocol. */
  readonly ports: readonly PolicyPort[];
}

/** What a policy says of one direction. */
export interface PolicyDirection {
  readonly rules: readonly PolicyRule[];
  /**
   * Why the rules cannot be used, if so: `rules` is empty then, and the pods that the policy selects stay closed in this direction.
   * Using the readable part would open what the unreadable part restricts.
   */
  readonly unusable: string | undefined;
}

/** networking/v1 NetworkPolicy, `policyTypes` defaulted as the API server does. */
export interface NetworkPolicy {
  readonly kind: 'NetworkPolicy';
  readonly meta: ObjectMeta;
  /** Of the pods it is about, in its own namespace. What could not be read of it selects more pods, never fewer. */
  readonly podSelector: LabelSelector;
  /** Undefined where the policy does not restrict that direction. */
  readonly ingress: PolicyDirection | undefined;
  readonly egress: PolicyDirection | undefined;
}

/** One named pool of load-balancer addresses. */
export interface AddressPool {
  readonly name: string;
  /** At least one. */
  readonly ranges: readonly AddressRange[];
  /** False: only for Services that ask for the pool or for an address of it. */
  readonly autoAssign: boolean;
  /** Names of the namespaces whose Services it serves; with none, and no `namespaceSelector`, those of all. */
  readonly namespaces: readonly string[];
  /** By their labels, in addition to `namespaces`. */
  readonly namespaceSelector: LabelSelector | undefined;
  /** Undefined for every Service. */
  readonly serviceSelector: LabelSelector | undefined;
  /** `spec.loadBalancerClass` of the Services that it serves; empty for those that the allocator serves without it. */
  readonly loadBalancerClasses: readonly string[];
  /** The Nodes that may announce its addresses on their local network; undefined for all. */
  readonly nodeSelector: LabelSelector | undefined;
}

/** The named pools: a ConfigMap, or a file of the same content. */
export interface AddressPools {
  readonly kind: 'ConfigMap';
  readonly meta: ObjectMeta;
  /** In the order of the text; names are unique. */
  readonly pools: readonly AddressPool[];
  /**
   * Names of pools that cannot be read; undefined where the text as a whole cannot, so that it is not known which there are. In a snapshot, only what
   * could not be read before either: for the rest the former pools stand.
   */
  readonly unreadable: readonly string[] | undefined;
  /** Names of those among `pools` that lack addresses which cannot be read. In a snapshot, likewise. */
  readonly incomplete: readonly string[];
}

/** coordination.k8s.io/v1 Lease of a Node (namespace `kube-node-lease`): the heartbeat of its kubelet. */
export interface Lease {
  readonly kind: 'Lease';
  readonly meta: ObjectMeta;
  /** `spec.renewTime` as written: only whether it is another one matters, since clocks differ. */
  readonly renewTime: string;
  /** Seconds. */
  readonly leaseDurationSeconds: number;
}

/** Kinds that can be watched now. A module names those it reads; only these are listed and watched. */
export interface ClusterKinds {
  readonly Service: Service;
  readonly EndpointSlice: EndpointSlice;
  readonly Node: Node;
  readonly Pod: Pod;
  readonly Namespace: Namespace;
  readonly NetworkPolicy: NetworkPolicy;
  readonly ConfigMap: AddressPools;
  readonly Lease: Lease;
}
export type Kind = keyof ClusterKinds;
export type ClusterObject = ClusterKinds[Kind];

/** Something wrong in one object's own text, found while projecting it; the rest of the object is used. */
export interface Complaint {
  readonly kind: Kind;
  readonly key: ObjectKey;
  /** Names the field, the value and the remedy. */
  readonly message: string;
}

/** What a source (API server, manifest folder) tells the store. Events carry no meaning beyond "this object is now so". */
export interface SourceEvents {
  upsert(object: ClusterObject, complaints: readonly Complaint[]): void;
  remove(kind: Kind, key: ObjectKey): void;
  /**
   * The object of this key cannot be used at all: what the store holds of it is gone, and the complaints stand until the key is
   * upserted, removed or rejected again, or its kind replaced.
   */
  reject(kind: Kind, key: ObjectKey, complaints: readonly Complaint[]): void;
  /** The full list of a kind has arrived: what the store holds of it beyond these objects is gone. */
  replace<K extends Kind>(kind: K, objects: readonly { object: ClusterKinds[K]; complaints: readonly Complaint[] }[]): void;
  /** Why the source is not up to date, for log, `status` and health; undefined when all is well. */
  degraded(kind: Kind, trouble: FairwayError | undefined): void;
}

/** A running source of cluster objects. */
export interface ClusterSource {
  /** Starts listing and watching; returns at once. */
  start(events: SourceEvents): void;
  /**
   * Resolves when all objects of the kind, as they are at some moment after this call, have been told. Rejects when the source stops before, or does not
   * read the kind. Absent where what is told is always the newest there is.
   */
  relist?(kind: Kind): Promise<void>;
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}
