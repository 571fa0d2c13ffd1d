/**
 * The bench of Nodes that come, go and change: the daemon as an operator starts it, an API server over TLS, this machine's own kernel; and planning
 * alone, in a process of its own.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { atMost, median, megabytes, milliseconds, plain, printResults, quantile, type Result } from './results.ts';
import { NODE_EVENTS, type NodeEvent } from './routing-cluster.ts';
import type { EventPlanFigures, RoutingPlanFigures } from './routing-plan-process.ts';
import { counted, memoryResults, RoutingSite, type RunningDaemon, total } from './routing-site.ts';
import type { EventFigures, NodePrograms } from './routing-station.ts';

export interface RoutingNodesBench {
  /** The fewest first. */
  readonly sizes: readonly number[];
  /** Of each sort, in the kernel. */
  readonly events: number;
}

const MODES = ['api', 'mesh'] as const;
export type RoutingMode = (typeof MODES)[number];

/** Seconds until the daemon no longer waits for nodes that never call: nothing is measured before. */
const SETTLE_SECONDS = 5;
const FLAGS: Readonly<Record<RoutingMode, readonly string[]>> = {
  api: ['--pod-routes=api'],
  mesh: ['--nodes-full-mesh=true', '--bgp-graceful-restart=true', `--bgp-graceful-restart-time=${SETTLE_SECONDS}s`],
};
const EVENT_CPU_MS = 10;
const FLAT = 2;
const PLAN_EVENTS = 200;
const REST_MS = 10_000;

export async function benchRoutingNodes({ sizes, events }: RoutingNodesBench): Promise<void> {
  for (const mode of MODES) {
    const plans = await inSequence(sizes, nodes => planFigures(nodes, mode));
    const kernels = await inSequence(sizes, nodes => kernelFigures(nodes, mode, events));
    for (const what of NODE_EVENTS) {
      printResults(`routing, ${mode} mode, ${what} (median of ${events}; planning alone of ${PLAN_EVENTS})`, [
        ...planResults(
          sizes,
          plans.map(plan => plan.events[what]),
        ),
        ...eventResults(
          sizes,
          kernels.map(figures => figures[what]),
        ),
      ]);
    }
  }
}

type KernelFigures = Readonly<Record<NodeEvent, EventFigures>>;

async function inSequence<T>(sizes: readonly number[], measure: (size: number) => Promise<T>): Promise<readonly T[]> {
  const figures: T[] = [];
  for (const size of sizes) figures.push(await measure(size));
  return figures;
}

async function planFigures(nodes: number, mode: RoutingMode): Promise<RoutingPlanFigures> {
  const program = join(import.meta.dirname, 'routing-plan-process.ts');
  const argv = ['--max-semi-space-size=2', '--expose-gc', program, String(nodes), mode, String(PLAN_EVENTS)];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { maxBuffer: 1 << 24 });
  const figures = JSON.parse(stdout) as RoutingPlanFigures;
  printResults(`routing, planning alone, ${mode} mode, ${nodes} Nodes`, [
    plain('first list to full plan, processor time', milliseconds(figures.first.plan)),
    plain('then comparing all tables with an empty kernel', milliseconds(figures.first.compare)),
    plain('heap after the events, collected', megabytes(figures.heapBytes)),
  ]);
  return figures;
}

async function kernelFigures(nodes: number, mode: RoutingMode, events: number): Promise<KernelFigures> {
  const site = await RoutingSite.open();
  try {
    const kubeconfig = (await site.ask({ op: 'serve', nodes, directory: site.directory })) as string;
    const daemon = site.startDaemon(kubeconfig, FLAGS[mode]);
    printResults(`routing, ${mode} mode, first start with ${nodes} Nodes`, await startResults(site, daemon, nodes, mode));
    const programs = await site.programs(daemon);
    const hasRoutes = mode === 'api';
    const figures = new Map<NodeEvent, EventFigures>();
    for (const what of NODE_EVENTS) {
      // The first ones meet code that was not run yet.
      for (const count of [2, events])
        figures.set(what, (await site.ask({ op: 'events', what, count, nodes, programs, hasRoutes })) as EventFigures);
    }
    printResults(`routing, ${mode} mode, ${nodes} Nodes, afterwards`, memoryResults('after the events', programs));
    await daemon.program.stop();
    return Object.fromEntries(figures) as unknown as KernelFigures;
  } finally {
    await site.close();
  }
}

async function startResults(
  site: RoutingSite,
  daemon: RunningDaemon,
  nodes: number,
  mode: RoutingMode,
): Promise<readonly Result[]> {
  const routes = mode === 'api' ? nodes - 1 : 0;
  const inKernel = (await site.ask({ op: 'awaitRoutes', count: routes })) as number;
  const readyAt = await daemon.readyAt;
  const page = await site.scrape();
  const programs = await site.programs(daemon);
  const memory = memoryResults('then', programs);
  const spawns = page.by('fairway_spawns_total', 'command');
  const applied = [...page.by('fairway_table_entries', 'table')].map(([table, entries]) => {
    const ms = 1000 * page.sum('fairway_apply_seconds_sum', { table });
    return plain(`  of it writing ${table}`, milliseconds(ms), `${entries} entries`);
  });
  return [
    plain('exec to ready', milliseconds(readyAt - daemon.begin)),
    ...(routes === 0 ? [] : [plain('exec to the last route in the kernel', milliseconds(inKernel - daemon.begin))]),
    plain('  of it planning', milliseconds(1000 * page.sum('fairway_plan_seconds_sum'))),
    ...applied,
    plain('  processor time of the daemon', milliseconds(1000 * page.sum('process_cpu_seconds_total'))),
    plain('  processes', String(total(spawns)), counted(spawns)),
    ...memory,
    ...(await restResults(site, programs, mode)),
  ];
}

/** What goes on without an event, per second. */
async function restResults(site: RoutingSite, programs: NodePrograms, mode: RoutingMode): Promise<readonly Result[]> {
  const rest = async (ms: number): Promise<{ daemon: number; gobgpd: number }> =>
    (await site.ask({ op: 'rest', ms, programs })) as { daemon: number; gobgpd: number };
  await rest(mode === 'mesh' ? 2 * SETTLE_SECONDS * 1000 : 2000);
  const { daemon, gobgpd } = await rest(REST_MS);
  return [
    plain('processor time a second at rest, the daemon', milliseconds(daemon)),
    ...(programs.gobgpd === undefined ? [] : [plain('  gobgpd', milliseconds(gobgpd), 'calls nodes that are not there')]),
  ];
}

function planResults(sizes: readonly number[], figures: readonly EventPlanFigures[]): readonly Result[] {
  return sizes.flatMap((nodes, index) => {
    const { cpu = [], written = Number.NaN } = figures[index] ?? {};
    const remark = `${written / PLAN_EVENTS} entries for the drivers`;
    return [plain(`${nodes} Nodes: planning alone, from text to changes`, milliseconds(median(cpu)), remark)];
  });
}

function eventResults(sizes: readonly number[], figures: readonly EventFigures[]): readonly Result[] {
  const cpu = figures.map(({ cpu: times, atRest }) => median(times.map(({ daemon }) => daemon)) - atRest.daemon);
  return [
    ...figures.flatMap(({ took, cpu: times, atRest, spawned, written }, index) => {
      const nodes = sizes[index];
      const [processes, entries] = [new Map(Object.entries(spawned)), new Map(Object.entries(written))];
      const gobgpd = median(times.map(time => time.gobgpd)) - atRest.gobgpd;
      return [
        ...(took.length === 0
          ? []
          : [
              plain(
                `${nodes} Nodes: event to kernel`,
                milliseconds(median(took)),
                `the fastest ${milliseconds(quantile(took, 0))}`,
              ),
            ]),
        ownTime(`${nodes} Nodes: processor time of the daemon`, cpu[index] ?? Number.NaN),
        plain('  at rest it would have used besides', milliseconds(atRest.daemon)),
        ...(atRest.gobgpd === 0
          ? []
          : [
              plain(
                '  processor time of gobgpd, less that at rest',
                milliseconds(gobgpd),
                `at rest ${milliseconds(atRest.gobgpd)}`,
              ),
            ]),
        plain('  entries written', String(total(entries) / times.length), counted(entries)),
        plain('  processes', String(total(processes) / times.length), counted(processes)),
      ];
    }),
    ...flatness(sizes, cpu),
    ...sameWrites(
      sizes,
      figures.map(({ written, cpu: times }) => total(new Map(Object.entries(written))) / times.length),
    ),
  ];
}

/** What is lost in the unrest of the rest proves nothing. */
function ownTime(what: string, ms: number): Result {
  return ms > 0 ? atMost(what, ms, EVENT_CPU_MS, milliseconds) : plain(what, milliseconds(ms), 'lost in what is used at rest');
}

function flatness(sizes: readonly number[], cpu: readonly number[]): readonly Result[] {
  const [fewest, most] = [cpu[0] ?? 0, cpu.at(-1) ?? 0];
  if (sizes.length < 2) return [];
  const what = `processor time at ${sizes.at(-1)} Nodes by that at ${sizes[0]}`;
  if (fewest <= 0 || most <= 0) return [plain(what, 'not to be told', 'one of them is lost in what is used at rest')];
  return [atMost(what, most / fewest, FLAT, value => value.toFixed(2))];
}

function sameWrites(sizes: readonly number[], written: readonly number[]): readonly Result[] {
  if (sizes.length < 2) return [];
  const isMet = written.every(count => count === written[0]);
  return [{ what: 'entries written an event', measured: written.join(', '), against: 'equal at all sizes', isMet }];
}
