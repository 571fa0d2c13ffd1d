/** The tables of Services beside IPVS and the filters: what an entry is and what identifies it. They are part of `tables.ts`, where the stages stand. */
import { type Family, type IpAddress, sameAddresses } from '../net/address.ts';
import type { TableDefinition } from './tables.ts';

/**
 * A port of the node at which a load balancer asks whether traffic for a Service may come here (`spec.healthCheckNodePort`, API: Service). We
 * answer there over HTTP, on all addresses.
 */
export interface HealthPort {
  readonly port: number;
  readonly namespace: string;
  readonly name: string;
  /** Ready endpoints on this node. */
  readonly localEndpoints: number;
}

/**
 * The far end of direct server return, in the network namespace of a pod of this node: a virtual address on a tunnel that takes in what IPVS wraps
 * for the pod, so that the pod takes these packets for its own and answers the client itself.
 */
export interface PodTunnel {
  /** Address of the pod; with it, its namespace is found. */
  readonly pod: IpAddress;
  /** Of the same family. */
  readonly vip: IpAddress;
}

/** Packets of a family that bear a bit of the mark are for this host, whatever their address: a rule (ip-rule(8)) and the routing table that it leads to. */
export interface MarkDelivery {
  readonly family: Family;
  /** The bit, as value and as mask. */
  readonly mark: number;
  readonly table: typeof MARK_DELIVERY_TABLE;
}

/** kube-router's table and priority of direct server return. No name is written to rt_tables. */
export const MARK_DELIVERY_TABLE = 78;
export const MARK_DELIVERY_PRIORITY = 32_764;

/** A port of the pods' bridge in hairpin mode (bridge(8)): a frame may leave by the port that it came in by. */
export interface BridgePort {
  readonly link: string;
  readonly bridge: string;
}

/**
 * The load-balancer addresses of a Service in its status (`status.loadBalancer.ingress`); what others wrote beside them stays. An entry without addresses
 * takes back what was found, also where nobody remembers an entry. Deleting the entry takes them back from what is no load balancer any more; a
 * Service that still is one is another controller's then, and keeps them.
 */
export interface ServiceStatus {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Ours, in the order in which they stand there; empty while what was found is to be taken back. */
  readonly addresses: readonly IpAddress[];
  /**
   * Those that the Service was seen to have and that are ours to replace. Only told: where it is not `addresses`, what is believed to be written is not
   * there (yet, or any more).
   */
  readonly found: readonly IpAddress[];
}

/**
 * An address that this node answers for on the local network (ARP, RFC 826; NDP, RFC 4861): a host prefix on the link itself, in addition to the one on
 * `kube-dummy-if`.
 */
export interface LanAddress {
  readonly link: string;
  readonly address: IpAddress;
}

export interface ServiceTableTypes {
  readonly healthPort: HealthPort;
  readonly podTunnel: PodTunnel;
  readonly markDelivery: MarkDelivery;
  readonly bridgePort: BridgePort;
  readonly lanAddress: LanAddress;
  readonly serviceStatus: ServiceStatus;
}

export function podTunnelKey({ pod, vip }: PodTunnel): string {
  return `${pod} ${vip}`;
}

export function lanAddressKey({ address, link }: LanAddress): string {
  return `${address} ${link}`;
}

const NOTHING: readonly never[] = [];

/** The part of `TABLES` for these tables. */
export const SERVICE_TABLES: { readonly [K in keyof ServiceTableTypes]: TableDefinition<ServiceTableTypes[K]> } = {
  healthPort: {
    key: ({ port }) => `${port}`,
    same: (actual, desired) =>
      actual.namespace === desired.namespace && actual.name === desired.name && actual.localEndpoints === desired.localEndpoints,
    requires: () => NOTHING,
  },
  podTunnel: {
    key: podTunnelKey,
    same: () => true,
    requires: () => NOTHING,
  },
  markDelivery: {
    key: ({ family, mark }) => `${family} ${mark}`,
    same: () => true,
    requires: () => NOTHING,
  },
  lanAddress: {
    key: lanAddressKey,
    same: () => true,
    requires: () => NOTHING,
  },
  serviceStatus: {
    key: ({ namespace, name }) => `${namespace}/${name}`,
    same: (actual, desired) =>
      actual.uid === desired.uid &&
      sameAddresses(actual.addresses, desired.addresses) &&
      (actual === desired || sameAddresses(desired.found, desired.addresses)),
    requires: () => NOTHING,
  },
  bridgePort: {
    key: ({ link }) => link,
    same: (actual, desired) => actual.bridge === desired.bridge,
    requires: () => NOTHING,
  },
};
