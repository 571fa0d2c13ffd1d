/**
 * Every option of the daemon, once: flag, type, default, group, help. Parser, `--help`, documentation and the type of the
 * configuration are read off this table; a new option is one more line here.
 *
 * Names, types and defaults without remark are kube-router v2.11's. Durations are milliseconds in the configuration.
 */
import { familyOf, parseAddress } from '../net/address.ts';
import { mustParsePrefix } from '../net/prefix.ts';
import { clusterAsn, peerAsns } from './as-numbers.ts';
import { type Option, option } from './option.ts';
import {
  bool,
  cidrList,
  duration,
  HOUR,
  ipList,
  LONGEST_TIMER,
  MINUTE,
  oneOf,
  passwordList,
  portRange,
  SECOND,
  text,
  uint,
  uintList,
  verbosity,
} from './value-types.ts';

const timer = duration({ min: 1, max: LONGEST_TIMER });
const period = duration({ min: 1 });
const optionalPort = uint(16);

const AUDITED = 'changes are applied as they happen, and every table is read back each --audit-period';

function isRouterId(value: string): boolean {
  if (value === '' || value === 'generate') return true;
  const address = parseAddress(value);
  return address !== undefined && familyOf(address) === 'ipv4';
}

export const OPTIONS = {
  // Every module
  help: option('common', bool, false, 'Print this text and exit.', { shorthand: 'h' }),
  version: option('common', bool, false, 'Print the version and exit.', { shorthand: 'V' }),
  'run-router': option('common', bool, true, 'Run pod routing: BGP, routes and tunnels between nodes, CNI file, pod egress.'),
  'run-firewall': option('common', bool, true, 'Run network policy: NetworkPolicy objects enforced by iptables and ipset.'),
  'run-service-proxy': option('common', bool, true, 'Run service load balancing: Service addresses on IPVS.'),
  'run-loadbalancer': option(
    'common',
    bool,
    false,
    'Run the allocator of load-balancer addresses for Services of type LoadBalancer.',
  ),
  kubeconfig: option(
    'common',
    text('path'),
    '',
    'Kubeconfig file with address and credentials of the API server. Empty: those of the pod.',
  ),
  master: option('common', text('URL'), '', 'Address of the API server; goes before the one in the kubeconfig.'),
  manifests: option('common', text('path'), '', 'Directory of Kubernetes YAML files, watched live, in place of the API server.'),
  'hostname-override': option(
    'common',
    text(),
    '',
    'Name of this Node object. Empty: $NODE_NAME, else the host name in lower case.',
  ),
  'enable-ipv4': option('common', bool, true, 'Program IPv4.'),
  'enable-ipv6': option('common', bool, false, 'Program IPv6.'),
  'cache-sync-timeout': option(
    'common',
    timer,
    MINUTE,
    'How long the first full list of watched objects may take before it is reported as overdue.',
  ),
  'audit-period': option(
    'common',
    duration({ min: SECOND, max: 24 * HOUR }),
    MINUTE,
    'Time between two read-backs of each kernel table, which find and repair changes made by others.',
  ),
  'cleanup-config': option(
    'common',
    bool,
    false,
    'Remove everything of ours from this host and exit; the same as the command cleanup.',
  ),
  socket: option(
    'common',
    text('path', value => value.startsWith('/'), 'an absolute path'),
    '/run/fairway/fairway.sock',
    'Unix socket on which the running daemon answers its commands.',
  ),
  'health-addr': option('common', text(), '', 'Address on which /healthz is served. Empty: all.'),
  'health-port': option('common', optionalPort, 20244, 'TCP port of /healthz; 0 turns it off.'),
  'metrics-addr': option('common', text(), '', 'Address on which Prometheus metrics are served. Empty: all.'),
  'metrics-path': option(
    'common',
    text('path', value => value.startsWith('/'), 'a path that begins with /'),
    '/metrics',
    'HTTP path of the metrics.',
  ),
  'metrics-port': option('common', uint(16, { max: 65534 }), 0, 'TCP port of the metrics; 0 turns them off.'),
  'enable-pprof': option('common', bool, false, 'Serve profiles on port 6060.', {
    withoutEffect: 'pprof is the profiler of Go programs; start node with --cpu-prof instead',
  }),
  v: option('common', verbosity, 0, 'Log level: 0 tells of state changes, higher ones say more.', { shorthand: 'v' }),
  'log-format': option('common', oneOf('text', 'json'), 'text', 'Form of a log line.'),

  // Pod routing
  'enable-cni': option(
    'routing',
    bool,
    true,
    'Keep pod CIDRs and MTU in the CNI configuration file, which must exist; see $KUBE_ROUTER_CNI_CONF_FILE.',
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
  'overlay-encap-port': option('routing', uint(16, { min: 1024 }), 5555, 'UDP port of fou tunnels.'),
  'routes-sync-period': option('routing', period, 5 * MINUTE, 'Time between two full passes over routes and peers.', {
    withoutEffect: AUDITED,
  }),
  'injected-routes-sync-period': option('routing', period, MINUTE, 'Time between two passes over learned routes.', {
    withoutEffect: AUDITED,
  }),
  'disable-source-dest-check': option('routing', bool, true, "AWS: clear the source/destination check of this node's instance."),
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
  'enable-bfd': option('routing', bool, false, 'Watch the external peers of --peer-router-ips by BFD.'),
  'bfd-port': option('routing', uint(32, { min: 1, max: 65535 }), 3784, 'UDP port of BFD.'),
  'bfd-detection-multiplier': option(
    'routing',
    uint(32, { min: 1, max: 255 }),
    3,
    'Missed BFD packets after which a peer is down.',
  ),
  'bfd-desired-min-tx-interval': option(
    'routing',
    uint(32, { min: 1, max: 4294967 }),
    1000,
    'Milliseconds between BFD packets sent.',
  ),
  'bfd-required-min-rx-interval': option(
    'routing',
    uint(32, { min: 1, max: 4294967 }),
    1000,
    'Milliseconds between BFD packets expected.',
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

  // Service load balancing
  'ipvs-sync-period': option('services', period, 5 * MINUTE, 'Time between two full passes over Services.', {
    withoutEffect: AUDITED,
  }),
  'ipvs-permit-all': option(
    'services',
    bool,
    true,
    'true INSTALLS the firewall of Service addresses: only Service ports and ICMP echo are open on them; false leaves them open.',
  ),
  'ipvs-graceful-termination': option('services', bool, false, 'Drain removed endpoints at weight 0 before they are deleted.', {
    planned: true,
  }),
  'ipvs-graceful-period': option(
    'services',
    duration({ max: LONGEST_TIMER }),
    30 * SECOND,
    'Drain time where the pod does not tell its own.',
    { planned: true },
  ),
  'masquerade-all': option(
    'services',
    bool,
    false,
    'Masquerade all traffic to Services; endpoints see the node instead of the client.',
  ),
  'hairpin-mode': option('services', bool, false, 'Let a pod reach itself through its Service.', {
    withoutEffect: 'that works for every Service without it',
  }),
  'nodeport-bindon-all-ip': option(
    'services',
    bool,
    false,
    'Open node ports on every address of the host, not only the Internal and External IPs of the Node.',
  ),
  'nodeport-addresses': option(
    'services',
    cidrList,
    [],
    'Prefixes of the node addresses on which node ports listen. Empty: no restriction.',
  ),
  'excluded-cidrs': option(
    'services',
    cidrList,
    [],
    'Virtual servers with an address inside are never deleted: they belong to others.',
  ),
  'service-cluster-ip-range': option(
    ['services', 'policy', 'routing'],
    cidrList,
    [mustParsePrefix('10.96.0.0/12')],
    "The cluster's Service ranges, one or two; external and load-balancer IPs inside are refused.",
  ),
  'service-external-ip-range': option(
    ['services', 'policy', 'routing'],
    cidrList,
    [],
    'Ranges in which external IPs are accepted. Empty: none are, unless --strict-external-ip-validation=false.',
  ),
  'loadbalancer-ip-range': option(
    ['lb-allocator', 'services', 'routing', 'policy'],
    cidrList,
    [],
    'Pools of load-balancer IPs, and the ranges in which they are accepted. Empty: none are, unless --strict-external-ip-validation=false.',
  ),
  'strict-external-ip-validation': option(
    ['services', 'routing'],
    bool,
    true,
    'Refuse external and load-balancer IPs outside the ranges given for them.',
  ),
  'service-tcp-timeout': option(
    'services',
    duration(),
    0,
    'IPVS timeout of idle TCP connections, in whole seconds; 0 keeps what the kernel has.',
  ),
  'service-tcpfin-timeout': option(
    'services',
    duration(),
    0,
    'IPVS timeout of TCP connections after FIN, in whole seconds; 0 keeps what the kernel has.',
  ),
  'service-udp-timeout': option(
    'services',
    duration(),
    0,
    'IPVS timeout of UDP flows, in whole seconds; 0 keeps what the kernel has.',
  ),
  'runtime-endpoint': option(
    'services',
    text('URL', value => /^(unix:\/\/.+|\/.+|)$/.test(value), 'unix:///path/of/socket'),
    '',
    'Socket of the container runtime, for direct server return.',
    { planned: true },
  ),

  // Network policy
  'iptables-sync-period': option('policy', period, 5 * MINUTE, 'Time between two full passes over policies.', {
    withoutEffect: AUDITED,
  }),
  'netpol-default-deny': option('policy', bool, false, 'Keep a pod closed, except to its node, until its policies are in force.'),
  'netpol-deny-with': option(
    'policy',
    oneOf('reject', 'drop'),
    'reject',
    'Answer denied packets with an ICMP error (reject) or not at all (drop).',
  ),
  'service-node-port-range': option(
    'policy',
    portRange,
    { first: 30000, last: 32767 },
    'Range of node ports, which policies for the host itself leave open.',
  ),
  'use-nftables-for-netpol': option('policy', bool, false, 'Enforce policies by nftables.', {
    withoutEffect: 'policies are enforced by iptables and ipset; the iptables tool itself may be the nft flavour',
  }),

  // Load-balancer addresses
  'loadbalancer-default-class': option(
    'lb-allocator',
    bool,
    true,
    'Serve Services without a load-balancer class or with class default too, not only class kube-router.',
  ),
  'loadbalancer-sync-period': option('lb-allocator', period, MINUTE, 'Time between two full passes over Services.', {
    withoutEffect: AUDITED,
  }),
};

export type FlagName = keyof typeof OPTIONS;

export const FLAG_NAMES = Object.keys(OPTIONS) as readonly FlagName[];

type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}` ? `${Head}${Capitalize<CamelCase<Tail>>}` : S;

type ValueOf<F extends FlagName> = (typeof OPTIONS)[F] extends Option<infer T> ? T : never;

/** The value of every option: `--run-service-proxy` is `runServiceProxy`. */
export type OptionValues = { readonly [F in FlagName as CamelCase<F>]: ValueOf<F> };

/** The key of a flag in the configuration. */
export function keyOf<F extends FlagName>(flag: F): CamelCase<F> {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()) as CamelCase<F>;
}

/** The option of a flag where its type does not matter. */
export function optionOf(flag: FlagName): Option<unknown> {
  return OPTIONS[flag];
}

/** The flag of that name, if there is one. */
export function findFlag(name: string): FlagName | undefined {
  return Object.hasOwn(OPTIONS, name) ? (name as FlagName) : undefined;
}

/** The flag of that letter, if there is one. */
export function findShorthand(letter: string): FlagName | undefined {
  return FLAG_NAMES.find(flag => optionOf(flag).shorthand === letter);
}
