/** discovery.k8s.io/v1 EndpointSlice to the narrow type. */
import { type Family, familyOf, parseAddress } from '../net/address.ts';
import { isPort, PROTOCOLS } from '../net/port.ts';
import { type Endpoint, type EndpointPort, type EndpointSlice, keyOf, type ObjectMeta } from './kinds.ts';
import { type FieldReader, isAbsent, type RawObject } from './raw-object.ts';

const LABEL_SERVICE_NAME = 'kubernetes.io/service-name';
const NO_NAMES: readonly string[] = Object.freeze([]);

/** Undefined, with a complaint, for slices of host names and for slices that belong to no Service. */
export function projectEndpointSlice(meta: ObjectMeta, raw: RawObject, read: FieldReader): EndpointSlice | undefined {
  const labels = read.object(read.object(raw['metadata'], 'metadata')['labels'], 'metadata.labels');
  const owner = read.string(labels[LABEL_SERVICE_NAME], `metadata.labels[${LABEL_SERVICE_NAME}]`);
  const family = addressFamily(raw['addressType']);
  if (owner === '' || owner.includes('/')) {
    const remedy = 'the slice belongs to no Service and is ignored; set the label to the name of its Service';
    read.complain(`metadata.labels[${LABEL_SERVICE_NAME}]`, labels[LABEL_SERVICE_NAME], remedy);
  }
  if (family === undefined)
    read.complain('addressType', raw['addressType'], 'the slice is ignored; only IPv4 and IPv6 can be balanced');
  if (family === undefined || owner === '' || owner.includes('/')) return undefined;
  return {
    kind: 'EndpointSlice',
    meta,
    serviceKey: read.string(keyOf({ namespace: meta.namespace, name: owner }), 'metadata'),
    family,
    ports: portsOf(raw, read),
    endpoints: endpointsOf(raw, family, read),
  };
}

function addressFamily(addressType: unknown): Family | undefined {
  if (addressType === 'IPv4') return 'ipv4';
  return addressType === 'IPv6' ? 'ipv6' : undefined;
}

/** A null port means "all ports", which is nobody's endpoint here; it is no mistake. */
function portsOf(raw: RawObject, read: FieldReader): readonly EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const port of read.objects(raw['ports'], 'ports')) {
    const protocol = read.knownWord(port['protocol'], PROTOCOLS, 'TCP', 'ports[].protocol');
    const number = port['port'];
    if (protocol === undefined || isAbsent(number)) continue;
    if (isPort(number)) ports.push({ name: read.string(port['name'], 'ports[].name'), protocol, port: number });
    else read.complain('ports[].port', number, 'the port is left out; write a number from 1 to 65535 without quotes');
  }
  return ports;
}

function endpointsOf(raw: RawObject, family: Family, read: FieldReader): readonly Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const item of read.objects(raw['endpoints'], 'endpoints')) {
    const endpoint = endpointOf(item, family, read);
    if (endpoint === undefined) continue;
    const former = found.get(endpoint.address);
    if (former?.ready && endpoint.ready) read.complain('endpoints[].addresses[0]', endpoint.address, 'there twice, counted once');
    if (former === undefined || rankOf(endpoint) > rankOf(former)) found.set(endpoint.address, endpoint);
  }
  return [...found.values()];
}

/** During a rollout two pods of the host's network share an address for a while: the one that answers speaks for it. */
function rankOf(endpoint: Endpoint): number {
  return (endpoint.ready ? 4 : 0) + (endpoint.serving ? 2 : 0) + (endpoint.terminating ? 0 : 1);
}

function endpointOf(raw: RawObject, family: Family, read: FieldReader): Endpoint | undefined {
  const text = read.list(raw['addresses'], 'endpoints[].addresses')[0];
  const address = typeof text === 'string' ? parseAddress(text) : undefined;
  if (address === undefined || familyOf(address) !== family) {
    read.complain(
      'endpoints[].addresses[0]',
      text,
      `not an ${family === 'ipv4' ? 'IPv4' : 'IPv6'} address; the endpoint is left out`,
    );
    return undefined;
  }
  const conditions = read.object(raw['conditions'], 'endpoints[].conditions');
  const ready = read.boolean(conditions['ready'], 'endpoints[].conditions.ready') ?? true;
  const hints = read.object(raw['hints'], 'endpoints[].hints');
  return {
    address,
    ready,
    serving: read.boolean(conditions['serving'], 'endpoints[].conditions.serving') ?? ready,
    terminating: read.boolean(conditions['terminating'], 'endpoints[].conditions.terminating') ?? false,
    nodeName: read.string(raw['nodeName'], 'endpoints[].nodeName'),
    zone: read.string(raw['zone'], 'endpoints[].zone'),
    forZones: namesOf(hints['forZones'], 'endpoints[].hints.forZones', read),
    forNodes: namesOf(hints['forNodes'], 'endpoints[].hints.forNodes', read),
  };
}

function namesOf(value: unknown, field: string, read: FieldReader): readonly string[] {
  const items = read.objects(value, field);
  if (items.length === 0) return NO_NAMES;
  return items.map(item => read.string(item['name'], `${field}[].name`)).filter(name => name !== '');
}
