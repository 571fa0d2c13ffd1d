import type { RoutingOptions } from '../../../modules/routing/options.ts';
import type { Cluster } from '../../fixtures/cluster.ts';

/** A deviation from `BASE` (`test/fixtures/routing-scene.ts`) and the default options; its golden is what that changes of the plan. */
export interface Case {
  /** What the user sees. */
  readonly title: string;
  readonly golden: string;
  readonly cluster?: Cluster;
  readonly options?: Partial<RoutingOptions>;
}
