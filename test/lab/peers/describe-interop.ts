/** Suites about BGP with speakers that nobody here wrote: nodes that route, peers around them, and a cluster whose objects a test changes. */
import { access } from 'node:fs/promises';
import type { Context } from 'mocha';
import { skipBecause } from '../../skip.ts';
import type { LabNode } from '../addresses.ts';
import { Cluster } from '../cluster.ts';
import { describeLab } from '../describe-lab.ts';
import { Fleet } from '../fleet.ts';
import type { Lab, LabOptions } from '../lab.ts';
import { type ApiObject, manifest, nodeObject } from '../objects.ts';

/** Ranges of virtual addresses, and nothing that BGP does not need: no tunnels, no CNI file, no port for administrators. */
const FLAGS: readonly string[] = [
  '--enable-ipv6',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
  '--service-external-ip-range=203.0.113.0/25,2001:db8:203::/113',
  '--loadbalancer-ip-range=203.0.113.128/25,2001:db8:203::8000/113',
  '--enable-overlay=false',
  '--enable-cni=false',
  '--auto-mtu=false',
  '--gobgp-admin-port=0',
];

/** What the peers are made of, by the Debian package. */
const SPEAKERS: Readonly<Record<string, string>> = {
  '/usr/bin/gobgpd': 'gobgpd',
  '/usr/lib/frr/bgpd': 'frr',
  '/usr/bin/vtysh': 'frr',
  '/usr/sbin/bird': 'bird2',
  '/usr/sbin/exabgp': 'python3-exabgp',
};

export interface InteropSuite<P> {
  readonly lab: Lab;
  readonly fleet: Fleet;
  readonly cluster: Cluster;
  readonly peers: P;
}

export interface InteropOptions<P> extends LabOptions {
  /** Flags of all daemons, beyond those without which there would be no lab. */
  readonly flags?: readonly string[];
  /** Numbers of the nodes that run a daemon; all unless told. */
  readonly routers?: readonly number[];
  /** Flags of one node's daemon, which win. */
  readonly flagsOf?: (node: LabNode) => readonly string[];
  /** Objects that are there before the daemons start, besides the Nodes. */
  readonly objects?: (lab: Lab) => readonly ApiObject[];
  /** Before the daemons start. */
  readonly peers: (lab: Lab) => Promise<P>;
}

/** A suite with all that; `suite()` is there within tests and hooks. */
export function describeInterop<P>(
  title: string,
  options: InteropOptions<P>,
  body: (suite: () => InteropSuite<P>) => void,
): void {
  describeLab(title, { needs: 'bgp', podsPerNode: 1, podRoutes: 'none', ...options }, lab => {
    let running: InteropSuite<P> | undefined;
    before(`peers and daemons for ${title}`, async function () {
      this.timeout(120_000);
      await needSpeakers(this, title);
      running = await start(lab(), options);
    });
    body(() => {
      if (running === undefined) throw new Error('the daemons are there within tests and hooks only');
      return running;
    });
  });
}

async function start<P>(lab: Lab, options: InteropOptions<P>): Promise<InteropSuite<P>> {
  const { flags = [], routers = lab.nodes.map(({ number }) => number), flagsOf = () => [], objects = () => [] } = options;
  const nodes = routers.map(number => lab.node(number));
  const peers = await options.peers(lab);
  const fleet = new Fleet(lab, { nodes, runs: ['router'], flags: [...FLAGS, ...flags] });
  // Tests look at what the peers have: nothing else tells that a change has arrived.
  const beacon = { objects: () => [], look: async () => await Promise.resolve({ hasArrived: true, shown: undefined }) };
  const publish = async (current: ReadonlyMap<string, ApiObject>): Promise<void> =>
    await fleet.apply({ 'cluster.yaml': manifest(current.values()) });
  const cluster = new Cluster(lab, nodes, node => fleet.daemon(node), publish, beacon);
  await cluster.publish({ put: objects(lab) });
  for (const node of nodes) fleet.startOn(node, { flags: flagsOf(node) });
  await Promise.all(nodes.map(node => fleet.daemon(node).waitForLine(/ready: the first round is in/, 120_000)));
  return { lab, fleet, cluster, peers };
}

/** A Node with these annotations, `kube-router.io/` before each name. */
export function annotated(node: LabNode, annotations: Readonly<Record<string, string>>): ApiObject {
  const named = Object.entries(annotations).map(([name, value]) => [`kube-router.io/${name}`, value]);
  return { ...nodeObject(node), metadata: { name: node.name, annotations: Object.fromEntries(named) as Record<string, string> } };
}

/** Skips where peers cannot be had, unless FAIRWAY_LAB_REQUIRED is set. For a `before` hook. */
export async function needSpeakers(context: Context, title: string): Promise<void> {
  const missing = await missingSpeakers();
  if (missing.length === 0 || (process.env['FAIRWAY_LAB_REQUIRED'] ?? '') !== '') return;
  const reason = `the peers need Debian packages that are not here: apt-get install ${missing.join(' ')}`;
  process.stderr.write(`\nSKIPPED, NOT TESTED: ${title}: ${reason}\n\n`);
  skipBecause(context, reason);
}

async function missingSpeakers(): Promise<readonly string[]> {
  const packages = await Promise.all(
    Object.entries(SPEAKERS).map(async ([path, debianPackage]) =>
      access(path).then(
        () => [],
        () => [debianPackage],
      ),
    ),
  );
  return [...new Set(packages.flat())];
}
