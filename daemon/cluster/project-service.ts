/** core/v1 Service to the narrow type, with the defaults the API server would have filled in. */
import { type Family, familyOf, type IpAddress } from '../net/address.ts';
import { isPort, PROTOCOLS } from '../net/port.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { ObjectMeta, Service, ServicePort, ServiceType, TrafficPolicy } from './kinds.ts';
import { ownAnnotation } from './own-annotations.ts';
import { loadBalancerOf } from './project-load-balancer.ts';
import { type FieldReader, isAbsent, type RawObject } from './raw-object.ts';

const TYPES: readonly ServiceType[] = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'];
const POLICIES: readonly TrafficPolicy[] = ['Cluster', 'Local'];
const AFFINITIES = ['None', 'ClientIP'] as const;
const IP_FAMILIES: Readonly<Record<string, Family>> = { IPv4: 'ipv4', IPv6: 'ipv6' };

/** `DefaultClientIPServiceAffinitySeconds` and `MaxClientIPServiceAffinitySeconds` of the API. */
const AFFINITY_SECONDS = 10_800;
const MAX_AFFINITY_SECONDS = 86_400;

const LABEL_PROXY_NAME = 'service.kubernetes.io/service-proxy-name';
const LABEL_HEADLESS = 'service.kubernetes.io/headless';

/** Never undefined: whatever is wrong in a Service with a name, the rest of it is used. */
export function projectService(meta: ObjectMeta, raw: RawObject, read: FieldReader): Service {
  const spec = read.object(raw['spec'], 'spec');
  const rawMeta = read.object(raw['metadata'], 'metadata');
  const labels = read.object(rawMeta['labels'], 'metadata.labels');
  const type = read.word(spec['type'], TYPES, 'ClusterIP', 'spec.type');
  const isNoneIP = spec['clusterIP'] === 'None' || (Array.isArray(spec['clusterIPs']) && spec['clusterIPs'].includes('None'));
  const clusterIPs = isNoneIP || type === 'ExternalName' ? [] : clusterIPsOf(spec, read);
  const externalIPs = read.addresses(read.list(spec['externalIPs'], 'spec.externalIPs'), 'spec.externalIPs[]');
  const { ranges, isClosed } = sourceRangesOf(spec, read);
  const loadBalancerIPs = isClosed ? [] : loadBalancerIPsOf(raw, read);
  return {
    kind: 'Service',
    meta,
    type,
    clusterIPs,
    externalIPs,
    loadBalancerIPs,
    ports: portsOf(spec, read),
    internalTrafficPolicy: read.word(spec['internalTrafficPolicy'], POLICIES, 'Cluster', 'spec.internalTrafficPolicy'),
    externalTrafficPolicy: read.word(spec['externalTrafficPolicy'], POLICIES, 'Cluster', 'spec.externalTrafficPolicy'),
    sessionAffinitySeconds: affinityOf(spec, read),
    ipFamilies: familiesOf(spec, [...clusterIPs, ...externalIPs, ...loadBalancerIPs], read),
    annotations: read.stringMap(rawMeta['annotations'], 'metadata.annotations', ownAnnotation),
    proxyName: read.string(labels[LABEL_PROXY_NAME], `metadata.labels[${LABEL_PROXY_NAME}]`),
    headless: isNoneIP || labels[LABEL_HEADLESS] !== undefined,
    healthCheckNodePort: portNumberOf(spec['healthCheckNodePort'], 'spec.healthCheckNodePort', read),
    loadBalancerSourceRanges: ranges,
    isClosed,
    trafficDistribution: read.string(spec['trafficDistribution'], 'spec.trafficDistribution'),
    loadBalancer: loadBalancerOf(type, raw, read),
  };
}

/** `clusterIPs` is the field of dual stack; `clusterIP` alone is what people write. */
function clusterIPsOf(spec: RawObject, read: FieldReader): readonly IpAddress[] {
  if (!isAbsent(spec['clusterIPs'])) return read.addresses(read.list(spec['clusterIPs'], 'spec.clusterIPs'), 'spec.clusterIPs[]');
  if (isAbsent(spec['clusterIP']) || spec['clusterIP'] === '') return [];
  const address = read.address(spec['clusterIP'], 'spec.clusterIP');
  return address === undefined ? [] : [address];
}

/** KEP-1860: with `ipMode: Proxy` the address is the load balancer's own and nodes do not answer to it. */
function loadBalancerIPsOf(raw: RawObject, read: FieldReader): readonly IpAddress[] {
  const status = read.object(raw['status'], 'status');
  const loadBalancer = read.object(status['loadBalancer'], 'status.loadBalancer');
  const ours: unknown[] = [];
  for (const ingress of read.objects(loadBalancer['ingress'], 'status.loadBalancer.ingress')) {
    if (isAbsent(ingress['ip']) || ingress['ip'] === '' || ingress['ipMode'] === 'Proxy') continue;
    ours.push(ingress['ip']);
  }
  return read.addresses(ours, 'status.loadBalancer.ingress[].ip');
}

/**
 * A Service that asked for source ranges of which none can be read must not be open to everyone: `isClosed` then, and its
 * load-balancer addresses are left out.
 */
function sourceRangesOf(spec: RawObject, read: FieldReader): { ranges: readonly IpPrefix[]; isClosed: boolean } {
  const field = 'spec.loadBalancerSourceRanges';
  const asked = read.list(spec['loadBalancerSourceRanges'], field);
  const ranges = read.prefixes(asked, `${field}[]`);
  const isClosed =
    ranges.length === 0 &&
    (asked.length > 0 || !(isAbsent(spec['loadBalancerSourceRanges']) || Array.isArray(spec['loadBalancerSourceRanges'])));
  if (isClosed) read.complain(field, asked, 'no range can be read, so the load-balancer addresses are not served');
  return { ranges, isClosed };
}

/** The API allows one port per number and protocol. */
function portsOf(spec: RawObject, read: FieldReader): readonly ServicePort[] {
  const ports: ServicePort[] = [];
  for (const raw of read.objects(spec['ports'], 'spec.ports')) {
    const protocol = read.knownWord(raw['protocol'], PROTOCOLS, 'TCP', 'spec.ports[].protocol');
    const port = raw['port'];
    if (protocol === undefined) continue;
    if (!isPort(port)) {
      read.complain('spec.ports[].port', port, 'the port is left out; write a number from 1 to 65535 without quotes');
    } else if (ports.some(other => other.port === port && other.protocol === protocol)) {
      read.complain('spec.ports', `${port}/${protocol}`, 'there twice, only the first counts; remove one');
    } else {
      const nodePort = portNumberOf(raw['nodePort'], 'spec.ports[].nodePort', read);
      ports.push({ name: read.string(raw['name'], 'spec.ports[].name'), protocol, port, nodePort });
    }
  }
  return ports;
}

/** An optional port: 0 is how the API writes "none". */
function portNumberOf(value: unknown, field: string, read: FieldReader): number | undefined {
  if (isAbsent(value) || value === 0) return undefined;
  if (isPort(value)) return value;
  read.complain(field, value, 'ignored; write a number from 1 to 65535 without quotes');
  return undefined;
}

function affinityOf(spec: RawObject, read: FieldReader): number | undefined {
  if (read.word(spec['sessionAffinity'], AFFINITIES, 'None', 'spec.sessionAffinity') === 'None') return undefined;
  const config = read.object(spec['sessionAffinityConfig'], 'spec.sessionAffinityConfig');
  const seconds = read.object(config['clientIP'], 'spec.sessionAffinityConfig.clientIP')['timeoutSeconds'];
  if (isAbsent(seconds)) return AFFINITY_SECONDS;
  if (typeof seconds === 'number' && Number.isInteger(seconds) && seconds >= 1 && seconds <= MAX_AFFINITY_SECONDS) return seconds;
  const field = 'spec.sessionAffinityConfig.clientIP.timeoutSeconds';
  read.complain(field, seconds, `not a number of seconds from 1 to ${MAX_AFFINITY_SECONDS}; ${AFFINITY_SECONDS} is used`);
  return AFFINITY_SECONDS;
}

/** Where a manifest leaves them out, the families of the addresses it names. */
function familiesOf(spec: RawObject, addresses: readonly IpAddress[], read: FieldReader): readonly Family[] {
  const asked = read.list(spec['ipFamilies'], 'spec.ipFamilies');
  if (asked.length === 0) return [...new Set(addresses.map(familyOf))];
  const families = new Set<Family>();
  for (const item of asked) {
    const family = typeof item === 'string' && Object.hasOwn(IP_FAMILIES, item) ? IP_FAMILIES[item] : undefined;
    if (family === undefined) read.complain('spec.ipFamilies[]', item, 'not one of IPv4, IPv6; left out');
    else families.add(family);
  }
  return [...families];
}
