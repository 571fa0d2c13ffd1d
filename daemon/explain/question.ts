/** What is asked, in the user's words: who sends, to whom, at which port. */
import type { ContainerPort, ObjectKey, Pod, Service } from '../cluster/kinds.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress, parseAddress } from '../net/address.ts';
import { isPort, PROTOCOLS, type Protocol } from '../net/port.ts';
import { suggest } from '../net/suggest.ts';
import { ClusterObjects } from './cluster-objects.ts';
import type { JudgedTransport } from './policy-opinions.ts';
import type { Transport } from './traced-packet.ts';

/** One end, as it was asked for. */
export interface End {
  readonly who: 'pod' | 'node' | 'service' | 'address';
  /** `namespace/name`, a node's name, or the address. */
  readonly name: string;
  readonly address: IpAddress;
}

export interface Question {
  readonly source: End;
  readonly destination: End;
  readonly transport: Transport;
}

/** What of the question names nothing that is there. */
export interface QuestionError {
  readonly error: string;
  /** Names that may have been meant. */
  readonly near: readonly string[];
}

/** An end before it is settled which of its addresses is meant. */
interface Candidate extends Omit<End, 'address'> {
  /** The preferred first; of each family those that may be meant. */
  readonly addresses: readonly IpAddress[];
  readonly service?: Service;
  readonly pod?: Pod;
}

const USAGE = 'Write: fairway why SRC DST PORT, such as: fairway why default/client svc/default/web tcp/80';

/** @param operands Source, destination, port. */
export function parseQuestion(operands: readonly string[], snapshot: Snapshot): Question | QuestionError {
  const [from, to, at] = operands;
  if (from === undefined || to === undefined || at === undefined || operands.length > 3) return failure(USAGE);
  const source = endOf(from, 'source', snapshot);
  if ('error' in source) return source;
  const destination = endOf(to, 'destination', snapshot);
  if ('error' in destination) return destination;
  const [first] = source.addresses;
  const isOutside = first !== undefined && new ClusterObjects(snapshot).placeOf(first).at === 'outside';
  const targets = destination.service === undefined ? destination.addresses : addressesFor(destination.service, isOutside);
  const pair = pairOf(source.addresses, targets);
  if (pair === undefined) {
    return failure(
      `${title(source)} and ${title(destination)} have no address of one family: ${source.addresses.join(', ')} and ${targets.join(', ')}.`,
    );
  }
  const transport = transportOf(at, destination, familyOf(pair[0]));
  if ('error' in transport) return transport;
  return {
    source: { who: source.who, name: source.name, address: pair[0] },
    destination: { who: destination.who, name: destination.name, address: pair[1] },
    transport,
  };
}

/** A client outside comes to the addresses for outside. */
function addressesFor({ clusterIPs, externalIPs, loadBalancerIPs }: Service, isOutside: boolean): readonly IpAddress[] {
  return isOutside ? [...loadBalancerIPs, ...externalIPs, ...clusterIPs] : [...clusterIPs, ...externalIPs, ...loadBalancerIPs];
}

function pairOf(sources: readonly IpAddress[], targets: readonly IpAddress[]): readonly [IpAddress, IpAddress] | undefined {
  for (const target of targets) {
    const source = sources.find(address => familyOf(address) === familyOf(target));
    if (source !== undefined) return [source, target];
  }
  return undefined;
}

type Role = 'source' | 'destination';

function endOf(text: string, role: Role, snapshot: Snapshot): Candidate | QuestionError {
  const address = parseAddress(text);
  if (address !== undefined) return { who: 'address', name: address, addresses: [address] };
  const [, prefix = '', name = text] = /^(svc|service|pod|po|node|no)\/(.+)$/.exec(text) ?? [];
  switch (prefix) {
    case 'svc':
    case 'service':
      return role === 'source'
        ? NO_SENDER
        : (serviceNamed(name, snapshot) ?? notFound('Service', name, snapshot.services.keys()));
    case 'pod':
    case 'po':
      return podNamed(name, snapshot) ?? notFound('Pod', name, snapshot.pods.keys());
    case 'node':
    case 'no':
      return nodeNamed(name, snapshot) ?? notFound('Node', name, snapshot.nodes.keys());
    default:
      return anyNamed(name, role, snapshot);
  }
}

const NO_SENDER: QuestionError = {
  error: 'A Service sends no packets: name one of its pods as the source.',
  near: [],
};

function anyNamed(name: string, role: Role, snapshot: Snapshot): Candidate | QuestionError {
  const service = serviceNamed(name, snapshot);
  const pod = podNamed(name, snapshot);
  const found = role === 'source' ? pod : (service ?? pod);
  if (found !== undefined) return found;
  const node = nodeNamed(name, snapshot);
  if (node !== undefined) return node;
  if (service !== undefined) return NO_SENDER;
  const names = [...snapshot.pods.keys(), ...snapshot.nodes.keys(), ...(role === 'source' ? [] : snapshot.services.keys())];
  return notFound(role === 'source' ? 'Pod or Node' : 'Service, Pod or Node', name, names);
}

/** Without a namespace: in `default`, else in the one namespace that has it. */
function keyNamed(name: string, keys: ReadonlyMap<ObjectKey, unknown>): readonly ObjectKey[] {
  if (name.includes('/')) return keys.has(name) ? [name] : [];
  if (keys.has(`default/${name}`)) return [`default/${name}`];
  return [...keys.keys()].filter(key => key.endsWith(`/${name}`));
}

function podNamed(name: string, { pods }: Snapshot): Candidate | QuestionError | undefined {
  const keys = keyNamed(name, pods);
  const [key] = keys;
  const pod = key === undefined ? undefined : pods.get(key);
  if (key === undefined || pod === undefined) return undefined;
  if (keys.length > 1) return ambiguous('Pod', name, keys);
  if (pod.finished) return failure(`Pod ${key} has ended: its address may be another's by now.`);
  const addresses = pod.hostNetwork && pod.addresses.length === 0 ? pod.hostIPs : pod.addresses;
  return addresses.length === 0 ? failure(`Pod ${key} has no address yet.`) : { who: 'pod', name: key, addresses, pod };
}

function serviceNamed(name: string, { services, endpointSlicesOf }: Snapshot): Candidate | QuestionError | undefined {
  const keys = keyNamed(name, services);
  const [key] = keys;
  const service = key === undefined ? undefined : services.get(key);
  if (key === undefined || service === undefined) return undefined;
  if (keys.length > 1) return ambiguous('Service', name, keys);
  const addresses = addressesFor(service, false);
  if (addresses.length > 0) return { who: 'service', name: key, addresses, service };
  const endpoints = (endpointSlicesOf.get(key) ?? []).flatMap(slice => slice.endpoints.map(each => each.address));
  const what = service.type === 'ExternalName' ? 'is a name for another host' : 'is headless';
  return failure(
    `Service ${key} ${what}: it has no address. Ask for one of its pods${endpoints.length === 0 ? '' : ` (${endpoints.slice(0, 5).join(', ')})`}.`,
  );
}

function nodeNamed(name: string, { node, nodes }: Snapshot): Candidate | undefined {
  const object = nodes.get(name);
  const addresses = object === undefined ? [] : [...object.internalIPs, ...object.externalIPs];
  const all = name === node.name ? [...new Set([...node.addresses, ...addresses])] : addresses;
  return all.length === 0 ? undefined : { who: 'node', name, addresses: all };
}

/** `80`, `tcp/80`, `80/tcp`, `http`, `tcp/http`, `icmp`. */
function transportOf(text: string, destination: Candidate, family: Family): Transport | QuestionError {
  if (text.toLowerCase() === 'icmp') return { protocol: 'ICMP', type: family === 'ipv4' ? 8 : 128 };
  const { protocol, port } = splitPort(text);
  const known = portsOf(destination);
  const ofProtocol = known.filter(each => protocol === undefined || each.protocol === protocol);
  if (!/^[0-9]+$/.test(port)) {
    const named = ofProtocol.find(({ name }) => name === port);
    if (named !== undefined) return { protocol: named.protocol, port: named.port };
    return {
      error: `${title(destination)} has no port named '${port}'.${known.length === 0 ? ' Give the number.' : ''}`,
      near: known.map(each => `${each.protocol.toLowerCase()}/${each.name === '' ? each.port : each.name}`),
    };
  }
  const number = Number(port);
  if (!isPort(number)) return failure(`${text} is no port: ports go from 1 to 65535.`);
  const [only, another] = known.filter(each => each.port === number);
  return { protocol: protocol ?? (another === undefined ? only?.protocol : undefined) ?? 'TCP', port: number };
}

function splitPort(text: string): { readonly protocol: Protocol | undefined; readonly port: string } {
  const [first = '', second = ''] = text.split('/');
  for (const protocol of PROTOCOLS) {
    if (first.toUpperCase() === protocol) return { protocol, port: second };
    if (second.toUpperCase() === protocol) return { protocol, port: first };
  }
  return { protocol: undefined, port: text };
}

function portsOf({ service, pod }: Candidate): readonly ContainerPort[] {
  return service?.ports ?? pod?.namedPorts ?? [];
}

export function title({ who, name }: Pick<End, 'who' | 'name'>): string {
  return who === 'address' ? name : `${TITLES[who]} ${name}`;
}

const TITLES = { pod: 'Pod', node: 'Node', service: 'Service' } as const;

function notFound(kind: string, name: string, names: Iterable<string>): QuestionError {
  const all = [...names];
  if (all.length === 0)
    return failure(
      `There is no ${kind} '${name}'; none is known here at all. Name addresses where no enabled module reads them.`,
    );
  const meant = suggest(name, all) ?? suggest(name, all.map(ownName));
  const near = meant === undefined ? [] : all.filter(each => each === meant || ownName(each) === meant);
  const last = name.slice(name.indexOf('/') + 1);
  const elsewhere = all.filter(each => ownName(each) === last);
  return { error: `There is no ${kind} '${name}'.`, near: [...new Set([...elsewhere, ...near])].slice(0, 5) };
}

function ambiguous(kind: string, name: string, keys: readonly ObjectKey[]): QuestionError {
  return { error: `There are several: ${kind} '${name}' is in more than one namespace.`, near: keys };
}

function ownName(key: ObjectKey): string {
  return key.slice(key.indexOf('/') + 1);
}

function failure(error: string): QuestionError {
  return { error, near: [] };
}

/** `tcp/80`, `icmp`, `ipip`. */
export function transportText(transport: JudgedTransport): string {
  return 'port' in transport ? `${transport.protocol.toLowerCase()}/${transport.port}` : transport.protocol.toLowerCase();
}
