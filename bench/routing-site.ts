/** A node's daemon in its place, and the station that measures it: what both benches of routing in the kernel begin with. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FAIRWAY } from '../test/lab/fleet.ts';
import { MetricsPage } from './metrics.ts';
import type { Program } from './policy-place.ts';
import { memoryOf } from './processor-time.ts';
import { megabytes, plain, type Result } from './results.ts';
import { NODE_NAME } from './routing-cluster.ts';
import { RoutingPlace } from './routing-place.ts';
import { METRICS_PORT, type NodePrograms, type RoutingOperation } from './routing-station.ts';

const FLAGS = [
  `--hostname-override=${NODE_NAME}`,
  '--run-router=true',
  '--run-service-proxy=false',
  '--run-firewall=false',
  // This machine's kernel may have no tunnels, and its CNI file is not ours.
  '--enable-overlay=false',
  '--enable-cni=false',
  '--auto-mtu=false',
  '--gobgp-admin-port=0',
  '--health-port=0',
  `--metrics-port=${METRICS_PORT}`,
  // No audit comes while something else is measured.
  '--audit-period=1h',
];
const STATION = join(import.meta.dirname, 'routing-station.ts');

/** A daemon that runs. */
export interface RunningDaemon {
  readonly program: Program;
  /** When it was started, in milliseconds since the epoch. */
  readonly begin: number;
  /** When it said that its first round is in. */
  readonly readyAt: Promise<number>;
}

export class RoutingSite {
  readonly place: RoutingPlace;
  readonly directory: string;
  readonly #station: Program;

  private constructor(place: RoutingPlace, station: Program, directory: string) {
    this.place = place;
    this.directory = directory;
    this.#station = station;
  }

  static async open(): Promise<RoutingSite> {
    const directory = mkdtempSync(join(tmpdir(), 'fairway-bench-'));
    const place = await RoutingPlace.open();
    try {
      // It does nothing but be in the node's namespace, which is how the station sees the kernel.
      const anchor = place.start('node', ['sleep', '1d']);
      const argv = [FAIRWAY[0] ?? 'node', '--max-semi-space-size=16', STATION, String(anchor.pid)];
      const station = place.start('fabric', argv);
      await station.line();
      return new RoutingSite(place, station, directory);
    } catch (error) {
      await place.close();
      throw error;
    }
  }

  async ask(operation: RoutingOperation): Promise<unknown> {
    const answer = JSON.parse(await this.#station.ask(JSON.stringify(operation))) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }

  startDaemon(kubeconfig: string, flags: readonly string[]): RunningDaemon {
    const begin = performance.timeOrigin + performance.now();
    const program = this.place.startApart('node', [...FAIRWAY, `--kubeconfig=${kubeconfig}`, ...FLAGS, ...flags]);
    return { program, begin, readyAt: program.logged(/ready: the first round is in/) };
  }

  async programs({ program }: RunningDaemon): Promise<NodePrograms> {
    const gobgpd = await this.place.find('node', 'gobgpd');
    return { daemon: program.pid, ...(gobgpd === undefined ? {} : { gobgpd }) };
  }

  async scrape(): Promise<MetricsPage> {
    return new MetricsPage((await this.ask({ op: 'scrape' })) as string);
  }

  async close(): Promise<void> {
    await this.place.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function memoryResults(when: string, { daemon, gobgpd }: NodePrograms): readonly Result[] {
  return [
    plain(
      `resident ${when}: the daemon`,
      megabytes(memoryOf(daemon, 'VmRSS')),
      `at its peak ${megabytes(memoryOf(daemon, 'VmHWM'))}`,
    ),
    ...(gobgpd === undefined
      ? []
      : [plain('  gobgpd', megabytes(memoryOf(gobgpd, 'VmRSS')), `at its peak ${megabytes(memoryOf(gobgpd, 'VmHWM'))}`)]),
  ];
}

export function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

export function counted(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || 'none';
}
