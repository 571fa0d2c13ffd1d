/** Suites about Services: a lab whose pods all serve, daemons on some nodes, and a cluster whose objects a test changes. */
import type { LabHost } from './addresses.ts';
import { Cluster } from './cluster.ts';
import { describeLab } from './describe-lab.ts';
import { Fleet } from './fleet.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import type { Lab, LabOptions } from './lab.ts';
import { type ApiObject, FAMILIES, manifest } from './objects.ts';
import { type Reply, type Target, tally } from './probe.ts';
import type { LabProcess } from './process.ts';

/** On every pod, in both families, named as the pod: TCP and UDP at 8080, TCP at 9090 too, which answers as `pod-1-1:9090`. */
export const POD_PORT = 8080;
export const OTHER_POD_PORT = 9090;
/** A TCP server of each node's own, in both families, at all its addresses; answers as `node1:9999`. It is no Service's. */
export const HOST_PORT = 9999;

export const RANGES: readonly string[] = [
  '--enable-ipv6',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
  '--service-external-ip-range=203.0.113.0/25,2001:db8:203::/113',
  '--loadbalancer-ip-range=203.0.113.128/25,2001:db8:203::8000/113',
];

export interface ServicesSuite {
  readonly lab: Lab;
  /** One fleet for each flag set, in the order of `daemons`. */
  readonly fleets: readonly Fleet[];
  readonly cluster: Cluster;
}

export interface ServicesOptions extends LabOptions {
  /** The daemons: on which node, with which flags beyond {@link RANGES}. One on node1 unless told. */
  readonly daemons?: readonly { readonly node: number; readonly flags?: readonly string[] }[];
  /** Objects that are there before the daemons start. */
  readonly objects?: (lab: Lab) => readonly ApiObject[];
  /** Before the daemons start. */
  readonly prepare?: (lab: Lab) => Promise<void>;
}

/** A suite with all that; `suite()` is there within tests and hooks. External addresses are routed to node1. */
export function describeServices(title: string, options: ServicesOptions, body: (suite: () => ServicesSuite) => void): void {
  describeLab(title, options, lab => {
    let running: ServicesSuite | undefined;
    before(`daemons for ${title}`, async function () {
      this.timeout(120_000);
      running = await start(lab(), options);
    });
    body(() => {
      if (running === undefined) throw new Error('the daemons are there within tests and hooks only');
      return running;
    });
  });
}

async function start(lab: Lab, options: ServicesOptions): Promise<ServicesSuite> {
  await serveEverywhere(lab);
  await routeToNode1(lab);
  await liftIcmpLimits(lab);
  await options.prepare?.(lab);
  const { daemons = [{ node: 1 }] } = options;
  const fleets = daemons.map(({ node, flags = [] }) => new Fleet(lab, { nodes: [lab.node(node)], flags: [...RANGES, ...flags] }));
  const nodes = fleets.flatMap(fleet => fleet.nodes);
  const daemonOf = (node: LabHost): LabProcess => {
    const fleet = fleets.find(one => one.nodes.includes(node));
    if (fleet === undefined) throw new Error(`no daemon is meant for ${node.name}`);
    return fleet.daemon(node);
  };
  const cluster = new Cluster(lab, nodes, daemonOf, async current => {
    const text = manifest(current.values());
    await Promise.all(fleets.map(async fleet => await fleet.apply({ 'cluster.yaml': text })));
  });
  await cluster.publish({ put: options.objects?.(lab) ?? [] });
  await Promise.all(fleets.map(async fleet => await fleet.start({})));
  await cluster.arrived();
  return { lab, fleets, cluster };
}

/** The servers of {@link POD_PORT}, {@link OTHER_POD_PORT} and {@link HOST_PORT}. */
export async function serveEverywhere(lab: Lab): Promise<void> {
  const pods = lab.pods.flatMap(pod =>
    FAMILIES.flatMap(family => [
      lab.probe(pod).serve('tcp', pod.addresses[family], POD_PORT, pod.name),
      lab.probe(pod).serve('udp', pod.addresses[family], POD_PORT, pod.name),
      lab.probe(pod).serve('tcp', pod.addresses[family], OTHER_POD_PORT, `${pod.name}:${OTHER_POD_PORT}`),
    ]),
  );
  const nodes = lab.nodes.flatMap(node => [
    lab.probe(node).serve('tcp', '0.0.0.0', HOST_PORT, `${node.name}:${HOST_PORT}`),
    lab.probe(node).serve('tcp', '::', HOST_PORT, `${node.name}:${HOST_PORT}`),
  ]);
  await Promise.all([...pods, ...nodes]);
}

/** What a cloud or a BGP router does for virtual addresses. */
export async function routeToNode1(lab: Lab): Promise<void> {
  const { ipv4, ipv6 } = lab.node(1).addresses;
  const routes = [
    `route add 10.96.0.0/16 via ${ipv4}`,
    `route add fd00:10:96::/112 via ${ipv6}`,
    `route add 203.0.113.0/24 via ${ipv4}`,
    `route add 2001:db8:203::/64 via ${ipv6}`,
  ];
  await lab.expectRun(lab.router, ['ip', '-batch', '-'], { input: `${routes.join('\n')}\n` });
}

/**
 * Milliseconds after which silence is silence. The lab's round trips take less than 5, but a TCP client may take note of a refusal at its
 * second SYN only, after one second: where the answer comes while connect(2) still holds the socket, as it can within one kernel, the
 * first is lost (LockDroppedIcmps in netstat -s).
 */
export const SILENCE_MS = 1600;

/**
 * Who answers `count` fresh connections or datagrams, or how they end: sorted, each once, blank-separated: `pod-1-1 pod-2-1`, `refused`.
 * If the first is not answered it is the last.
 */
export async function answers(lab: Lab, from: LabHost, target: Target, count = 6): Promise<string> {
  const probe = lab.probe(from);
  const first = await probe.connect({ timeoutMs: SILENCE_MS, ...target });
  const rest = first.outcome === 'answer' ? await probe.burst({ timeoutMs: SILENCE_MS, ...target }, count - 1) : [];
  return [...tally([first, ...rest]).keys()].sort().join(' ');
}

/** The source addresses that servers saw, sorted, each once. */
export function sourcesSeen(replies: readonly Reply[]): readonly string[] {
  return [...new Set(replies.map(reply => (reply.outcome === 'answer' ? reply.peer : reply.outcome)))].sort();
}
