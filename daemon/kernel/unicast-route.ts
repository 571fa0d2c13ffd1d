/** The driver of routes to pods and addresses elsewhere: ip-route(8), type unicast, in the main table and in that of pods' own sources. */
import { FairwayError } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { MAIN_TABLE, POD_SOURCE_TABLE, ROUTE_METRIC, ROUTE_PROTOCOL, type UnicastRoute } from '../reconcile/routing-tables.ts';
import { TABLES } from '../reconcile/tables.ts';
import type { Command, CommandRunner } from './command.ts';
import { applyBatch, type BatchLines, textOf, withUsableLinks } from './ip-batch.ts';
import { hasOurMetric, routeText, type ShownRoute, shownRouteOf } from './unicast-route-line.ts';

/**
 * Protocols (rtm_protocol) of kube-router's routes in each table: 17 by netlink, which kube-router calls zebra's (that is 11) and nobody else uses for
 * unicast routes (mrouted, whose number it is, makes none); in its own table also those of ip itself (`boot`, `static`).
 */
const KUBE_ROUTERS: Readonly<Record<UnicastRoute['table'], readonly number[]>> = {
  [MAIN_TABLE]: [17],
  [POD_SOURCE_TABLE]: [3, 4, 17],
};

/** What ip leaves out where it prints the protocol. */
const BOOT = 3;

/**
 * Ours by protocol 70. In the main table they have a metric behind all others': where somebody else has a route to the same prefix, that one is in force
 * and is neither replaced nor deleted, and ours stands in for it when it goes. They are made with `add`, which never overwrites, and changed with
 * `replace`, by which neither family has a moment without the route.
 *
 * kube-router's routes are ours too, in place of a route of ours: the entry has no next hops then, so that it is never as wanted. Ours is added
 * first, and behind the other's metric waits until that one is deleted; it stays where ours was refused. In table 77, where both have the metric that
 * the kernel gives, `replace` takes the place of the other's.
 *
 * The kernel deletes routes with their link or when it goes down; reading back tells.
 */
export function unicastRouteDriver({ runner }: { readonly runner: CommandRunner }): TableDriver<UnicastRoute> {
  const show = async (command: Command, onRoute: (route: ShownRoute) => void, signal: AbortSignal): Promise<void> => {
    const onLine = (line: string): void => {
      const route = shownRouteOf(line);
      if (route !== undefined) onRoute(route);
    };
    const result = await runner.lines(command, onLine, signal);
    // A table that has no route does not exist, and a kernel without IPv6 has none of it.
    const errors = result.stderr
      .split('\n')
      .filter(line => /^(RTNETLINK|Error)/.test(line) && !/does not exist|not supported/.test(line));
    if (result.status !== 0 && errors.length > 0) {
      throw new FairwayError('FW_COMMAND_FAILED', `'${command.argv.join(' ')}' failed: ${errors.join('; ')}`);
    }
  };

  const standing = async (
    expected: ReadonlyMap<string, UnicastRoute>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Standing>> => {
    const found = new Map<string, Standing>();
    const onOurs = (shown: ShownRoute): void => {
      const route = ourRouteOf(shown, shown.table ?? MAIN_TABLE);
      if (route === undefined) return;
      const key = TABLES.unicastRoute.key(route);
      const known = expected.get(key);
      found.set(key, { route: known !== undefined && TABLES.unicastRoute.same(route, known) ? known : route, isAlone: true });
    };
    const onOther = (shown: ShownRoute, table: UnicastRoute['table']): void => {
      const none: UnicastRoute = { table, destination: shown.destination, nextHops: [], source: undefined };
      const key = TABLES.unicastRoute.key(none);
      found.set(key, { route: found.get(key)?.route ?? none, isAlone: false });
    };
    await show(routesOf(ROUTE_PROTOCOL), onOurs, signal);
    for (const protocol of KUBE_ROUTERS[MAIN_TABLE]) {
      await show(routesOf(protocol), shown => (shown.table === undefined ? onOther(shown, MAIN_TABLE) : undefined), signal);
    }
    const isKubeRouters = ({ protocol }: ShownRoute): boolean => KUBE_ROUTERS[POD_SOURCE_TABLE].includes(protocol ?? BOOT);
    for (const command of ALL_OF_POD_SOURCES) {
      await show(command, shown => (isKubeRouters(shown) ? onOther(shown, POD_SOURCE_TABLE) : undefined), signal);
    }
    return found;
  };

  return {
    async read(expected, signal) {
      const found = new Map<string, UnicastRoute>();
      for (const [key, { route, isAlone }] of await standing(expected, signal)) {
        found.set(key, isAlone || route.nextHops.length === 0 ? route : { ...route, nextHops: [] });
      }
      return found;
    },
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, ({ nextHops }) => nextHops.map(({ link }) => link));
      const batch = { runner, nameOf, remedyOf, read: (): ReturnType<typeof standing> => standing(new Map(), signal) };
      const first = await applyBatch({ ...batch, linesOf: firstLines, isDone: isOursAsAsked }, usable, signal);
      const further = usable.filter(change => !first.failed.has(change.key) && lastLines(change).length > 0);
      const last = await applyBatch({ ...batch, linesOf: lastLines, isDone: isOtherGone }, further, signal);
      return { failed: new Map([...failed, ...first.failed, ...last.failed]) };
    },
    render: changes => textOf([...changes.flatMap(firstLines), ...changes.flatMap(lastLines)]),
  };
}

/** What is there of one key. */
interface Standing {
  /** Ours; without next hops where there is none. */
  readonly route: UnicastRoute;
  /** Whether kube-router has none to the same prefix. */
  readonly isAlone: boolean;
}

function ourRouteOf(shown: ShownRoute, table: number): UnicastRoute | undefined {
  if (table !== MAIN_TABLE && table !== POD_SOURCE_TABLE) return undefined;
  const { destination, source, nextHops, metric } = shown;
  const route: UnicastRoute = { table, destination, nextHops, source };
  return hasOurMetric(route, metric) ? route : { ...route, nextHops: [] };
}

/** Of both families, in one process. Numbers: kube-router gives its table a name in rt_tables. */
function routesOf(protocol: number): Command {
  return { argv: ['ip', '-o', '-N', 'route', 'show', 'table', 'all', 'type', 'unicast', 'proto', String(protocol)] };
}

/** ip shows a table by its number of one family only. */
const ALL_OF_POD_SOURCES: readonly Command[] = (['-4', '-6'] as const).map(family => ({
  argv: ['ip', family, '-o', '-N', 'route', 'show', 'table', String(POD_SOURCE_TABLE), 'type', 'unicast'],
}));

/** What gives packets a way, or takes ours away. */
function firstLines(change: Change<UnicastRoute>): BatchLines {
  if (change.op === 'create') return [`route add ${routeText(change.to)}`];
  if (change.op === 'update') return [`route replace ${routeText(change.to)}`];
  const protocols = hasOther(change.from) ? [...KUBE_ROUTERS[change.from.table], ROUTE_PROTOCOL] : [ROUTE_PROTOCOL];
  return deletions(change.from, protocols);
}

/** What takes kube-router's away once ours is there. */
function lastLines(change: Change<UnicastRoute>): BatchLines {
  return change.op === 'update' && hasOther(change.from) ? deletions(change.from, KUBE_ROUTERS[change.from.table]) : [];
}

/** Lines for routes that are not there do no harm: what counts is what is there in the end. */
function deletions({ destination, table }: UnicastRoute, protocols: readonly number[]): BatchLines {
  return protocols.map(protocol => `route del ${destination} table ${table} proto ${protocol}`);
}

function hasOther({ nextHops }: UnicastRoute): boolean {
  return nextHops.length === 0;
}

function isOursAsAsked(change: Change<UnicastRoute>, found: ReadonlyMap<string, Standing>): boolean {
  const there = found.get(change.key);
  if (change.op === 'delete') return there === undefined || (!hasOther(change.from) && there.route.nextHops.length === 0);
  return there !== undefined && TABLES.unicastRoute.same(there.route, change.to);
}

function isOtherGone({ key }: Change<UnicastRoute>, found: ReadonlyMap<string, Standing>): boolean {
  return found.get(key)?.isAlone ?? true;
}

function nameOf({ destination, table }: UnicastRoute): string {
  return `route to ${destination} in table ${table}`;
}

function remedyOf({ nextHops, table }: UnicastRoute, reason: string): string | undefined {
  const remedies: readonly (readonly [RegExp, string])[] = [
    [/invalid gateway|unreachable|No route to host/, 'the next hop is on no network of that link'],
    [/encap|not supported/, 'the kernel lacks CONFIG_LWTUNNEL'],
    [/File exists/, table === MAIN_TABLE ? `somebody else's has metric ${ROUTE_METRIC}` : "somebody else's is there"],
  ];
  const known = remedies.find(([pattern]) => pattern.test(reason))?.[1];
  return known === undefined ? undefined : `${nextHops.map(({ gateway, link }) => gateway ?? link).join(', ')}: ${known}`;
}
