/**
 * networking/v1 NetworkPolicy to the narrow type. A policy is a list of permissions, so that leaving out what cannot be read would be
 * safe for a rule and unsafe within one: an ipBlock without its `except`, a selector without one of its requirements allow more. A
 * direction is therefore used whole or not at all.
 */
import { isPort, PROTOCOLS } from '../net/port.ts';
import { type IpPrefix, parsePrefix, prefixAddress, prefixContains, prefixLength } from '../net/prefix.ts';
import type { NetworkPolicy, ObjectMeta, PolicyDirection, PolicyPeer, PolicyPort, PolicyRule } from './kinds.ts';
import { complaintText, type FieldReader, isAbsent, isRawObject, type RawObject } from './raw-object.ts';
import { type Complaining, readSelector, selectorOf, unknownField } from './selectors.ts';
import { isServiceName } from './service-name.ts';

const [INGRESS, EGRESS] = ['Ingress', 'Egress'] as const;
type PolicyType = typeof INGRESS | typeof EGRESS;

/** Never undefined: a policy that cannot be understood closes what it selects. */
export function projectNetworkPolicy(meta: ObjectMeta, raw: RawObject, read: FieldReader): NetworkPolicy {
  const selected = new Reasons(read, 'the policy selects more pods than it should and allows nothing');
  const spec = isRawObject(raw['spec']) ? raw['spec'] : {};
  if (!isAbsent(raw['spec']) && !isRawObject(raw['spec']))
    selected.complain('spec', raw['spec'], 'not an object; write podSelector and policyTypes under it');
  const unknown = unknownField(spec, ['podSelector', 'policyTypes', 'ingress', 'egress']);
  if (unknown !== undefined) read.complain('spec', unknown, 'not a field of a NetworkPolicy, ignored; correct or remove it');
  const { selector } = readSelector(spec['podSelector'], 'spec.podSelector', selected);
  const types = policyTypesOf(spec, read);
  return {
    kind: 'NetworkPolicy',
    meta,
    podSelector: selector,
    ingress: types.has(INGRESS) ? directionOf(spec['ingress'], INBOUND, selected.first, read) : undefined,
    egress: types.has(EGRESS) ? directionOf(spec['egress'], OUTBOUND, selected.first, read) : undefined,
  };
}

/** The API server's default: Ingress always, Egress where there are egress rules, readable or not. */
function policyTypesOf(spec: RawObject, read: FieldReader): ReadonlySet<PolicyType> {
  const types = new Set<PolicyType>();
  for (const word of read.list(spec['policyTypes'], 'spec.policyTypes')) {
    if (word === INGRESS || word === EGRESS) types.add(word);
    else read.complain('spec.policyTypes[]', word, 'not one of Ingress, Egress; ignored');
  }
  if (types.size > 0) return types;
  const egress = spec['egress'];
  const hasEgress = !isAbsent(egress) && !(Array.isArray(egress) && egress.length === 0);
  return new Set(hasEgress ? [INGRESS, EGRESS] : [INGRESS]);
}

/** Passes complaints on with their consequence, and keeps the first one as a reason. */
class Reasons implements Complaining {
  readonly #read: FieldReader;
  readonly #consequence: string;
  /** Undefined while nothing is wrong. */
  first: string | undefined;

  constructor(read: FieldReader, consequence: string) {
    this.#read = read;
    this.#consequence = consequence;
  }

  complain(field: string, value: unknown, remedy: string): void {
    this.first ??= complaintText(field, value, remedy);
    this.#read.complain(field, value, `${remedy}; until then ${this.#consequence}`);
  }
}

interface DirectionFields {
  readonly field: 'ingress' | 'egress';
  readonly peers: 'from' | 'to';
}
const INBOUND: DirectionFields = { field: 'ingress', peers: 'from' };
const OUTBOUND: DirectionFields = { field: 'egress', peers: 'to' };

/** Reading ends at the first mistake: what comes after it cannot make the direction usable again. */
function directionOf(
  raw: unknown,
  { field, peers }: DirectionFields,
  selected: string | undefined,
  read: FieldReader,
): PolicyDirection {
  const reasons = new Reasons(read, `the policy allows no ${field}`);
  const rules = itemsOf(raw, `spec.${field}`, reasons, (item, place) => ruleOf(item, place, peers, reasons));
  const unusable = selected ?? reasons.first;
  return { rules: unusable === undefined ? (rules ?? NOTHING) : NOTHING, unusable };
}

function ruleOf(raw: unknown, field: string, peersField: 'from' | 'to', reasons: Reasons): PolicyRule | undefined {
  const rule = objectOf(raw, field, [peersField, 'ports'], reasons);
  if (rule === undefined) return undefined;
  const peers = itemsOf(rule[peersField], `${field}.${peersField}`, reasons, (item, place) => peerOf(item, place, reasons));
  if (peers === undefined) return undefined;
  const ports = itemsOf(rule['ports'], `${field}.ports`, reasons, (item, place) => portOf(item, place, reasons));
  return ports === undefined ? undefined : { peers, ports };
}

function peerOf(raw: unknown, field: string, reasons: Reasons): PolicyPeer | undefined {
  const peer = objectOf(raw, field, ['podSelector', 'namespaceSelector', 'ipBlock'], reasons);
  if (peer === undefined) return undefined;
  const { podSelector, namespaceSelector, ipBlock } = peer;
  const hasSelector = !isAbsent(podSelector) || !isAbsent(namespaceSelector);
  if (isAbsent(ipBlock)) {
    if (hasSelector) return podsOf(peer, field, reasons);
    reasons.complain(field, raw, 'names no one; write podSelector, namespaceSelector or ipBlock');
    return undefined;
  }
  if (!hasSelector) return blockOf(ipBlock, `${field}.ipBlock`, reasons);
  reasons.complain(`${field}.ipBlock`, ipBlock, 'stands beside a selector; make it an item of its own');
  return undefined;
}

/** A selector that is there and cannot be read has been complained of. */
function podsOf({ podSelector, namespaceSelector }: RawObject, field: string, reasons: Reasons): PolicyPeer | undefined {
  const pods = isAbsent(podSelector) ? undefined : selectorOf(podSelector, `${field}.podSelector`, reasons);
  const namespaces = isAbsent(namespaceSelector)
    ? undefined
    : selectorOf(namespaceSelector, `${field}.namespaceSelector`, reasons);
  if (reasons.first !== undefined) return undefined;
  return { match: 'pods', namespaceSelector: namespaces, podSelector: pods };
}

function blockOf(raw: unknown, field: string, reasons: Reasons): PolicyPeer | undefined {
  const block = objectOf(raw, field, ['cidr', 'except'], reasons);
  const cidr = block === undefined ? undefined : prefixAt(block['cidr'], `${field}.cidr`, reasons);
  if (block === undefined || cidr === undefined) return undefined;
  const except = itemsOf(block['except'], `${field}.except`, reasons, (item, place) => exceptOf(item, cidr, place, reasons));
  return except === undefined ? undefined : { match: 'block', cidr, except: sortedOnce(except) };
}

/** A real part of the block. Host bits mean nothing, in `cidr` neither: API servers have taken both for long. */
function exceptOf(raw: unknown, cidr: IpPrefix, field: string, reasons: Reasons): IpPrefix | undefined {
  const except = prefixAt(raw, field, reasons);
  if (except === undefined) return undefined;
  if (prefixContains(cidr, prefixAddress(except)) && prefixLength(except) > prefixLength(cidr)) return except;
  reasons.complain(field, raw, `no part of ${cidr}; write a smaller block within it`);
  return undefined;
}

function prefixAt(raw: unknown, field: string, reasons: Reasons): IpPrefix | undefined {
  const prefix = typeof raw === 'string' ? parsePrefix(raw) : undefined;
  if (prefix === undefined) reasons.complain(field, raw, 'not a CIDR prefix; write it as 10.0.0.0/8 or fd00::/64');
  return prefix;
}

function sortedOnce(prefixes: readonly IpPrefix[]): readonly IpPrefix[] {
  return prefixes.length < 2 ? prefixes : [...new Set(prefixes)].sort();
}

function portOf(raw: unknown, field: string, reasons: Reasons): PolicyPort | undefined {
  const fields = objectOf(raw, field, ['protocol', 'port', 'endPort'], reasons);
  if (fields === undefined) return undefined;
  const { port, endPort } = fields;
  const protocol = isAbsent(fields['protocol']) ? 'TCP' : PROTOCOLS.find(known => known === fields['protocol']);
  if (protocol === undefined) {
    reasons.complain(`${field}.protocol`, fields['protocol'], `not one of ${PROTOCOLS.join(', ')}; correct it`);
  } else if (isPort(port)) {
    const last = isAbsent(endPort) ? port : endPort;
    if (isPort(last) && last >= port) return { match: 'range', protocol, first: port, last };
    reasons.complain(`${field}.endPort`, endPort, `not a number from ${port} to 65535; correct or remove it`);
  } else if (!isAbsent(endPort)) {
    reasons.complain(`${field}.endPort`, endPort, 'ends a range that no number begins; write a number as port or remove endPort');
  } else if (isAbsent(port)) {
    return { match: 'all', protocol };
  } else if (isServiceName(port)) {
    return { match: 'name', protocol, name: port };
  } else {
    reasons.complain(`${field}.port`, port, 'neither a number from 1 to 65535 without quotes nor the name of a port');
  }
  return undefined;
}

/** What a list holds, or undefined where any of it cannot be read. Absent is empty. */
function itemsOf<T>(
  raw: unknown,
  field: string,
  reasons: Reasons,
  itemOf: (item: unknown, field: string) => T | undefined,
): readonly T[] | undefined {
  if (isAbsent(raw)) return NOTHING;
  if (!Array.isArray(raw)) {
    reasons.complain(field, raw, 'not a list; begin each item with "- "');
    return undefined;
  }
  const items: T[] = [];
  for (const [index, member] of raw.entries()) {
    const item = itemOf(member, `${field}[${index}]`);
    if (item === undefined) return undefined;
    items.push(item);
  }
  return items.length === 0 ? NOTHING : items;
}

/** An object of these fields only. The API server drops others; in a manifest they may be misspelt restrictions. */
function objectOf(raw: unknown, field: string, known: readonly string[], reasons: Reasons): RawObject | undefined {
  const unknown = isRawObject(raw) ? unknownField(raw, known) : undefined;
  if (isRawObject(raw) && unknown === undefined) return raw;
  if (unknown === undefined) reasons.complain(field, raw, `not an object; write it with ${known.join(', ')}`);
  else reasons.complain(field, unknown, `not one of its fields ${known.join(', ')}; correct or remove it`);
  return undefined;
}

const NOTHING: readonly never[] = Object.freeze([]);
