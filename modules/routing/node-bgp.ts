/** What annotations say of a node's part in BGP. Each is read for itself: what cannot be used is told, and stops nothing else. */
import type { Node } from '../../daemon/cluster/kinds.ts';
import { addressOfBytes, type Family, familyOf, HOST_BITS, type IpAddress, parseAddress } from '../../daemon/net/address.ts';
import { parseUint32 } from '../../daemon/net/as-number.ts';
import { parsePrefix, prefixFamily, prefixLength } from '../../daemon/net/prefix.ts';
import type { BgpActions, PrefixRange } from '../../daemon/reconcile/routing-tables.ts';

const ASN = 'kube-router.io/node.asn';
const SERVER = 'kube-router.io/rr.server';
const CLIENT = 'kube-router.io/rr.client';
const COMMUNITIES = 'kube-router.io/node.bgp.communities';
const IMPORT_REJECT = 'kube-router.io/node.bgp.customimportreject';
const PREPEND_ASN = 'kube-router.io/path-prepend.as';
const PREPEND_TIMES = 'kube-router.io/path-prepend.repeat-n';
const LOCAL_ADDRESSES = 'kube-router.io/bgp-local-addresses';

type Annotations = Readonly<Record<string, string>>;

/** A value, or undefined where there is none or it cannot be used, which `problems` tells. */
export interface Read<T> {
  readonly value: T;
  readonly problems: readonly string[];
}

/** `node.asn`. */
export function asnOf(annotations: Annotations): Read<number | undefined> {
  const text = annotations[ASN];
  if (text === undefined) return { value: undefined, problems: [] };
  const asn = parseUint32(text);
  if (asn !== undefined && asn !== 0) return { value: asn, problems: [] };
  return { value: undefined, problems: [`${ASN} is '${text}', which is no AS number`] };
}

/** A node's part in route reflection (RFC 4456). */
export type ReflectorRole =
  | { readonly role: 'none' }
  | { readonly role: 'server' | 'client' /** As a dotted quad. */; readonly clusterId: IpAddress };

const NO_ROLE: Read<ReflectorRole> = { value: { role: 'none' }, problems: [] };

/** `rr.server`, else `rr.client`: a number or a dotted quad. */
export function reflectorRoleOf(annotations: Annotations): Read<ReflectorRole> {
  const [key, role] = annotations[SERVER] === undefined ? ([CLIENT, 'client'] as const) : ([SERVER, 'server'] as const);
  const text = annotations[key];
  if (text === undefined) return NO_ROLE;
  const clusterId = clusterIdOf(text.trim());
  if (clusterId !== undefined) return { value: { role, clusterId }, problems: [] };
  return { value: { role: 'none' }, problems: [`${key} is '${text}', which is neither a number of 32 bits nor an IPv4 address`] };
}

function clusterIdOf(text: string): IpAddress | undefined {
  const address = parseAddress(text);
  if (address !== undefined) return familyOf(address) === 'ipv4' ? address : undefined;
  const number = parseUint32(text);
  if (number === undefined) return undefined;
  return addressOfBytes(Uint8Array.from([number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255]));
}

/** What is done to paths that external peers are told: communities and AS-path prepend. */
export function exportActionsOf(annotations: Annotations): Read<Omit<BgpActions, 'nextHopSelf'>> {
  const communities = communitiesOf(annotations);
  const prepend = prependOf(annotations);
  return {
    value: { setCommunities: communities.value, prepend: prepend.value },
    problems: [...communities.problems, ...prepend.problems],
  };
}

/** RFC 1997, RFC 7999, RFC 8326, RFC 9494 and what GoBGP knows besides, by kube-router's names. */
const WELL_KNOWN: ReadonlyMap<string, number> = new Map([
  ['internet', 0x00000000],
  ['planned-shut', 0xffff0000],
  ['accept-own', 0xffff0001],
  ['route-filter-translated-v4', 0xffff0002],
  ['route-filter-v4', 0xffff0003],
  ['route-filter-translated-v6', 0xffff0004],
  ['route-filter-v6', 0xffff0005],
  ['llgr-stale', 0xffff0006],
  ['no-llgr', 0xffff0007],
  ['blackhole', 0xffff029a],
  ['no-export', 0xffffff01],
  ['no-advertise', 0xffffff02],
  ['no-export-subconfed', 0xffffff03],
  ['no-peer', 0xffffff04],
]);

function communitiesOf(annotations: Annotations): Read<readonly number[]> {
  const value = new Set<number>();
  const problems: string[] = [];
  for (const text of listOf(annotations[COMMUNITIES])) {
    const community = communityOf(text);
    if (community === undefined) problems.push(`${COMMUNITIES} has '${text}', which is no community; it is left out`);
    else value.add(community);
  }
  return { value: [...value].sort((a, b) => a - b), problems };
}

function communityOf(text: string): number | undefined {
  const [, high, low] = /^([0-9]{1,5}):([0-9]{1,5})$/.exec(text) ?? [];
  if (high !== undefined && low !== undefined) {
    return Number(high) <= 0xffff && Number(low) <= 0xffff ? Number(high) * 0x10000 + Number(low) : undefined;
  }
  if (/^[0-9]{1,10}$/.test(text)) return Number(text) <= 0xffffffff ? Number(text) : undefined;
  return WELL_KNOWN.get(text.toLowerCase());
}

function prependOf(annotations: Annotations): Read<BgpActions['prepend']> {
  const [asnText, timesText] = [annotations[PREPEND_ASN], annotations[PREPEND_TIMES]];
  if (asnText === undefined && timesText === undefined) return { value: undefined, problems: [] };
  if (asnText === undefined || timesText === undefined)
    return { value: undefined, problems: [`${PREPEND_ASN} and ${PREPEND_TIMES} mean something only together`] };
  const asn = parseUint32(asnText);
  const times = parseUint32(timesText);
  if (asn === undefined || asn === 0)
    return { value: undefined, problems: [`${PREPEND_ASN} is '${asnText}', which is no AS number`] };
  if (times === undefined || times > 255)
    return { value: undefined, problems: [`${PREPEND_TIMES} is '${timesText}': use 0 to 255`] };
  return { value: times === 0 ? undefined : { asn, times }, problems: [] };
}

/** `node.bgp.customimportreject`: each prefix with all inside it. */
export function importRejectOf(annotations: Annotations): Read<readonly PrefixRange[]> {
  const value = new Map<string, PrefixRange>();
  const problems: string[] = [];
  for (const text of listOf(annotations[IMPORT_REJECT])) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) problems.push(`${IMPORT_REJECT} has '${text}', which is no prefix; it is left out`);
    else value.set(prefix, { prefix, minLength: prefixLength(prefix), maxLength: HOST_BITS[prefixFamily(prefix)] });
  }
  return { value: [...value.values()].sort((a, b) => (a.prefix < b.prefix ? -1 : 1)), problems };
}

/** `bgp-local-addresses`: where BGP listens; undefined where the node's own addresses serve. */
export function localAddressesOf(annotations: Annotations): Read<readonly IpAddress[] | undefined> {
  const text = annotations[LOCAL_ADDRESSES];
  if (text === undefined) return { value: undefined, problems: [] };
  const value = new Set<IpAddress>();
  const problems: string[] = [];
  for (const item of listOf(text)) {
    const address = parseAddress(item);
    if (address === undefined) problems.push(`${LOCAL_ADDRESSES} has '${item}', which is no IP address; it is left out`);
    else value.add(address);
  }
  return { value: value.size === 0 ? undefined : [...value], problems };
}

/** The family over which a node talks BGP by itself: that of its first InternalIP, else of its first ExternalIP. */
export function primaryFamilyOf(node: Node): Family | undefined {
  const primary = node.internalIPs[0] ?? node.externalIPs[0];
  return primary === undefined ? undefined : familyOf(primary);
}

/** What the rest of the cluster knows a node by: its primary address where that is of the family, else the first InternalIP of it, else the first ExternalIP. */
export function addressOf(node: Node, family: Family): IpAddress | undefined {
  return [...node.internalIPs, ...node.externalIPs].find(address => familyOf(address) === family);
}

function listOf(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '');
}
