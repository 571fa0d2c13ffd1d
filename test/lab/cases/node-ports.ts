/**
 * Where node ports answer. Kubernetes, "type: NodePort": "Each node proxies that port (the same port number on every Node) into your Service."
 * kube-proxy, --nodeport-addresses: "connections to NodePort services will only be accepted on node IPs in one of the indicated ranges". Without
 * flags ours answer at the Node's InternalIPs and ExternalIPs (status.addresses); `--nodeport-bindon-all-ip` adds every address of the host that is
 * not loopback and on no link of containers (kube-router: names with dummy, kube or docker); `--nodeport-addresses` takes away what lies outside.
 *
 * node1 has no flags, node2 `--nodeport-bindon-all-ip`, node3 that and `--nodeport-addresses=192.168.3.0/24,fd00:192:168:3::/64`.
 * A node's addresses beyond what status.addresses lists as InternalIP:
 */
export interface ExtraAddress {
  readonly node: 'node1' | 'node2' | 'node3';
  readonly title: string;
  readonly address: string;
  readonly link: 'eth0' | 'kube-extra' | 'extra';
  /** Whether status.addresses has it, as ExternalIP. */
  readonly isExternalIP?: true;
  readonly answers: boolean;
}

export const EXTRA_ADDRESSES: readonly ExtraAddress[] = [
  { node: 'node1', title: 'an ExternalIP', address: '192.168.1.121', link: 'eth0', isExternalIP: true, answers: true },
  { node: 'node1', title: 'an ExternalIP', address: 'fd00:192:168:1::121', link: 'eth0', isExternalIP: true, answers: true },
  { node: 'node1', title: 'an address the Node does not list', address: '192.168.1.131', link: 'eth0', answers: false },
  { node: 'node1', title: 'an address the Node does not list', address: 'fd00:192:168:1::131', link: 'eth0', answers: false },

  { node: 'node2', title: 'an address the Node does not list', address: '192.168.1.132', link: 'eth0', answers: true },
  { node: 'node2', title: 'an address the Node does not list', address: 'fd00:192:168:1::132', link: 'eth0', answers: true },
  { node: 'node2', title: 'an address of a link of its own', address: '198.18.2.1', link: 'extra', answers: true },
  { node: 'node2', title: 'an address of a link of its own', address: 'fd00:198:18:2::1', link: 'extra', answers: true },
  { node: 'node2', title: 'an address of a link of containers', address: '198.18.2.2', link: 'kube-extra', answers: false },
  { node: 'node2', title: 'an address of a link of containers', address: 'fd00:198:18:2::2', link: 'kube-extra', answers: false },

  { node: 'node3', title: 'an address inside --nodeport-addresses', address: '192.168.3.133', link: 'eth0', answers: true },
  { node: 'node3', title: 'an address inside --nodeport-addresses', address: 'fd00:192:168:3::133', link: 'eth0', answers: true },
  { node: 'node3', title: 'an address outside --nodeport-addresses', address: '198.18.3.1', link: 'extra', answers: false },
  { node: 'node3', title: 'an address outside --nodeport-addresses', address: 'fd00:198:18:3::1', link: 'extra', answers: false },
];

/** Addresses at which no node port answers on any node, asked from the node itself: loopback, and the bridge of the pods. */
export const NEVER = ['127.0.0.1', '::1', 'the bridge of the pods, IPv4', 'the bridge of the pods, IPv6'] as const;
