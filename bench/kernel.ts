/** The bench of the whole way, in the lab: the daemon as an operator starts it, an API server over TLS, the real tools, real packets. */
import { join } from 'node:path';
import type { LabNode } from '../test/lab/addresses.ts';
import { Lab } from '../test/lab/lab.ts';
import { TARGET_PORT } from './cluster.ts';
import { type Started, Station, startDaemon } from './guest.ts';
import { growth, type MetricsPage } from './metrics.ts';
import { atMost, median, megabytes, milliseconds, percent, plain, printResults, quantile, type Result } from './results.ts';
import type { CpuSample, Memory } from './station.ts';

export interface KernelBench {
  /** Numbers of Services. */
  readonly sizes: readonly number[];
  /** Seconds for which the daemon is watched at rest: one audit period. */
  readonly windowSeconds: number;
}

const TIME_LIMIT_MS = 1_800_000;
const READY_LIMIT_MS = 300_000;
const GUEST_MEMORY_MIB = 3072;
/** No audit comes while something else is measured. */
const NO_AUDIT = '--audit-period=1h';
const LOOP_PAUSES = join(import.meta.dirname, 'loop-pauses.mjs');
const PAUSES_FILE = '/run/fairway-bench/pauses';
const CHANGES = 20;
const SPAWNS = 20;
const FIRST_LIST_RATIO = 1.3;
const RESIDENT_BYTES = 150e6;
/** Up to so many Services, the targets of an ordinary cluster. */
const FEW_SERVICES = 1000;
const FEW_READY_MS = 1000;
const FEW_RESIDENT_BYTES = 110e6;
const IDLE_SHARE = 0.005;
const AUDIT_CPU_MS = 500;
const PAUSE_MS = 50;
/** Processor seconds a sample (of a quarter of a second) that are taken for work and not for the noise of waiting. */
const WORK_IN_SAMPLE = 0.05;

export async function benchKernel({ sizes, windowSeconds }: KernelBench): Promise<void> {
  for (const services of sizes) {
    const lab = await Lab.start({ nodes: 2, podsPerNode: 2, memoryMiB: GUEST_MEMORY_MIB, timeLimitMs: TIME_LIMIT_MS });
    try {
      if (services === sizes[0]) process.stdout.write(`\n   ${lab.description}\n`);
      await new KernelMeasurement(lab, services, windowSeconds).run();
    } finally {
      await lab.close();
    }
  }
}

interface Yardsticks {
  readonly restoreMs: number;
  readonly spawnMs: number;
  readonly readMs: number;
}

class KernelMeasurement {
  readonly #lab: Lab;
  readonly #node: LabNode;
  readonly #services: number;
  readonly #windowSeconds: number;

  constructor(lab: Lab, services: number, windowSeconds: number) {
    this.#lab = lab;
    this.#node = lab.node(1);
    this.#services = services;
    this.#windowSeconds = windowSeconds;
  }

  async run(): Promise<void> {
    const yardsticks = await this.#yardsticks();
    const endpoints = this.#lab.node(2).pods.map(pod => pod.addresses.ipv4);
    for (const pod of this.#lab.node(2).pods) await this.#lab.probe(pod).serve('tcp', '0.0.0.0', TARGET_PORT, pod.name);
    const station = await Station.start(this.#lab, this.#node);
    const kubeconfig = await station.serve(
      this.#services,
      this.#lab.nodes.map(node => node.addresses.ipv4),
      endpoints,
    );
    const flags = [`--kubeconfig=${kubeconfig}`];
    const start = async (audit: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Started> =>
      startDaemon(this.#lab, this.#node, { flags: [...flags, ...audit], environment, limitMs: READY_LIMIT_MS });

    const first = await start([NO_AUDIT]);
    this.#print('first list to the kernel', await this.#firstListResults(first, station, yardsticks));
    this.#print('one endpoint changes', await this.#changeResults(station, endpoints, yardsticks));
    await first.daemon.stop();

    const second = await start([]);
    this.#print(
      'a restart that finds everything in place',
      restartResults(this.#services, second, await station.memory(), await station.scrape()),
    );
    this.#print('at rest', await this.#restResults(station));
    await second.daemon.stop();

    const third = await start([`--audit-period=${this.#windowSeconds}s`], {
      NODE_OPTIONS: `--import=${LOOP_PAUSES}`,
      FAIRWAY_BENCH_PAUSES: PAUSES_FILE,
    });
    this.#print('one audit of every table', await this.#auditResults(station, yardsticks));
    await third.daemon.stop();
    await station.stop();
  }

  #print(what: string, results: readonly Result[]): void {
    printResults(`kernel: ${this.#services} Services of 10 endpoints, ${what}`, results);
  }

  /** In a namespace of its own: what the bare tool takes for the same entries. */
  async #yardsticks(): Promise<Yardsticks> {
    const station = await Station.start(this.#lab, this.#lab.node(2));
    const restoreMs = await station.restore(this.#services);
    const spawnMs = median(await station.spawn(this.#services, SPAWNS));
    const readMs = (await station.run('ipvsadm', '-Sn')).ms;
    await station.run('ipvsadm', '-C');
    await station.stop();
    return { restoreMs, spawnMs, readMs };
  }

  /** Once more, in another fresh namespace: the machine may have become faster or slower meanwhile. */
  async #restoreAgain(): Promise<number> {
    const station = await Station.start(this.#lab, this.#lab.ext);
    const restoreMs = await station.restore(this.#services);
    await station.run('ipvsadm', '-C');
    await station.stop();
    return restoreMs;
  }

  async #firstListResults(started: Started, station: Station, { restoreMs }: Yardsticks): Promise<readonly Result[]> {
    const { readyMs, firstRoundMs, tableMs } = started;
    // A scrape reads the traffic of every Service: what it takes is told for itself.
    const { resident, peak, files } = await station.memory();
    const page = await station.scrape();
    const scraped = await station.memory();
    const planMs = 1000 * page.sum('fairway_plan_seconds_sum');
    const cpuMs = 1000 * page.sum('process_cpu_seconds_total');
    const againMs = await this.#restoreAgain();
    const bareMs = (restoreMs + againMs) / 2;
    const bare = `bare ipvsadm -R: ${milliseconds(restoreMs)} before, ${milliseconds(againMs)} after`;
    return [
      atMost('exec of the daemon to all in the kernel', readyMs, FIRST_LIST_RATIO * bareMs, milliseconds),
      this.#services <= FEW_SERVICES
        ? atMost('  from the first list to ready', firstRoundMs, FEW_READY_MS, milliseconds)
        : plain('  from the first list to ready', milliseconds(firstRoundMs)),
      plain('  as a multiple of the bare tool', (readyMs / bareMs).toFixed(2), bare),
      plain('  of it planning', milliseconds(planMs)),
      ...[...tableMs].map(([table, ms]) => plain(`  of it writing ${table}`, milliseconds(ms))),
      plain('  processor time of the daemon itself', milliseconds(cpuMs)),
      plain(
        '  processes',
        String(sum(page.by('fairway_spawns_total', 'command'))),
        counted(page.by('fairway_spawns_total', 'command')),
      ),
      atMost('resident memory then', resident, residentTarget(this.#services), megabytes),
      plain('  at its peak', megabytes(peak)),
      plain('  after a scrape', megabytes(scraped.resident)),
      plain('  of it the program and its libraries', megabytes(files), 'shared by all processes of that program'),
      plain('  of it heap in use', megabytes(page.sum('nodejs_heap_size_used_bytes'))),
    ];
  }

  async #changeResults(station: Station, endpoints: readonly string[], { spawnMs }: Yardsticks): Promise<readonly Result[]> {
    // The daemon reads the host once more a second after its start; two changes warm it up.
    await station.watch(3);
    await station.change(endpoints, 2);
    const atRest = await station.scrape();
    const before = await station.scrape();
    const took = await station.change(endpoints, CHANGES);
    const after = await station.scrape();
    const spawns = growth('fairway_spawns_total', 'command', before, after);
    const changes = growth('fairway_changes_total', 'table', before, after);
    const cpuOf = (page: MetricsPage): number => 1000 * page.sum('process_cpu_seconds_total');
    const scrapeMs = cpuOf(before) - cpuOf(atRest);
    const cpuMs = (cpuOf(after) - cpuOf(before) - scrapeMs) / CHANGES;
    return [
      atMost(
        `event to first connection on the new endpoint (median of ${CHANGES})`,
        median(took),
        2 * spawnMs,
        milliseconds,
        ' (two bare spawns)',
      ),
      plain('  the fastest, the 95th percentile', `${milliseconds(quantile(took, 0))}, ${milliseconds(quantile(took, 0.95))}`),
      plain('  one bare ipvsadm -R of one line', milliseconds(spawnMs)),
      atMost(
        'processes a change (one when it comes, one to end the endpoint that went)',
        sum(spawns) / CHANGES,
        2,
        String,
        `: ${counted(spawns)} in ${CHANGES} changes`,
      ),
      atMost('entries written a change', sum(changes) / CHANGES, 1, String, `: ${counted(changes)} in ${CHANGES} changes`),
      plain('processor time of the daemon a change', milliseconds(cpuMs)),
      plain('  of a scrape of its metrics', milliseconds(scrapeMs)),
    ];
  }

  /** A daemon that watches its own loop and is told when to audit, beside what starting a process takes of any loop in this place. */
  async #auditResults(station: Station, { readMs }: Yardsticks): Promise<readonly Result[]> {
    await station.run('truncate', '--size=0', PAUSES_FILE);
    const samples = await station.watch(this.#windowSeconds);
    const after = await station.scrape();
    const audits = worksOf(samples).toSorted((a, b) => b.own - a.own);
    const pauses = pausesOf(await this.#lab.readFile(this.#node, PAUSES_FILE)).toSorted((a, b) => b - a);
    const bare = await Station.start(this.#lab, this.#lab.node(2));
    const spawn = await bare.spawnPause(SPAWNS);
    await bare.stop();
    return [
      atMost(
        'the dearest (virtual servers): processor time of the daemon',
        (audits[0]?.own ?? 0) * 1000,
        AUDIT_CPU_MS,
        milliseconds,
      ),
      plain('  bare ipvsadm -Sn of the same table', milliseconds(readMs)),
      plain(
        '  the next',
        audits
          .slice(1, 4)
          .map(audit => milliseconds(audit.own * 1000))
          .join(', '),
      ),
      atMost('longest pause of the loop', pauses[0] ?? 0, PAUSE_MS, milliseconds),
      plain(
        '  the next',
        pauses
          .slice(1, 6)
          .map(pause => Math.round(pause))
          .join(' '),
      ),
      plain('  starting one process from a bare Node.js', milliseconds(median(spawn)), 'the loop stands still for it (fork)'),
      plain('changed behind our back', String(after.sum('fairway_drift_total')), 'exactly 0'),
    ];
  }

  /** As an operator starts it. */
  async #restResults(station: Station): Promise<readonly Result[]> {
    const before = await station.scrape();
    const samples = await station.watch(this.#windowSeconds);
    const after = await station.scrape();
    const last = samples.at(-1) ?? { at: Number.NaN, own: Number.NaN, children: Number.NaN };
    const atWork = worksOf(samples).reduce((total, work) => total + work.own, 0);
    const spawns = growth('fairway_spawns_total', 'command', before, after);
    return [
      atMost(`processor time (of ${this.#windowSeconds} s)`, last.own / last.at, IDLE_SHARE, percent),
      plain('  of it not in audits', percent((last.own - atWork) / last.at)),
      plain('  of tools beside it', percent(last.children / last.at), counted(spawns)),
    ];
  }
}

/** The longest pause of each second of the text. */
function pausesOf(text: string): readonly number[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(Number);
}

/** Runs of samples with work in them, each as what it took. */
export function worksOf(samples: readonly CpuSample[]): readonly CpuSample[] {
  const works: CpuSample[] = [];
  let before: CpuSample = { at: 0, own: 0, children: 0 };
  let isWorking = false;
  for (const sample of samples) {
    const own = sample.own - before.own;
    const children = sample.children - before.children;
    if (own >= WORK_IN_SAMPLE || children > 0) {
      const current = isWorking ? works.pop() : undefined;
      works.push({ at: sample.at, own: own + (current?.own ?? 0), children: children + (current?.children ?? 0) });
      isWorking = true;
    } else isWorking = false;
    before = sample;
  }
  return works;
}

function restartResults(services: number, started: Started, memory: Memory, page: MetricsPage): readonly Result[] {
  return [
    plain('exec of the daemon to ready', milliseconds(started.readyMs)),
    plain('  processor time of the daemon itself', milliseconds(1000 * page.sum('process_cpu_seconds_total'))),
    plain(
      '  processes',
      String(sum(page.by('fairway_spawns_total', 'command'))),
      counted(page.by('fairway_spawns_total', 'command')),
    ),
    plain('entries written', String(page.sum('fairway_changes_total')), 'exactly 0'),
    atMost('resident memory then', memory.resident, residentTarget(services), megabytes),
  ];
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

function counted(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || 'none';
}

/** Bytes. */
function residentTarget(services: number): number {
  return services <= FEW_SERVICES ? FEW_RESIDENT_BYTES : RESIDENT_BYTES;
}
