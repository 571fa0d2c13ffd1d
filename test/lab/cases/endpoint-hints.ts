/**
 * Which endpoints a node balances to when the slices carry hints. API, EndpointHints: "forZones indicates the zone(s) this endpoint should be consumed
 * by to enable topology aware routing", "forNodes indicates the node(s) this endpoint should be consumed by when using topology aware routing".
 * As kube-proxy has it (pkg/proxy/topology.go): for this node, if every ready endpoint says for which nodes it is and one is for this one; else for
 * its zone, likewise; else all. Documentation, "Topology Aware Routing", safeguards: "One or more endpoints does not have a zone hint: [...] the
 * kube-proxy falls back to using all endpoints." "If the kube-proxy is unable to find at least one endpoint with a hint targeting the zone it is
 * running in, it falls back to using endpoints from all zones."
 *
 * node1 and node2 are in zone a, node3 is in zone b. A row is an endpoint: `pod nodes zones`, with - for none, and `unready` if so.
 */
export interface HintsCase {
  readonly title: string;
  readonly endpoints: readonly string[];
  readonly internalTrafficPolicy?: 'Local';
  /** Who answers at the cluster IP through each node; at the node ports too unless the policy is told. */
  readonly answers: Readonly<Record<'node1' | 'node2' | 'node3', string>>;
}

const ALL = 'pod-1-1 pod-2-1 pod-3-1';

export const HINTS_CASES: readonly HintsCase[] = [
  {
    title: 'no hints: all',
    endpoints: ['pod-1-1 - -', 'pod-2-1 - -', 'pod-3-1 - -'],
    answers: { node1: ALL, node2: ALL, node3: ALL },
  },
  {
    title: 'zones: those of the zone',
    endpoints: ['pod-1-1 - a', 'pod-2-1 - a', 'pod-3-1 - b'],
    answers: { node1: 'pod-1-1 pod-2-1', node2: 'pod-1-1 pod-2-1', node3: 'pod-3-1' },
  },
  {
    title: 'a hint need not be the zone of the endpoint itself, and may name several',
    endpoints: ['pod-1-1 - b', 'pod-2-1 - a,b', 'pod-3-1 - a'],
    answers: { node1: 'pod-2-1 pod-3-1', node2: 'pod-2-1 pod-3-1', node3: 'pod-1-1 pod-2-1' },
  },
  {
    title: 'nodes before zones',
    endpoints: ['pod-1-1 node1 a', 'pod-2-1 node2 a', 'pod-3-1 node3 b'],
    answers: { node1: 'pod-1-1', node2: 'pod-2-1', node3: 'pod-3-1' },
  },
  {
    title: 'no endpoint for this node: the zone; none for the zone either: all',
    endpoints: ['pod-1-1 node1 a', 'pod-2-1 node1 a'],
    answers: { node1: 'pod-1-1 pod-2-1', node2: 'pod-1-1 pod-2-1', node3: 'pod-1-1 pod-2-1' },
  },
  {
    title: 'one endpoint names no node: the zone',
    endpoints: ['pod-1-1 node1 a', 'pod-2-1 - a', 'pod-3-1 node3 b'],
    answers: { node1: 'pod-1-1 pod-2-1', node2: 'pod-1-1 pod-2-1', node3: 'pod-3-1' },
  },
  {
    title: 'one endpoint without any hint: all',
    endpoints: ['pod-1-1 node1 a', 'pod-2-1 node2 a', 'pod-3-1 - -'],
    answers: { node1: ALL, node2: ALL, node3: ALL },
  },
  {
    title: 'a zone where no node is: all',
    endpoints: ['pod-1-1 - c', 'pod-2-1 - c', 'pod-3-1 - c'],
    answers: { node1: ALL, node2: ALL, node3: ALL },
  },
  {
    title: 'an unready endpoint of the zone is left out, the other one serves',
    endpoints: ['pod-1-1 - a unready', 'pod-2-1 - a', 'pod-3-1 - b'],
    answers: { node1: 'pod-2-1', node2: 'pod-2-1', node3: 'pod-3-1' },
  },
  {
    title: 'the only endpoint of the zone is unready: all that are ready',
    endpoints: ['pod-1-1 - a unready', 'pod-3-1 - b'],
    answers: { node1: 'pod-3-1', node2: 'pod-3-1', node3: 'pod-3-1' },
  },
  {
    title: 'an unready endpoint without hints does not switch them off',
    endpoints: ['pod-1-1 - a', 'pod-2-1 - - unready', 'pod-3-1 - b'],
    answers: { node1: 'pod-1-1', node2: 'pod-1-1', node3: 'pod-3-1' },
  },
  {
    title: 'internalTrafficPolicy Local asks for no hints',
    endpoints: ['pod-1-1 - b', 'pod-2-1 - b', 'pod-3-1 - a'],
    internalTrafficPolicy: 'Local',
    answers: { node1: 'pod-1-1', node2: 'pod-2-1', node3: 'pod-3-1' },
  },
];
