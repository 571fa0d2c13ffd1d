/** Services that ask for a load-balancer address, as the API server sends them, and the range that they are given one from. */
import { type ApiObject, clusterIp, serviceName, serviceObject } from './cluster.ts';

const FIRST_ADDRESS = 0x0a40_0001;
const FIRST_NODE_PORT = 30_000;
const NODE_PORTS = 2768;
/** Seconds since the epoch: each is a second younger than the one before. */
const FIRST_CREATED = Date.parse('2026-01-01T00:00:00Z') / 1000;

/** `--loadbalancer-ip-range` with so many addresses. */
export function balancerRange(addresses: number): string {
  return `${dotted(FIRST_ADDRESS)}-${dotted(FIRST_ADDRESS + addresses - 1)}`;
}

export function balancerObject(service: number): ApiObject {
  const { metadata, ...rest } = serviceObject(serviceName(service), clusterIp(service));
  const port = { name: 'http', port: 80, protocol: 'TCP', targetPort: 8080, nodePort: FIRST_NODE_PORT + (service % NODE_PORTS) };
  const spec = {
    ...(rest['spec'] as object),
    type: 'LoadBalancer',
    allocateLoadBalancerNodePorts: true,
    externalTrafficPolicy: 'Cluster',
    ports: [port],
  };
  const created = new Date((FIRST_CREATED + service) * 1000).toISOString().replace('.000Z', 'Z');
  return { ...rest, metadata: { ...metadata, creationTimestamp: created } as ApiObject['metadata'], spec };
}

export function* balancerObjects(services: number): Generator<ApiObject, void> {
  for (let service = 0; service < services; service++) yield balancerObject(service);
}

/** As it comes back once the address is written. */
export function addressedObject(service: number): ApiObject {
  const object = balancerObject(service);
  return { ...object, status: { loadBalancer: { ingress: [{ ip: dotted(FIRST_ADDRESS + service), ipMode: 'VIP' }] } } };
}

function dotted(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}
