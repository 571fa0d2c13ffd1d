/**
 * A cluster without a cloud: nodes on one LAN, an API server that is reached by the router, kubelets that beat, and a host of the LAN outside the
 * cluster, which knows nothing but its subnet.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeApiServer } from '../fakes/api-server.ts';
import type { LabHost, LabNode } from './addresses.ts';
import { serveEverywhere } from './describe-services.ts';
import { CNI_FILE, FAIRWAY } from './fleet.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import { Kubelets } from './kubelets.ts';
import type { Lab } from './lab.ts';
import { LanEar } from './neighbours.ts';
import { type ApiObject, NAMESPACE, nodeObject } from './objects.ts';
import { addLanHost } from './peers/hosts.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

const PORT = 6443;
const FOLDER = '/run/kubernetes';

/** Every daemon's, beyond what a test adds. */
const FLAGS: readonly string[] = [
  `--kubeconfig=${FOLDER}/kubeconfig`,
  '--run-router=false',
  '--run-firewall=false',
  '--run-service-proxy=true',
  '--run-loadbalancer=true',
  '--enable-ipv6',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
];

export interface LanClusterOptions {
  /** Of every daemon, in every start. */
  readonly flags: readonly string[];
  /** Objects that are there before the daemons, besides Nodes and their Leases. */
  readonly objects: readonly ApiObject[];
}

export class LanCluster {
  readonly lab: Lab;
  /** On the LAN and outside the cluster; without any route but that to its subnet. */
  readonly client: LabHost;
  /** What the client hears. */
  readonly ear: LanEar;
  readonly server: FakeApiServer;
  readonly kubelets: Kubelets;
  readonly #directory: string;
  readonly #flags: readonly string[];
  readonly #daemons = new Map<string, LabProcess>();

  private constructor(parts: Pick<LanCluster, 'lab' | 'client' | 'ear' | 'server'>, directory: string, flags: readonly string[]) {
    this.lab = parts.lab;
    this.client = parts.client;
    this.ear = parts.ear;
    this.server = parts.server;
    this.#directory = directory;
    this.#flags = flags;
    this.kubelets = new Kubelets(this.lab.nodes, lease => this.server.put(lease));
  }

  /** Of a lab with one LAN. No daemon runs yet. */
  static async begin(lab: Lab, options: LanClusterOptions): Promise<LanCluster> {
    const directory = mkdtempSync(join(tmpdir(), 'fairway-lan-cluster-'));
    const server = await FakeApiServer.start({ directory });
    const address = lab.ext.addresses.ipv4;
    const kubeconfig = readFileSync(
      server.writeKubeconfig({ cluster: { server: `https://${address}:${PORT}`, 'tls-server-name': 'localhost' } }),
    );
    const authority = readFileSync(join(directory, 'kubernetes-ca.crt'));
    server.put(...lab.nodes.map(nodeObject), ...options.objects);
    const [client] = await Promise.all([
      stranger(lab),
      serveEverywhere(lab),
      liftIcmpLimits(lab),
      lab.expose(lab.ext, address, PORT, { port: server.relay.port }),
      ...lab.nodes.flatMap(node => [
        lab.writeFile(node, `${FOLDER}/kubeconfig`, kubeconfig),
        lab.writeFile(node, `${FOLDER}/kubernetes-ca.crt`, authority),
      ]),
    ]);
    const ear = await LanEar.open(lab, client, lab.nodes);
    return new LanCluster({ lab, client, ear, server }, directory, options.flags);
  }

  /** Starts a node's daemon, without waiting. */
  startOn(node: LabNode, flags: readonly string[] = []): LabProcess {
    const environment = {
      NODE_NAME: node.name,
      POD_NAME: podOf(node),
      POD_NAMESPACE: 'kube-system',
      KUBE_ROUTER_CNI_CONF_FILE: CNI_FILE,
    };
    const daemon = this.lab.startDaemon(node, [...FAIRWAY, ...FLAGS, ...this.#flags, ...flags], { environment });
    this.#daemons.set(node.name, daemon);
    return daemon;
  }

  /** Starts daemons, all unless told, and waits until each has its first round in. */
  async start(nodes: readonly LabNode[] = this.lab.nodes): Promise<void> {
    await Promise.all(nodes.map(async node => await this.startOn(node).waitForLine(/ready: the first round is in/, 60_000)));
  }

  daemon(node: LabHost): LabProcess {
    const daemon = this.#daemons.get(node.name);
    if (daemon === undefined) throw new Error(`no daemon on ${node.name}`);
    return daemon;
  }

  /** As somebody with kubectl: the status of an object that is there stays as it is, unless the new one has another. */
  put(...objects: readonly ApiObject[]): void {
    for (const object of objects) {
      const former = this.stored(object.kind, object.metadata.name, object.metadata.namespace ?? '');
      this.server.put(
        former === undefined ? object : { ...former, ...object, metadata: { ...former.metadata, ...object.metadata } },
      );
    }
  }

  remove(...objects: readonly ApiObject[]): void {
    for (const { kind, metadata } of objects) this.server.delete(kind, metadata.namespace ?? '', metadata.name);
  }

  /** An object as the API server has it. */
  stored(kind: string, name: string, namespace: string = NAMESPACE): ApiObject | undefined {
    return this.server.store.get(kind, namespace, name) as ApiObject | undefined;
  }

  /** Events about a Service, as `REASON: MESSAGE`, the oldest first. */
  eventsOf(name: string): readonly string[] {
    const events = this.server.store.list('events').map(({ json }) => JSON.parse(json) as ApiEvent);
    return events
      .filter(({ involvedObject }) => involvedObject?.kind === 'Service' && involvedObject.name === name)
      .map(({ reason, message }) => `${reason}: ${message}`);
  }

  /** Load-balancer addresses of a Service, as the API server has them. */
  addressesOf(name: string): readonly string[] {
    const { loadBalancer = {} } = (this.stored('Service', name)?.['status'] ?? {}) as Status;
    return (loadBalancer.ingress ?? []).map(({ ip, hostname }) => ip ?? hostname ?? '');
  }

  /** Waits until a Service has what satisfies, and gives it; `count` addresses unless told. */
  async allocated(
    name: string,
    wanted: number | ((addresses: readonly string[]) => boolean),
    limitMs = 15_000,
  ): Promise<readonly string[]> {
    const satisfies = typeof wanted === 'number' ? (seen: readonly string[]) => seen.length === wanted : wanted;
    return await until(`${name} has its addresses`, async () => this.addressesOf(name), satisfies, limitMs);
  }

  /** What a node's daemon says of itself. */
  async status(node: LabNode): Promise<string> {
    const { stdout } = await this.lab.run(node, [...FAIRWAY, 'status'], { environment: { NODE_NAME: node.name } });
    return stdout;
  }

  /** Takes the cable out of a node, or puts it back. */
  async cable(node: LabNode, state: 'out' | 'in'): Promise<void> {
    await this.lab.expectRun(this.lab.router, ['ip', 'link', 'set', node.name, state === 'in' ? 'up' : 'down']);
  }

  stop(): void {
    this.kubelets.stop();
    this.server.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

interface ApiEvent {
  readonly involvedObject?: { readonly kind: string; readonly name: string };
  readonly reason: string;
  readonly message: string;
}

interface Status {
  readonly loadBalancer?: { readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[] };
}

/** Who a node's daemon is in the election. */
export function podOf(node: LabHost): string {
  return `fairway-of-${node.name}`;
}

async function stranger(lab: Lab): Promise<LabHost> {
  const client = await addLanHost(lab, 'client', 1, 101);
  await lab.expectRun(client, ['ip', '-batch', '-'], { input: 'route del default\nroute del ::/0\n' });
  return client;
}
