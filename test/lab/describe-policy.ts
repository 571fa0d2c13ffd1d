/** Suites about network policy: a lab whose pods all serve, a daemon on each node, and a cluster whose objects a test changes. */
import type { LabHost } from './addresses.ts';
import { LabError } from './agent.ts';
import { Cluster } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { SILENCE_MS } from './describe-services.ts';
import { Fleet } from './fleet.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import type { Lab, LabOptions } from './lab.ts';
import { type ApiObject, FAMILIES, type Family, manifest, NAMESPACE, namespaceObject, podObject } from './objects.ts';
import { policyBeacon } from './policy-beacon.ts';
import type { Transport } from './probe.ts';
import type { Watch, WatchOptions } from './watch.ts';

/** What every pod, every node and the host outside serve, in both families and by every transport of the kernel, named as the host. */
export const PORTS: readonly [number, number, number] = [8080, 8081, 9090];

const FLAGS: readonly string[] = ['--enable-ipv6'];

/** Which flows from one host to another; unless told, all transports of the kernel, both families, the first of {@link PORTS}. */
export interface Flows {
  readonly transports?: readonly Transport[];
  readonly families?: readonly Family[];
  readonly ports?: readonly number[];
  /** Milliseconds after which silence is silence: fewer where silence is the rule. */
  readonly timeoutMs?: number;
}

export interface PolicyOptions extends LabOptions {
  /** Added to the command line of every daemon. */
  readonly flags?: readonly string[];
  /** Objects that are there before the daemons start, beside those of the nodes; unless told, {@link clusterObjects}. */
  readonly objects?: (lab: Lab) => readonly ApiObject[];
  /** Before the daemons start. */
  readonly prepare?: (lab: Lab) => Promise<void>;
}

/** The namespace of all objects that are not told another, and a Pod in it for each pod of the lab, labelled `pod: pod-1-1`. */
export function clusterObjects(lab: Lab): readonly ApiObject[] {
  return [namespaceObject(NAMESPACE), ...lab.pods.map(pod => podObject(pod, { labels: { pod: pod.name } }))];
}

/**
 * A suite with all that, of two nodes unless told; `suite()` is there within tests and hooks. It runs on this machine where the kernel can
 * filter packets between namespaces.
 */
export function describePolicy(title: string, options: PolicyOptions, body: (suite: () => PolicySuite) => void): void {
  describeLab(title, { needs: 'policy', nodes: 2, ...options }, lab => {
    let running: PolicySuite | undefined;
    before(`daemons for ${title}`, async function () {
      this.timeout(120_000);
      running = await PolicySuite.start(lab(), options);
    });
    body(() => {
      if (running === undefined) throw new Error('the daemons are there within tests and hooks only');
      return running;
    });
  });
}

export class PolicySuite {
  readonly lab: Lab;
  readonly fleet: Fleet;
  readonly cluster: Cluster;
  /** SCTP is among them only where the kernel has it. */
  readonly transports: readonly Transport[];

  private constructor(lab: Lab, fleet: Fleet, cluster: Cluster, transports: readonly Transport[]) {
    this.lab = lab;
    this.fleet = fleet;
    this.cluster = cluster;
    this.transports = transports;
  }

  static async start(lab: Lab, options: PolicyOptions): Promise<PolicySuite> {
    const transports = await serveAtEveryPort(lab);
    await liftIcmpLimits(lab);
    await options.prepare?.(lab);
    const fleet = new Fleet(lab, { runs: ['firewall'], flags: [...FLAGS, ...(options.flags ?? [])] });
    const publish = async (current: ReadonlyMap<string, ApiObject>): Promise<void> =>
      await fleet.apply({ 'cluster.yaml': manifest(current.values()) });
    const cluster = new Cluster(lab, fleet.nodes, node => fleet.daemon(node), publish, policyBeacon(lab));
    await cluster.publish({ put: (options.objects ?? clusterObjects)(lab) });
    await fleet.start({});
    await cluster.arrived();
    return new PolicySuite(lab, fleet, cluster, transports);
  }

  /** Makes these the policies of {@link NAMESPACE}, and waits until the kernels of all nodes know. */
  async enforce(...policies: readonly ApiObject[]): Promise<void> {
    const names = new Set(policies.map(policy => policy.metadata.name));
    const others = [...this.cluster.objects.values()].filter(
      ({ kind, metadata: { namespace, name } }) => kind === 'NetworkPolicy' && namespace === NAMESPACE && !names.has(name),
    );
    await this.cluster.change({ put: policies, remove: others });
  }

  /**
   * How fresh flows from one host to another end: `answer`, `refused`, `timeout`. Where not all end alike, how each does: `tcp ipv4 8080
   * answer, udp ipv4 8080 refused`. SCTP takes no notice of "port unreachable": where all others are refused its silence counts as that.
   */
  async outcome(from: LabHost, to: LabHost, flows: Flows = {}): Promise<string> {
    const { transports = this.transports, families = FAMILIES, ports = PORTS.slice(0, 1), timeoutMs = SILENCE_MS } = flows;
    const probe = this.lab.probe(from);
    const all = transports.flatMap(transport => families.flatMap(family => ports.map(port => ({ transport, family, port }))));
    const ends = await Promise.all(
      all.map(async ({ transport, family, port }) => {
        const reply = await probe.connect({ transport, address: to.addresses[family], port, timeoutMs });
        const isOther = reply.outcome === 'answer' && reply.server !== to.name;
        const outcome = isOther ? `answer of ${reply.server}` : reply.outcome;
        return { transport, flow: `${transport} ${family} ${port}`, outcome };
      }),
    );
    const outcomesOf = (some: typeof ends): string => [...new Set(some.map(({ outcome }) => outcome))].join(' ');
    const others = outcomesOf(ends.filter(({ transport }) => transport !== 'sctp'));
    const sctp = outcomesOf(ends.filter(({ transport }) => transport === 'sctp'));
    if (others === 'refused' && sctp === 'timeout') return others;
    const [first, ...rest] = new Set(ends.map(({ outcome }) => outcome));
    return first !== undefined && rest.length === 0 ? first : ends.map(({ flow, outcome }) => `${flow} ${outcome}`).join(', ');
  }

  /** A fresh flow every few milliseconds, until it is ended. */
  async watchPair(
    from: LabHost,
    to: LabHost,
    transport: Transport,
    port: number = PORTS[0],
    options: WatchOptions & { readonly family?: Family } = {},
  ): Promise<Watch> {
    const { family = 'ipv4', ...pace } = options;
    return await this.lab.watch(from, { transport, address: to.addresses[family], port }, pace);
  }
}

/** Returns the transports that the kernel has. */
async function serveAtEveryPort(lab: Lab): Promise<readonly Transport[]> {
  const hosts = [...lab.pods, ...lab.nodes, lab.ext];
  const transports: readonly Transport[] = (await hasSctp(lab)) ? ['tcp', 'udp', 'sctp'] : ['tcp', 'udp'];
  await Promise.all(
    hosts.flatMap(host =>
      transports.flatMap(transport =>
        FAMILIES.flatMap(family =>
          PORTS.map(async port => await lab.probe(host).serve(transport, host.addresses[family], port, host.name)),
        ),
      ),
    ),
  );
  return transports;
}

async function hasSctp(lab: Lab): Promise<boolean> {
  try {
    const server = await lab.probe(lab.ext).serve('sctp', lab.ext.addresses.ipv4, PORTS[0], 'trial');
    server.end();
    return true;
  } catch (error) {
    if (error instanceof LabError && error.message.includes('Protocol not supported')) return false;
    throw error;
  }
}
