/**
 * The rest of the cluster, as a process in the fabric: it holds the API server, tells the fabric's router what to announce, and looks at the node's
 * kernel until that shows. Its clock is the only one that is used.
 *
 * It carries out {@link RoutingOperation}s, as `obey.ts` says.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { gobgpV3 } from '../daemon/bgp/gobgp-v3.ts';
import type { Speaker } from '../daemon/bgp/speaker.ts';
import { mustParseAddress } from '../daemon/net/address.ts';
import { systemClock } from '../daemon/net/clock.ts';
import { mustParsePrefix } from '../daemon/net/prefix.ts';
import { Secret } from '../daemon/net/secret.ts';
import { FakeApiServer } from '../test/fakes/api-server.ts';
import { growth, MetricsPage } from './metrics.ts';
import { obeyInput } from './obey.ts';
import { processorTimeOf } from './processor-time.ts';
import {
  FABRIC_ADDRESS,
  FABRIC_ASN,
  learnedPrefix,
  NODE_ADDRESS,
  NODE_ASN,
  type NodeChange,
  type NodeEvent,
  nodeScene,
  routedNode,
} from './routing-cluster.ts';
import { scrape } from './scrape.ts';

export type RoutingOperation =
  /** Starts the API server with so many Nodes; answers with the kubeconfig's path. */
  | { readonly op: 'serve'; readonly nodes: number; readonly directory: string }
  /** Makes the gobgpd that answers there the fabric's router. */
  | { readonly op: 'speak'; readonly socket: string }
  /** Answers with the time (milliseconds since the epoch) at which the kernel has so many routes more than its own. */
  | { readonly op: 'awaitRoutes'; readonly count: number }
  /** Lets the router announce so many routes, and withdraw them: answers with {@link TellingFigures}. */
  | { readonly op: 'tell'; readonly count: number; readonly programs: NodePrograms }
  /** Answers with {@link EventFigures}. */
  | ({ readonly op: 'events'; readonly what: NodeEvent; readonly count: number } & EventOptions)
  /** Processor time (milliseconds a second) of the daemon and gobgpd while nothing happens for so many milliseconds. */
  | { readonly op: 'rest'; readonly ms: number; readonly programs: NodePrograms }
  | { readonly op: 'scrape' };

/** Process ids. */
export interface NodePrograms {
  readonly daemon: number;
  /** Undefined where none runs. */
  readonly gobgpd?: number;
}

export interface EventOptions {
  /** How many there are before the event. */
  readonly nodes: number;
  readonly programs: NodePrograms;
  /** Whether the kernel's routes are made of Nodes, and are waited for. */
  readonly hasRoutes: boolean;
}

/** Milliseconds. */
export interface Lap {
  /** From before the router is told to the kernel as it is to be. */
  readonly took: number;
  /** Of it until the router itself has taken it in. */
  readonly told: number;
  readonly cpu: ProgramTimes;
}

/** Milliseconds of processor time. */
export interface ProgramTimes {
  readonly daemon: number;
  readonly gobgpd: number;
}

export interface TellingFigures {
  readonly announced: Lap;
  readonly withdrawn: Lap;
}

export interface EventFigures {
  /** From before the event to the kernel's route; empty where it makes none. */
  readonly took: readonly number[];
  /** From the event until all is quiet again. */
  readonly cpu: readonly ProgramTimes[];
  /** What of {@link EventFigures.cpu} each program would have used without the event, by what it used before. */
  readonly atRest: ProgramTimes;
  /** Entries written of each table, and processes by command, of all events without what takes them back. */
  readonly written: Readonly<Record<string, number>>;
  readonly spawned: Readonly<Record<string, number>>;
}

/** Of the daemon; on the node's address. */
export const METRICS_PORT = 20_241;
const BGP_PORT = 179;
/** After an event: the rounds it makes are over, and so is the gap that follows them. */
const SETTLE_MS = 300;
const REST_MS = 2000;
const BETWEEN_LOOKS_MS = { few: 1, many: 5 };
const FEW = 100;
const LIMIT_MS = 180_000;
const START_LIMIT_MS = 10_000;

class RoutingStation {
  #server: FakeApiServer | undefined;
  #router: Speaker | undefined;
  readonly #signal = new AbortController().signal;
  /** Of the main table before the daemon was there. */
  readonly #ownRoutes: number;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#ownRoutes = kernel.routes();
  }

  async obey(operation: RoutingOperation): Promise<unknown> {
    switch (operation.op) {
      case 'serve':
        return await this.#serve(operation.nodes, operation.directory);
      case 'speak':
        await this.#speak(operation.socket);
        return;
      case 'awaitRoutes':
        return await this.#awaitRoutes(operation.count);
      case 'tell':
        return await this.#tell(operation.count, operation.programs);
      case 'events':
        return await this.#events(operation.what, operation.count, operation);
      case 'rest':
        return perSecond(await usedBy(operation.programs, () => pause(operation.ms)), operation.ms);
      case 'scrape':
        return await scrape(NODE_ADDRESS, METRICS_PORT);
    }
  }

  async #serve(nodes: number, directory: string): Promise<string> {
    this.#server?.stop();
    const server = await FakeApiServer.start({ directory, host: FABRIC_ADDRESS });
    this.#server = server;
    for (let number = 1; number <= nodes; number++) server.put(routedNode(number));
    // The log of changes would be replayed to nobody; a real server's is in etcd.
    server.store.compact();
    return server.writeKubeconfig();
  }

  async #speak(socket: string): Promise<void> {
    const router = gobgpV3({ endpoint: `unix://${socket}`, clock: systemClock() });
    this.#router = router;
    const address = mustParseAddress(FABRIC_ADDRESS);
    await this.#untilAnswers(router);
    await router.startServer({ asn: FABRIC_ASN, routerId: address, port: BGP_PORT, listenAddresses: [address] }, this.#signal);
    const node = {
      address: mustParseAddress(NODE_ADDRESS),
      asn: NODE_ASN,
      localAddress: address,
      port: BGP_PORT,
      password: new Secret(''),
      holdSeconds: 90,
      multihopTtl: 0,
      families: ['ipv4'],
      gracefulRestart: undefined,
      reflectorClusterId: undefined,
    } as const;
    // Without one it tells nothing to anyone.
    await router.setPolicy({ direction: 'export', statements: [], otherwise: 'accept' }, this.#signal);
    await router.addPeer(node, { isRestarting: false }, this.#signal);
  }

  async #untilAnswers(router: Speaker): Promise<void> {
    const begin = performance.now();
    for (;;) {
      try {
        await router.server(this.#signal);
        return;
      } catch (thrown) {
        if (performance.now() - begin > START_LIMIT_MS) throw thrown;
        await pause(100);
      }
    }
  }

  async #awaitRoutes(count: number): Promise<number> {
    const wanted = this.#ownRoutes + count;
    return await this.#until(`${count} routes`, () => this.#kernel.routes() === wanted, count);
  }

  async #tell(count: number, programs: NodePrograms): Promise<TellingFigures> {
    const router = this.#router;
    if (router === undefined) throw new Error('there is no router');
    const prefixes = Array.from({ length: count }, (_, index) => mustParsePrefix(learnedPrefix(index)));
    const nextHop = mustParseAddress(FABRIC_ADDRESS);
    const paths = prefixes.map(prefix => ({ prefix, nextHop, audience: 'everyone' }) as const);
    await this.#untilEstablished(router);
    const lap = (tell: () => Promise<void>, routes: number): Promise<Lap> => this.#lap(tell, routes, count, programs);
    const announced = await lap(() => router.addPaths(paths, this.#signal), count);
    const withdrawn = await lap(() => router.deletePaths(prefixes, this.#signal), 0);
    return { announced, withdrawn };
  }

  async #lap(tell: () => Promise<void>, routes: number, count: number, programs: NodePrograms): Promise<Lap> {
    const times = { told: 0, took: 0 };
    const cpu = await usedBy(programs, async () => {
      const begin = performance.now();
      const told = tell().then(() => {
        times.told = performance.now() - begin;
      });
      await this.#until(`${routes} routes`, () => this.#kernel.routes() === this.#ownRoutes + routes, count);
      times.took = performance.now() - begin;
      await told;
      await pause(SETTLE_MS);
    });
    // Nothing stands in for it, and nothing follows.
    if (this.#kernel.routes() !== this.#ownRoutes + routes) throw new Error(`the kernel does not keep to ${routes} routes`);
    return { ...times, cpu };
  }

  async #untilEstablished(router: Speaker): Promise<void> {
    const begin = performance.now();
    for (;;) {
      const [peer] = await router.peerStatus(this.#signal);
      if (peer?.state === 'established') return;
      if (performance.now() - begin > LIMIT_MS) throw new Error('no session comes up');
      await pause(100);
    }
  }

  async #events(what: NodeEvent, count: number, { nodes, programs, hasRoutes }: EventOptions): Promise<EventFigures> {
    const took: number[] = [];
    const cpu: ProgramTimes[] = [];
    const written = new Tally('fairway_changes_total', 'table');
    const spawned = new Tally('fairway_spawns_total', 'command');
    const rest = perSecond(await usedBy(programs, () => pause(REST_MS)), REST_MS);
    let seconds = 0;
    for (let round = 0; round < count; round++) {
      const { event, back, comes, goes } = nodeScene(what, nodes, round);
      const before = new MetricsPage(await scrape(NODE_ADDRESS, METRICS_PORT));
      await pause(SETTLE_MS);
      const begin = performance.now();
      const times = await usedBy(programs, async () => {
        this.#change(event);
        const prefix = comes ?? goes;
        if (hasRoutes && prefix !== undefined) {
          await this.#until(`${what}: ${prefix}`, () => this.#kernel.has(prefix) === (comes !== undefined), 1);
          took.push(performance.now() - begin);
        }
        await pause(SETTLE_MS);
      });
      seconds += (performance.now() - begin) / 1000;
      cpu.push(times);
      const after = new MetricsPage(await scrape(NODE_ADDRESS, METRICS_PORT));
      for (const tally of [written, spawned]) tally.add(before, after);
      this.#change(back);
      await pause(SETTLE_MS);
    }
    const share = seconds / count;
    return {
      took,
      cpu,
      atRest: { daemon: rest.daemon * share, gobgpd: rest.gobgpd * share },
      written: written.counts(),
      spawned: spawned.counts(),
    };
  }

  #change(change: NodeChange): void {
    if ('put' in change) this.#server?.put(change.put);
    else this.#server?.delete('Node', '', change.deleted);
  }

  async #until(what: string, isSo: () => boolean, count: number): Promise<number> {
    const begin = performance.now();
    while (!isSo()) {
      if (performance.now() - begin > LIMIT_MS)
        throw new Error(`not within ${LIMIT_MS} ms: ${what}; there are ${this.#kernel.routes() - this.#ownRoutes}`);
      // Leaves the processor to the daemon.
      await pause(count <= FEW ? BETWEEN_LOOKS_MS.few : BETWEEN_LOOKS_MS.many);
    }
    return performance.timeOrigin + performance.now();
  }
}

/** The IPv4 routes of the node, read without starting anything and without taking much time of either processor. */
class Kernel {
  readonly #folder: string;

  /** @param pid a process of the node */
  constructor(pid: number) {
    this.#folder = `/proc/${pid}/net`;
  }

  /** Of the main table. */
  routes(): number {
    const [, count] =
      /^Main:\n(?:\t.*\n)*?\tPrefixes: +([0-9]+)$/m.exec(readFileSync(`${this.#folder}/fib_triestat`, 'utf8')) ?? [];
    return Number(count);
  }

  has(prefix: string): boolean {
    const [address = ''] = prefix.split('/');
    // As a little-endian machine sees a number in network order.
    const digits = address.split('.').map(part => Number(part).toString(16).padStart(2, '0'));
    return readFileSync(`${this.#folder}/route`, 'utf8').includes(`\t${digits.reverse().join('').toUpperCase()}\t`);
  }
}

/** Adds up what grew, by a label. */
class Tally {
  readonly #name: string;
  readonly #label: string;
  readonly #counts = new Map<string, number>();

  constructor(name: string, label: string) {
    this.#name = name;
    this.#label = label;
  }

  add(before: MetricsPage, after: MetricsPage): void {
    for (const [value, count] of growth(this.#name, this.#label, before, after))
      this.#counts.set(value, (this.#counts.get(value) ?? 0) + count);
  }

  counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }
}

async function usedBy({ daemon, gobgpd }: NodePrograms, work: () => Promise<void>): Promise<ProgramTimes> {
  const times = (): ProgramTimes => ({
    daemon: processorTimeOf(daemon),
    gobgpd: gobgpd === undefined ? 0 : processorTimeOf(gobgpd),
  });
  const before = times();
  await work();
  const after = times();
  return { daemon: after.daemon - before.daemon, gobgpd: after.gobgpd - before.gobgpd };
}

function perSecond({ daemon, gobgpd }: ProgramTimes, ms: number): ProgramTimes {
  return { daemon: (1000 * daemon) / ms, gobgpd: (1000 * gobgpd) / ms };
}

if (import.meta.main) {
  const station = new RoutingStation(new Kernel(Number(process.argv[2])));
  await obeyInput(operation => station.obey(operation as RoutingOperation));
}
