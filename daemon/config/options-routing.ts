/** The options of pod routing: a part of the table in `options.ts`. */
import { familyOf, parseAddress } from '../net/address.ts';
import { clusterAsn, peerAsns } from './as-numbers.ts';
import { option } from './option.ts';
import { AUDITED, optionalPort, period } from './option-parts.ts';
import { bool, duration, ipList, MINUTE, oneOf, passwordList, SECOND, text, uint, uintList } from './value-types.ts';

function isRouterId(value: string): boolean {
  if (value === '' || value === 'generate') return true;
  const address = parseAddress(value);
  return address !== undefined && familyOf(address) === 'ipv4';
}

/** GoBGP learned BFD with its fourth version. */
const NO_BFD = 'gobgpd 3 has no BFD; --bgp-holdtime of a few seconds finds a dead peer';

export const ROUTING_OPTIONS = {
  'enable-cni': option(
    'routing',
    bool,
    true,
    'Keep pod CIDRs and MTU in the CNI configuration file, which is made where there is none; see $KUBE_ROUTER_CNI_CONF_FILE.',
  ),
  'auto-mtu': option(
    'routing',
    bool,
    true,
    'Derive the MTU of kube-bridge and pods from the node interface, less what the overlay takes.',
  ),
  'enable-pod-egress': option('routing', bool, true, 'Masquerade pod traffic that leaves the cluster.'),
  'pod-routes': option(
    'routing',
    oneOf('bgp', 'api'),
    'bgp',
    'Where routes to other nodes come from: bgp, the sessions between nodes; api, the Node objects, without any sessions between nodes.',
  ),
  'enable-overlay': option('routing', bool, true, 'Tunnel between nodes; --overlay-type says between which.'),
  'overlay-type': option(
    'routing',
    oneOf('subnet', 'full'),
    'subnet',
    'Tunnel only between nodes of different subnets (subnet) or between all (full).',
  ),
  'overlay-encap': option(
    'routing',
    oneOf('ipip', 'fou', 'vxlan'),
    'ipip',
    'Encapsulation of tunnels: ipip is IP in IP, fou is GUE over UDP, vxlan is VXLAN over UDP.',
  ),
  'overlay-encap-port': option(
    'routing',
    uint(16, { min: 1024 }),
    5555,
    'UDP port of fou tunnels, and where it is given of vxlan ones, which else have 4790.',
  ),
  'routes-sync-period': option('routing', period, 5 * MINUTE, 'Time between two full passes over routes and peers.', {
    withoutEffect: AUDITED,
  }),
  'injected-routes-sync-period': option('routing', period, MINUTE, 'Time between two passes over learned routes.', {
    withoutEffect: AUDITED,
  }),
  'disable-source-dest-check': option('routing', bool, true, "AWS: clear the source/destination check of this node's instance.", {
    planned: true,
  }),
  'advertise-pod-cidr': option('routing', bool, true, 'Announce pod CIDRs to external peers.'),
  'advertise-cluster-ip': option('routing', bool, false, 'Announce the cluster IPs of Services to external peers.'),
  'advertise-external-ip': option('routing', bool, false, 'Announce the external IPs of Services to external peers.'),
  'advertise-loadbalancer-ip': option('routing', bool, false, 'Announce the load-balancer IPs of Services to external peers.'),
  'override-nexthop': option('routing', bool, false, 'Announce this node as next hop to external peers.'),
  'router-id': option(
    'routing',
    text('IPv4', isRouterId, 'a dotted IPv4 address or generate'),
    '',
    'BGP identifier; generate hashes the primary address. Empty: the primary IPv4 address.',
  ),
  'cluster-asn': option('routing', clusterAsn(), 0, 'AS number of all nodes in a full mesh; 0 means 64512.'),
  'nodes-full-mesh': option(
    'routing',
    bool,
    true,
    'Peer with every node; false: only with nodes of the same kube-router.io/node.asn.',
  ),
  'enable-ibgp': option('routing', bool, true, 'Peer with other nodes at all.'),
  'bgp-port': option(
    'routing',
    uint(32, { min: 1, max: 65535 }),
    179,
    'TCP port on which BGP listens and other nodes are called.',
  ),
  'bgp-holdtime': option(
    'routing',
    duration({ min: 3 * SECOND, max: 65536 * SECOND }),
    90 * SECOND,
    'Hold time offered to external peers, 3s to 65536s.',
  ),
  'bgp-graceful-restart': option(
    'routing',
    bool,
    false,
    'Offer graceful restart (RFC 4724): peers keep our routes while we restart.',
  ),
  'bgp-graceful-restart-time': option('routing', duration(), 90 * SECOND, 'Restart time told to peers, up to 4095s.'),
  'bgp-graceful-restart-deferral-time': option(
    'routing',
    duration(),
    6 * MINUTE,
    'How long route selection waits for restarting peers, up to 18h.',
  ),
  'peer-router-ips': option(
    'routing',
    ipList,
    [],
    'External peers of every node; when given, peers in node annotations are ignored.',
  ),
  'peer-router-asns': option('routing', peerAsns, [], 'AS numbers of the external peers, one per address.'),
  'peer-router-ports': option(
    'routing',
    uintList(value => value >= 1 && value <= 65535, 'ports from 1 to 65535'),
    [],
    'TCP ports of the external peers, one per address. Empty: 179.',
  ),
  'peer-router-passwords': option(
    'routing',
    passwordList,
    [],
    'TCP MD5 passwords of the external peers in base64, one per address, blanks allowed.',
    {
      caution: 'everyone on the host reads it in the process list; use --peer-router-passwords-file',
    },
  ),
  'peer-router-passwords-file': option(
    'routing',
    text('path'),
    '',
    'File with what --peer-router-passwords takes; read where that one is empty.',
  ),
  'peer-router-multihop-ttl': option('routing', uint(8), 0, 'TTL towards all external peers (eBGP multihop); below 2 it is off.'),
  'enable-bfd': option('routing', bool, false, 'Watch the external peers of --peer-router-ips by BFD.', {
    withoutEffect: NO_BFD,
  }),
  'bfd-port': option('routing', uint(32, { min: 1, max: 65535 }), 3784, 'UDP port of BFD.', { withoutEffect: NO_BFD }),
  'bfd-detection-multiplier': option(
    'routing',
    uint(32, { min: 1, max: 255 }),
    3,
    'Missed BFD packets after which a peer is down.',
    { withoutEffect: NO_BFD },
  ),
  'bfd-desired-min-tx-interval': option(
    'routing',
    uint(32, { min: 1, max: 4294967 }),
    1000,
    'Milliseconds between BFD packets sent.',
    { withoutEffect: NO_BFD },
  ),
  'bfd-required-min-rx-interval': option(
    'routing',
    uint(32, { min: 1, max: 4294967 }),
    1000,
    'Milliseconds between BFD packets expected.',
    { withoutEffect: NO_BFD },
  ),
  'gobgp-endpoint': option(
    'routing',
    text('host:port', value => /^(\S+:\d+|unix:.+|)$/.test(value), 'host:port'),
    '',
    'gRPC address of a gobgpd that already runs. Empty: the daemon starts its own.',
  ),
  'gobgp-admin-address': option('routing', text(), '127.0.0.1', 'Address on which our gobgpd answers gRPC, besides 127.0.0.1.'),
  'gobgp-admin-port': option(
    'routing',
    optionalPort,
    50051,
    'TCP port on which our gobgpd answers gRPC for administration; 0 turns that off.',
  ),
} as const;
