/** What a policy says of a route, without asking the speaker: it tells what a change of policy takes from whom. */
import type { IpAddress } from '../net/address.ts';
import { type IpPrefix, prefixAddress, prefixContains, prefixLength } from '../net/prefix.ts';
import type { Audience, BgpPolicy, BgpStatement, PrefixRange, RouteOrigin } from '../reconcile/routing-tables.ts';

export interface Route {
  readonly prefix: IpPrefix;
  readonly origin: RouteOrigin;
  /** Of a path of ours. */
  readonly audience: Audience | undefined;
}

/** Whether a route to (export) or from (import) the neighbour is let by. */
export function accepts(policy: BgpPolicy, neighbor: IpAddress, route: Route): boolean {
  const deciding = policy.statements.find(statement => holds(statement, neighbor, route));
  return (deciding?.verdict ?? policy.otherwise) === 'accept';
}

/** Whether the verdict depends on the prefix at all. */
export function asksForPrefix({ statements }: BgpPolicy): boolean {
  return statements.some(({ prefixes }) => prefixes !== undefined);
}

function holds({ neighbors, prefixes, origin, audience }: BgpStatement, neighbor: IpAddress, route: Route): boolean {
  return (
    (origin === undefined || origin === route.origin) &&
    (audience === undefined || audience === route.audience) &&
    (neighbors === undefined || neighbors.includes(neighbor)) &&
    (prefixes === undefined || prefixes.some(range => isWithin(route.prefix, range)))
  );
}

function isWithin(prefix: IpPrefix, range: PrefixRange): boolean {
  const length = prefixLength(prefix);
  return (
    length >= Math.max(range.minLength, prefixLength(range.prefix)) &&
    length <= range.maxLength &&
    prefixContains(range.prefix, prefixAddress(prefix))
  );
}
