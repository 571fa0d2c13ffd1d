/** Paths as GoBGP 3 has them: prefix and attributes are messages of their own within, each with the name of its type. */
import { type Family, familyOf, type IpAddress, mustParseAddress, parseAddress } from '../net/address.ts';
import { type IpPrefix, parsePrefix, prefixAddress, prefixFamily, prefixLength } from '../net/prefix.ts';
import type { Audience, BgpPath, RouteOrigin } from '../reconcile/routing-tables.ts';
import { AUDIENCE_MARKS } from './audience.ts';
import { familyToApi } from './gobgp-v3-family.ts';
import {
  AsPathAttribute,
  AsSegment_Type,
  CommunitiesAttribute,
  IPAddressPrefix,
  LocalPrefAttribute,
  MpReachNLRIAttribute,
  MultiExitDiscAttribute,
  NextHopAttribute,
  OriginAttribute,
} from './proto/attribute.ts';
import { type Destination, Path } from './proto/gobgp.ts';
import type { Any } from './proto/google/protobuf/any.ts';
import type { BestPath } from './speaker.ts';

/** RFC 4271, 4.3: IGP. */
const ORIGIN_IGP = 0;
const DEFAULT_LOCAL_PREF = 100;
const UNSPECIFIED: Readonly<Record<Family, IpAddress>> = { ipv4: mustParseAddress('0.0.0.0'), ipv6: mustParseAddress('::') };

interface MessageType<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

const TYPE_URL = 'type.googleapis.com/apipb.';

function pack<T>(name: string, type: MessageType<T>, message: T): Any {
  return { typeUrl: `${TYPE_URL}${name}`, value: Buffer.from(type.encode(message).finish()) };
}

function unpack<T>(name: string, type: MessageType<T>, messages: readonly Any[]): T | undefined {
  const found = messages.find(({ typeUrl }) => typeUrl === `${TYPE_URL}${name}`);
  return found === undefined ? undefined : type.decode(found.value);
}

/** A path of ours as it is added. */
export function pathToApi({ prefix, nextHop, audience }: BgpPath): Path {
  const marks = pack('CommunitiesAttribute', CommunitiesAttribute, { communities: [AUDIENCE_MARKS[audience]] });
  return apiPath(prefix, nextHop, [marks]);
}

/** A withdrawal of whatever path of ours there is to the prefix. */
export function withdrawalToApi(prefix: IpPrefix): Path {
  const nextHop = UNSPECIFIED[prefixFamily(prefix)];
  return { ...apiPath(prefix, nextHop, []), isWithdraw: true };
}

function apiPath(prefix: IpPrefix, nextHop: IpAddress, more: readonly Any[]): Path {
  const family = familyToApi(prefixFamily(prefix));
  const nlri = pack('IPAddressPrefix', IPAddressPrefix, { prefix: prefixAddress(prefix), prefixLen: prefixLength(prefix) });
  // RFC 4760 for IPv6, RFC 8950 for IPv4 by way of IPv6.
  const isPlain = prefixFamily(prefix) === 'ipv4' && familyOf(nextHop) === 'ipv4';
  const reach = isPlain
    ? pack('NextHopAttribute', NextHopAttribute, { nextHop })
    : pack('MpReachNLRIAttribute', MpReachNLRIAttribute, { family, nextHops: [nextHop], nlris: [nlri] });
  const pattrs = [pack('OriginAttribute', OriginAttribute, { origin: ORIGIN_IGP }), reach, ...more];
  return Path.fromPartial({ family, nlri, pattrs });
}

/** The path with our mark; undefined for one that others put in. */
export function localPathOfApi(path: Path): BgpPath | undefined {
  if (!isLocal(path)) return undefined;
  const prefix = prefixOfApi(path);
  const nextHop = nextHopOf(path);
  const audience = audienceOf(path);
  if (prefix === undefined || nextHop === undefined || audience === undefined) return undefined;
  return { prefix, nextHop, audience };
}

export function prefixOfApi({ nlri }: Path): IpPrefix | undefined {
  const message = nlri === undefined ? undefined : unpack('IPAddressPrefix', IPAddressPrefix, [nlri]);
  return message === undefined ? undefined : parsePrefix(`${message.prefix}/${message.prefixLen}`);
}

function nextHopOf({ pattrs }: Path): IpAddress | undefined {
  const plain = unpack('NextHopAttribute', NextHopAttribute, pattrs)?.nextHop;
  // Of two (RFC 2545, 3) the second is link-local.
  return parseAddress(plain ?? unpack('MpReachNLRIAttribute', MpReachNLRIAttribute, pattrs)?.nextHops[0] ?? '');
}

/** Paths of our own have no neighbour; GoBGP writes the nil of its language. */
function isLocal({ neighborIp }: Path): boolean {
  return neighborIp === '' || neighborIp === '<nil>';
}

/** What a policy may ask of the best path to a prefix. */
export interface RouteFacts {
  readonly prefix: IpPrefix;
  readonly origin: RouteOrigin;
  readonly audience: Audience | undefined;
  /** Who told it; undefined for a local one. */
  readonly neighbor: IpAddress | undefined;
  readonly path: Path;
}

/** Of the path that neighbours are told of. */
export function bestFactsOf(destination: Destination, ownAsn: number): RouteFacts | undefined {
  const [path] = usablePaths(destination);
  const prefix = path === undefined ? undefined : prefixOfApi(path);
  if (path === undefined || prefix === undefined) return undefined;
  return { prefix, origin: originOf(path, ownAsn), audience: audienceOf(path), neighbor: neighborOf(path), path };
}

/** The best path and those as good: they would tie but for who told them (RFC 4271, 9.1.2.2, a to d). */
export function bestPathsOf(destination: Destination, ownAsn: number): readonly BestPath[] {
  const usable = usablePaths(destination);
  const [best] = usable;
  if (best === undefined) return [];
  const worth = worthOf(best, ownAsn);
  return usable.filter(path => worthOf(path, ownAsn) === worth).flatMap(path => bestPathOf(path, ownAsn) ?? []);
}

/** The best one first. */
function usablePaths({ paths }: Destination): readonly Path[] {
  return paths.filter(path => !path.filtered && !path.isNexthopInvalid);
}

function bestPathOf(path: Path, ownAsn: number): BestPath | undefined {
  const prefix = prefixOfApi(path);
  const nextHop = nextHopOf(path);
  if (prefix === undefined || nextHop === undefined) return undefined;
  return { prefix, nextHop, origin: originOf(path, ownAsn), neighbor: neighborOf(path) };
}

function neighborOf(path: Path): IpAddress | undefined {
  return isLocal(path) ? undefined : parseAddress(path.neighborIp);
}

/** `isFromExternal` is not about BGP: it speaks of routes that zebra handed on. */
function originOf(path: Path, ownAsn: number): RouteOrigin {
  if (isLocal(path)) return 'local';
  return path.sourceAsn === ownAsn ? 'internal' : 'external';
}

function audienceOf({ pattrs }: Path): Audience | undefined {
  const communities = unpack('CommunitiesAttribute', CommunitiesAttribute, pattrs)?.communities ?? [];
  return (['everyone', 'fabric'] as const).find(each => communities.includes(AUDIENCE_MARKS[each]));
}

/** How GoBGP compares paths before it asks who told them (`Path.Compare`). */
function worthOf(path: Path, ownAsn: number): string {
  const { pattrs } = path;
  const segments = unpack('AsPathAttribute', AsPathAttribute, pattrs)?.segments ?? [];
  // RFC 4271, 9.1.2.2 a): a set counts as one, whatever is in it; RFC 5065, 5.3: confederations count nothing.
  const hops = segments.reduce((sum, { type, numbers }) => {
    if (type === AsSegment_Type.AS_SEQUENCE) return sum + numbers.length;
    return type === AsSegment_Type.AS_SET ? sum + 1 : sum;
  }, 0);
  const preference = unpack('LocalPrefAttribute', LocalPrefAttribute, pattrs)?.localPref ?? DEFAULT_LOCAL_PREF;
  const origin = unpack('OriginAttribute', OriginAttribute, pattrs)?.origin ?? ORIGIN_IGP;
  const med = unpack('MultiExitDiscAttribute', MultiExitDiscAttribute, pattrs)?.med ?? 0;
  return [originOf(path, ownAsn), preference, hops, origin, med].join(' ');
}
