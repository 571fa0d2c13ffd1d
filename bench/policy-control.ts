/**
 * The bench of what events cost under network policy: the daemon as an operator starts it, an API server over TLS, the real tools on this
 * machine's own kernel, real packets that fare otherwise after the event than before.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FAIRWAY } from '../test/lab/fleet.ts';
import { growth, MetricsPage } from './metrics.ts';
import { NODE_NAME, type PolicyClusterSize, PROBE_PORT, podAddress } from './policy-cluster.ts';
import { PolicyPlace, type Program } from './policy-place.ts';
import { fairwayRules, snapshotOf } from './policy-rules.ts';
import { castOf, type EventFigures, FURTHER_PORT, type PolicyEvent, type PolicyOperation } from './policy-station.ts';
import { atMost, median, megabytes, milliseconds, plain, printResults, quantile, type Result } from './results.ts';

export interface PolicyControlBench {
  readonly size: PolicyClusterSize;
  /** Of each sort of event. */
  readonly events: number;
  readonly starts: number;
}

const METRICS_PORT = 20_241;
const FLAGS = [
  `--hostname-override=${NODE_NAME}`,
  '--run-router=false',
  '--run-service-proxy=false',
  '--run-firewall=true',
  '--health-port=0',
  `--metrics-port=${METRICS_PORT}`,
  // No audit comes while something else is measured.
  '--audit-period=1h',
];
const EVENTS: readonly PolicyEvent[] = [
  'pod elsewhere relabelled',
  'new pod on the node, of a group that is there',
  'new pod on the node, the first of its group',
  'policy edited',
  'namespace relabelled',
];
const [PACKETS, STATION] = ['policy-packets.pl', 'policy-station.ts'].map(file => join(import.meta.dirname, file));
const EVENT_CPU_MS = 10;
const EVENT_MS = 30;
const EVENT_PROCESSES = 2;
const START_MS = 1500;
const RESIDENT_BYTES = 150e6;
const WARM_UP_EVENTS = 3;

export async function benchPolicyControl({ size, events, starts }: PolicyControlBench): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'fairway-bench-'));
  const { server, client, newcomer } = castOf(size);
  const pods = [server, newcomer].map(pod => podAddress(pod, size));
  const place = await PolicyPlace.open({ pods, remotePods: [podAddress(client, size)] });
  try {
    for (const [address, port] of [...pods.map(pod => [pod, PROBE_PORT] as const), [pods[0], FURTHER_PORT] as const]) {
      await place.start('pods', ['perl', PACKETS ?? '', 'sink', String(port), address ?? '']).line();
    }
    const control = await ControlMeasurement.start(place, size, directory);
    await control.run(events, starts);
  } finally {
    await place.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A daemon that runs, and milliseconds from its start. */
interface Started {
  readonly daemon: Program;
  /** Until a packet that no policy allows is refused. */
  readonly forceMs: number;
  /** Until it says that its first round is in. */
  readonly readyMs: number;
}

interface BareTools {
  readonly ipset: number;
  readonly iptables: number;
}

class ControlMeasurement {
  readonly #place: PolicyPlace;
  readonly #size: PolicyClusterSize;
  readonly #station: Program;
  readonly #title: string;
  readonly #argv: readonly string[];

  private constructor(place: PolicyPlace, size: PolicyClusterSize, station: Program, kubeconfig: string) {
    const { localPods, pods, namespaces, policies } = size;
    this.#place = place;
    this.#size = size;
    this.#station = station;
    this.#title = `policy-control: ${localPods} of ${pods} pods, ${policies} policies, ${namespaces} namespaces`;
    this.#argv = [...FAIRWAY, `--kubeconfig=${kubeconfig}`, ...FLAGS];
  }

  static async start(place: PolicyPlace, size: PolicyClusterSize, directory: string): Promise<ControlMeasurement> {
    const station = place.start('outside', [FAIRWAY[0] ?? 'node', '--max-semi-space-size=16', STATION ?? '']);
    await station.line();
    const kubeconfig = (await ask(station, { op: 'serve', size, directory })) as string;
    return new ControlMeasurement(place, size, station, kubeconfig);
  }

  async run(events: number, starts: number): Promise<void> {
    const first: Started[] = [];
    for (let index = 0; index < starts; index++) {
      if (index > 0) await this.#place.run('node', [...FAIRWAY, 'cleanup']);
      first.push(await this.#startDaemon());
      if (index < starts - 1) await first.at(-1)?.daemon.stop();
    }
    const daemon = first.at(-1)?.daemon;
    if (daemon === undefined) throw new RangeError('at least one start is needed');
    const results = startResults(first, await this.#scrape(), await this.#bareTools());
    printResults(`${this.#title}, first start (median of ${starts})`, results);
    for (const what of EVENTS) {
      await this.#events(what, WARM_UP_EVENTS, daemon);
      const before = await this.#scrape();
      const figures = await this.#events(what, events, daemon);
      printResults(`${this.#title}, ${what}`, eventResults(figures, before, await this.#scrape()));
    }
    const afterEvents = memoryResults('after these events', daemon.pid, await this.#scrape());
    await daemon.stop();
    const second = await this.#startDaemon();
    printResults(`${this.#title}, memory`, [
      ...afterEvents,
      ...memoryResults('after a restart', second.daemon.pid, await this.#scrape()),
    ]);
    printResults(`${this.#title}, a restart that finds everything in place`, [
      plain('exec to ready', milliseconds(second.readyMs)),
      plain('entries written', String((await this.#scrape()).sum('fairway_changes_total')), 'exactly 0'),
    ]);
    await second.daemon.stop();
  }

  async #startDaemon(): Promise<Started> {
    const begin = performance.timeOrigin + performance.now();
    const refused = ask(this.#station, { op: 'awaitRefusal' }) as Promise<number>;
    const daemon = this.#place.start('node', this.#argv);
    const readyAt = daemon.logged(/ready: the first round is in/);
    return { daemon, forceMs: (await refused) - begin, readyMs: (await readyAt) - begin };
  }

  /** Milliseconds that the tools alone take for the same sets and rules. */
  async #bareTools(): Promise<BareTools> {
    const { ipset, iptables } = await fairwayRules(snapshotOf(this.#size));
    const timed = async (argv: readonly string[], input: string): Promise<number> => {
      const begin = performance.now();
      await this.#place.run('spare', argv, input);
      return performance.now() - begin;
    };
    return {
      ipset: await timed(['ipset', 'restore'], ipset),
      iptables: await timed(['iptables-nft-restore', '--noflush'], iptables),
    };
  }

  async #events(what: PolicyEvent, count: number, daemon: Program): Promise<EventFigures> {
    return (await ask(this.#station, { op: 'events', what, count, pid: daemon.pid })) as EventFigures;
  }

  async #scrape(): Promise<MetricsPage> {
    return new MetricsPage((await ask(this.#station, { op: 'scrape', port: METRICS_PORT })) as string);
  }
}

async function ask(station: Program, operation: PolicyOperation): Promise<unknown> {
  const answer = JSON.parse(await station.ask(JSON.stringify(operation))) as { ok?: unknown; error?: string };
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer.ok;
}

function startResults(starts: readonly Started[], page: MetricsPage, bare: BareTools): readonly Result[] {
  const spawns = page.by('fairway_spawns_total', 'command');
  const force = starts.map(start => start.forceMs);
  return [
    atMost('exec to rules in force', median(force), START_MS, milliseconds),
    plain('  the fastest', milliseconds(quantile(force, 0))),
    plain('exec to ready', milliseconds(median(starts.map(start => start.readyMs)))),
    plain('  of it planning', milliseconds(1000 * page.sum('fairway_plan_seconds_sum'))),
    ...(['ipset', 'iptables'] as const).map(table => {
      const ms = 1000 * page.sum('fairway_apply_seconds_sum', { table });
      return plain(`  of it writing ${table}`, milliseconds(ms), `the bare tool: ${milliseconds(bare[table])}`);
    }),
    plain('  processor time of the daemon', milliseconds(1000 * page.sum('process_cpu_seconds_total'))),
    plain('  processes', String(sum(spawns)), counted(spawns)),
    ...[...page.by('fairway_table_entries', 'table')].map(([table, entries]) => plain(`entries of ${table}`, String(entries))),
  ];
}

function eventResults({ took, cpu }: EventFigures, before: MetricsPage, after: MetricsPage): readonly Result[] {
  const spawns = growth('fairway_spawns_total', 'command', before, after);
  const changes = growth('fairway_changes_total', 'table', before, after);
  const grown = (name: string): number => after.sum(name) - before.sum(name);
  const all = cpu.length;
  return [
    atMost(`event to packet (median of ${took.length})`, median(took), EVENT_MS, milliseconds),
    plain('  the fastest, the 95th percentile', `${milliseconds(quantile(took, 0))}, ${milliseconds(quantile(took, 0.95))}`),
    plain(
      '  the daemon from hearing of it to done (mean)',
      milliseconds((1000 * grown('fairway_programming_latency_seconds_sum')) / all),
    ),
    plain('  of it planning', milliseconds((1000 * grown('fairway_plan_seconds_sum')) / all)),
    plain('  of it in the tools', milliseconds((1000 * grown('fairway_apply_seconds_sum')) / all)),
    atMost('processor time of the daemon (median)', median(cpu), EVENT_CPU_MS, milliseconds),
    atMost('processes', sum(spawns) / all, EVENT_PROCESSES, oneDecimal, `: ${counted(spawns)} in ${all} events`),
    plain('entries written', oneDecimal(sum(changes) / all), `${counted(changes)} in ${all} events`),
  ];
}

function memoryResults(when: string, pid: number, page: MetricsPage): readonly Result[] {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+([0-9]+) kB`, 'm').exec(status)?.[1]) * 1024;
  return [
    atMost(`resident ${when}`, bytes('VmRSS'), RESIDENT_BYTES, megabytes),
    plain('  at its peak', megabytes(bytes('VmHWM'))),
    plain('  of it the program and its libraries', megabytes(bytes('RssFile')), 'shared by all processes of that program'),
    plain('  of it heap in use', megabytes(page.sum('nodejs_heap_size_used_bytes'))),
  ];
}

function oneDecimal(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

function counted(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || 'none';
}
