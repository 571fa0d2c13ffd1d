/**
 * How pods' packets travel with each overlay: what an operator says, and what is to come of it. Underneath everything is Ethernet's MTU of 1500. Each is
 * what the daemons are restarted with after the one before, so that GUE gives its UDP port up to VXLAN, and VXLAN to GUE.
 */
import type { LabNode } from '../addresses.ts';
import { type ApiObject, type Family, nodeObject } from '../objects.ts';
import { annotated } from '../peers/describe-interop.ts';

/** `eth0`, or a tunnel by its type and what is around it. */
type Way = 'eth0' | 'ipip' | 'ip6tnl' | 'ipip in gue' | 'ip6tnl in gue' | 'vxlan gpe';

/** Who tells node1 the way: everybody, node2 as a reflector, or the Node objects. */
export type Source = 'mesh' | 'reflector' | 'api';

export interface OverlayCase {
  readonly title: string;
  readonly source: Source;
  readonly flags: readonly string[];
  /** Bytes of a packet that gets to every pod by either family. */
  readonly podMtu: number;
  /** From node1 to node2, on its subnet, and to node3, behind the router. */
  readonly ways: Readonly<Record<Family, { readonly toNode2: Way; readonly toNode3: Way }>>;
}

const SUBNET = '--overlay-type=subnet';
const FULL = '--overlay-type=full';

export const OVERLAY_CASES: readonly OverlayCase[] = [
  {
    title: 'IPIP between subnets, by a mesh',
    source: 'mesh',
    flags: [],
    podMtu: 1460,
    ways: { ipv4: { toNode2: 'eth0', toNode3: 'ipip' }, ipv6: { toNode2: 'eth0', toNode3: 'ip6tnl' } },
  },
  {
    title: 'IPIP between all, from Node objects',
    source: 'api',
    flags: [FULL],
    podMtu: 1460,
    ways: { ipv4: { toNode2: 'ipip', toNode3: 'ipip' }, ipv6: { toNode2: 'ip6tnl', toNode3: 'ip6tnl' } },
  },
  {
    title: 'GUE between subnets, by a reflector',
    source: 'reflector',
    flags: [SUBNET, '--overlay-encap=fou'],
    podMtu: 1448,
    ways: { ipv4: { toNode2: 'eth0', toNode3: 'ipip in gue' }, ipv6: { toNode2: 'eth0', toNode3: 'ip6tnl in gue' } },
  },
  {
    title: 'VXLAN between subnets, from Node objects',
    source: 'api',
    flags: [SUBNET, '--overlay-encap=vxlan', '--overlay-encap-port=5555'],
    podMtu: 1444,
    ways: { ipv4: { toNode2: 'eth0', toNode3: 'vxlan gpe' }, ipv6: { toNode2: 'eth0', toNode3: 'vxlan gpe' } },
  },
  {
    title: 'GUE between all, from Node objects',
    source: 'api',
    flags: [FULL, '--overlay-encap=fou'],
    podMtu: 1448,
    ways: {
      ipv4: { toNode2: 'ipip in gue', toNode3: 'ipip in gue' },
      ipv6: { toNode2: 'ip6tnl in gue', toNode3: 'ip6tnl in gue' },
    },
  },
  {
    title: 'VXLAN between all, by a mesh',
    source: 'mesh',
    flags: [FULL, '--overlay-encap=vxlan'],
    podMtu: 1444,
    ways: { ipv4: { toNode2: 'vxlan gpe', toNode3: 'vxlan gpe' }, ipv6: { toNode2: 'vxlan gpe', toNode3: 'vxlan gpe' } },
  },
];

const SOURCE_FLAGS: Readonly<Record<Source, readonly string[]>> = {
  mesh: [],
  reflector: ['--nodes-full-mesh=false'],
  api: ['--pod-routes=api'],
};

/** Flags of the daemons on all nodes. */
export function flagsOf(source: Source): readonly string[] {
  return SOURCE_FLAGS[source];
}

/** The Node as it is to be annotated: node2 reflects, the others are its clients. */
export function nodeFor(source: Source, node: LabNode): ApiObject {
  if (source !== 'reflector') return nodeObject(node);
  const role = node.number === 2 ? 'rr.server' : 'rr.client';
  return annotated(node, { 'node.asn': '64512', [role]: '7' });
}

/** The BGP sessions that a node is to have, as numbers of nodes. */
export function sessionsOf(source: Source, number: number): readonly number[] {
  const others = [1, 2, 3].filter(other => other !== number);
  if (source === 'api') return [];
  return source === 'mesh' ? others : number === 2 ? others : [2];
}

/** A Node whose machine is not there, on the subnet of node1 and node2. */
export function deadNode(): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'dead' },
    spec: { podCIDRs: ['10.244.99.0/24', 'fd00:10:244:99::/64'] },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.168.1.99' },
        { type: 'InternalIP', address: 'fd00:192:168:1::99' },
      ],
    },
  };
}
