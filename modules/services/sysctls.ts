/** Kernel settings that IPVS with network address translation needs on this node; most are kube-router's. */
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import type { Sysctl } from '../../daemon/reconcile/tables.ts';
import type { NodeContext } from './context.ts';
import { POD_BRIDGE } from './names.ts';

export interface DirectReturnNeeds {
  /** IPv4 addresses are served that are on no link. */
  readonly foreignSource: boolean;
  readonly sloppyTcp: boolean;
}

export function sysctlEntries(node: NodeContext, needs: DirectReturnNeeds): readonly Entry[] {
  return [
    ...ipvsSettings(needs),
    ...(node.families.includes('ipv4') ? ipv4Settings(node) : []),
    ...ipv6Settings(node),
    ...bridgeSettings(node),
  ].map(setting => entry('sysctl', setting));
}

/** They govern both families although they stand below ipv4. */
function ipvsSettings({ foreignSource, sloppyTcp }: DirectReturnNeeds): readonly Sysctl[] {
  return [
    // Without conntrack, iptables sees no connections in balanced traffic: masquerading and `-m ipvs` match nothing.
    setting('net/ipv4/vs/conntrack', '1', 'fail'),
    // A connection whose endpoint is gone is reset at its next packet instead of hanging until it times out.
    setting('net/ipv4/vs/expire_nodest_conn', '1', 'skip'),
    // Persistent clients of an endpoint that drains at weight 0 move on to another.
    setting('net/ipv4/vs/expire_quiescent_template', '1', 'skip'),
    // Otherwise a client that soon uses a source port again loses its first packet, one second (kernels before 5.9, f0a5e4d7a594).
    setting('net/ipv4/vs/conn_reuse_mode', '0', 'skip'),
    // With direct server return and a hash that every node computes alike (mh), a connection may go on by another node, which has not seen it begin.
    setting('net/ipv4/vs/sloppy_tcp', sloppyTcp ? '1' : '0', 'skip'),
    // Where 1, a translated answer is routed as if this host had sent it, which the kernel refuses under an address that is not the host's: with
    // direct server return no address is, and some endpoints are translated all the same.
    setting('net/ipv4/vs/snat_reroute', foreignSource ? '0' : '1', 'skip'),
  ];
}

function ipv4Settings(node: NodeContext): readonly Sysctl[] {
  const reversePathLinks = ['all', ...new Set([...(node.hasPodBridge ? [POD_BRIDGE] : []), ...node.nodeLinks.ipv4])];
  return [
    // Packets to endpoints on other nodes are forwarded.
    setting('net/ipv4/ip_forward', '1', 'fail'),
    // Virtual addresses are on every node at once: no node may answer ARP for them on its other links ...
    setting('net/ipv4/conf/all/arp_ignore', '1', 'fail'),
    // ... nor name one as the sender when it asks.
    setting('net/ipv4/conf/all/arp_announce', '2', 'fail'),
    // Strict reverse-path filtering (1) drops replies that come back by another link than the route to their source; loose (2) and
    // none (0) do not. The kernel takes the greater of `all` and the link's own value, so that both must be right.
    ...reversePathLinks.map(
      (link): Sysctl => ({ path: `net/ipv4/conf/${link}/rp_filter`, value: '2', alsoGood: ['0'], whenMissing: 'skip' }),
    ),
  ];
}

function ipv6Settings(node: NodeContext): readonly Sysctl[] {
  if (!node.families.includes('ipv6')) return [];
  return [
    // A forwarding host stops heeding router advertisements where this is 1, and would lose its default route; 0 is a choice to keep.
    ...node.nodeLinks.ipv6.map(
      (link): Sysctl => ({ path: `net/ipv6/conf/${link}/accept_ra`, value: '2', alsoGood: ['0'], whenMissing: 'skip' }),
    ),
    setting('net/ipv6/conf/all/forwarding', '1', 'fail'),
  ];
}

/** Replies between two pods of one bridge must meet IPVS again, which sits in the IP stack (absent without br_netfilter). */
function bridgeSettings(node: NodeContext): readonly Sysctl[] {
  return [
    ...(node.families.includes('ipv4') ? [setting('net/bridge/bridge-nf-call-iptables', '1', 'skip')] : []),
    ...(node.families.includes('ipv6') ? [setting('net/bridge/bridge-nf-call-ip6tables', '1', 'skip')] : []),
  ];
}

function setting(path: string, value: string, whenMissing: Sysctl['whenMissing']): Sysctl {
  return { path, value, alsoGood: [], whenMissing };
}
