/** Names in the kernel. */
import type { Family } from '../../daemon/net/address.ts';

/** The bridge of this node's pods, as kube-router's CNI configuration names it. */
export const POD_BRIDGE = 'kube-bridge';

/** Place of our hooks among all of Fairway's in one built-in chain: behind policies, and behind what Services masquerade. */
export const HOOK_ORDER = 30;

export const CHAINS = {
  /** Accepts what is to or from pods. */
  forward: 'FAIRWAY-ROUTING',
  /** Masquerades what leaves the cluster. */
  egress: 'FAIRWAY-POD-EGRESS',
} as const;

/** kube-router's sets: pod prefixes of all nodes, addresses of all nodes. */
const SETS = { podSubnets: 'kube-router-pod-subnets', nodeIps: 'kube-router-node-ips' } as const;
export type SetRole = keyof typeof SETS;

export function setName(role: SetRole, family: Family): string {
  return family === 'ipv6' ? `inet6:${SETS[role]}` : SETS[role];
}

/** Whether addresses on this link say where the node is; those of pods and Services (kube-router's rule by name), tunnels and loopback do not. */
export function isUnderlay(link: string): boolean {
  return link !== 'lo' && !/dummy|kube|docker/.test(link) && !link.startsWith('tun-') && !link.startsWith('fairway-');
}
