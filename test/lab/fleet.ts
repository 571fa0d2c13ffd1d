/** One daemon on each node of a lab, fed from a folder of manifests on that node, with the command line an operator would use. */
import { join } from 'node:path';
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import type { LabProcess, ProgramOptions } from './process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** The pinned Node and the built daemon: what a node runs. */
export const FAIRWAY: readonly string[] = [
  join(ROOT, 'node_modules', '.bin', 'node'),
  // Without it the launcher starts Node a second time, with it.
  '--max-semi-space-size=2',
  join(ROOT, 'dist', 'fairway.js'),
];

/** Below /run, which each namespace has for itself. */
const FOLDER = '/run/fairway-manifests';
/** A node of its own: on the machine itself /etc is everybody's. */
export const CNI_FILE = '/run/fairway-cni/10-kuberouter.conflist';

export interface FleetOptions {
  /** Added to the command line of every daemon. */
  readonly flags?: readonly string[];
  /** Nodes that run a daemon; all unless told. */
  readonly nodes?: readonly LabHost[];
  /** What the daemons do; `service-proxy` unless told. */
  readonly runs?: readonly Duty[];
}

/** What of a daemon is switched on, by the names of its flags: `--run-firewall`. */
export type Duty = 'service-proxy' | 'firewall' | 'router';
const DUTIES: readonly Duty[] = ['service-proxy', 'firewall', 'router'];

export class Fleet {
  readonly nodes: readonly LabHost[];
  readonly #lab: Lab;
  readonly #flags: readonly string[];
  readonly #duties: readonly string[];
  readonly #daemons = new Map<string, LabProcess>();

  constructor(lab: Lab, options: FleetOptions = {}) {
    this.#lab = lab;
    this.nodes = options.nodes ?? lab.nodes;
    this.#flags = options.flags ?? [];
    const { runs = ['service-proxy'] } = options;
    this.#duties = DUTIES.map(duty => `--run-${duty}=${runs.includes(duty)}`);
  }

  /** Starts the daemons on these manifests (file name to YAML) and waits until each has its first round in. */
  async start(manifests: Readonly<Record<string, string>>): Promise<void> {
    await this.apply(manifests);
    for (const node of this.nodes) this.startOn(node);
    await Promise.all(this.nodes.map(node => this.daemon(node).waitForLine(/ready: the first round is in/, 120_000)));
  }

  /** Starts the daemon of one node without waiting; `flags` come after the fleet's, so that they win. */
  startOn(node: LabHost, further: ProgramOptions & { readonly flags?: readonly string[] } = {}): LabProcess {
    const argv = [
      ...FAIRWAY,
      `--manifests=${FOLDER}`,
      `--hostname-override=${node.name}`,
      ...this.#duties,
      ...this.#flags,
      ...(further.flags ?? []),
    ];
    const environment = { KUBE_ROUTER_CNI_CONF_FILE: CNI_FILE, ...further.environment };
    const daemon = this.#lab.startDaemon(node, argv, { ...further, environment });
    this.#daemons.set(node.name, daemon);
    return daemon;
  }

  daemon(node: LabHost): LabProcess {
    const daemon = this.#daemons.get(node.name);
    if (daemon === undefined) throw new Error(`no daemon on ${node.name}`);
    return daemon;
  }

  /** Writes manifests on every node; the daemons notice by themselves. */
  async apply(manifests: Readonly<Record<string, string>>): Promise<void> {
    await Promise.all(
      this.nodes.flatMap(node =>
        Object.entries(manifests).map(([file, yaml]) => this.#lab.writeFile(node, `${FOLDER}/${file}`, yaml)),
      ),
    );
  }

  async remove(file: string): Promise<void> {
    await Promise.all(this.nodes.map(node => this.#lab.removeFile(node, `${FOLDER}/${file}`)));
  }

  /** Ends the daemons; what they programmed stays. */
  async stop(): Promise<void> {
    await Promise.all([...this.#daemons.values()].map(daemon => daemon.stop()));
  }

  /** `fairway cleanup` on every node; returns what each printed. Rejects where one fails. */
  async cleanup(): Promise<ReadonlyMap<string, string>> {
    const printed = await Promise.all(
      this.nodes.map(
        async node => [node.name, await this.#lab.expectRun(node, [...FAIRWAY, 'cleanup', ...this.#flags])] as const,
      ),
    );
    return new Map(printed);
  }
}

/** What `cleanup` must leave as it was before the daemon came: rules, sets, addresses and IPVS services of a node, without counters. */
export async function footprint(lab: Lab, node: LabHost): Promise<string> {
  const commands: readonly (readonly string[])[] = [
    ['iptables-save'],
    ['ip6tables-save'],
    ['ipset', 'list'],
    ['ip', '-o', 'addr'],
    ...((await hasIpvs(lab, node)) ? [['ipvsadm', '-Sn']] : []),
  ];
  const outputs = await Promise.all(
    commands.map(async argv => {
      const text = await lab.expectRun(node, argv);
      const kept = text.split('\n').filter(line => line !== '' && !isIncidental(line));
      return [`$ ${argv.join(' ')}`, ...kept].join('\n');
    }),
  );
  return `${outputs.join('\n')}\n`;
}

/** On the machine itself a lab for policy may be without. */
async function hasIpvs(lab: Lab, node: LabHost): Promise<boolean> {
  return await lab.readFile(node, '/proc/net/ip_vs').then(
    () => true,
    () => false,
  );
}

/** Comments with times, built-in chains with counters and table headers: a table that was looked at once stays loaded, empty. */
function isIncidental(line: string): boolean {
  return (
    line.startsWith('#') ||
    line.startsWith('*') ||
    line === 'COMMIT' ||
    /^:(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) /.test(line)
  );
}
