/** The lab as the benches use it: a station in a node's namespace, and the daemon as an operator starts it. */
import { join } from 'node:path';
import type { LabHost } from '../test/lab/addresses.ts';
import { FAIRWAY } from '../test/lab/fleet.ts';
import type { Lab } from '../test/lab/lab.ts';
import type { LabProcess } from '../test/lab/process.ts';
import { MetricsPage } from './metrics.ts';
import type { Churned, CpuSample, Memory, Operation } from './station.ts';

export const METRICS_PORT = 20_241;
const METRICS_FLAG = `--metrics-port=${METRICS_PORT}`;
const READY = /ready: the first round is in/;
const ANSWER_LIMIT_MS = 600_000;

/** {@link Operation}s carried out in a node's namespace. */
export class Station {
  readonly #process: LabProcess;
  #answers = 0;

  private constructor(process: LabProcess) {
    this.#process = process;
  }

  static async start(lab: Lab, host: LabHost): Promise<Station> {
    const argv = [FAIRWAY[0] ?? 'node', '--max-semi-space-size=16', join(import.meta.dirname, 'station.ts')];
    const station = new Station(lab.startDaemon(host, argv));
    await station.#answer();
    return station;
  }

  async serve(services: number, nodes: readonly string[], endpoints: readonly string[]): Promise<string> {
    return (await this.#ask({ op: 'serve', services, nodes, endpoints })) as string;
  }

  async scrape(): Promise<MetricsPage> {
    return new MetricsPage((await this.#ask({ op: 'scrape', port: METRICS_PORT })) as string);
  }

  async change(endpoints: readonly string[], count: number): Promise<readonly number[]> {
    return (await this.#ask({ op: 'change', endpoints, count })) as readonly number[];
  }

  async churn(churn: Omit<Extract<Operation, { op: 'churn' }>, 'op'>): Promise<Churned> {
    return (await this.#ask({ op: 'churn', ...churn })) as Churned;
  }

  /** The daemon's processor time. */
  async watch(seconds: number): Promise<readonly CpuSample[]> {
    return (await this.#ask({ op: 'watch', word: METRICS_FLAG, seconds })) as readonly CpuSample[];
  }

  /** The daemon's memory in bytes. */
  async memory(): Promise<Memory> {
    return (await this.#ask({ op: 'memory', word: METRICS_FLAG })) as Memory;
  }

  async restore(services: number): Promise<number> {
    return (await this.#ask({ op: 'restore', services })) as number;
  }

  async spawn(services: number, count: number): Promise<readonly number[]> {
    return (await this.#ask({ op: 'spawn', services, count })) as readonly number[];
  }

  async spawnPause(count: number): Promise<readonly number[]> {
    return (await this.#ask({ op: 'spawnPause', count })) as readonly number[];
  }

  async run(...argv: [string, ...string[]]): Promise<{ ms: number; lines: readonly string[] }> {
    return (await this.#ask({ op: 'run', argv })) as { ms: number; lines: readonly string[] };
  }

  async stop(): Promise<void> {
    this.#process.endInput();
    await this.#process.exited;
  }

  async #ask(operation: Operation): Promise<unknown> {
    this.#process.write(`${JSON.stringify(operation)}\n`);
    return await this.#answer();
  }

  async #answer(): Promise<unknown> {
    const { text } = await this.#process.waitForLine(new RegExp(`^\\{"number":${this.#answers++},`), ANSWER_LIMIT_MS);
    const answer = JSON.parse(text) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }
}

/** A daemon and when it did what, in milliseconds since it was started. */
export interface Started {
  readonly daemon: LabProcess;
  readonly readyMs: number;
  /** From the first full lists on. */
  readonly firstRoundMs: number;
  /** Of each table written: milliseconds of its tools. */
  readonly tableMs: ReadonlyMap<string, number>;
}

export interface StartOptions {
  readonly flags: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Milliseconds until its first round must be in. */
  readonly limitMs: number;
}

/** Starts the daemon as an operator does and waits for its first round. */
export async function startDaemon(lab: Lab, host: LabHost, options: StartOptions): Promise<Started> {
  const argv = [
    ...FAIRWAY,
    `--hostname-override=${host.name}`,
    '--run-router=false',
    '--run-firewall=false',
    '--health-port=0',
    METRICS_FLAG,
    ...options.flags,
  ];
  const begin = Date.now();
  const daemon = lab.startDaemon(host, argv, { environment: options.environment ?? {} });
  const ready = await daemon.waitForLine(READY, options.limitMs);
  const tables = daemon.lines.flatMap(({ text }) => {
    const [, table = '', ms = ''] = /\b([a-zA-Z]+) changed .*ms=([0-9]+)/.exec(text) ?? [];
    return table === '' ? [] : [[table, Number(ms)] as const];
  });
  const [, firstRoundMs = ''] = / ms=([0-9]+) failing=/.exec(ready.text) ?? [];
  return { daemon, readyMs: ready.at - begin, firstRoundMs: Number(firstRoundMs), tableMs: new Map(tables) };
}
