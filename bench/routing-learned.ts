/**
 * The bench of learned routes: the fabric's router, a gobgpd of its own, announces and withdraws; the daemon as an operator starts it, with its own
 * gobgpd, on this machine's own kernel.
 */
import { join } from 'node:path';
import { growth, type MetricsPage } from './metrics.ts';
import { atMost, median, milliseconds, plain, printResults, quantile, type Result } from './results.ts';
import { FABRIC_ADDRESS, FABRIC_ASN, learnedPrefix, NODE_ADDRESS } from './routing-cluster.ts';
import { counted, memoryResults, RoutingSite, type RunningDaemon, total } from './routing-site.ts';
import type { Lap, TellingFigures } from './routing-station.ts';

export interface RoutingLearnedBench {
  /** How many routes are told at once, and how often. */
  readonly sizes: readonly { readonly routes: number; readonly times: number }[];
}

const FLAGS = [`--peer-router-ips=${FABRIC_ADDRESS}`, `--peer-router-asns=${FABRIC_ASN}`];
/** Milliseconds from the router's being told to the kernel. */
const ONE_ROUTE_MS = 50;
const ALL_ROUTES_MS = 5000;
const WARM_UP_TIMES = 3;
/** What the issue measured of it, in a guest. */
const KUBE_ROUTER = 'kube-router v2.11.1 in a guest: 10,000 not there after 180 s';

export async function benchRoutingLearned({ sizes }: RoutingLearnedBench): Promise<void> {
  const site = await RoutingSite.open();
  try {
    const kubeconfig = (await site.ask({ op: 'serve', nodes: 1, directory: site.directory })) as string;
    const socket = join(site.directory, 'router.sock');
    site.place.start('fabric', ['gobgpd', `--api-hosts=unix://${socket}`, '--pprof-disable']);
    await site.ask({ op: 'speak', socket });
    const daemon = site.startDaemon(kubeconfig, FLAGS);
    await daemon.readyAt;
    // What is first withdrawn stays until the router has told all it knows, and meets code that was not run yet.
    for (let time = 0; time < WARM_UP_TIMES; time++)
      await site.ask({ op: 'tell', count: 1, programs: await site.programs(daemon) });
    for (const size of sizes) await measure(site, daemon, size);
    await daemon.program.stop();
  } finally {
    await site.close();
  }
}

async function measure(
  site: RoutingSite,
  daemon: RunningDaemon,
  { routes, times }: RoutingLearnedBench['sizes'][number],
): Promise<void> {
  const programs = await site.programs(daemon);
  const tell = async (): Promise<TellingFigures> => (await site.ask({ op: 'tell', count: routes, programs })) as TellingFigures;
  const before = await site.scrape();
  const figures: TellingFigures[] = [];
  for (let time = 0; time < times; time++) figures.push(await tell());
  const after = await site.scrape();
  const bare = await bareBatches(site, routes);
  printResults(`routing: ${routes} learned ${routes === 1 ? 'route' : 'routes'} (median of ${times})`, [
    ...lapResults(
      'announced',
      figures.map(({ announced }) => announced),
      routes,
      bare.add,
    ),
    ...lapResults(
      'withdrawn',
      figures.map(({ withdrawn }) => withdrawn),
      routes,
      bare.del,
    ),
    ...roundResults(before, after, 2 * times),
    ...memoryResults('then', programs),
  ]);
}

function lapResults(how: string, laps: readonly Lap[], routes: number, bareMs: number): readonly Result[] {
  const took = laps.map(lap => lap.took);
  const target = routes === 1 ? ONE_ROUTE_MS : ALL_ROUTES_MS;
  const remark = routes >= 10_000 ? ` (${KUBE_ROUTER})` : '';
  return [
    atMost(`${how}, router told to kernel`, median(took), target, milliseconds, remark),
    plain('  the fastest, the slowest', `${milliseconds(quantile(took, 0))}, ${milliseconds(quantile(took, 1))}`),
    plain('  of it until the router itself has taken it in', milliseconds(median(laps.map(lap => lap.told)))),
    plain('  as a multiple of the bare tool', (median(took) / bareMs).toFixed(1), `ip -batch: ${milliseconds(bareMs)}`),
    plain('  processor time of the daemon', milliseconds(median(laps.map(({ cpu }) => cpu.daemon)))),
    plain('  processor time of its gobgpd', milliseconds(median(laps.map(({ cpu }) => cpu.gobgpd)))),
  ];
}

function roundResults(before: MetricsPage, after: MetricsPage, laps: number): readonly Result[] {
  const changes = growth('fairway_changes_total', 'table', before, after);
  const spawns = growth('fairway_spawns_total', 'command', before, after);
  const grown = (name: string): number => (1000 * (after.sum(name) - before.sum(name))) / laps;
  return [
    plain('of an announcement or withdrawal (mean): planning', milliseconds(grown('fairway_plan_seconds_sum'))),
    plain('  in the tools', milliseconds(grown('fairway_apply_seconds_sum'))),
    plain('  entries written', String(total(changes) / laps), counted(changes)),
    plain('  processes', String(total(spawns) / laps), counted(spawns)),
  ];
}

/** Milliseconds that the tool alone takes for the same routes: the median of three. */
async function bareBatches(site: RoutingSite, routes: number): Promise<{ readonly add: number; readonly del: number }> {
  const prefixes = Array.from({ length: routes }, (_, index) => learnedPrefix(index));
  const timed = async (lines: readonly string[]): Promise<number> => {
    const begin = performance.now();
    await site.place.run('spare', ['ip', '-batch', '-'], lines.join('\n'));
    return performance.now() - begin;
  };
  const ways = `via ${FABRIC_ADDRESS} dev eth0 proto 70 src ${NODE_ADDRESS} metric 32070`;
  const add: number[] = [];
  const del: number[] = [];
  for (let time = 0; time < 3; time++) {
    add.push(await timed(prefixes.map(prefix => `route add ${prefix} ${ways}`)));
    del.push(await timed(prefixes.map(prefix => `route del ${prefix} proto 70`)));
  }
  return { add: median(add), del: median(del) };
}
