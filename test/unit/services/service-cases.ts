/** The rules of Services one by one: a small deviation of the cluster in, the Services' fragments out (`test/golden/services`). */
import type { ServicesOptions } from '../../../modules/services/options.ts';
import {
  ALL_CAPABILITIES,
  type Cluster,
  cidrs,
  endpoint,
  endpointPort,
  hostAddress,
  hostFacts,
  ips,
  node,
  nodeView,
  service,
  servicePort,
  slice,
  terminatingEndpoint,
  unreadyEndpoint,
} from '../../fixtures/cluster.ts';

export interface Case {
  /** What the user sees. */
  readonly title: string;
  readonly golden: string;
  readonly cluster: Cluster;
  readonly options?: Partial<ServicesOptions>;
}

const HERE_AND_THERE = slice('web', ['10.244.1.5', '10.244.2.5']);
const ONLY_THERE = slice('web', ['10.244.2.5', '10.244.3.5']);
const V6 = slice('web', ['fd00:10:1::5', 'fd00:10:2::5'], { name: 'web-v6' });
const DSR = { 'kube-router.io/service.dsr': 'tunnel' };
const HTTP_AND_DNS = [endpointPort({}), endpointPort({ name: 'dns', protocol: 'UDP', port: 53 })];
const nodePort = servicePort({ nodePort: 30080 });

export const CASES: readonly Case[] = [
  {
    title: 'a ClusterIP answers with every ready endpoint',
    golden: 'cluster-ip',
    cluster: { services: [service('web')], slices: [HERE_AND_THERE] },
  },
  {
    title: 'a dual-stack Service serves each address with endpoints of its own family',
    golden: 'dual-stack',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:96::a'), type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE, V6],
    },
  },
  {
    title: 'TCP, UDP and SCTP ports reach the endpoint ports of the same name and protocol',
    golden: 'protocols-and-names',
    cluster: {
      services: [
        service('dns', {
          clusterIPs: ips('10.96.0.53'),
          ports: [
            servicePort({ name: 'dns', protocol: 'UDP', port: 53 }),
            servicePort({ name: 'dns-tcp', protocol: 'TCP', port: 53 }),
            servicePort({ name: 'sig', protocol: 'SCTP', port: 3868 }),
            servicePort({ name: 'absent', port: 9 }),
          ],
        }),
      ],
      slices: [
        slice('dns', ['10.244.1.5'], {
          ports: [
            endpointPort({ name: 'dns', protocol: 'UDP', port: 5353 }),
            endpointPort({ name: 'dns-tcp', protocol: 'TCP', port: 5353 }),
            endpointPort({ name: 'sig', protocol: 'SCTP', port: 3868 }),
          ],
        }),
      ],
    },
  },
  {
    title: 'endpoints of several slices are merged, and an endpoint in two slices counts once',
    golden: 'several-slices',
    cluster: {
      services: [service('web')],
      slices: [
        HERE_AND_THERE,
        slice('web', ['10.244.2.5', '10.244.2.6'], { name: 'web-2' }),
        slice('web', ['10.244.3.7'], { name: 'web-3', ports: [endpointPort({ port: 9090 })] }),
      ],
    },
  },
  {
    title: 'while one endpoint is ready, terminating and unready ones get nothing',
    golden: 'ready-first',
    cluster: {
      services: [service('web')],
      slices: [slice('web', ['10.244.1.5', terminatingEndpoint('10.244.2.5'), unreadyEndpoint('10.244.3.5')])],
    },
  },
  {
    title: 'without a ready endpoint those that terminate and still serve go on',
    golden: 'terminating-fallback',
    cluster: {
      services: [service('web')],
      slices: [slice('web', [terminatingEndpoint('10.244.2.5'), unreadyEndpoint('10.244.3.5')])],
    },
  },
  {
    title: 'a Service without usable endpoints refuses at once',
    golden: 'no-endpoints',
    cluster: {
      services: [service('web', { type: 'NodePort', ports: [nodePort] })],
      slices: [slice('web', [unreadyEndpoint('10.244.3.5')])],
    },
  },
  {
    title: 'internalTrafficPolicy Local keeps the ClusterIP to endpoints of this node and leaves the node port alone',
    golden: 'internal-local',
    cluster: {
      services: [service('web', { internalTrafficPolicy: 'Local', type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'internalTrafficPolicy Local without an endpoint on this node drops what comes for the ClusterIP',
    golden: 'internal-local-none-here',
    cluster: { services: [service('web', { internalTrafficPolicy: 'Local' })], slices: [ONLY_THERE] },
  },
  {
    title: 'externalTrafficPolicy Local keeps node port, external and load-balancer IP to endpoints of this node',
    golden: 'external-local',
    cluster: {
      services: [
        service('web', {
          type: 'LoadBalancer',
          externalTrafficPolicy: 'Local',
          ports: [nodePort],
          externalIPs: ips('203.0.113.7'),
          loadBalancerIPs: ips('198.51.100.7'),
        }),
      ],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'externalTrafficPolicy Local without an endpoint on this node drops outside traffic in both families',
    golden: 'external-local-none-here',
    cluster: {
      services: [
        service('web', {
          type: 'LoadBalancer',
          externalTrafficPolicy: 'Local',
          clusterIPs: ips('10.96.0.10', 'fd00:96::a'),
          ports: [nodePort],
          externalIPs: ips('203.0.113.7'),
          loadBalancerIPs: ips('198.51.100.7', '2001:db8:2::7'),
        }),
      ],
      slices: [ONLY_THERE, slice('web', ['fd00:10:2::5'], { name: 'web-v6' })],
    },
  },
  {
    title: 'a Local policy falls back to a terminating endpoint of this node although others elsewhere are ready',
    golden: 'local-terminating-fallback',
    cluster: {
      services: [service('web', { internalTrafficPolicy: 'Local' })],
      slices: [slice('web', [terminatingEndpoint('10.244.1.5'), '10.244.2.5'])],
    },
  },
  {
    title: 'a Local policy without any usable endpoint in the cluster refuses instead of dropping',
    golden: 'local-none-anywhere',
    cluster: {
      services: [service('web', { internalTrafficPolicy: 'Local' })],
      slices: [slice('web', [unreadyEndpoint('10.244.2.5')])],
    },
  },
  {
    title: 'the annotation service.local makes both policies Local',
    golden: 'annotation-local',
    cluster: {
      services: [
        service('web', { annotations: { 'kube-router.io/service.local': 'true' }, type: 'NodePort', ports: [nodePort] }),
      ],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'an annotation service.local that is neither true nor false is told and left out',
    golden: 'annotation-local-nonsense',
    cluster: { services: [service('web', { annotations: { 'kube-router.io/service.local': 'yes' } })], slices: [HERE_AND_THERE] },
  },
  {
    title: 'external and load-balancer IPs inside the allowed ranges are served, in both families',
    golden: 'external-ips',
    cluster: {
      services: [
        service('web', {
          type: 'LoadBalancer',
          clusterIPs: ips('10.96.0.10', 'fd00:96::a'),
          externalIPs: ips('203.0.113.7', '2001:db8:1::7'),
          loadBalancerIPs: ips('198.51.100.7', '2001:db8:2::7'),
        }),
      ],
      slices: [HERE_AND_THERE, V6],
    },
  },
  {
    title: 'external and load-balancer IPs outside their ranges, and inside the cluster range, are rejected with the flag to set',
    golden: 'ranges-strict',
    cluster: {
      services: [
        service('web', { externalIPs: ips('198.51.100.7', '10.96.9.9'), loadBalancerIPs: ips('203.0.113.7', '10.96.9.10') }),
      ],
      slices: [HERE_AND_THERE],
    },
    options: { clusterIpRanges: cidrs('10.96.0.0/16') },
  },
  {
    title: 'strict validation without ranges rejects every external address',
    golden: 'ranges-empty',
    cluster: {
      services: [service('web', { externalIPs: ips('203.0.113.7'), loadBalancerIPs: ips('198.51.100.7') })],
      slices: [HERE_AND_THERE],
    },
    options: { externalIpRanges: [], loadBalancerIpRanges: [] },
  },
  {
    title: 'without strict validation every external address is served',
    golden: 'ranges-not-strict',
    cluster: {
      services: [service('web', { externalIPs: ips('192.0.2.7', '10.96.9.9'), loadBalancerIPs: ips('203.0.113.7') })],
      slices: [HERE_AND_THERE],
    },
    options: { strictExternalIpValidation: false, externalIpRanges: [] },
  },
  {
    title: 'loopback, link-local, unspecified and multicast addresses are never taken',
    golden: 'special-addresses',
    cluster: {
      services: [
        service('web', {
          clusterIPs: ips('127.0.0.1', '10.96.0.10'),
          ipFamilies: ['ipv4', 'ipv6'],
          externalIPs: ips('169.254.1.1', '0.0.0.0', '224.0.0.5', '239.1.1.1', '::1', '::', 'fe80::7', 'ff02::5'),
        }),
      ],
      slices: [HERE_AND_THERE],
    },
    options: { strictExternalIpValidation: false },
  },
  {
    title: 'an external address of a family the Service is not of is told and left out',
    golden: 'foreign-family',
    cluster: { services: [service('web', { externalIPs: ips('2001:db8:1::7') })], slices: [HERE_AND_THERE] },
  },
  {
    title: 'the annotation skiplbips leaves the load-balancer IPs out',
    golden: 'skip-load-balancer-ips',
    cluster: {
      services: [
        service('web', { loadBalancerIPs: ips('198.51.100.7'), annotations: { 'kube-router.io/service.skiplbips': '' } }),
      ],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: "an external IP that is the node's own address is served and not put on the dummy link",
    golden: 'external-ip-of-this-node',
    cluster: { services: [service('web', { externalIPs: ips('192.168.1.1') })], slices: [HERE_AND_THERE] },
    options: { externalIpRanges: cidrs('192.168.1.0/24') },
  },
  {
    title: "an external IP that is another node's address is not taken from it",
    golden: 'external-ip-of-other-node',
    cluster: { services: [service('web', { externalIPs: ips('192.168.1.2') })], slices: [HERE_AND_THERE] },
    options: { externalIpRanges: cidrs('192.168.1.0/24') },
  },
  {
    title: 'one address as external and load-balancer IP is served once',
    golden: 'address-twice',
    cluster: {
      services: [
        service('web', {
          clusterIPs: ips('10.96.0.10', '10.96.0.10'),
          externalIPs: ips('203.0.113.7', '203.0.113.7'),
          loadBalancerIPs: ips('203.0.113.7'),
        }),
      ],
      slices: [HERE_AND_THERE],
    },
    options: { loadBalancerIpRanges: cidrs('203.0.113.0/24') },
  },
  {
    title: 'a node port answers on the Internal and External addresses of the node',
    golden: 'node-port',
    cluster: {
      services: [service('web', { type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE],
      node: nodeView({ addresses: ips('192.168.1.1', 'fd00:1::1', '192.0.2.1') }),
    },
  },
  {
    title: 'a node port answers only on addresses inside --nodeport-addresses',
    golden: 'node-port-addresses',
    cluster: {
      services: [service('web', { type: 'NodePort', ports: [nodePort], clusterIPs: ips('10.96.0.10', 'fd00:96::a') })],
      slices: [HERE_AND_THERE, V6],
      node: nodeView({ addresses: ips('192.168.1.1', 'fd00:1::1', '192.0.2.1') }),
    },
    options: { nodeportAddresses: cidrs('192.0.2.0/24', 'fd00:1::/64') },
  },
  {
    title: 'with --nodeport-bindon-all-ip a node port answers on all addresses but those of container links, loopback and fe80::',
    golden: 'node-port-all-addresses',
    cluster: {
      services: [service('web', { type: 'NodePort', ports: [nodePort], clusterIPs: ips('10.96.0.10', 'fd00:96::a') })],
      slices: [HERE_AND_THERE, V6],
      host: hostFacts({
        addresses: [
          ...hostFacts().addresses,
          hostAddress('eth1', '172.16.0.1/24'),
          hostAddress('eth1', 'fd00:2::1/64'),
          hostAddress('docker0', '172.17.0.1/16'),
          hostAddress('kube-dummy-if', '10.96.0.77/32'),
        ],
      }),
    },
    options: { nodeportBindOnAllIp: true },
  },
  {
    title: 'session affinity keeps a client on its endpoint for the given time',
    golden: 'session-affinity',
    cluster: {
      services: [service('web', { sessionAffinitySeconds: 10_800, type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'the scheduler annotation chooses any scheduler of the kernel',
    golden: 'scheduler',
    cluster: {
      services: [service('web', { annotations: { 'kube-router.io/service.scheduler': 'wlc' } })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'an unknown scheduler is told and rr used',
    golden: 'scheduler-unknown',
    cluster: {
      services: [service('web', { annotations: { 'kube-router.io/service.scheduler': 'xy' } })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'scheduler flags apply to mh, and an unknown one is told',
    golden: 'scheduler-flags',
    cluster: {
      services: [
        service('web', {
          annotations: { 'kube-router.io/service.scheduler': 'mh', 'kube-router.io/service.schedflags': 'flag-2, flag-1,flag-9' },
        }),
      ],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'scheduler flags of a scheduler without flags are told and left out',
    golden: 'scheduler-flags-without-meaning',
    cluster: {
      services: [service('web', { annotations: { 'kube-router.io/service.schedflags': 'flag-1' } })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'source ranges close a load-balancer address to all others; one that holds the node opens it to the node',
    golden: 'source-ranges',
    cluster: {
      services: [
        service('web', {
          loadBalancerIPs: ips('198.51.100.7', '2001:db8:2::7'),
          loadBalancerSourceRanges: cidrs('192.0.2.0/24', '192.168.1.0/24'),
        }),
        service('open', {
          clusterIPs: ips('10.96.0.11'),
          loadBalancerIPs: ips('198.51.100.8'),
          loadBalancerSourceRanges: cidrs('0.0.0.0/0', '192.0.2.1/32'),
        }),
      ],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'direct server return: a mark leads to tunnels, the address is on no link but in the pods of this node',
    golden: 'direct-return',
    cluster: {
      services: [
        service('web', {
          annotations: DSR,
          externalIPs: ips('203.0.113.7', '2001:db8:1::7'),
          clusterIPs: ips('10.96.0.10', 'fd00:96::a'),
          ports: [servicePort({ port: 8080, nodePort: 30080 }), servicePort({ name: 'dns', protocol: 'UDP', port: 53 })],
        }),
      ],
      slices: [
        slice('web', ['10.244.1.5', unreadyEndpoint('10.244.1.6'), '10.244.2.5'], { ports: HTTP_AND_DNS }),
        slice('web', ['fd00:10:1::5', 'fd00:10:2::5'], { name: 'web-v6', ports: HTTP_AND_DNS }),
      ],
    },
  },
  {
    title:
      'direct server return with policy Local: outside meets pods of this node, inside all; where this node has none, outside is dropped',
    golden: 'direct-return-local',
    cluster: {
      services: ['here', 'there'].map((name, index) =>
        service(name, {
          annotations: DSR,
          clusterIPs: ips(`10.96.0.1${index}`),
          externalIPs: ips(`203.0.113.1${index}`),
          ports: [servicePort({ port: 8080 })],
          externalTrafficPolicy: 'Local',
        }),
      ),
      slices: [slice('here', ['10.244.1.5', '10.244.2.5']), slice('there', ['10.244.2.6'])],
    },
  },
  {
    title: 'direct server return: endpoints that a tunnel cannot reach are told, and reached with address translation',
    golden: 'direct-return-translated',
    cluster: {
      services: [
        service('other-port', { annotations: DSR, externalIPs: ips('203.0.113.7') }),
        service('host-network', {
          annotations: DSR,
          clusterIPs: ips('10.96.0.11'),
          externalIPs: ips('203.0.113.8'),
          ports: [servicePort({ port: 8080 })],
        }),
        service('of-the-node', { annotations: DSR, clusterIPs: ips('10.96.0.12'), externalIPs: ips('192.168.1.2') }),
      ],
      slices: [slice('other-port', ['10.244.1.5']), slice('host-network', ['192.168.1.1', '192.168.1.2', '10.244.2.5'])],
      nodes: [node(1), node(2)],
    },
    options: { strictExternalIpValidation: false },
  },
  {
    title: 'a health-check node port counts ready pods of this node, each once',
    golden: 'health-port',
    cluster: {
      services: [
        service('web', {
          type: 'LoadBalancer',
          externalTrafficPolicy: 'Local',
          healthCheckNodePort: 32000,
          ports: [servicePort({}), servicePort({ name: 'dns', protocol: 'UDP', port: 53 })],
        }),
        service('cluster', { clusterIPs: ips('10.96.0.11'), type: 'LoadBalancer', healthCheckNodePort: 32001 }),
      ],
      slices: [
        slice('web', ['10.244.1.5', '10.244.2.5', unreadyEndpoint('10.244.1.6'), terminatingEndpoint('10.244.1.7')], {
          ports: HTTP_AND_DNS,
        }),
        slice('web', ['10.244.1.5'], { name: 'web-2' }),
        V6,
      ],
    },
  },
  {
    title: 'direct server return without endpoints: the address is the node’s, which refuses',
    golden: 'direct-return-without-endpoints',
    cluster: {
      services: [service('web', { annotations: DSR, externalIPs: ips('203.0.113.7'), ports: [servicePort({ port: 8080 })] })],
      slices: [slice('web', [])],
    },
  },
  {
    title: 'headless Services, external names and Services of another proxy are left alone, those of kube-router are ours',
    golden: 'not-ours',
    cluster: {
      services: [
        service('headless', { clusterIPs: [], headless: true, externalIPs: ips('203.0.113.8') }),
        service('name', { clusterIPs: [], type: 'ExternalName' }),
        service('foreign', { clusterIPs: ips('10.96.0.11'), proxyName: 'other-proxy' }),
        service('ours', { clusterIPs: ips('10.96.0.12'), proxyName: 'kube-router' }),
      ],
      slices: [slice('foreign', ['10.244.1.6']), slice('ours', ['10.244.1.7'])],
    },
  },
  {
    title: 'a Service without a ClusterIP (manifest folder) lives on its external address',
    golden: 'without-cluster-ip',
    cluster: {
      services: [service('web', { clusterIPs: [], ipFamilies: [], externalIPs: ips('203.0.113.7') })],
      slices: [HERE_AND_THERE],
    },
  },
  {
    title: 'a Service without ports takes no address',
    golden: 'without-ports',
    cluster: { services: [service('web', { ports: [] })], slices: [HERE_AND_THERE] },
  },
  {
    title: 'an endpoint on the node itself (host network) needs no hairpin',
    golden: 'host-network-endpoint',
    cluster: {
      services: [service('web', { internalTrafficPolicy: 'Local' })],
      slices: [slice('web', [endpoint('192.168.1.1', { nodeName: 'node-1' }), endpoint('192.168.1.2', { nodeName: 'node-2' })])],
    },
  },
  {
    title: 'endpoints of the wrong family in a slice are left out',
    golden: 'mixed-slice',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:96::a') })],
      slices: [slice('web', ['10.244.1.5', 'fd00:10:1::5'])],
    },
  },
  {
    title: 'on a node without pod CIDRs its endpoints are listed one by one',
    golden: 'without-pod-cidrs',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:96::a') })],
      slices: [HERE_AND_THERE, V6],
      node: nodeView({ podCIDRs: cidrs('10.244.1.0/24') }),
    },
  },
  {
    title: 'on an IPv4-only node a dual-stack Service is served on IPv4',
    golden: 'single-family-node',
    cluster: {
      services: [
        service('web', {
          clusterIPs: ips('10.96.0.10', 'fd00:96::a'),
          externalIPs: ips('203.0.113.7', '2001:db8:1::7'),
          type: 'NodePort',
          ports: [nodePort],
        }),
      ],
      slices: [HERE_AND_THERE, V6],
      node: nodeView({ addresses: ips('192.168.1.1') }),
    },
  },
  {
    title: 'with --enable-ipv4=false only IPv6 is served',
    golden: 'family-switched-off',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:96::a'), type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE, V6],
    },
    options: { families: { ipv4: 'off', ipv6: 'on' } },
  },
  {
    title: 'without ipset virtual servers still work, and what a Local policy would drop is refused',
    golden: 'without-ipset',
    cluster: {
      services: [service('web', { externalTrafficPolicy: 'Local', type: 'NodePort', ports: [nodePort] })],
      slices: [ONLY_THERE],
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipset: false } }),
    },
  },
  {
    title: 'without xt_ipvs the routes of virtual addresses name the node as the source of its own connections',
    golden: 'without-xt-ipvs',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:10:96::10') })],
      slices: [HERE_AND_THERE],
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, xtIpvs: false } }),
    },
  },
  {
    title: 'without ip6tables the routes of IPv6 virtual addresses do so',
    golden: 'without-ip6tables',
    cluster: {
      services: [service('web', { clusterIPs: ips('10.96.0.10', 'fd00:10:96::10') })],
      slices: [HERE_AND_THERE],
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, iptables: { ipv4: true, ipv6: false } } }),
    },
  },
  {
    title: 'without ipset --masquerade-all masquerades connections from the node too, and no route is asked for',
    golden: 'without-ipset-masquerade-all',
    cluster: {
      services: [service('web')],
      slices: [HERE_AND_THERE],
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipset: false } }),
    },
    options: { masqueradeAll: true },
  },
  {
    title: 'without dummy links virtual servers still work',
    golden: 'without-dummy-links',
    cluster: {
      services: [service('web', { type: 'NodePort', ports: [nodePort] })],
      slices: [HERE_AND_THERE],
      host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, dummyLink: false } }),
    },
  },
  {
    title: 'with --ipvs-permit-all=false nothing is put into the sets of the firewall',
    golden: 'without-firewall',
    cluster: { services: [service('web')], slices: [HERE_AND_THERE] },
    options: { ipvsPermitAll: false },
  },
  {
    title: 'what a younger Service drops is not taken from the older one that serves the same address and port',
    golden: 'contested-drop',
    cluster: {
      services: [
        service('old', { clusterIPs: ips('10.96.0.11'), externalIPs: ips('203.0.113.7'), age: 1 }),
        service('young', {
          clusterIPs: ips('10.96.0.12'),
          externalIPs: ips('203.0.113.7'),
          externalTrafficPolicy: 'Local',
          ports: [servicePort(), servicePort({ name: 'other', port: 81 })],
          age: 2,
        }),
      ],
      slices: [
        slice('old', ['10.244.2.5']),
        slice('young', ['10.244.2.6'], { ports: [endpointPort(), endpointPort({ name: 'other', port: 8081 })] }),
      ],
    },
  },
  {
    title: 'one node more in the cluster changes nothing here',
    golden: 'cluster-ip',
    cluster: { services: [service('web')], slices: [HERE_AND_THERE], nodes: [node(1), node(2), node(3), node(4)] },
  },
];
