/** What nodes, host and flags make of the plan: ways to other nodes, tunnels, sets, chains, the CNI file. */
import { NO_RIB } from '../../../daemon/cluster/snapshot.ts';
import { ALL_CAPABILITIES, cidrs, farNode, hostAddress, hostFacts, hostLinks, ips, node } from '../../fixtures/cluster.ts';
import { overlay } from '../../fixtures/routing-options.ts';
import { POD_ROUTES } from '../../fixtures/routing-scene.ts';
import type { Case } from './case.ts';

const [NEIGHBOUR, FAR] = [node(2), farNode(4)];
const V6_ONLY = [1, 2].map(number =>
  node(number, { internalIPs: ips(`fd00:1::${number}`), podCIDRs: cidrs(`fd00:10:${number}::/64`) }),
);
const V6_HOST = hostFacts({ addresses: hostFacts().addresses.filter(({ address }) => address.includes(':')) });
const V4_ONLY = [1, 2].map(number =>
  node(number, { internalIPs: ips(`192.168.1.${number}`), podCIDRs: cidrs(`10.244.${number}.0/24`) }),
);

export const NODE_CASES: readonly Case[] = [
  {
    title: '--overlay-encap=fou: GUE around, and a port to take it in',
    golden: 'overlay-fou',
    options: { overlay: overlay({ encapsulation: 'fou' }) },
  },
  {
    title: '--overlay-encap=vxlan: one link, and routes that say where to',
    golden: 'overlay-vxlan',
    options: { overlay: overlay({ encapsulation: 'vxlan' }) },
  },
  {
    title: '--overlay-type=full: a tunnel to the neighbour too',
    golden: 'overlay-full',
    options: { overlay: overlay({ reach: 'full' }) },
  },
  {
    title: '--overlay-type=full with vxlan on another port',
    golden: 'overlay-full-vxlan',
    options: { overlay: overlay({ reach: 'full', encapsulation: 'vxlan', port: 4789 }) },
  },
  {
    title: '--enable-overlay=false: what is across the router is left to it, and pods get the whole MTU',
    golden: 'overlay-off',
    options: { overlay: undefined },
  },
  {
    title: '--pod-routes=api: the same ways without any session',
    golden: 'api',
    options: { podRoutes: 'api' },
    cluster: { rib: NO_RIB },
  },
  {
    title: '--pod-routes=api without an overlay: nothing across the router',
    golden: 'api-overlay-off',
    options: { podRoutes: 'api', overlay: undefined },
    cluster: { rib: NO_RIB },
  },
  {
    title: '--pod-routes=api: what neighbours tell of pod prefixes does not count',
    golden: 'api-learned',
    options: { podRoutes: 'api' },
  },
  {
    title: '--pod-routes=api: of two nodes with one pod CIDR each says its way; one that overlaps our own is refused',
    golden: 'api-overlapping-pod-cidrs',
    options: { podRoutes: 'api' },
    cluster: {
      rib: NO_RIB,
      nodes: [
        node(1),
        NEIGHBOUR,
        farNode(4, { podCIDRs: cidrs('10.244.2.0/24') }),
        node(5, { podCIDRs: cidrs('10.244.1.128/25', '10.244.0.0/16', '224.0.0.0/24', '192.168.1.1/32') }),
      ],
    },
  },
  {
    title: '--pod-routes=api: a pod CIDR with the address of its node in it would lead the tunnel into itself',
    golden: 'api-recursive',
    options: { podRoutes: 'api' },
    cluster: { rib: NO_RIB, nodes: [node(1), NEIGHBOUR, farNode(4, { podCIDRs: cidrs('192.168.2.0/24') })] },
  },
  {
    title: '--pod-routes=api: pods of a family that their node has no address of are told',
    golden: 'api-missing-family',
    options: { podRoutes: 'api' },
    cluster: { rib: NO_RIB, nodes: [node(1), node(2, { internalIPs: ips('192.168.1.2') })] },
  },
  {
    title: 'a node with ExternalIPs alone is known by them',
    golden: 'external-ips',
    cluster: { nodes: [node(1), node(2, { internalIPs: [], externalIPs: ips('192.168.1.2') }), FAR] },
  },
  {
    title: 'a node without any address: no session, and that is told',
    golden: 'node-without-address',
    cluster: { nodes: [node(1), node(2, { internalIPs: [] }), FAR] },
  },
  {
    title: 'an IPv6-only node gets an identifier from its address',
    golden: 'ipv6-only',
    cluster: { nodes: V6_ONLY, host: V6_HOST, rib: NO_RIB },
  },
  {
    title: 'an IPv6-only node with --router-id',
    golden: 'ipv6-only-router-id',
    cluster: { nodes: V6_ONLY, host: V6_HOST, rib: NO_RIB },
    options: { routerId: '10.0.0.1' },
  },
  { title: '--router-id=generate', golden: 'router-id-generate', options: { routerId: 'generate' } },
  { title: 'an IPv4-only cluster', golden: 'ipv4-only', cluster: { nodes: V4_ONLY, rib: NO_RIB } },
  { title: '--enable-ipv6=false on dual-stack nodes', golden: 'ipv6-off', options: { families: { ipv4: 'auto', ipv6: 'off' } } },
  {
    title: '--enable-ipv6 on a node without an IPv6 address is told',
    golden: 'ipv6-missing',
    cluster: { nodes: [...V4_ONLY], rib: NO_RIB },
    options: { families: { ipv4: 'auto', ipv6: 'on' } },
  },
  {
    title: 'a node without pod CIDRs starts no pods, and says so',
    golden: 'without-pod-cidrs',
    cluster: { nodes: [node(1, { podCIDRs: [] }), NEIGHBOUR, FAR] },
  },
  {
    title: 'several pod CIDRs, as annotations give them, are each announced, ruled and written',
    golden: 'several-pod-cidrs',
    cluster: { nodes: [node(1, { podCIDRs: cidrs('10.244.1.0/24', '10.250.0.0/25', 'fd00:10:1::/64') }), NEIGHBOUR, FAR] },
  },
  {
    title: 'a node whose address is on no link of the host: no tunnels, no MTU, and that is told',
    golden: 'behind-nat',
    cluster: {
      nodes: [node(1, { internalIPs: ips('198.18.0.1') }), NEIGHBOUR, FAR],
      host: hostFacts({ addresses: [...hostFacts().addresses, hostAddress('eth1', '172.16.0.1/24')] }),
    },
  },
  {
    title: 'a node without any address of a family that is on routes nothing',
    golden: 'nothing-to-route',
    cluster: { nodes: [node(1, { internalIPs: [] }), NEIGHBOUR, FAR] },
  },
  {
    title: 'without a Node object there are neither pod prefixes nor annotations, and the sessions go on',
    golden: 'without-node-object',
    cluster: { nodes: [NEIGHBOUR, FAR] },
  },
  {
    title: 'two subnets on two links: the longer one that holds the neighbour says the link',
    golden: 'nested-subnets',
    cluster: {
      host: hostFacts({
        addresses: [...hostFacts().addresses, hostAddress('eth1', '192.168.2.1/25'), hostAddress('eth2', '192.168.0.9/16')],
      }),
    },
  },
  {
    title: 'a larger and a smaller MTU of the node link are followed by tunnels, bridge and pods',
    golden: 'mtu',
    cluster: { host: hostFacts({ links: new Map([...hostLinks('lo', 'kube-bridge'), ['eth0', { mtu: 9000, master: '' }]]) }) },
  },
  { title: '--auto-mtu=false leaves the MTU of bridge and pods to others', golden: 'auto-mtu-off', options: { autoMtu: false } },
  { title: '--enable-cni=false keeps no file', golden: 'cni-off', options: { cniFile: undefined } },
  { title: 'without the policy module pods do not wait for it', golden: 'policy-off', options: { policyFirst: false } },
  { title: '--enable-pod-egress=false needs no sets', golden: 'egress-off', options: { egress: false } },
  {
    title: 'without ipset: no egress, and no policies to wait for',
    golden: 'without-ipset',
    cluster: { host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipset: false } }) },
  },
  {
    title: 'without ip6tables: IPv6 is routed, but neither accepted nor masqueraded',
    golden: 'without-ip6tables',
    cluster: { host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, iptables: { ipv4: true, ipv6: false } } }) },
  },
  {
    title: 'a kernel without IPv6 routes IPv4 alone',
    golden: 'kernel-without-ipv6',
    cluster: { host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipv6: false } }) },
  },
  {
    title: '--enable-ibgp=false: no sessions between nodes, and without external peers no BGP',
    golden: 'ibgp-off',
    options: { ibgp: false },
    cluster: { rib: NO_RIB },
  },
  {
    title: 'graceful restart and another port are those of every session',
    golden: 'graceful-restart',
    options: { gracefulRestart: { restartSeconds: 90, deferralSeconds: 360 }, bgpPort: 1790 },
  },
  {
    title: 'a far node that moves to our network loses its tunnel',
    golden: 'node-moved',
    cluster: {
      nodes: [node(1), NEIGHBOUR, node(4)],
      rib: { isSettled: true, routes: new Map([...POD_ROUTES.slice(0, 2)].map(route => [route.prefix, route])) },
    },
  },
];
