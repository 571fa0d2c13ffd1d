/**
 * What kube-proxy leaves on a node when it is stopped: all of it, in every mode. By its source (kubernetes v1.13 to v1.34):
 *
 * - iptables: `iptablesJumpChains`, `iptablesCleanupOnlyChains` and `isServiceChainName` in pkg/proxy/iptables/proxier.go, `cleanupLeftoversForFamily` in
 *   pkg/proxy/iptables/cleanup.go;
 * - IPVS: `iptablesJumpChain`, `iptablesCleanupChains`, `ipsetInfo` and `cleanupLeftovers` in pkg/proxy/ipvs/proxier.go, names of sets in
 *   pkg/proxy/ipvs/ipset.go (its own cleanup forgets the IPv6 sets, and flushes all of IPVS, whoever's);
 * - nftables: `kubeProxyTable` in pkg/proxy/nftables/proxier.go, pkg/proxy/nftables/cleanup.go.
 *
 * The kubelet's stay: KUBE-FIREWALL with its jumps (made by both, kept by kube-proxy's own cleanup), KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT (KEP-3178),
 * KUBE-HOSTPORTS and KUBE-HP-*. A kubelet before 1.28 makes KUBE-MARK-DROP, KUBE-MARK-MASQ and KUBE-POSTROUTING anew within a minute. Sysctls stay, as in
 * its own cleanup.
 */
import type { Traces } from './traces.ts';

const CHAINS: Readonly<Record<string, readonly string[]>> = {
  nat: [
    'KUBE-SERVICES',
    'KUBE-NODEPORTS',
    'KUBE-POSTROUTING',
    'KUBE-MARK-MASQ',
    'KUBE-MARK-DROP',
    'KUBE-PROXY-CANARY',
    // IPVS
    'KUBE-NODE-PORT',
    'KUBE-LOAD-BALANCER',
    'KUBE-FIRE-WALL',
  ],
  filter: [
    'KUBE-SERVICES',
    'KUBE-EXTERNAL-SERVICES',
    'KUBE-NODEPORTS',
    'KUBE-FORWARD',
    'KUBE-PROXY-FIREWALL',
    'KUBE-PROXY-CANARY',
    // IPVS
    'KUBE-NODE-PORT',
    'KUBE-SOURCE-RANGES-FIREWALL',
    'KUBE-IPVS-FILTER',
    'KUBE-IPVS-OUT-FILTER',
  ],
  mangle: ['KUBE-PROXY-CANARY'],
};

/** One for each Service port or endpoint: `KUBE-SVC-` and 16 digits of base32; `KUBE-XLB-` until v1.23. */
const SERVICE_CHAIN = /^KUBE-(SVC|SVL|EXT|FW|XLB|SEP)-[A-Z2-7]{16}$/;

const SETS: readonly string[] = [
  'LOOP-BACK',
  'CLUSTER-IP',
  'EXTERNAL-IP',
  'EXTERNAL-IP-LOCAL',
  'LOAD-BALANCER',
  'LOAD-BALANCER-FW',
  'LOAD-BALANCER-LOCAL',
  'LOAD-BALANCER-SOURCE-IP',
  'LOAD-BALANCER-SOURCE-CIDR',
  'NODE-PORT-TCP',
  'NODE-PORT-LOCAL-TCP',
  'NODE-PORT-UDP',
  'NODE-PORT-LOCAL-UDP',
  'NODE-PORT-SCTP',
  'NODE-PORT-LOCAL-SCTP',
  'NODE-PORT-SCTP-HASH',
  'NODE-PORT-LOCAL-SCTP-HASH',
  'HEALTH-CHECK-NODE-PORT',
  'IPVS-IPS',
];

/** The kernel's limit of a set's name; kube-proxy cuts there. */
const LONGEST_SET_NAME = 31;

const SET_NAMES: ReadonlySet<string> = new Set(
  SETS.flatMap(name => ['KUBE-', 'KUBE-6-'].map(prefix => `${prefix}${name}`.slice(0, LONGEST_SET_NAME))),
);

export const KUBE_PROXY: Traces = {
  of: 'kube-proxy',
  isChain: (table, name) => CHAINS[table]?.includes(name) === true || (table === 'nat' && SERVICE_CHAIN.test(name)),
  lent: new Map([
    ['KUBE-MARK-MASQ', ['KUBE-POSTROUTING']],
    ['KUBE-MARK-DROP', []],
  ]),
  isRule: () => false,
  isSet: name => SET_NAMES.has(name),
  nftTables: ['ip kube-proxy', 'ip6 kube-proxy'],
  dummy: 'kube-ipvs0',
  healthPort: 10_256,
};
