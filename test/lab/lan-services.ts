/** LoadBalancer Services for suites about their addresses, served by pods of the lab. */
import type { LabPod } from './addresses.ts';
import { POD_PORT } from './describe-services.ts';
import { type ApiObject, endpoint, FAMILIES, NAMESPACE, slice } from './objects.ts';

export const BOTH_FAMILIES = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' } as const;

export interface LoadBalancerWish {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  /** TCP and UDP; 80 unless told. */
  readonly port?: number;
  /** Minutes before now; the number of the Service unless told, so that a greater number is an older one. */
  readonly age?: number;
}

/** A Service with this number (1 to 99) in its cluster IPs, for IPv4 alone unless its spec has other families. */
export function balanced(name: string, number: number, wish: LoadBalancerWish = {}): ApiObject {
  const { spec = {}, annotations = {}, labels = {}, port = 80, age = number } = wish;
  const families = (spec['ipFamilies'] ?? ['IPv4']) as readonly string[];
  const clusterIPs = families.map(family =>
    family === 'IPv4' ? `10.96.50.${number}` : `fd00:10:96::50${String(number).padStart(2, '0')}`,
  );
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: NAMESPACE,
      uid: `uid-of-${name}-${number}`,
      creationTimestamp: new Date(Date.UTC(2026, 0, 1, 12, -age)).toISOString().replace('.000Z', 'Z'),
      annotations,
      labels,
    },
    spec: {
      type: 'LoadBalancer',
      ipFamilies: families,
      ipFamilyPolicy: 'SingleStack',
      clusterIP: clusterIPs[0],
      clusterIPs,
      selector: { app: name },
      ports: [
        { name: 'tcp', port, targetPort: POD_PORT, protocol: 'TCP' },
        { name: 'udp', port, targetPort: POD_PORT, protocol: 'UDP' },
      ],
      ...spec,
    },
  };
}

/** Its slices of both families. */
export function servedBy(name: string, ...pods: readonly LabPod[]): readonly ApiObject[] {
  const ports = [
    { name: 'tcp', port: POD_PORT, protocol: 'TCP' },
    { name: 'udp', port: POD_PORT, protocol: 'UDP' },
  ] as const;
  return FAMILIES.map(family =>
    slice(
      name,
      ports,
      pods.map(pod => endpoint(pod, family)),
      { family },
    ),
  );
}
