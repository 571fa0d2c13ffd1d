/**
 * A cluster's objects as the daemons of a lab get to know them, with a way to tell when a change has arrived in the kernels: every change
 * also moves a Service of its own, the beacon, to another address and endpoint. Daemons program what they see in one round, additions before deletions and
 * addresses last, so that where the new beacon is balanced and the old one's address is gone, everything else is in, too.
 */
import { isDeepStrictEqual } from 'node:util';
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, nodeObject, service, slice } from './objects.ts';
import type { LabProcess } from './process.ts';
import { until } from './until.ts';

/** Where the objects go: a folder of manifests, an API server. */
export type Publish = (
  current: ReadonlyMap<string, ApiObject>,
  changed: readonly ApiObject[],
  removed: readonly ApiObject[],
) => Promise<void>;

const BEACON = 'beacon';

/** How far a daemon's log had come. */
interface Mark {
  readonly daemon: LabProcess;
  readonly lines: number;
}

export class Cluster {
  readonly #lab: Lab;
  readonly #nodes: readonly LabHost[];
  readonly #publish: Publish;
  readonly #objects = new Map<string, ApiObject>();
  readonly #daemonOf: (node: LabHost) => LabProcess;
  #marks = new Map<LabHost, Mark>();
  #revision = 0;

  /**
   * `daemonOf` gives the daemon that runs on one of `nodes`, which {@link change} waits for. The objects of all the lab's nodes are there
   * from the start.
   */
  constructor(lab: Lab, nodes: readonly LabHost[], daemonOf: (node: LabHost) => LabProcess, publish: Publish) {
    this.#lab = lab;
    this.#nodes = nodes;
    this.#daemonOf = daemonOf;
    this.#publish = publish;
    for (const object of [...lab.nodes.map(nodeObject), ...beacon(0)]) this.#objects.set(nameOf(object), object);
  }

  get objects(): ReadonlyMap<string, ApiObject> {
    return this.#objects;
  }

  /** As `change`, without waiting: before the daemons are there, or where they cannot follow. */
  async publish(change: { readonly put?: readonly ApiObject[]; readonly remove?: readonly ApiObject[] } = {}): Promise<void> {
    const { put = [], remove = [] } = change;
    const removed = remove.filter(object => this.#objects.delete(nameOf(object)));
    const changed = put.filter(object => !isDeepStrictEqual(this.#objects.get(nameOf(object)), object));
    for (const object of changed) this.#objects.set(nameOf(object), object);
    await this.#publish(this.#objects, changed, removed);
  }

  /** Puts and removes objects, and waits until the kernels of all nodes know. */
  async change(change: { readonly put?: readonly ApiObject[]; readonly remove?: readonly ApiObject[] }): Promise<void> {
    this.#revision++;
    this.#marks = new Map(
      this.#nodes.map(node => {
        const daemon = this.#daemonOf(node);
        return [node, { daemon, lines: daemon.lines.length }];
      }),
    );
    await this.publish({ ...change, put: [...(change.put ?? []), ...beacon(this.#revision)] });
    await this.arrived();
  }

  async put(...objects: readonly ApiObject[]): Promise<void> {
    await this.change({ put: objects });
  }

  async remove(...objects: readonly ApiObject[]): Promise<void> {
    await this.change({ remove: objects });
  }

  /** Waits until what was published last is in the kernels of these nodes. */
  async arrived(nodes: readonly LabHost[] = this.#nodes, limitMs = 30_000): Promise<void> {
    const [now, before] = [beaconAddress(this.#revision), beaconAddress(this.#revision - 1)];
    await Promise.all(
      nodes.map(async node => {
        await until(
          `${node.name} balances ${now} to ${beaconEndpoint(this.#revision)} and has given up ${before}`,
          async () => ({
            servers: await this.#lab.readFile(node, '/proc/net/ip_vs'),
            addresses: [...(await localAddresses(this.#lab, node))],
            said: this.#daemonOf(node).lines.slice(-10),
          }),
          ({ servers, addresses }) =>
            new RegExp(`^TCP +${hexadecimal(now)}:0001 .*\n +-> ${hexadecimal(beaconEndpoint(this.#revision))}:`, 'm').test(
              servers,
            ) &&
            !addresses.includes(before) &&
            this.#hasRemovedAddresses(node),
          limitMs,
        );
      }),
    );
  }

  /** One batch removes the beacon's address and others, in any order; the daemon says when it is through. */
  #hasRemovedAddresses(node: LabHost): boolean {
    const mark = this.#marks.get(node);
    if (mark === undefined || mark.daemon !== this.#daemonOf(node)) return true;
    return mark.daemon.lines.slice(mark.lines).some(({ text }) => /address changed .*deleted=[1-9]/.test(text));
  }
}

function beaconAddress(revision: number): string {
  return `10.96.254.${(revision + 256) % 256}`;
}

function beaconEndpoint(revision: number): string {
  return `10.96.253.${(revision + 256) % 256}`;
}

/** Services and slices may come by ways of their own, so that the beacon shows in both. */
function beacon(revision: number): readonly ApiObject[] {
  return [
    service(BEACON, { clusterIP: beaconAddress(revision), ports: [{ name: 'beacon', port: 1 }] }),
    slice(BEACON, [{ name: 'beacon', port: 1 }], [{ addresses: [beaconEndpoint(revision)], conditions: { ready: true } }]),
  ];
}

/** An IPv4 address as /proc/net/ip_vs writes it. */
function hexadecimal(address: string): string {
  return Buffer.from(address.split('.').map(Number)).toString('hex').toUpperCase();
}

function nameOf({ kind, metadata }: ApiObject): string {
  return `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
}

/** IPv4 virtual servers of a node, as `TCP 10.96.0.1:80`; from /proc, without a process. */
export async function virtualServers(lab: Lab, node: LabHost): Promise<ReadonlySet<string>> {
  const table = await lab.readFile(node, '/proc/net/ip_vs');
  const lines = table.matchAll(/^(TCP|UDP|SCTP) +([0-9A-F]{8}):([0-9A-F]{4}) /gm);
  return new Set(
    [...lines].map(([, protocol = '', address = '', port = '']) => {
      const bytes = [...Buffer.from(address, 'hex')];
      return `${protocol} ${bytes.join('.')}:${Number.parseInt(port, 16)}`;
    }),
  );
}

/** IPv4 addresses of a node's own, as the kernel's routing sees them. */
export async function localAddresses(lab: Lab, node: LabHost): Promise<ReadonlySet<string>> {
  const trie = await lab.readFile(node, '/proc/net/fib_trie');
  return new Set([...trie.matchAll(/\|-- (\S+)\n +\/32 host LOCAL/g)].map(([, address = '']) => address));
}
