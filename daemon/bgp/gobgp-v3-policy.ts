/**
 * A policy as GoBGP 3 has it: statements that refer to defined sets by name. Everything of one version of a policy begins with that version's name, so
 * that the next can be made beside it.
 *
 * Three things stand in GoBGP's that do not in ours. Local paths pass the import policy too, so it begins with a statement that lets them by. Every
 * statement by which a path is told takes our mark from it. And what no statement decides is decided by a last one, not by the assignment's default: a
 * default cannot take the mark away.
 */
import { FairwayError } from '../errors.ts';
import { familyOf, HOST_BITS, type IpAddress, parseAddress } from '../net/address.ts';
import { hostPrefix, parsePrefix, prefixAddress, prefixLength } from '../net/prefix.ts';
import type { Audience, BgpActions, BgpPolicy, BgpStatement, PrefixRange, RouteOrigin } from '../reconcile/routing-tables.ts';
import { AUDIENCE_MARKS, communityText } from './audience.ts';
import {
  Actions,
  type CommunityAction,
  CommunityAction_Type,
  Conditions,
  Conditions_RouteType,
  DefinedSet,
  DefinedType,
  type MatchSet,
  MatchSet_Type,
  Policy,
  RouteAction,
  Statement,
} from './proto/gobgp.ts';

type Direction = BgpPolicy['direction'];

const ROUTE_TYPES = {
  local: Conditions_RouteType.ROUTE_TYPE_LOCAL,
  internal: Conditions_RouteType.ROUTE_TYPE_INTERNAL,
  external: Conditions_RouteType.ROUTE_TYPE_EXTERNAL,
} as const;
const ORIGINS: readonly RouteOrigin[] = ['local', 'internal', 'external'];
const AUDIENCES: readonly Audience[] = ['everyone', 'fabric'];
const UNCHANGED: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };
/** GoBGP reads what is to be removed as patterns of `HIGH:LOW`, and writes them so. */
const ANY_COMMUNITY = '^[0-9]+:[0-9]+$';
const OUR_MARKS = AUDIENCES.map(audience => `^${communityText(AUDIENCE_MARKS[audience])}$`);

export interface ApiPolicy {
  readonly policy: Policy;
  readonly sets: readonly DefinedSet[];
}

/** What a policy needs as GoBGP's default of its direction. */
export function defaultActionOf(direction: Direction): RouteAction {
  // Without a policy of ours nothing is told to anyone, and all is taken in.
  return direction === 'export' ? RouteAction.REJECT : RouteAction.ACCEPT;
}

export function policyToApi({ direction, statements, otherwise }: BgpPolicy, name: string): ApiPolicy {
  const sets: DefinedSet[] = [];
  const made = statements.map((statement, index) => {
    const conditions = conditionsToApi(statement, `${name}-${index}`, sets);
    return Statement.fromPartial({
      name: `${name}-${index}`,
      conditions,
      actions: actionsToApi(direction, statement.verdict, statement.actions),
    });
  });
  const last = Statement.fromPartial({
    name: `${name}-otherwise`,
    conditions: {},
    actions: actionsToApi(direction, otherwise, UNCHANGED),
  });
  const first = direction === 'import' ? [localStatement(name)] : [];
  return { policy: Policy.fromPartial({ name, statements: [...first, ...made, last] }), sets };
}

/** Undefined for one that we did not make, or that was changed so that it says what ours cannot. */
export function policyOfApi(direction: Direction, policy: Policy, sets: readonly DefinedSet[]): BgpPolicy | undefined {
  const statements = [...policy.statements];
  if (direction === 'import' && !isLocalStatement(statements.shift())) return undefined;
  const last = statements.pop();
  const lastRead = last === undefined ? undefined : statementOfApi(direction, last, sets);
  if (lastRead === undefined || !isUnconditional(lastRead)) return undefined;
  const read = statements.map(statement => statementOfApi(direction, statement, sets));
  if (read.includes(undefined)) return undefined;
  return { direction, statements: read.filter(statement => statement !== undefined), otherwise: lastRead.verdict };
}

function localStatement(name: string): Statement {
  return Statement.fromPartial({
    name: `${name}-local`,
    conditions: { routeType: ROUTE_TYPES.local },
    actions: { routeAction: RouteAction.ACCEPT },
  });
}

function isLocalStatement(statement: Statement | undefined): boolean {
  if (statement === undefined) return false;
  const read = statementOfApi('import', statement, []);
  return (
    read !== undefined && read.origin === 'local' && read.verdict === 'accept' && isUnconditional({ ...read, origin: undefined })
  );
}

function isUnconditional({ neighbors, prefixes, origin, audience }: BgpStatement): boolean {
  return [neighbors, prefixes, origin, audience].every(condition => condition === undefined);
}

function conditionsToApi(statement: BgpStatement, name: string, sets: DefinedSet[]): Conditions {
  const { neighbors, prefixes, origin, audience } = statement;
  const matching = (definedType: DefinedType, what: string, content: Partial<DefinedSet>): MatchSet => {
    const items = content.list ?? content.prefixes ?? [];
    // GoBGP takes an empty set for a condition that always holds.
    if (items.length === 0) throw new FairwayError('FW_BGP_REFUSED', `a statement of a BGP policy names no ${what} at all`);
    sets.push(DefinedSet.fromPartial({ definedType, name: `${name}-${what}`, ...content }));
    return { type: MatchSet_Type.ANY, name: `${name}-${what}` };
  };
  return Conditions.fromPartial({
    neighborSet: neighbors && matching(DefinedType.NEIGHBOR, 'neighbors', { list: neighbors.map(hostPrefix) }),
    prefixSet: prefixes && matching(DefinedType.PREFIX, 'prefixes', { prefixes: prefixes.map(rangeToApi) }),
    communitySet: audience && matching(DefinedType.COMMUNITY, 'audience', { list: [communityText(AUDIENCE_MARKS[audience])] }),
    routeType: origin === undefined ? Conditions_RouteType.ROUTE_TYPE_NONE : ROUTE_TYPES[origin],
  });
}

function rangeToApi({ prefix, minLength, maxLength }: PrefixRange): {
  ipPrefix: string;
  maskLengthMin: number;
  maskLengthMax: number;
} {
  return { ipPrefix: prefix, maskLengthMin: minLength, maskLengthMax: maxLength };
}

function actionsToApi(direction: Direction, verdict: BgpStatement['verdict'], actions: BgpActions): Actions {
  if (verdict === 'reject') return Actions.fromPartial({ routeAction: RouteAction.REJECT });
  const { setCommunities, prepend, nextHopSelf } = actions;
  return Actions.fromPartial({
    routeAction: RouteAction.ACCEPT,
    community: communityToApi(direction, setCommunities),
    asPrepend: prepend && { asn: prepend.asn, repeat: prepend.times },
    nexthop: nextHopSelf ? { self: true } : undefined,
  });
}

function communityToApi(direction: Direction, communities: readonly number[] | undefined): CommunityAction | undefined {
  if (communities !== undefined && communities.length > 0)
    return { type: CommunityAction_Type.REPLACE, communities: communities.map(communityText) };
  if (communities !== undefined) return { type: CommunityAction_Type.REMOVE, communities: [ANY_COMMUNITY] };
  return direction === 'export' ? { type: CommunityAction_Type.REMOVE, communities: [...OUR_MARKS] } : undefined;
}

/** Undefined where it says what ours cannot. */
function statementOfApi(direction: Direction, statement: Statement, sets: readonly DefinedSet[]): BgpStatement | undefined {
  const conditions = conditionsOfApi(statement.conditions ?? Conditions.fromPartial({}), sets);
  const { routeAction, ...done } = statement.actions ?? Actions.fromPartial({});
  if (conditions === undefined) return undefined;
  if (routeAction === RouteAction.REJECT) return { ...conditions, verdict: 'reject', actions: UNCHANGED };
  const actions = actionsOfApi(direction, done);
  return routeAction === RouteAction.ACCEPT && actions !== undefined ? { ...conditions, verdict: 'accept', actions } : undefined;
}

type ReadConditions = Pick<BgpStatement, 'neighbors' | 'prefixes' | 'origin' | 'audience'>;

function conditionsOfApi(conditions: Conditions, sets: readonly DefinedSet[]): ReadConditions | undefined {
  const { neighborSet, prefixSet, communitySet, routeType } = conditions;
  const { asPathLength, asPathSet, extCommunitySet, largeCommunitySet, nextHopInList, afiSafiIn } = conditions;
  if ([asPathLength, asPathSet, extCommunitySet, largeCommunitySet].some(other => other !== undefined)) return undefined;
  if (nextHopInList.length + afiSafiIn.length > 0) return undefined;
  const neighbors = neighborsOf(findSet(DefinedType.NEIGHBOR, neighborSet, sets));
  const prefixes = rangesOf(findSet(DefinedType.PREFIX, prefixSet, sets));
  const audience = audienceOfSet(findSet(DefinedType.COMMUNITY, communitySet, sets));
  const origin = ORIGINS.find(each => ROUTE_TYPES[each] === routeType);
  // A condition that is there and cannot be read.
  const isUnread = (match: MatchSet | undefined, read: unknown): boolean => match !== undefined && read === undefined;
  if (isUnread(neighborSet, neighbors) || isUnread(prefixSet, prefixes) || isUnread(communitySet, audience)) return undefined;
  return { neighbors, prefixes, origin, audience };
}

function findSet(type: DefinedType, match: MatchSet | undefined, sets: readonly DefinedSet[]): DefinedSet | undefined {
  if (match?.type !== MatchSet_Type.ANY) return undefined;
  return sets.find(({ definedType, name }) => definedType === type && name === match.name);
}

function neighborsOf(set: DefinedSet | undefined): readonly IpAddress[] | undefined {
  const prefixes = set?.list.map(parsePrefix);
  if (prefixes === undefined || prefixes.length === 0) return undefined;
  const addresses = prefixes.flatMap(prefix => {
    const address = prefix === undefined ? undefined : parseAddress(prefixAddress(prefix));
    return address !== undefined && prefix !== undefined && prefixLength(prefix) === HOST_BITS[familyOf(address)]
      ? [address]
      : [];
  });
  return addresses.length === prefixes.length ? addresses : undefined;
}

function rangesOf(set: DefinedSet | undefined): readonly PrefixRange[] | undefined {
  if (set === undefined || set.prefixes.length === 0) return undefined;
  const ranges = set.prefixes.flatMap(({ ipPrefix, maskLengthMin, maskLengthMax }) => {
    const prefix = parsePrefix(ipPrefix);
    return prefix === undefined ? [] : [{ prefix, minLength: maskLengthMin, maxLength: maskLengthMax }];
  });
  return ranges.length === set.prefixes.length ? ranges : undefined;
}

function audienceOfSet(set: DefinedSet | undefined): Audience | undefined {
  const [pattern, ...more] = set?.list ?? [];
  if (pattern === undefined || more.length > 0) return undefined;
  return AUDIENCES.find(audience => pattern.replace(/[$^]/g, '') === communityText(AUDIENCE_MARKS[audience]));
}

function actionsOfApi(direction: Direction, actions: Omit<Actions, 'routeAction'>): BgpActions | undefined {
  const { community, asPrepend, nexthop, med, extCommunity, localPref, largeCommunity } = actions;
  if ([med, extCommunity, localPref, largeCommunity].some(other => other !== undefined)) return undefined;
  const setCommunities = communitiesOfApi(direction, community);
  if (setCommunities === 'other' || asPrepend?.useLeftMost === true) return undefined;
  if (nexthop !== undefined && !nexthop.self) return undefined;
  return {
    setCommunities,
    prepend: asPrepend && { asn: asPrepend.asn, times: asPrepend.repeat },
    nextHopSelf: nexthop !== undefined,
  };
}

function communitiesOfApi(direction: Direction, action: CommunityAction | undefined): readonly number[] | undefined | 'other' {
  if (action?.type === CommunityAction_Type.REPLACE) return action.communities.map(communityOf);
  const removed = action?.communities.join(' ') ?? '';
  if (action?.type === CommunityAction_Type.REMOVE && removed === ANY_COMMUNITY) return [];
  const expected = direction === 'export' ? OUR_MARKS.join(' ') : '';
  const isAsMade = removed === expected && (action === undefined || action.type === CommunityAction_Type.REMOVE);
  return isAsMade ? undefined : 'other';
}

function communityOf(text: string): number {
  const [high = '', low = ''] = text.split(':');
  return Number(high) * 0x10000 + Number(low);
}
