/**
 * Our policies as GoBGP 3 has them: named sets, statements that refer to them, a policy of these, and its assignment to all neighbours. A change is a new
 * policy under another number, put in the place of the old one at once; the old one goes afterwards.
 */
import { familyOf, HOST_BITS, parseAddress } from '../net/address.ts';
import { parsePrefix } from '../net/prefix.ts';
import type { Audience, BgpActions, BgpPolicy, BgpStatement, PrefixRange, RouteOrigin } from '../reconcile/routing-tables.ts';
import { AUDIENCE_MARKS } from './gobgp-v3-path.ts';
import {
  type Actions,
  CommunityAction_Type,
  type Conditions,
  Conditions_RouteType,
  DefinedSet,
  DefinedType,
  MatchSet_Type,
  Policy,
  PolicyDirection,
  RouteAction,
  type Statement,
} from './proto/gobgp.ts';

const PREFIX = 'fairway-';
const AUDIENCES: readonly Audience[] = ['everyone', 'fabric'];

/** Sets that say who may hear of a path, by our mark. They are the same for every policy and stay. */
export const AUDIENCE_SETS: readonly DefinedSet[] = AUDIENCES.map(audience =>
  DefinedSet.fromPartial({
    definedType: DefinedType.COMMUNITY,
    name: `${PREFIX}${audience}`,
    list: [`^${communityText(AUDIENCE_MARKS[audience])}$`],
  }),
);

/** A policy and the sets that only it uses. */
export interface PolicyParts {
  readonly policy: Policy;
  readonly sets: readonly DefinedSet[];
}

export function directionToApi(direction: BgpPolicy['direction']): PolicyDirection {
  return direction === 'import' ? PolicyDirection.IMPORT : PolicyDirection.EXPORT;
}

export function verdictToApi(verdict: 'accept' | 'reject'): RouteAction {
  return verdict === 'accept' ? RouteAction.ACCEPT : RouteAction.REJECT;
}

/** `fairway-export-3`. */
export function policyName(direction: BgpPolicy['direction'], number: number): string {
  return `${PREFIX}${direction}-${number}`;
}

/** The number in a name of ours; undefined for one that is not. */
export function policyNumber(direction: BgpPolicy['direction'], name: string): number | undefined {
  const [, number] = new RegExp(`^${PREFIX}${direction}-([0-9]+)$`).exec(name) ?? [];
  return number === undefined ? undefined : Number(number);
}

export function policyToApi({ direction, statements }: BgpPolicy, number: number): PolicyParts {
  const name = policyName(direction, number);
  const sets: DefinedSet[] = [];
  const add = (definedType: DefinedType, suffix: string, content: Partial<Pick<DefinedSet, 'list' | 'prefixes'>>) => {
    const set = DefinedSet.fromPartial({ definedType, name: `${name}-${suffix}`, ...content });
    sets.push(set);
    return { type: MatchSet_Type.ANY, name: set.name };
  };
  const policy = Policy.fromPartial({
    name,
    statements: statements.map((statement, index) => ({
      name: `${name}-${index}`,
      conditions: {
        ...(statement.neighbors === undefined
          ? {}
          : {
              neighborSet: add(DefinedType.NEIGHBOR, `${index}-neighbors`, {
                // A bare address is refused.
                list: statement.neighbors.map(address => `${address}/${HOST_BITS[familyOf(address)]}`),
              }),
            }),
        ...(statement.prefixes === undefined
          ? {}
          : {
              prefixSet: add(DefinedType.PREFIX, `${index}-prefixes`, {
                prefixes: statement.prefixes.map(({ prefix, minLength, maxLength }) => ({
                  ipPrefix: prefix,
                  maskLengthMin: minLength,
                  maskLengthMax: maxLength,
                })),
              }),
            }),
        ...(statement.audience === undefined
          ? {}
          : { communitySet: { type: MatchSet_Type.ANY, name: `${PREFIX}${statement.audience}` } }),
        routeType: ROUTE_TYPES[statement.origin ?? 'any'],
      },
      actions: actionsToApi(statement, direction),
    })),
  });
  return { policy, sets };
}

const ROUTE_TYPES: Readonly<Record<RouteOrigin | 'any', Conditions_RouteType>> = {
  any: Conditions_RouteType.ROUTE_TYPE_NONE,
  local: Conditions_RouteType.ROUTE_TYPE_LOCAL,
  internal: Conditions_RouteType.ROUTE_TYPE_INTERNAL,
  external: Conditions_RouteType.ROUTE_TYPE_EXTERNAL,
};

/** What leaves the node bears no mark of ours. */
const UNMARK = {
  type: CommunityAction_Type.REMOVE,
  communities: AUDIENCES.map(audience => communityText(AUDIENCE_MARKS[audience])),
};

function actionsToApi({ verdict, actions }: BgpStatement, direction: BgpPolicy['direction']): Partial<Actions> {
  const routeAction = verdictToApi(verdict);
  if (verdict === 'reject') return { routeAction };
  const { setCommunities, prepend, nextHopSelf } = actions;
  const community =
    setCommunities === undefined || setCommunities.length === 0
      ? UNMARK
      : { type: CommunityAction_Type.REPLACE, communities: setCommunities.map(communityText) };
  return {
    routeAction,
    ...(direction === 'export' || setCommunities !== undefined ? { community } : {}),
    ...(prepend === undefined ? {} : { asPrepend: { asn: prepend.asn, repeat: prepend.times, useLeftMost: false } }),
    ...(nextHopSelf ? { nexthop: { address: '', self: true, unchanged: false } } : {}),
  };
}

/** The policy of these statements and sets; what is not as we make it comes out other than any policy of ours. */
export function policyOfApi(
  direction: BgpPolicy['direction'],
  { statements }: Policy,
  sets: ReadonlyMap<string, DefinedSet>,
  defaultAction: RouteAction,
): BgpPolicy {
  return {
    direction,
    statements: statements.map(statement => statementOfApi(statement, sets)),
    otherwise: defaultAction === RouteAction.REJECT ? 'reject' : 'accept',
  };
}

function statementOfApi({ conditions, actions }: Statement, sets: ReadonlyMap<string, DefinedSet>): BgpStatement {
  const verdict = actions?.routeAction === RouteAction.REJECT ? 'reject' : 'accept';
  return {
    neighbors: neighborsOf(conditions, sets),
    prefixes: prefixesOf(conditions, sets),
    origin: originOf(conditions),
    audience: AUDIENCES.find(audience => conditions?.communitySet?.name === `${PREFIX}${audience}`),
    verdict,
    actions: actionsOf(actions),
  };
}

function neighborsOf(conditions: Conditions | undefined, sets: ReadonlyMap<string, DefinedSet>): BgpStatement['neighbors'] {
  const name = conditions?.neighborSet?.name ?? '';
  if (name === '') return undefined;
  const list = sets.get(name)?.list ?? [];
  return list.flatMap(text => parseAddress(text.replace(/\/.*$/, '')) ?? []).sort();
}

function prefixesOf(conditions: Conditions | undefined, sets: ReadonlyMap<string, DefinedSet>): BgpStatement['prefixes'] {
  const name = conditions?.prefixSet?.name ?? '';
  if (name === '') return undefined;
  const ranges = (sets.get(name)?.prefixes ?? []).flatMap(
    ({ ipPrefix, maskLengthMin, maskLengthMax }): readonly PrefixRange[] => {
      const prefix = parsePrefix(ipPrefix);
      return prefix === undefined ? [] : [{ prefix, minLength: maskLengthMin, maxLength: maskLengthMax }];
    },
  );
  return ranges;
}

function originOf(conditions: Conditions | undefined): RouteOrigin | undefined {
  return (['local', 'internal', 'external'] as const).find(origin => ROUTE_TYPES[origin] === conditions?.routeType);
}

function actionsOf(actions: Actions | undefined): BgpActions {
  const community = actions?.community;
  const asPrepend = actions?.asPrepend;
  return {
    setCommunities:
      community?.type === CommunityAction_Type.REPLACE && community.communities.length > 0
        ? community.communities.flatMap(text => communityOf(text) ?? []).sort((a, b) => a - b)
        : undefined,
    prepend: asPrepend === undefined || asPrepend.repeat === 0 ? undefined : { asn: asPrepend.asn, times: asPrepend.repeat },
    nextHopSelf: actions?.nexthop?.self === true,
  };
}

/** `64512:100`, as RFC 1997 writes it. */
function communityText(community: number): string {
  return `${community >>> 16}:${community & 0xffff}`;
}

function communityOf(text: string): number | undefined {
  const [, high, low] = /^([0-9]+):([0-9]+)$/.exec(text.replace(/[\^$]/g, '')) ?? [];
  return high === undefined || low === undefined ? undefined : Number(high) * 0x10000 + Number(low);
}

/** Policies in one form: what reads back otherwise than it was written means the same. */
export function normalized(policy: BgpPolicy): BgpPolicy {
  return {
    ...policy,
    statements: policy.statements.map(statement => ({
      ...statement,
      neighbors: statement.neighbors?.toSorted(),
      prefixes: statement.prefixes?.toSorted((a, b) => compareRanges(a, b)),
      actions:
        statement.verdict === 'reject' ? NO_ACTIONS : { ...statement.actions, setCommunities: listOrNone(statement.actions) },
    })),
  };
}

const NO_ACTIONS: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };

/** Setting none is what is done to every path: our mark goes, and paths of ours have no other. */
function listOrNone({ setCommunities }: BgpActions): readonly number[] | undefined {
  return setCommunities === undefined || setCommunities.length === 0 ? undefined : setCommunities.toSorted((a, b) => a - b);
}

function compareRanges(a: PrefixRange, b: PrefixRange): number {
  const text = ({ prefix, minLength, maxLength }: PrefixRange): string => `${prefix} ${minLength} ${maxLength}`;
  return text(a) < text(b) ? -1 : 1;
}

/** Whether the two let the same routes through to whomever they are asked of: then only what is done to these differs. */
export function sameConditions(one: BgpPolicy, other: BgpPolicy): boolean {
  const conditions = ({ statements, otherwise }: BgpPolicy): string =>
    JSON.stringify([
      otherwise,
      statements.map(({ prefixes, origin, audience, verdict }) => [prefixes ?? null, origin, audience, verdict]),
    ]);
  return conditions(normalized(one)) === conditions(normalized(other));
}
