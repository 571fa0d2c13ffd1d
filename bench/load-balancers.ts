/**
 * The bench of load-balancer addresses: the daemon as an operator starts it with nothing but the allocator, an API server over TLS in a process of its
 * own. Every Service asks for an address at the first start; then one more at a time; then all addresses are taken; then another daemon takes over.
 */
import { execFile } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { balancerRange } from './balancer-cluster.ts';
import { type Allocator, BalancerPlace } from './balancer-place.ts';
import type { BalancerPlanFigures } from './balancer-plan-process.ts';
import type { BalancerEvent, BalancerFigures, RequestCounts, RestFigures } from './balancer-station.ts';
import { memoryOf, processorTimeOf } from './processor-time.ts';
import { median, megabytes, milliseconds, percent, plain, printResults, quantile, type Result } from './results.ts';

export interface LoadBalancersBench {
  readonly sizes: readonly number[];
  /** Of each sort of event. */
  readonly events: number;
}

const REST_MS = 10_000;
/** After the last address: the daemon has seen all that it wrote. */
const SETTLE_MS = 1000;
/** A full list is a watch that begins with it (WatchList). */
const [GET, PUT, WATCH] = ['get services', 'update services/status', 'watch services'];

export async function benchLoadBalancers({ sizes, events }: LoadBalancersBench): Promise<void> {
  for (const services of sizes) {
    const title = `load-balancers: ${services} Services`;
    printResults(`${title}, planning alone, processor time`, planResults(await planApart(services)));
    const longestPause = await inPlace(services, place => longestPauseOf(place, services));
    await inPlace(services, place => new Measurement(place, services, title).run(events, longestPause));
  }
}

async function inPlace<T>(services: number, act: (place: BalancerPlace) => Promise<T>): Promise<T> {
  const place = await BalancerPlace.open(services);
  try {
    return await act(place);
  } finally {
    await place.close();
  }
}

async function longestPauseOf(place: BalancerPlace, services: number): Promise<number> {
  const daemon = place.startWatched('bench-a', balancerRange(services));
  await place.ask({ op: 'awaitAddressed', count: services });
  return await daemon.longestPause();
}

async function planApart(services: number): Promise<BalancerPlanFigures> {
  const program = join(import.meta.dirname, 'balancer-plan-process.ts');
  const argv = ['--max-semi-space-size=2', '--expose-gc', program, String(services)];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as BalancerPlanFigures;
}

function planResults({ first, allBack, oneMore, echo, heap }: BalancerPlanFigures): readonly Result[] {
  const bytes = (value: number): string => `${Math.round(value)} bytes`;
  return [
    plain('first plan', milliseconds(first)),
    plain('plan when all come back with their addresses', milliseconds(allBack)),
    plain(`one more, event to plan (median of ${oneMore.length})`, milliseconds(median(oneMore))),
    plain('it comes back with its address', milliseconds(median(echo))),
    plain('heap of a Service of type ClusterIP', bytes(heap.clusterIP)),
    plain('of type LoadBalancer, waiting', bytes(heap.waiting)),
    plain('of type LoadBalancer, with its address', bytes(heap.addressed)),
  ];
}

class Measurement {
  readonly #place: BalancerPlace;
  readonly #services: number;
  readonly #title: string;

  constructor(place: BalancerPlace, services: number, title: string) {
    this.#place = place;
    this.#services = services;
    this.#title = title;
  }

  async run(events: number, longestPause: number): Promise<void> {
    // As many addresses as there will be Services: the last ones wait.
    const range = balancerRange(this.#services + events);
    const leader = await this.#firstStart(range, longestPause);
    const more = await this.#events('one more', events, leader);
    printResults(`${this.#title}, one more (median of ${events})`, eventResults(more));
    const relief = await this.#events('relief', events, leader);
    printResults(`${this.#title}, all taken, one waits and another goes (median of ${events})`, eventResults(relief));
    const rest = (await this.#place.ask({ op: 'rest', ms: REST_MS, pid: leader.program.pid })) as RestFigures;
    printResults(`${this.#title}, at rest as the leader`, [
      plain('processor time', percent(rest.cpu / REST_MS)),
      plain(`requests in ${REST_MS / 1000} s`, '', counted(rest.requests)),
    ]);
    await this.#succession(leader, range, this.#services + events);
  }

  async #firstStart(range: string, longestPause: number): Promise<Allocator> {
    const station = processorTimeOf(this.#place.stationPid);
    await this.#requests();
    const leader = this.#place.startAllocator('bench-a', range);
    const at = (await this.#place.ask({ op: 'awaitAddressed', count: this.#services })) as number;
    await pause(SETTLE_MS);
    const { pid } = leader.program;
    const requests = await this.#requests();
    printResults(`${this.#title}, first start (load ${load()})`, [
      plain('exec to the last address at the API server', milliseconds(at - leader.startedAt)),
      plain('processor time of the daemon, its start included', milliseconds(processorTimeOf(pid))),
      plain('of the API server meanwhile', milliseconds(processorTimeOf(this.#place.stationPid) - station)),
      plain('resident memory at its peak', megabytes(memoryOf(pid, 'VmHWM'))),
      plain('longest pause of the loop, in another start', milliseconds(longestPause)),
      exactly('writes of a status', requests[PUT], this.#services),
      exactly('readings before them', requests[GET], this.#services),
      plain('all requests', '', counted(requests)),
    ]);
    return leader;
  }

  async #succession(leader: Allocator, range: string, count: number): Promise<void> {
    const heir = this.#place.startAllocator('bench-b', range);
    await heir.program.logged(/ready: the first round is in/);
    const before = processorTimeOf(heir.program.pid);
    await this.#requests();
    const successor = this.#place.ask({ op: 'awaitSuccessor', former: leader.nodeName }) as Promise<number>;
    const begin = performance.timeOrigin + performance.now();
    await leader.program.stop();
    const end = performance.timeOrigin + performance.now();
    const elected = await successor;
    const addressed = (await this.#place.ask({ op: 'awaitAddressed', count })) as number;
    await pause(SETTLE_MS);
    const requests = await this.#requests();
    printResults(`${this.#title}, the leader stops and another daemon takes over`, [
      plain('stop of the leader', milliseconds(end - begin)),
      plain('its stop to the new leader in the Lease', milliseconds(elected - begin)),
      plain('from there to the address of a Service made then', milliseconds(addressed - elected), 'lists all Services first'),
      plain('processor time of the new leader', milliseconds(processorTimeOf(heir.program.pid) - before)),
      exactly('full lists of Services', requests[WATCH], 1),
      exactly('writes of a status', requests[PUT], 1),
      plain('all requests', '', counted(requests)),
    ]);
    await heir.program.stop();
  }

  async #events(what: BalancerEvent, count: number, { program: { pid } }: Allocator): Promise<BalancerFigures> {
    return (await this.#place.ask({ op: 'events', what, count, pid })) as BalancerFigures;
  }

  async #requests(): Promise<RequestCounts> {
    return (await this.#place.ask({ op: 'requests' })) as RequestCounts;
  }
}

function eventResults({ took, cpu, requests }: BalancerFigures): readonly Result[] {
  return [
    plain('event to address at the API server', milliseconds(median(took))),
    plain('  95th percentile', milliseconds(quantile(took, 0.95))),
    plain('processor time of the daemon', milliseconds(median(cpu))),
    exactly('writes of a status', requests[PUT], took.length),
    exactly('readings before them', requests[GET], took.length),
    plain('all requests', '', counted(requests)),
  ];
}

function exactly(what: string, count = 0, wanted: number): Result {
  return { what, measured: String(count), against: `exactly ${wanted}`, isMet: count === wanted };
}

function counted(requests: RequestCounts): string {
  return Object.entries(requests)
    .map(([what, count]) => `${what} ${count}`)
    .join(', ');
}

function load(): string {
  return (loadavg()[0] ?? 0).toFixed(1);
}
