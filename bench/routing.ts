/**
 * The bench of pod routing, in network namespaces of this machine: routes that the fabric tells, and Nodes that come, go and change. All nodes are on one
 * network, so that neither IPVS nor tunnels are needed.
 */
import { benchRoutingLearned, type RoutingLearnedBench } from './routing-learned.ts';
import { benchRoutingNodes, type RoutingNodesBench } from './routing-nodes.ts';

export async function benchRouting(bench: RoutingLearnedBench & { readonly nodes: RoutingNodesBench }): Promise<void> {
  await benchRoutingLearned(bench);
  await benchRoutingNodes(bench.nodes);
}
