/**
 * Every option of the daemon, once: flag, type, default, group, help. Parser, `--help`, documentation and the type of the
 * configuration are read off this table; a new option is one more line here.
 *
 * Names, types and defaults without remark are kube-router v2.11's. Durations are milliseconds in the configuration.
 */
import { mustParsePrefix } from '../net/prefix.ts';
import { type Option, option } from './option.ts';
import { AUDITED, optionalPort, period } from './option-parts.ts';
import { COMMAND_OPTIONS, PREDECESSORS } from './options-commands.ts';
import { ROUTING_OPTIONS } from './options-routing.ts';
import {
  bool,
  cidrList,
  duration,
  HOUR,
  LONGEST_TIMER,
  linkNames,
  MINUTE,
  oneOf,
  portRange,
  rangeList,
  SECOND,
  text,
  uint,
  verbosity,
  wordList,
} from './value-types.ts';

const timer = duration({ min: 1, max: LONGEST_TIMER });
/** A namespace and a name (RFC 1123); `./pools.yaml` is none. */
const CONFIG_MAP = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

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
  'announce-l2': option(
    'common',
    bool,
    false,
    'Answer ARP and NDP for load-balancer IPs on the local network, from one node for each address.',
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
  'enable-ipv4': option('common', bool, true, 'Program IPv4. Not given: where the node or its pods have addresses of it.'),
  'enable-ipv6': option('common', bool, false, 'Program IPv6. Not given: where the node or its pods have addresses of it.'),
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
    'Time between two read-backs of each kernel table, which find and repair changes made by others. At its default, a table whose reading takes long is read less often.',
  ),
  'cleanup-config': option(
    'common',
    bool,
    false,
    'Remove everything of ours from this host and exit; the same as the command cleanup.',
  ),
  'take-over': option(
    'common',
    wordList(...PREDECESSORS),
    [],
    'Remove what these left on this host, once the first round is in and they do not run here any more.',
  ),
  socket: option(
    'common',
    text('path', value => value === '' || value.startsWith('/'), 'an absolute path'),
    '',
    'Unix socket on which the running daemon answers its commands, for root alone. Empty: fairway.sock in the folder of the node below /run/fairway.',
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
    withoutEffect: 'pprof is the profiler of Go programs; the command profile takes one of the running daemon',
  }),
  v: option('common', verbosity, 0, 'Log level: 0 tells of state changes, higher ones say more.', { shorthand: 'v' }),
  'log-format': option('common', oneOf('text', 'json'), 'text', 'Form of a log line.'),

  ...COMMAND_OPTIONS,
  ...ROUTING_OPTIONS,
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
  'ipvs-graceful-termination': option(
    'services',
    bool,
    false,
    'Let removed endpoints keep their TCP connections, at weight 0, until these end or the time of the pod is up.',
  ),
  'ipvs-graceful-period': option(
    'services',
    duration({ max: LONGEST_TIMER }),
    30 * SECOND,
    "Time that a removed endpoint keeps its connections where no pod's terminationGracePeriodSeconds is known.",
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
    ['services', 'policy', 'routing', 'lan-announcer'],
    cidrList,
    [mustParsePrefix('10.96.0.0/12')],
    "The cluster's Service ranges, one or two; external and load-balancer IPs inside are refused.",
  ),
  'service-external-ip-range': option(
    ['services', 'policy', 'routing', 'lan-announcer'],
    cidrList,
    [],
    'Ranges in which external IPs are accepted. Empty: none are, unless --strict-external-ip-validation=false.',
  ),
  'loadbalancer-ip-range': option(
    ['lb-allocator', 'lan-announcer', 'services', 'routing', 'policy'],
    rangeList,
    [],
    'Pool of load-balancer IPs, and the ranges in which they are accepted: CIDRs or first-last. Empty: none are, unless --strict-external-ip-validation=false.',
  ),
  'loadbalancer-pools': option(
    ['lb-allocator', 'lan-announcer', 'services', 'routing', 'policy'],
    text(
      'place',
      value => value === '' || value.startsWith('/') || CONFIG_MAP.test(value),
      'NAMESPACE/NAME of a ConfigMap, or the absolute path of a file',
    ),
    '',
    'Named pools of load-balancer IPs, beside --loadbalancer-ip-range: a ConfigMap (NAMESPACE/NAME, key pools.yaml) or a file, followed live.',
  ),
  'strict-external-ip-validation': option(
    ['services', 'policy', 'routing', 'lan-announcer'],
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
    'Socket of the container runtime (CRI), for direct server return. Empty: the usual ones of containerd, CRI-O and cri-dockerd.',
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
    'Answer denied packets with an RST or an ICMP error (reject), or not at all (drop).',
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
    ['lb-allocator', 'lan-announcer'],
    bool,
    true,
    'Serve Services without a load-balancer class or with class default too, not only class kube-router.',
  ),
  'loadbalancer-sync-period': option('lb-allocator', period, MINUTE, 'Time between two full passes over Services.', {
    withoutEffect: AUDITED,
  }),

  // Announcement on the local network
  'announce-interfaces': option(
    'lan-announcer',
    linkNames,
    [],
    'Links on which load-balancer IPs are answered for, and no others. Empty: those that have the addresses of this node.',
  ),
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
