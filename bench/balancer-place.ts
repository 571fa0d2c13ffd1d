/** Daemons that hand out load-balancer addresses and nothing else, beside an API server, in a network namespace that has nothing but its loopback. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { runFolderOf } from '../daemon/commands/run-folder.ts';
import { FAIRWAY } from '../test/lab/fleet.ts';
import type { BalancerOperation } from './balancer-station.ts';
import { Program, run } from './policy-place.ts';

const FLAGS = [
  '--run-loadbalancer=true',
  '--run-router=false',
  '--run-service-proxy=false',
  '--run-firewall=false',
  '--health-port=0',
  '--metrics-port=0',
  // No audit comes while something else is measured.
  '--audit-period=1h',
];
const [STATION, LOOP_PAUSES] = ['balancer-station.ts', 'loop-pauses.mjs'].map(file => join(import.meta.dirname, file));
/** The pauses are written once a second. */
const PAUSES_WRITTEN_MS = 1200;

export interface Allocator {
  readonly program: Program;
  readonly nodeName: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
}

export interface WatchedAllocator extends Allocator {
  /** The longest pause of its event loop so far, in milliseconds. */
  longestPause(): Promise<number>;
}

export class BalancerPlace {
  readonly #directory = mkdtempSync(join(tmpdir(), 'fairway-bench-'));
  readonly #namespace = `fairway-bench-${process.pid}`;
  readonly #programs = new Set<Program>();
  readonly #nodeNames: string[] = [];
  #station: Program | undefined;
  #kubeconfig = '';

  static async open(services: number): Promise<BalancerPlace> {
    const place = new BalancerPlace();
    try {
      await run(['ip', 'netns', 'add', place.#namespace], '');
      await run(place.#inside(['ip', 'link', 'set', 'lo', 'up']), '');
      place.#station = place.#start([FAIRWAY[0] ?? 'node', '--max-semi-space-size=16', STATION ?? '']);
      await place.#station.line();
      place.#kubeconfig = (await place.ask({ op: 'serve', services, directory: place.#directory })) as string;
    } catch (error) {
      await place.close();
      throw error;
    }
    return place;
  }

  get stationPid(): number {
    return this.#station?.pid ?? 0;
  }

  async ask(operation: BalancerOperation): Promise<unknown> {
    if (this.#station === undefined) throw new TypeError('there is no station');
    const answer = JSON.parse(await this.#station.ask(JSON.stringify(operation))) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }

  startAllocator(nodeName: string, range: string): Allocator {
    return this.#startAllocator(nodeName, range, [], process.env);
  }

  /** One whose event loop is watched, which costs more than the daemon itself does at rest. */
  startWatched(nodeName: string, range: string): WatchedAllocator {
    const file = join(this.#directory, `${nodeName}-pauses`);
    const environment = { ...process.env, FAIRWAY_BENCH_PAUSES: file };
    const allocator = this.#startAllocator(nodeName, range, ['--import', LOOP_PAUSES ?? ''], environment);
    const longestPause = async (): Promise<number> => {
      await pause(PAUSES_WRITTEN_MS);
      return Math.max(...readFileSync(file, 'utf8').trim().split('\n').map(Number));
    };
    return { ...allocator, longestPause };
  }

  #startAllocator(nodeName: string, range: string, preload: readonly string[], environment: NodeJS.ProcessEnv): Allocator {
    this.#nodeNames.push(nodeName);
    const [nodejs = '', ...bundle] = FAIRWAY;
    const flags = [`--kubeconfig=${this.#kubeconfig}`, `--hostname-override=${nodeName}`, `--loadbalancer-ip-range=${range}`];
    const startedAt = performance.timeOrigin + performance.now();
    return {
      program: this.#start([nodejs, ...preload, ...bundle, 'run', ...flags, ...FLAGS], environment),
      nodeName,
      startedAt,
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#programs].map(program => program.kill()));
    await run(['ip', 'netns', 'del', this.#namespace], '').catch(() => undefined);
    for (const folder of [this.#directory, ...this.#nodeNames.map(runFolderOf)]) rmSync(folder, { recursive: true, force: true });
  }

  #start(argv: readonly string[], environment: NodeJS.ProcessEnv = process.env): Program {
    const program = new Program(this.#inside(argv), environment);
    this.#programs.add(program);
    return program;
  }

  #inside(argv: readonly string[]): readonly string[] {
    return ['ip', 'netns', 'exec', this.#namespace, ...argv];
  }
}
