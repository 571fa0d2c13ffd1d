/** Names in the kernel. Links and shared sets keep kube-router's names, so that one image takes over from the other without a gap. */
import type { Family } from '../../daemon/net/address.ts';
import type { IpSetType } from '../../daemon/reconcile/tables.ts';

/** The dummy device that holds the virtual addresses. */
export const VIP_LINK = 'kube-dummy-if';
/** The bridge of the node's pods, where kube-router's or our routing made one. */
export const POD_BRIDGE = 'kube-bridge';

export const CHAINS = {
  input: 'FAIRWAY-INPUT',
  services: 'FAIRWAY-SERVICES',
  masquerade: 'FAIRWAY-MASQUERADE',
  prerouting: 'FAIRWAY-PREROUTING',
  output: 'FAIRWAY-OUTPUT',
} as const;

/** Place of our hooks among all of Fairway's in one built-in chain: network policy judges before Services accept. */
export const HOOK_ORDER = 20;

/** The sets of one family, by what they hold. */
export const SETS = {
  /** Virtual addresses on {@link VIP_LINK}. */
  vips: { name: 'kube-router-svip', type: 'hash:ip' },
  /** What is served on them: address, protocol, port. */
  vipPorts: { name: 'kube-router-svip-prt', type: 'hash:ip,port' },
  /** The host's own addresses. */
  hostAddresses: { name: 'kube-router-local-ips', type: 'hash:ip' },
  /** Address and port of Services whose traffic policy leaves this node nothing to serve. */
  dropped: { name: 'fairway-drop', type: 'hash:ip,port' },
  /** Address and TCP port of Services without any endpoint. */
  refused: { name: 'fairway-refuse', type: 'hash:ip,port' },
  /** Load-balancer address and port of Services that are open to some sources only (`spec.loadBalancerSourceRanges`). */
  closed: { name: 'fairway-closed', type: 'hash:ip,port' },
  /** The same with each prefix of sources they are open to. */
  open: { name: 'fairway-open', type: 'hash:ip,port,net' },
  /** Address and port of Services whose external policy is Local, with the mark under which pods of this node and the node itself meet all endpoints. */
  inside: { name: 'fairway-inside', type: 'hash:ip,port', carriesMarks: true },
  /** External address and port of Services with direct server return, with the mark that brings their packets to IPVS; only where there are some. */
  direct: { name: 'fairway-direct', type: 'hash:ip,port', carriesMarks: true },
  /** Endpoints of this node as destination and source at once. */
  hairpin: { name: 'fairway-hairpin', type: 'hash:ip,port,ip' },
  /** Endpoints of this node; only on nodes without pod CIDRs. */
  localPods: { name: 'fairway-local-pods', type: 'hash:ip' },
} as const satisfies Readonly<Record<string, { name: string; type: IpSetType; carriesMarks?: true }>>;

export type SetRole = keyof typeof SETS;

/** A set holds addresses of one family; IPv6 twins carry kube-router's prefix. */
export function setName(role: SetRole, family: Family): string {
  return family === 'ipv6' ? `inet6:${SETS[role].name}` : SETS[role].name;
}
