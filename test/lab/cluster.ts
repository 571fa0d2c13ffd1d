/**
 * A cluster's objects as the daemons of a lab get to know them, with a way to tell when a change has arrived in the kernels: every change
 * also changes objects of its own, the beacon. Daemons program what they see in one round, so that where the new beacon is seen in the
 * kernel and nothing of the old one, everything else is in, too.
 */
import { isDeepStrictEqual } from 'node:util';
import type { LabHost } from './addresses.ts';
import type { Beacon } from './beacon.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, nodeObject } from './objects.ts';
import type { LabProcess } from './process.ts';
import { serviceBeacon } from './service-beacon.ts';
import { until } from './until.ts';

/** Where the objects go: a folder of manifests, an API server. */
export type Publish = (
  current: ReadonlyMap<string, ApiObject>,
  changed: readonly ApiObject[],
  removed: readonly ApiObject[],
) => Promise<void>;

/** How far a daemon's log had come. */
interface Mark {
  readonly daemon: LabProcess;
  readonly lines: number;
}

export class Cluster {
  readonly #nodes: readonly LabHost[];
  readonly #publish: Publish;
  readonly #objects = new Map<string, ApiObject>();
  readonly #daemonOf: (node: LabHost) => LabProcess;
  readonly #beacon: Beacon;
  #marks = new Map<LabHost, Mark>();
  #revision = 0;

  /**
   * `daemonOf` gives the daemon that runs on one of `nodes`, which {@link change} waits for. The objects of all the lab's nodes are there
   * from the start.
   */
  constructor(
    lab: Lab,
    nodes: readonly LabHost[],
    daemonOf: (node: LabHost) => LabProcess,
    publish: Publish,
    beacon: Beacon = serviceBeacon(lab),
  ) {
    this.#beacon = beacon;
    this.#nodes = nodes;
    this.#daemonOf = daemonOf;
    this.#publish = publish;
    for (const object of [...lab.nodes.map(nodeObject), ...beacon.objects(0)]) this.#objects.set(nameOf(object), object);
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
    await this.publish({ ...change, put: [...(change.put ?? []), ...this.#beacon.objects(this.#revision)] });
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
    await Promise.all(
      nodes.map(async node => {
        await until(
          `${node.name} has revision ${this.#revision} of the beacon and nothing of the one before`,
          async () => ({
            ...(await this.#beacon.look(node, this.#revision, this.#saidOn(node))),
            said: this.#daemonOf(node).lines.slice(-10),
          }),
          ({ hasArrived }) => hasArrived,
          limitMs,
        );
      }),
    );
  }

  /** Undefined of a daemon that started after the change. */
  #saidOn(node: LabHost): string | undefined {
    const mark = this.#marks.get(node);
    if (mark === undefined || mark.daemon !== this.#daemonOf(node)) return undefined;
    const lines = mark.daemon.lines.slice(mark.lines);
    return lines.map(({ text }) => `${text}\n`).join('');
  }
}

function nameOf({ kind, metadata }: ApiObject): string {
  return `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
}
