/** The contexts of a snapshot, computed only when what they come from is new, and new objects only when they differ. */
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { Stable, sameList, sameSet, sameText } from '../../daemon/reconcile/stable.ts';
import {
  bridgePortsOf,
  type NodeContext,
  nodeContextOf,
  occupiedAddresses,
  type ServicesContext,
  servicesContextOf,
} from './context.ts';
import type { ServicesOptions } from './options.ts';

export interface Surroundings {
  readonly services: ServicesContext;
  readonly node: NodeContext;
  readonly occupied: ReadonlySet<IpAddress>;
  /** Links that are ports of the pods' bridge, sorted. */
  readonly bridgePorts: readonly string[];
}

export class SurroundingsMemory {
  readonly #options: ServicesOptions;
  readonly #services = new Stable<ServicesContext>(sameText);
  readonly #node = new Stable<NodeContext>(sameText);
  readonly #occupied = new Stable<ReadonlySet<IpAddress>>(sameSet);
  readonly #bridgePorts = new Stable<readonly string[]>(sameList);
  readonly #surroundings = new Stable<Surroundings>(
    (former, now) =>
      former.services === now.services &&
      former.node === now.node &&
      former.occupied === now.occupied &&
      former.bridgePorts === now.bridgePorts,
  );
  #last: { readonly from: Pick<Snapshot, 'node' | 'host' | 'nodes'>; readonly surroundings: Surroundings } | undefined;

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  of({ node, host, nodes }: Snapshot): Surroundings {
    const last = this.#last;
    if (last !== undefined && last.from.node === node && last.from.host === host && last.from.nodes === nodes)
      return last.surroundings;
    const services = this.#services.of(servicesContextOf(node, host, this.#options));
    const surroundings = this.#surroundings.of({
      services,
      node: this.#node.of(nodeContextOf(node, host, this.#options)),
      occupied: this.#occupied.of(occupiedAddresses(node.name, host, nodes)),
      bridgePorts: this.#bridgePorts.of(services.families.length === 0 ? [] : bridgePortsOf(host)),
    });
    this.#last = { from: { node, host, nodes }, surroundings };
    return surroundings;
  }
}
