/** Suites about pods reaching each other: nodes that know no way to each other's pods, a daemon on each that routes, and a cluster whose Nodes a test changes. */
import { messageOf } from '../../daemon/errors.ts';
import type { LabHost, LabNode, LabPod } from './addresses.ts';
import { LabError } from './agent.ts';
import { Cluster } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { type Duty, Fleet } from './fleet.ts';
import type { Lab, LabOptions } from './lab.ts';
import { type ApiObject, FAMILIES, type Family, manifest, nodeObject } from './objects.ts';
import { serveTraffic } from './traffic/traffic.ts';
import { until } from './until.ts';

/** UDP at all pods and nodes, in both families, named as the host. */
export const WHO_PORT = 8080;

export interface RoutingSuiteOptions extends LabOptions {
  /** Added to the command line of every daemon, in every start. */
  readonly flags?: readonly string[];
  /** What the daemons do; `router` unless told. */
  readonly runs?: readonly Duty[];
  /** Objects that are there before the daemons start, besides the Nodes. */
  readonly objects?: (lab: Lab) => readonly ApiObject[];
  /** Before the daemons start. */
  readonly prepare?: (lab: Lab) => Promise<void>;
  /** Numbers of nodes without a Node object and a daemon at first; none unless told. */
  readonly absent?: readonly number[];
}

/** A suite with all that; the daemons are started by its tests. `suite()` is there within tests and hooks. */
export function describeRouting(title: string, options: RoutingSuiteOptions, body: (suite: () => RoutingSuite) => void): void {
  describeLab(title, { needs: 'overlays', podRoutes: 'none', ...options }, lab => {
    let running: RoutingSuite | undefined;
    before(`traffic for ${title}`, async function () {
      this.timeout(120_000);
      running = await RoutingSuite.begin(lab(), options);
    });
    body(() => {
      if (running === undefined) throw new Error('the suite is there within tests and hooks only');
      return running;
    });
  });
}

/** From whom to whom. */
export interface Pair {
  readonly from: LabPod;
  readonly to: LabPod;
}

export class RoutingSuite {
  readonly lab: Lab;
  readonly fleet: Fleet;
  readonly cluster: Cluster;
  #flags: readonly string[] = [];

  private constructor(lab: Lab, fleet: Fleet, cluster: Cluster) {
    this.lab = lab;
    this.fleet = fleet;
    this.cluster = cluster;
  }

  static async begin(lab: Lab, options: RoutingSuiteOptions): Promise<RoutingSuite> {
    const { flags = [], runs = ['router'], objects = () => [], absent = [] } = options;
    await Promise.all([
      ...lab.pods.map(pod => serveTraffic(lab, pod)),
      ...[...lab.pods, ...lab.nodes, lab.ext].flatMap(host =>
        FAMILIES.map(family => lab.probe(host).serve('udp', host.addresses[family], WHO_PORT, host.name)),
      ),
    ]);
    await options.prepare?.(lab);
    const fleet = new Fleet(lab, { runs, flags: ['--enable-ipv6', ...flags] });
    // Tests look at what packets do: nothing else tells that a change has arrived.
    const beacon = { objects: () => [], look: async () => await Promise.resolve({ hasArrived: true, shown: undefined }) };
    const publish = async (current: ReadonlyMap<string, ApiObject>): Promise<void> =>
      await fleet.apply({ 'cluster.yaml': manifest(current.values()) });
    const cluster = new Cluster(lab, fleet.nodes, node => fleet.daemon(node), publish, beacon);
    await cluster.publish({ put: objects(lab), remove: absent.map(number => nodeObject(lab.node(number))) });
    return new RoutingSuite(lab, fleet, cluster);
  }

  /** Starts daemons with these flags beyond the suite's on these nodes, all unless told; resolves when each has its first round in. */
  async start(flags: readonly string[] = [], nodes: readonly LabHost[] = this.lab.nodes): Promise<void> {
    this.#flags = flags;
    for (const node of nodes) this.fleet.startOn(node, { flags });
    await Promise.all(nodes.map(node => this.fleet.daemon(node).waitForLine(/ready: the first round is in/, 60_000)));
  }

  /** Starts one node's daemon with the flags of the last start. */
  async startAgain(node: LabHost): Promise<void> {
    await this.start(this.#flags, [node]);
  }

  /** One pod of each node to one of each other; `number` says which pods. */
  pairs(number = 1, nodes: readonly LabNode[] = this.lab.nodes): readonly Pair[] {
    return nodes.flatMap(one =>
      nodes
        .filter(other => other !== one)
        .map(other => ({ from: this.lab.pod(one.number, number), to: this.lab.pod(other.number, number) })),
    );
  }

  /** Waits until every pair has answers, by both families unless told, with the pod's own address; gives the milliseconds it took. */
  async reached(
    pairs: readonly Pair[] = this.pairs(),
    limitMs = 30_000,
    families: readonly Family[] = FAMILIES,
  ): Promise<number> {
    const began = performance.now();
    try {
      await until(
        'pods reach each other',
        async () => await unreached(this.lab, pairs, families),
        missing => missing.length === 0,
        limitMs,
      );
    } catch (thrown) {
      throw new LabError(`${messageOf(thrown)}\nThe daemons complain of:\n${this.#complaints()}`, { cause: thrown });
    }
    return Math.round(performance.now() - began);
  }

  /** Warnings and errors in the logs of all daemons. */
  #complaints(): string {
    const complaints = this.fleet.nodes.flatMap(node =>
      this.fleet
        .daemon(node)
        .lines.filter(({ text }) => /^\S+ [EW] /.test(text))
        .map(({ text }) => `${node.name} ${text}`),
    );
    return complaints.join('\n') || 'nothing';
  }
}

/** Who has no answer from whom, or has one that was asked for by another address than the pod's: `pod-1-1 ipv4 pod-2-1: timeout`. */
export async function unreached(
  lab: Lab,
  pairs: readonly Pair[],
  families: readonly Family[] = FAMILIES,
): Promise<readonly string[]> {
  const all = pairs.flatMap(pair => families.map(family => ({ ...pair, family })));
  const ends = await Promise.all(
    all.map(async ({ from, to, family }) => {
      const seen = await sourceSeen(lab, from, to, family, 400);
      return seen === from.addresses[family] ? [] : [`${from.name} ${family} ${to.name}: ${seen}`];
    }),
  );
  return ends.flat();
}

/** The source address as it arrives at a host of the lab, or how the attempt ends without an answer. */
export async function sourceSeen(lab: Lab, from: LabHost, to: LabHost, family: Family, timeoutMs = 1600): Promise<string> {
  const reply = await lab.probe(from).connect({ transport: 'udp', address: to.addresses[family], port: WHO_PORT, timeoutMs });
  if (reply.outcome !== 'answer') return reply.outcome;
  return reply.server === to.name ? reply.peer : `answered by ${reply.server}`;
}
