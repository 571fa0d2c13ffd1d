/** The Service that a predecessor serves when Fairway comes: a ClusterIP and a node port of each transport, two endpoints on two nodes, both families. */
import { createHash } from 'node:crypto';
import type { LabNode, LabPod } from '../addresses.ts';
import { POD_PORT } from '../describe-services.ts';
import type { Lab } from '../lab.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, NAMESPACE, service, slice } from '../objects.ts';

export const VIP: Readonly<Record<Family, string>> = { ipv4: '10.96.40.1', ipv6: 'fd00:10:96::4001' };

export interface ServedPort {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly nodePort: number;
}

export const PORTS: readonly ServedPort[] = [
  { name: 'http', protocol: 'tcp', port: 80, nodePort: 30_740 },
  { name: 'dns', protocol: 'udp', port: 53, nodePort: 30_741 },
];

/** What tells about one family and one port of it: what rules are made of. */
export interface Served extends ServedPort {
  readonly family: Family;
  /** `lab/web:http`, as in comments. */
  readonly title: string;
  readonly vip: string;
  /** With its prefix length. */
  readonly vipPrefix: string;
  /** The pods of the whole cluster. */
  readonly clusterCidr: string;
  readonly node: string;
  readonly endpoints: readonly { readonly address: string; readonly prefix: string; readonly at: string }[];
}

export function endpointsOf(lab: Lab): readonly LabPod[] {
  return [lab.pod(1, 1), lab.pod(2, 1)];
}

/** For every port, in one family. */
export function servedOn(lab: Lab, node: LabNode, family: Family): readonly Served[] {
  const length = family === 'ipv4' ? 32 : 128;
  return PORTS.map(port => ({
    ...port,
    family,
    title: `${NAMESPACE}/web:${port.name}`,
    vip: VIP[family],
    vipPrefix: `${VIP[family]}/${length}`,
    clusterCidr: family === 'ipv4' ? '10.244.0.0/16' : 'fd00:10:244::/48',
    node: node.addresses[family],
    endpoints: endpointsOf(lab).map(pod => {
      const address = pod.addresses[family];
      return {
        address,
        prefix: `${address}/${length}`,
        at: family === 'ipv4' ? `${address}:${POD_PORT}` : `[${address}]:${POD_PORT}`,
      };
    }),
  }));
}

export function serviceObjects(lab: Lab): readonly ApiObject[] {
  return [
    service('web', {
      type: 'NodePort',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIP.ipv4, VIP.ipv6],
      ports: PORTS.map(({ name, protocol, port, nodePort }) => ({
        name,
        protocol: protocol.toUpperCase(),
        port,
        targetPort: POD_PORT,
        nodePort,
      })),
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        PORTS.map(({ name, protocol }) => ({ name, protocol: protocol === 'tcp' ? 'TCP' : 'UDP', port: POD_PORT })),
        endpointsOf(lab).map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

/** As both predecessors name what they make: the first digits of base32 (RFC 4648) of SHA-256. */
export function digits(text: string, count = 16): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...createHash('sha256').update(text).digest()].map(byte => byte.toString(2).padStart(8, '0')).join('');
  return Array.from({ length: count }, (_, index) => alphabet[Number.parseInt(bits.slice(index * 5, index * 5 + 5), 2)]).join('');
}
