/** core/v1 Pod to the narrow type. There may be tens of thousands: what most pods have not, such as named ports, costs them nothing. */
import type { IpAddress } from '../net/address.ts';
import { isPort, PROTOCOLS } from '../net/port.ts';
import type { ContainerPort, ObjectMeta, Pod } from './kinds.ts';
import { type FieldReader, isAbsent, type RawObject } from './raw-object.ts';
import { isServiceName } from './service-name.ts';

/** Never undefined: whatever is wrong in a Pod with a name, the rest of it is used. */
export function projectPod(meta: ObjectMeta, raw: RawObject, read: FieldReader): Pod {
  const spec = read.object(raw['spec'], 'spec');
  const status = read.object(raw['status'], 'status');
  const phase = status['phase'];
  return {
    kind: 'Pod',
    meta,
    labels: read.stringMap(read.object(raw['metadata'], 'metadata')['labels'], 'metadata.labels', () => true),
    nodeName: read.string(spec['nodeName'], 'spec.nodeName'),
    hostIPs: addressesOf(status, 'hostIPs', 'hostIP', read),
    hostNetwork: read.boolean(spec['hostNetwork'], 'spec.hostNetwork') ?? false,
    finished: phase === 'Succeeded' || phase === 'Failed',
    addresses: addressesOf(status, 'podIPs', 'podIP', read),
    terminationGracePeriodSeconds: graceOf(spec['terminationGracePeriodSeconds']),
    namedPorts: namedPortsOf(spec, read),
  };
}

function graceOf(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 30;
}

/** The list is the field of dual stack; the single one is what old API servers and people write. */
function addressesOf(status: RawObject, list: string, single: string, read: FieldReader): readonly IpAddress[] {
  const listed = read.objects(status[list], `status.${list}`);
  if (listed.length > 0)
    return addressesAmong(
      listed.map(item => item['ip']),
      `status.${list}[].ip`,
      read,
    );
  return addressesAmong([status[single]], `status.${single}`, read);
}

/** The API writes '' or nothing for an address that is not there yet. */
function addressesAmong(values: readonly unknown[], field: string, read: FieldReader): readonly IpAddress[] {
  return read.addresses(
    values.filter(value => !isAbsent(value) && value !== ''),
    field,
  );
}

/** An init container that is restarted for ever (a sidecar) serves as long as the others. */
function namedPortsOf(spec: RawObject, read: FieldReader): readonly ContainerPort[] {
  const found = new Map<string, ContainerPort>();
  for (const container of read.objects(spec['containers'], 'spec.containers')) {
    collectPorts(container, 'spec.containers[].ports', found, read);
  }
  for (const container of read.objects(spec['initContainers'], 'spec.initContainers')) {
    if (container['restartPolicy'] === 'Always') collectPorts(container, 'spec.initContainers[].ports', found, read);
  }
  return found.size === 0 ? NO_PORTS : [...found.values()];
}

function collectPorts(container: RawObject, field: string, found: Map<string, ContainerPort>, read: FieldReader): void {
  for (const item of read.objects(container['ports'], field)) {
    const name = item['name'];
    if (isAbsent(name) || name === '') continue;
    const port = item['containerPort'];
    const protocol = read.knownWord(item['protocol'], PROTOCOLS, 'TCP', `${field}[].protocol`);
    if (!isServiceName(name)) {
      read.complain(
        `${field}[].name`,
        name,
        'the port is left out; a name has at most 15 of a-z, 0-9 and single "-", and a letter',
      );
    } else if (!isPort(port)) {
      read.complain(`${field}[].containerPort`, port, 'the port is left out; write a number from 1 to 65535 without quotes');
    } else if (protocol !== undefined) {
      found.set(`${name} ${protocol} ${port}`, { name: read.string(name, `${field}[].name`), protocol, port });
    }
  }
}

const NO_PORTS: readonly ContainerPort[] = Object.freeze([]);
