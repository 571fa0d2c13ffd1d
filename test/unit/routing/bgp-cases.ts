/** Who talks to whom, and what is told and taken in, by annotations and flags. */
import type { Node } from '../../../daemon/cluster/kinds.ts';
import { NO_RIB } from '../../../daemon/cluster/snapshot.ts';
import { Secret } from '../../../daemon/net/secret.ts';
import { type Cluster, cidrs, farNode, ips, node } from '../../fixtures/cluster.ts';
import { flagPeer } from '../../fixtures/routing-options.ts';
import type { Case } from './case.ts';

const PREFIX = 'kube-router.io/';

function annotated(annotations: Readonly<Record<string, string>>): Node['annotations'] {
  return Object.fromEntries(Object.entries(annotations).map(([key, value]) => [PREFIX + key, value]));
}

/** The base cluster with annotations on nodes 1, 2 and 4. */
function roles(ours: Record<string, string>, neighbour: Record<string, string> = {}, far: Record<string, string> = {}): Cluster {
  return {
    nodes: [
      node(1, { annotations: annotated(ours) }),
      node(2, { annotations: annotated(neighbour) }),
      farNode(4, { annotations: annotated(far) }),
    ],
  };
}

const ROUTER = [flagPeer('192.168.1.254')];

export const BGP_CASES: readonly Case[] = [
  {
    title: 'a reflector serves its clients and meets everybody else as an equal',
    golden: 'reflector-server',
    cluster: roles({ 'rr.server': '42' }, { 'rr.client': '42' }),
  },
  {
    title: 'a client of a reflector talks to reflectors alone',
    golden: 'reflector-client',
    cluster: roles({ 'rr.client': '42' }, { 'rr.server': '42' }, { 'rr.client': '42' }),
  },
  {
    title: 'beside reflectors and clients a plain node talks to the reflector, not to clients, who would not answer',
    golden: 'reflector-plain',
    cluster: roles({}, { 'rr.server': '10.0.0.42' }, { 'rr.client': '10.0.0.42' }),
  },
  {
    title: 'a reflector with a router tells it of the pods of other nodes too',
    golden: 'reflector-fabric',
    cluster: roles({ 'rr.server': '10.0.0.42' }),
    options: { peers: ROUTER },
  },
  {
    title: 'a cluster id that is none is told, and the node is a plain one',
    golden: 'reflector-broken',
    cluster: roles({ 'rr.server': 'fd00::1' }, { 'rr.client': '4294967296' }),
  },
  {
    title: '--nodes-full-mesh=false: sessions with nodes of our AS number only',
    golden: 'per-asn',
    cluster: roles({ 'node.asn': '0xfc01' }, { 'node.asn': '64513' }, { 'node.asn': '64514' }),
    options: { fullMesh: false },
  },
  {
    title: '--nodes-full-mesh=false and no AS number: no BGP, and that is told',
    golden: 'per-asn-missing',
    cluster: roles({}, { 'node.asn': '64513' }),
    options: { fullMesh: false },
  },
  {
    title: '--nodes-full-mesh=false and an AS number that is none',
    golden: 'per-asn-broken',
    cluster: roles({ 'node.asn': 'sixty' }, { 'node.asn': '64513' }),
    options: { fullMesh: false },
  },
  {
    title: 'routers of flags are those of every node, and then annotations do not count',
    golden: 'flag-peers',
    cluster: roles({ 'peer.ips': '192.168.1.253', 'peer.asns': '65001' }),
    options: {
      peers: [
        flagPeer('192.168.1.254', { password: new Secret('open sesame'), port: 1179 }),
        flagPeer('fd00:1::fe', { asn: 65_001 }),
      ],
      holdSeconds: 30,
      multihopTtl: 8,
    },
  },
  {
    title: 'routers in the YAML annotation, with all they can say',
    golden: 'annotation-peers-yaml',
    cluster: roles({
      peers: `
        - { remoteip: 192.168.1.254, remoteasn: 65000, port: 1179, password: b3BlbiBzZXNhbWU=, localip: 192.168.1.1 }
        - { remoteip: "fd00:1::fe", remoteasn: 4200000000 }`,
      'peer.ips': '192.168.1.9',
    }),
  },
  {
    title: 'routers in the five annotations of lists, with blanks',
    golden: 'annotation-peers-lists',
    cluster: roles({
      'peer.ips': '192.168.1.254, fd00:1::fe',
      'peer.asns': '65000, 65001',
      'peer.ports': '1179,',
      'peer.passwords': 'b3BlbiBzZXNhbWU=,',
      'peer.localips': ',fd00:1::1',
    }),
  },
  {
    title: 'a broken router among good ones is told and left out',
    golden: 'annotation-peers-broken',
    cluster: roles({
      peers: `
        - { remoteip: 192.168.1.254, remoteasn: 65000 }
        - { remoteip: nobody, remoteasn: 65000, password: b3BlbiBzZXNhbWU= }
        - { remoteip: 192.168.1.253, remoteasn: 65001, bfd: { enabled: true } }`,
    }),
  },
  {
    title: 'a router of a family that this node has not is told and left out',
    golden: 'peer-missing-family',
    options: { peers: [...ROUTER, flagPeer('fd00:1::fe')], families: { ipv4: 'auto', ipv6: 'off' } },
  },
  {
    title: 'communities replace all others towards routers; what is none is told',
    golden: 'communities',
    cluster: roles({ 'node.bgp.communities': '65000:1, 100, no-export,blackhole, 65536:1, cheap, -1' }),
    options: { peers: ROUTER },
  },
  {
    title: 'AS-path prepend, and this node as the next hop of all it tells',
    golden: 'prepend-override',
    cluster: roles({ 'path-prepend.as': '65055', 'path-prepend.repeat-n': '3' }),
    options: { peers: ROUTER, overrideNextHop: true },
  },
  {
    title: 'half of an AS-path prepend is told and does nothing',
    golden: 'prepend-half',
    cluster: roles({ 'path-prepend.as': '65055' }),
    options: { peers: ROUTER },
  },
  {
    title: 'an AS-path prepend that is too long is told and does nothing',
    golden: 'prepend-broken',
    cluster: roles({ 'path-prepend.as': '65055', 'path-prepend.repeat-n': '256' }),
    options: { peers: ROUTER },
  },
  {
    title: 'what the operator rejects is not taken in, with all inside it; one that is no prefix is told',
    golden: 'import-reject',
    cluster: roles({ 'node.bgp.customimportreject': '10.9.0.0/16, 2001:db8::/32, 10.1.2.3, 10.8.0.0/14' }),
  },
  {
    title: 'BGP listens where the annotation says; what is no address is told',
    golden: 'local-addresses',
    cluster: roles({ 'bgp-local-addresses': '192.168.1.1, eth0' }),
  },
  {
    title: 'BGP listens on an address that is named twice once, and not on one of a family that is off',
    golden: 'local-addresses-families',
    cluster: roles({ 'bgp-local-addresses': '192.168.1.1,fd00:1::1,192.168.1.1' }),
    options: { families: { ipv4: 'auto', ipv6: 'off' } },
  },
  {
    title: 'where the annotation names addresses of a family that is off alone BGP listens on all',
    golden: 'local-addresses-family-off',
    cluster: roles({ 'bgp-local-addresses': 'fd00:1::1' }),
    options: { families: { ipv4: 'auto', ipv6: 'off' } },
  },
  {
    title: 'an address that this host has not would keep BGP from starting: it is told and left out',
    golden: 'local-addresses-elsewhere',
    cluster: roles({ 'bgp-local-addresses': '192.168.1.1,192.168.1.2' }),
  },
  {
    title: 'behind network address translation the kernel chooses where calls to routers come from',
    golden: 'behind-nat-fabric',
    cluster: { nodes: [node(1, { internalIPs: ips('198.18.0.1') })], rib: NO_RIB },
    options: { peers: [...ROUTER, flagPeer('fd00:1::fe')] },
  },
  {
    title: 'where the annotation names no usable address BGP listens on those of the node',
    golden: 'local-addresses-broken',
    cluster: roles({ 'bgp-local-addresses': 'eth0' }),
  },
  {
    title: '--pod-routes=api with a router: BGP for the fabric, no sessions with nodes',
    golden: 'api-fabric',
    options: { podRoutes: 'api', peers: ROUTER },
  },
  {
    title: '--advertise-pod-cidr=false: pods are for nodes alone',
    golden: 'advertise-pod-cidr-off',
    options: { peers: ROUTER, advertisePodCidr: false },
  },
  {
    title: 'nodes with several pod CIDRs keep every one of them to themselves at import',
    golden: 'import-own-pod-cidrs',
    cluster: { nodes: [node(1, { podCIDRs: cidrs('10.244.1.0/24', '10.250.0.0/25') }), node(2), farNode(4)] },
  },
];
