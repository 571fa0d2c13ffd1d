/** How a test learns that a change has arrived in a kernel. */
import type { LabHost } from './addresses.ts';
import type { ApiObject } from './objects.ts';

/** Objects whose traces in a node's kernel tell which revision has arrived there. */
export interface Beacon {
  /** Of a revision: a number that grows by one with every change, and is 0 at the start. */
  objects(revision: number): readonly ApiObject[];
  /**
   * Whether a node's kernel has this revision and nothing of the one before, and what shows it. `said` is what the node's daemon has logged
   * since the change; undefined of a daemon that started later.
   */
  look(node: LabHost, revision: number, said: string | undefined): Promise<Sight>;
}

export interface Sight {
  readonly hasArrived: boolean;
  /** For whoever waited in vain. */
  readonly shown: unknown;
}
