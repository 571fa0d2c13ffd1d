/** A daemon with the routing module on fakes, followed change by change. IPv4 alone, so that each change is seen once. */
import type { Node } from '../../daemon/cluster/kinds.ts';
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import { type IpPrefix, mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { TableName } from '../../daemon/reconcile/tables.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import { farNode, node } from '../fixtures/cluster.ts';
import { POD_ROUTES } from '../fixtures/routing-scene.ts';
import { type RecordedApply, recordApplies, takeApplies } from './applies.ts';
import { type RoutingWorld, startRoutingWorld } from './daemon.ts';

export interface Watched extends RoutingWorld {
  readonly applies: RecordedApply[];
}

export type Options = Partial<RoutingOptions>;
export const IPV4_ONLY: Options = { families: { ipv4: 'on', ipv6: 'off' } };
export const ROUTES = POD_ROUTES.filter(({ prefix }) => !prefix.includes(':'));

/** A daemon that has listed nodes 1, 2 and, across the router, 4; what neighbours tell is still to come. */
export function started(options: Options = {}, nodes: readonly Node[] = [node(1), node(2), farNode(4)]): Watched {
  const world = startRoutingWorld({ ...IPV4_ONLY, ...options });
  list(world, nodes);
  return { ...world, applies: recordApplies(world.tables) };
}

export function list({ source }: RoutingWorld, nodes: readonly Node[]): void {
  source.list('Node', nodes);
  source.list('Service', []);
  source.list('EndpointSlice', []);
}

/** Likewise, at rest: all neighbours have told what they have. What was written to come there is forgotten. */
export async function atRest(options: Options = {}, nodes?: readonly Node[]): Promise<Watched> {
  const world = started(options, nodes);
  tell(world, ROUTES);
  await world.clock.advance(1000);
  takeApplies(world.applies);
  return world;
}

export function tell({ daemon }: RoutingWorld, routes: readonly LearnedRoute[], isSettled = true): void {
  daemon.ribChanged(new Map(routes.map(route => [route.prefix, route])), isSettled);
}

export function withdraw({ daemon }: RoutingWorld, ...prefixes: readonly string[]): void {
  daemon.ribChanged(new Map<IpPrefix, undefined>(prefixes.map(prefix => [mustParsePrefix(prefix), undefined])), true);
}

/** What was written since the last look, as `TABLE OP KEY`, whatever its order. */
export function written({ applies }: Watched): readonly string[] {
  return takeApplies(applies)
    .flatMap(({ table, changes }) => changes.map(change => `${table} ${change}`))
    .sort();
}

export function keys(world: RoutingWorld, ...tables: readonly TableName[]): readonly string[] {
  return tables.flatMap(table => [...world.tables[table].state.keys()].map(key => `${table} ${key}`)).sort();
}
