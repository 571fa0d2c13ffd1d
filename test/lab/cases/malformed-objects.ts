/**
 * Objects as no API server should hand them out, and as people write them by hand. Each is put beside healthy Services; the log must say
 * `says`, and what is left of the object must work: `answers` is who answers at `at`.
 */
import { type ApiObject, NAMESPACE, service, slice } from '../objects.ts';

export interface MalformedCase {
  readonly title: string;
  readonly objects: readonly ApiObject[];
  readonly says: RegExp;
  /** A listener that works in spite of it, and the pods that answer there. */
  readonly at?: { readonly address: string; readonly port: number; readonly answers: string };
}

const READY = { addresses: ['10.244.2.11'], nodeName: 'node2', conditions: { ready: true } };
const PORT = { name: 'http', port: 8080 };

/** pod-2-1 at 8080. */
function endpointsOf(name: string): ApiObject {
  return slice(name, [PORT], [READY]);
}

export const MALFORMED: readonly MalformedCase[] = [
  {
    title: 'ports that are none',
    objects: [
      service('absurd', {
        clusterIP: '10.96.11.1',
        ports: [
          { name: 'http', port: 80 },
          { name: 'big', port: 70_000 },
          { name: 'text', port: 'eighty' },
          { name: 'none' },
          { name: 'minus', port: -1 },
        ],
      }),
      endpointsOf('absurd'),
    ],
    says: new RegExp(`${NAMESPACE}/absurd.*spec\\.ports\\[\\]\\.port`),
    at: { address: '10.96.11.1', port: 80, answers: 'pod-2-1' },
  },
  {
    title: 'a protocol that does not exist',
    objects: [
      service('protocol', {
        clusterIP: '10.96.11.2',
        ports: [
          { name: 'http', port: 80 },
          { name: 'odd', port: 81, protocol: 'ICMP' },
        ],
      }),
      endpointsOf('protocol'),
    ],
    says: new RegExp(`${NAMESPACE}/protocol.*spec\\.ports\\[\\]\\.protocol`),
    at: { address: '10.96.11.2', port: 80, answers: 'pod-2-1' },
  },
  {
    title: 'addresses that are none, or nobody may have',
    objects: [
      service('address', {
        clusterIPs: ['10.96.11.3', '10.96.11.300'],
        externalIPs: ['127.0.0.1', '224.0.0.1', '203.0.113.113'],
        ports: [{ name: 'http', port: 80 }],
      }),
      endpointsOf('address'),
    ],
    says: new RegExp(`${NAMESPACE}/address.*127\\.0\\.0\\.1.*loopback`),
    at: { address: '203.0.113.113', port: 80, answers: 'pod-2-1' },
  },
  {
    title: 'fields of the wrong type',
    objects: [
      {
        ...service('types', {
          clusterIP: '10.96.11.4',
          externalIPs: 'none',
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: -5 } },
          internalTrafficPolicy: 'Sometimes',
          ports: [{ name: 'http', port: 80, nodePort: 'auto' }, null, 7],
        }),
        status: { loadBalancer: { ingress: { ip: '203.0.113.140' } } },
      },
      endpointsOf('types'),
    ],
    says: new RegExp(`${NAMESPACE}/types.*internalTrafficPolicy`),
    at: { address: '10.96.11.4', port: 80, answers: 'pod-2-1' },
  },
  {
    title: 'a slice with ports that are null or absurd, and endpoints without addresses',
    objects: [
      service('slices', { clusterIP: '10.96.11.5', ports: [{ name: 'http', port: 80 }] }),
      { ...slice('slices', [], [], { suffix: 'null' }), ports: null, endpoints: null },
      {
        ...slice('slices', [], [], { suffix: 'odd' }),
        ports: [{ name: 'http', port: 99_999 }, { name: 'http', port: null }, 'http'],
        endpoints: [READY, {}, { addresses: [] }, { addresses: ['fe80::1'] }, { addresses: 7 }, null],
      },
      endpointsOf('slices'),
    ],
    says: new RegExp(`${NAMESPACE}/slices-odd.*ports\\[\\]\\.port`),
    at: { address: '10.96.11.5', port: 80, answers: 'pod-2-1' },
  },
  {
    title: 'a Service without a spec, and one whose spec is a list',
    objects: [
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'empty', namespace: NAMESPACE } },
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'listed', namespace: NAMESPACE }, spec: ['x'] },
    ],
    says: new RegExp(`${NAMESPACE}/listed.*spec`),
  },
  {
    title: 'a node without status, and one whose addresses are garbage',
    objects: [
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'ghost' } },
      {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'garbage' },
        status: { addresses: [{ type: 'InternalIP', address: '1.2.3' }] },
      },
    ],
    says: /garbage.*status\.addresses/,
  },
];
