/** How far the pools of load-balancer addresses are used up: for metrics and `status`. */

export interface AllocatorSummary {
  /** In the order in which they are chosen from. */
  readonly pools: readonly PoolUsage[];
  /** Services that lack an address they need. */
  readonly waiting: number;
}

export interface PoolUsage {
  readonly name: string;
  /**
   * Those that are handed out unasked: without the first and the last of a subnet, and without what an earlier pool holds as well. An approximation
   * where there are more than a number can say.
   */
  readonly addresses: number;
  /** Of these, those that somebody has: when all are in use, the pool is exhausted. */
  readonly inUse: number;
}
