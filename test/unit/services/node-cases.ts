/** What the module wants whatever the Services, by node, host and flags. */
import {
  ALL_CAPABILITIES,
  cidrs,
  hostAddress,
  hostFacts,
  hostLinks,
  ip,
  ips,
  nodeView,
  service,
  slice,
} from '../../fixtures/cluster.ts';
import type { Case } from './service-cases.ts';

const v4Only = nodeView({
  addresses: ips('192.168.1.1'),
  primary: { ipv4: ip('192.168.1.1') },
  podCIDRs: cidrs('10.244.1.0/24'),
});

export const NODE_CASES: readonly Case[] = [
  { title: 'a dual-stack node with everything', golden: 'node-dual-stack', cluster: {} },
  {
    title:
      'a node where a Service has direct server return by hash: marks, their delivery, room in segments, connections taken up midway',
    golden: 'node-direct-return',
    cluster: {
      host: hostFacts({
        addresses: [hostAddress('eth0', '192.168.1.1/24')],
        links: new Map([
          ['eth0', { mtu: 9000, master: '' }],
          ['kube-bridge', { mtu: 8980, master: '' }],
          ['veth1', { mtu: 8980, master: 'kube-bridge' }],
        ]),
      }),
      node: v4Only,
      services: [
        service('web', {
          annotations: { 'kube-router.io/service.dsr': 'tunnel', 'kube-router.io/service.scheduler': 'mh' },
          externalIPs: ips('203.0.113.7'),
        }),
      ],
    },
  },
  { title: 'an IPv4-only node', golden: 'node-ipv4', cluster: { node: v4Only } },
  {
    title: '--masquerade-all: one rule for all',
    golden: 'node-masquerade-all',
    cluster: { node: v4Only },
    options: { masqueradeAll: true },
  },
  {
    title: '--ipvs-permit-all=false: no firewall, and Local policies still drop',
    golden: 'node-without-firewall',
    cluster: { node: v4Only },
    options: { ipvsPermitAll: false },
  },
  {
    title: 'a node without pod CIDRs knows its endpoints one by one',
    golden: 'node-without-pod-cidrs',
    cluster: {
      node: nodeView({ ...v4Only, podCIDRs: [] }),
      services: [service('web')],
      slices: [slice('web', ['10.244.1.5'])],
    },
  },
  {
    title: 'a node with several pod CIDRs keeps the client address for each',
    golden: 'node-several-pod-cidrs',
    cluster: { node: nodeView({ ...v4Only, podCIDRs: cidrs('10.244.1.0/24', '10.245.1.0/24') }) },
  },
  {
    title: 'without bridge netfilter two pods of this node meet through the address of the node',
    golden: 'node-without-bridge-netfilter',
    cluster: { node: v4Only, host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, bridgeNetfilter: false } }) },
  },
  {
    title: 'without bridge netfilter and pod CIDRs every client meets endpoints through the address of the node',
    golden: 'node-without-bridge-netfilter-and-pod-cidrs',
    cluster: {
      node: nodeView({ ...v4Only, podCIDRs: [] }),
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, bridgeNetfilter: false } }),
    },
  },
  {
    title: 'a primary address that is on no link of the host is not used as a source',
    golden: 'node-behind-nat',
    cluster: { node: nodeView({ ...v4Only, addresses: ips('192.0.2.1'), primary: { ipv4: ip('192.0.2.1') } }) },
  },
  {
    title: 'addresses of container links, loopback and fe80:: are not those of the host',
    golden: 'node-host-addresses',
    cluster: {
      host: hostFacts({
        addresses: [
          ...hostFacts().addresses,
          hostAddress('eth1', '172.16.0.1/24'),
          hostAddress('docker0', '172.17.0.1/16'),
          hostAddress('kube-dummy-if', '10.96.0.77/32'),
          hostAddress('veth1', 'fe80::2/64'),
        ],
        links: hostLinks('lo', 'eth0', 'eth1', 'docker0', 'kube-dummy-if', 'veth1'),
      }),
    },
  },
  {
    title: 'without IPVS: nothing but the reason',
    golden: 'node-without-ipvs',
    cluster: { host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipvs: false } }), services: [service('web')] },
  },
  {
    title: 'without ipset, dummy links, xt_ipvs and ip6tables: what works is planned, each lack is told once',
    golden: 'node-without-much',
    cluster: {
      host: hostFacts({
        capabilities: {
          ...ALL_CAPABILITIES,
          ipset: false,
          dummyLink: false,
          xtIpvs: false,
          iptables: { ipv4: true, ipv6: false },
        },
      }),
    },
  },
  {
    title: 'without ipset clients are still masqueraded',
    golden: 'node-without-ipset',
    cluster: { node: v4Only, host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipset: false } }) },
  },
  {
    title: 'without xt_ipvs on a node behind network address translation, what its own connections lack is told',
    golden: 'node-behind-nat-without-xt-ipvs',
    cluster: {
      node: nodeView({ ...v4Only, addresses: ips('192.0.2.1'), primary: { ipv4: ip('192.0.2.1') } }),
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, xtIpvs: false } }),
    },
  },
  {
    title: '--enable-ipv6 on a node without an IPv6 address is told',
    golden: 'node-missing-family',
    cluster: { node: v4Only },
    options: { families: { ipv4: 'auto', ipv6: 'on' } },
  },
  {
    title: 'a node without any address serves nothing and says so',
    golden: 'node-without-address',
    cluster: { node: nodeView({ addresses: [], primary: {} }) },
  },
];
