/** A node and its fabric on one wire, in network namespaces of this machine. */
import { readFileSync } from 'node:fs';
import { Program, run } from './policy-place.ts';
import { FABRIC_ADDRESS, NETWORK_BITS, NODE_ADDRESS } from './routing-cluster.ts';

/** `spare` is like the node, for what bare tools take. */
const SIDES = ['node', 'fabric', 'spare'] as const;
export type RoutingSide = (typeof SIDES)[number];

/** The addresses of other nodes, which the fabric has: a call to one is refused at once. */
const OTHER_NODES = '172.20.0.0/20';
/** Daemon and gobgpd keep their sockets below /run: each node has its own. */
const WITH_OWN_RUN = ['sh', '-c', 'mount -t tmpfs fairway-bench /run && exec "$@"', 'sh'] as const;

export class RoutingPlace {
  readonly #prefix = `fairway-bench-${process.pid}`;
  readonly #programs = new Set<Program>();

  private constructor() {}

  static async open(): Promise<RoutingPlace> {
    const place = new RoutingPlace();
    try {
      await place.#build();
    } catch (error) {
      await place.close();
      throw error;
    }
    return place;
  }

  /** Rejects where it fails. */
  async run(side: RoutingSide, argv: readonly string[], input = ''): Promise<string> {
    return await run(this.#argv(side, argv), input);
  }

  /** A program that is ended with the place, at the latest. */
  start(side: RoutingSide, argv: readonly string[]): Program {
    const program = new Program(this.#argv(side, argv), process.env);
    this.#programs.add(program);
    return program;
  }

  /** As {@link start}, with a /run that no other program sees. */
  startApart(side: RoutingSide, argv: readonly string[]): Program {
    return this.start(side, [...WITH_OWN_RUN, ...argv]);
  }

  /** The process of a side with this name; undefined where there is none. */
  async find(side: RoutingSide, name: string): Promise<number | undefined> {
    return (await this.#pids(side)).find(pid => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name);
  }

  /** Ends also what the programs have started. */
  async close(): Promise<void> {
    await Promise.all([...this.#programs].map(program => program.kill()));
    for (const side of SIDES) {
      for (const pid of await this.#pids(side).catch(() => [])) process.kill(pid, 'SIGKILL');
      await run(['ip', 'netns', 'del', this.#name(side)], '').catch(() => undefined);
    }
  }

  async #pids(side: RoutingSide): Promise<readonly number[]> {
    const text = await run(['ip', 'netns', 'pids', this.#name(side)], '');
    return text.split('\n').filter(Boolean).map(Number);
  }

  #argv(side: RoutingSide, argv: readonly string[]): readonly string[] {
    return ['ip', 'netns', 'exec', this.#name(side), ...argv];
  }

  #name(side: RoutingSide): string {
    return `${this.#prefix}-${side}`;
  }

  async #build(): Promise<void> {
    for (const side of SIDES) await run(['ip', 'netns', 'add', this.#name(side)], '');
    const batch = (side: RoutingSide, lines: readonly string[]): Promise<string> =>
      this.run(side, ['ip', '-batch', '-'], lines.join('\n'));
    const nodeLike = ['link set lo up', 'link set eth0 up', `addr add ${NODE_ADDRESS}/${NETWORK_BITS} dev eth0`];
    await batch('node', [`link add eth0 type veth peer name eth0 netns ${this.#name('fabric')}`, ...nodeLike]);
    await batch('spare', ['link add eth0 type veth peer name eth1', 'link set eth1 up', ...nodeLike]);
    await batch('fabric', [
      'link set lo up',
      'link set eth0 up',
      `addr add ${FABRIC_ADDRESS}/${NETWORK_BITS} dev eth0`,
      // In table main, where the node's own is the longer one.
      `route add local ${OTHER_NODES} dev lo table main`,
      `route add ${NODE_ADDRESS} dev eth0 src ${FABRIC_ADDRESS}`,
    ]);
  }
}
