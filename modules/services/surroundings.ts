/** The contexts of a snapshot, computed only when what they come from is new, and new objects only when they differ. */
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { Stable, sameSet, sameText } from '../../daemon/reconcile/stable.ts';
import { type NodeContext, nodeContextOf, occupiedAddresses, type ServicesContext, servicesContextOf } from './context.ts';
import type { ServicesOptions } from './options.ts';

export interface Surroundings {
  readonly services: ServicesContext;
  readonly node: NodeContext;
  readonly occupied: ReadonlySet<IpAddress>;
}

export class SurroundingsMemory {
  readonly #options: ServicesOptions;
  readonly #services = new Stable<ServicesContext>(sameText);
  readonly #node = new Stable<NodeContext>(sameText);
  readonly #occupied = new Stable<ReadonlySet<IpAddress>>(sameSet);
  readonly #surroundings = new Stable<Surroundings>(
    (former, now) => former.services === now.services && former.node === now.node && former.occupied === now.occupied,
  );
  #last: { readonly from: Pick<Snapshot, 'node' | 'host' | 'nodes'>; readonly surroundings: Surroundings } | undefined;

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  of({ node, host, nodes }: Snapshot): Surroundings {
    const last = this.#last;
    if (last !== undefined && last.from.node === node && last.from.host === host && last.from.nodes === nodes)
      return last.surroundings;
    const surroundings = this.#surroundings.of({
      services: this.#services.of(servicesContextOf(node, host, this.#options)),
      node: this.#node.of(nodeContextOf(node, host, this.#options)),
      occupied: this.#occupied.of(occupiedAddresses(node.name, host, nodes)),
    });
    this.#last = { from: { node, host, nodes }, surroundings };
    return surroundings;
  }
}
