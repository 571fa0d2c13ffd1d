/** The lab: a topology of namespaces with probes, programs and files in them, as a test uses it. */
import { createConnection, type Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import type { AddressPlan, LabHost, LabNode, LabPod, TopologyOptions } from './addresses.ts';
import { type Agent, LabError } from './agent.ts';
import type { Pinning } from './guest.ts';
import { machineNow, openPlace, type Place } from './place.ts';
import { Probe, type Target } from './probe.ts';
import { LabProcess, type LongLivedOptions, type ProgramOptions, type ProgramResult, runProgram } from './process.ts';
import { buildTopology } from './topology.ts';
import type { LabNeeds } from './trials.ts';
import { Watch, type WatchOptions } from './watch.ts';

export interface LabOptions extends TopologyOptions {
  /** What the kernel must do, `services` (everything) unless told: what needs less runs on the machine itself more often, which is faster. */
  readonly needs?: LabNeeds;
  /** Milliseconds until a guest is ended, whatever it does; 10 minutes unless told. */
  readonly timeLimitMs?: number;
  /** Guest memory in MiB; 1024 unless told. */
  readonly memoryMiB?: number;
  /** The CPU a guest is pinned to; unless told, the last one, or one per mocha worker. */
  readonly pinning?: Pinning;
  /** Further kernel arguments, such as `time-travel`; they make a guest necessary. */
  readonly kernelArguments?: readonly string[];
}

export class Lab {
  readonly nodes: readonly LabNode[];
  /** All nodes' pods, in the order of the nodes. */
  readonly pods: readonly LabPod[];
  /** The host behind the router, outside the cluster. */
  readonly ext: LabHost;
  /** The router between the LANs and the outside. */
  readonly router: LabHost;
  readonly place: Place['kind'];
  /** Milliseconds it took to get the place (with its boot, if a guest) and to build the topology in it. */
  readonly took: { readonly placeMs: number; readonly topologyMs: number };
  readonly #agent: Agent;
  readonly #because: string;

  private constructor(place: Place, plan: AddressPlan, took: Lab['took']) {
    this.#agent = place.agent;
    this.#because = place.because;
    this.place = place.kind;
    this.took = took;
    this.nodes = plan.nodes;
    this.pods = plan.nodes.flatMap(node => node.pods);
    this.ext = plan.outside;
    this.router = plan.router;
  }

  /** Rejects with LabUnavailable if this machine has no place for it, with LabError if the topology cannot be built. */
  static async start(options: LabOptions = {}): Promise<Lab> {
    const began = performance.now();
    const machine = machineNow();
    const place = await openPlace({
      machine,
      needs: options.needs ?? 'services',
      pinning: options.pinning ?? defaultPinning(machine.environment),
      timeLimitMs: options.timeLimitMs ?? 600_000,
      memoryMiB: options.memoryMiB ?? 1024,
      kernelArguments: options.kernelArguments ?? [],
    });
    const placed = performance.now();
    try {
      const plan = await buildTopology(place.agent, options);
      return new Lab(place, plan, { placeMs: placed - began, topologyMs: performance.now() - placed });
    } catch (error) {
      await place.agent.close();
      throw error;
    }
  }

  /** One line about where it runs and how long it took to build. */
  get description(): string {
    const where = this.place === 'machine' ? 'namespaces of this machine' : `a guest, because ${this.#because}`;
    const { placeMs, topologyMs } = this.took;
    return `lab in ${where}; up in ${Math.round(placeMs)} ms, ${this.nodes.length} nodes and ${this.pods.length} pods in ${Math.round(topologyMs)} ms`;
  }

  /** A node by its number (1 for node1). */
  node(number: number): LabNode {
    return found(
      this.nodes.find(node => node.number === number),
      `node${number}`,
    );
  }

  /** A pod by its node's number and its own: `pod(1, 2)` is pod-1-2. */
  pod(node: number, number: number): LabPod {
    const name = `pod-${node}-${number}`;
    return found(
      this.pods.find(pod => pod.name === name),
      name,
    );
  }

  /** Client and server sockets in a namespace. Costs nothing: all probes are one process. */
  probe(host: LabHost): Probe {
    return new Probe(this.#agent, host.name);
  }

  /** A fresh flow from a host to a target every few milliseconds, until it is ended. */
  async watch(from: LabHost, target: Target, options: WatchOptions = {}): Promise<Watch> {
    return await Watch.begin(this.#agent, from, target, options);
  }

  /** Runs a program in a namespace to its end, whatever its exit status; `input` is its standard input. */
  async run(
    host: LabHost,
    argv: readonly string[],
    options: ProgramOptions & { readonly input?: string } = {},
  ): Promise<ProgramResult> {
    return await runProgram(this.#agent, host.name, argv, options);
  }

  /** As `run`, but rejects with LabError unless the exit status is 0, and returns what it printed. */
  async expectRun(
    host: LabHost,
    argv: readonly string[],
    options: ProgramOptions & { readonly input?: string } = {},
  ): Promise<string> {
    const { status, stdout, stderr } = await this.run(host, argv, options);
    if (status !== 0) throw new LabError(`${argv.join(' ')} on ${host.name}: status ${status}\n${stderr}${stdout}`);
    return stdout;
  }

  /**
   * Starts a long-lived program in a namespace: `startDaemon(lab.node(1), [process.execPath, 'dist/fairway.js', ...])`. It sees a /run of
   * its namespace's own, so that three nodes' sockets and locks do not meet, and dies with the lab.
   */
  startDaemon(host: LabHost, argv: readonly string[], options: LongLivedOptions = {}): LabProcess {
    return new LabProcess(this.#agent, host.name, argv, options);
  }

  /**
   * Writes a file as programs of this namespace see it, by rename, with the folders it needs. In a guest it goes to the guest's overlay; file
   * watches work there, and nothing of it reaches this machine. Under /proc and /sys it is written in place: a sysctl of the namespace.
   * On the machine itself only /run is the namespace's own: write there.
   */
  async writeFile(host: LabHost, path: string, content: string | Uint8Array): Promise<void> {
    await this.#agent.ask('write', host.name, path, content);
  }

  /** Milliseconds on the clock that watches and loads tell times of. */
  async now(): Promise<number> {
    const [time] = await this.#agent.ask('clock');
    return Number(String(time));
  }

  /** Reads a file as programs of this namespace see it, /proc/net included. Rejects with LabError. */
  async readFile(host: LabHost, path: string): Promise<string> {
    const [content] = await this.#agent.ask('read', host.name, path);
    return String(content);
  }

  /** Removes a file. Rejects with LabError if it is not there. */
  async removeFile(host: LabHost, path: string): Promise<void> {
    await this.#agent.ask('remove', host.name, path);
  }

  /**
   * Makes a TCP server of this test (on 127.0.0.1 of this machine) reachable at an address and port of a namespace, as a fake API server
   * is for the daemons. The address must be one of the namespace's own.
   */
  async expose(host: LabHost, address: string, port: number, target: { readonly port: number }): Promise<{ end(): void }> {
    const started = Promise.withResolvers<void>();
    const sockets = new Map<string, Socket>();
    const exchange = this.#agent.open('forward', [host.name, address, String(port)], {
      told: (verb, [connection = Buffer.alloc(0), bytes = Buffer.alloc(0)]) => {
        const number = String(connection);
        if (verb === 'done') started.resolve();
        if (verb === 'accepted') {
          const socket = createConnection({ host: '127.0.0.1', port: target.port, noDelay: true });
          sockets.set(number, socket);
          socket.on('data', (chunk: Buffer) => exchange.send('data', number, chunk));
          socket.on('error', () => socket.destroy());
          socket.on('close', () => {
            if (sockets.delete(number)) exchange.send('closed', number);
          });
        }
        if (verb === 'data') sockets.get(number)?.write(bytes);
        if (verb === 'closed') {
          const socket = sockets.get(number);
          sockets.delete(number);
          socket?.end();
        }
      },
      failed: error => {
        started.reject(error);
        for (const socket of sockets.values()) socket.destroy();
      },
    });
    await started.promise;
    return {
      end: () => {
        exchange.send('end');
        exchange.close();
        for (const socket of sockets.values()) socket.destroy();
      },
    };
  }

  /** Ends everything: programs, sockets, namespaces, the guest. */
  async close(): Promise<void> {
    await this.#agent.close();
  }
}

/** Mocha's parallel workers take one CPU each; alone, the last CPU, which the interrupts of this machine use least. */
function defaultPinning(environment: Readonly<Record<string, string | undefined>>): Pinning {
  const cpus = availableParallelism();
  return { cpu: Number(environment['MOCHA_WORKER_ID'] ?? cpus - 1) % cpus };
}

function found<T>(host: T | undefined, name: string): T {
  if (host === undefined) throw new LabError(`this lab has no ${name}`);
  return host;
}
