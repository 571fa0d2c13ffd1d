/**
 * Whom `spec.loadBalancerSourceRanges` lets in. API, ServiceSpec: "If specified and supported by the platform, this will restrict traffic through
 * the cloud-provider load-balancer will be restricted to the specified client IPs." Here the nodes are the platform. As kube-proxy has it
 * (pkg/proxy/iptables, chain KUBE-FW): who is in no range is dropped, in silence, pods and nodes alike; the node that balances is in by any
 * address of its own; and the cluster IP, the external IPs and the node ports of the same Service are open to everybody.
 *
 * The clients, with their addresses:
 *   ext      10.10.1.200   fd00:10:10:1::200       outside the cluster
 *   pod-1-1  10.244.1.11   fd00:10:244:1::11       the endpoint itself
 *   pod-1-2  10.244.1.12   fd00:10:244:1::12       beside it
 *   pod-2-2  10.244.2.12   fd00:10:244:2::12       on another node
 *   node1    192.168.1.11  fd00:192:168:1::11      the node that balances
 */
import type { Addresses } from '../addresses.ts';

export interface RangesCase {
  readonly title: string;
  readonly ranges: readonly string[];
  /** Who is answered at the load-balancer address, of each family; everybody else meets silence. */
  readonly open: Addresses;
}

const ALL = 'ext pod-1-2 pod-2-2 node1 pod-1-1';

export const RANGES_CASES: readonly RangesCase[] = [
  { title: 'no ranges', ranges: [], open: { ipv4: ALL, ipv6: ALL } },
  { title: 'everything, both families', ranges: ['0.0.0.0/0', '::/0'], open: { ipv4: ALL, ipv6: ALL } },
  { title: 'everything of IPv4: IPv6 is closed', ranges: ['0.0.0.0/0'], open: { ipv4: ALL, ipv6: '' } },
  { title: 'everything of IPv6: IPv4 is closed', ranges: ['::/0'], open: { ipv4: '', ipv6: ALL } },
  {
    title: 'one host outside',
    ranges: ['10.10.1.200/32', 'fd00:10:10:1::200/128'],
    open: { ipv4: 'ext', ipv6: 'ext' },
  },
  {
    title: 'neighbours of that host',
    ranges: ['10.10.1.0/25', '10.10.1.201/32', 'fd00:10:10:1::201/128'],
    open: { ipv4: '', ipv6: '' },
  },
  {
    title: 'the network of the nodes',
    ranges: ['192.168.1.0/24', 'fd00:192:168:1::/64'],
    open: { ipv4: 'node1', ipv6: 'node1' },
  },
  {
    title: 'another node, not the one that balances',
    ranges: ['192.168.1.12/32', 'fd00:192:168:1::12/128'],
    open: { ipv4: '', ipv6: '' },
  },
  {
    title: 'the pods of one node and those of the whole cluster',
    ranges: ['10.244.1.0/24', 'fd00:10:244::/48'],
    open: { ipv4: 'pod-1-2 pod-1-1', ipv6: 'pod-1-2 pod-2-2 pod-1-1' },
  },
  {
    title: 'several that overlap, and one twice',
    ranges: ['10.0.0.0/8', '10.10.0.0/16', '10.10.1.200/32', '10.10.0.0/16', 'fd00:10::/32', 'fd00:10:10::/48'],
    open: { ipv4: 'ext pod-1-2 pod-2-2 pod-1-1', ipv6: 'ext pod-1-2 pod-2-2 pod-1-1' },
  },
  {
    title: 'host bits that are set count for nothing',
    ranges: ['10.10.1.77/24', 'fd00:10:10:1::77/64'],
    open: { ipv4: 'ext', ipv6: 'ext' },
  },
  {
    title: 'some that do not parse beside one that does',
    ranges: ['anywhere', '10.10.1.0/24', '10.10.1.0/33'],
    open: { ipv4: 'ext', ipv6: '' },
  },
];

/**
 * With externalTrafficPolicy Local, endpoints pod-1-1 here and pod-2-1 elsewhere, or elsewhere only: first who is let in, then who serves. ("External"
 * traffic is what comes from outside; from pods of the node and the node itself it is as with Cluster.)
 */
export interface LocalRangesCase {
  readonly title: string;
  readonly ranges: readonly string[];
  readonly endpoints: readonly string[];
  readonly outcomes: Readonly<Record<'ext' | 'pod-1-2' | 'node1', string>>;
}

export const LOCAL_RANGES_CASES: readonly LocalRangesCase[] = [
  {
    title: 'the host outside',
    ranges: ['10.10.1.0/24', 'fd00:10:10:1::/64'],
    endpoints: ['pod-1-1', 'pod-2-1'],
    outcomes: { ext: 'pod-1-1 sees ext', 'pod-1-2': 'timeout', node1: 'timeout' },
  },
  {
    title: 'the pods',
    ranges: ['10.244.0.0/16', 'fd00:10:244::/48'],
    endpoints: ['pod-1-1', 'pod-2-1'],
    outcomes: { ext: 'timeout', 'pod-1-2': 'pod-1-1 sees pod-1-2, pod-2-1 sees pod-1-2', node1: 'timeout' },
  },
  {
    title: 'the node',
    ranges: ['192.168.1.11/32', 'fd00:192:168:1::11/128'],
    endpoints: ['pod-1-1', 'pod-2-1'],
    outcomes: { ext: 'timeout', 'pod-1-2': 'timeout', node1: 'pod-1-1 sees node1, pod-2-1 sees node1' },
  },
  {
    title: 'everybody, with no endpoint on this node',
    ranges: ['0.0.0.0/0', '::/0'],
    endpoints: ['pod-2-1'],
    outcomes: { ext: 'timeout', 'pod-1-2': 'pod-2-1 sees pod-1-2', node1: 'pod-2-1 sees node1' },
  },
  {
    title: 'the pods, with no endpoint on this node',
    ranges: ['10.244.0.0/16', 'fd00:10:244::/48'],
    endpoints: ['pod-2-1'],
    outcomes: { ext: 'timeout', 'pod-1-2': 'pod-2-1 sees pod-1-2', node1: 'timeout' },
  },
  {
    title: 'everybody, with no endpoint anywhere',
    ranges: ['0.0.0.0/0', '::/0'],
    endpoints: [],
    outcomes: { ext: 'refused', 'pod-1-2': 'refused', node1: 'refused' },
  },
];
