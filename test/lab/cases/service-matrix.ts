/**
 * Who answers, and whom the answering pod sees as its client. One Service with two endpoints, pod-1-1 on node1 and pod-2-1 on node2; node3
 * has none. Every row holds for TCP, UDP and SCTP over IPv4 and IPv6 alike.
 *
 * The rules behind the rows, in the order in which they decide:
 * 1. An endpoint that is balanced to itself sees the node that balanced: else it would answer itself.
 * 2. A connection of the node that balances itself bears that node's address.
 * 3. A pod of the node that balances keeps its address: replies come back through this node anyhow.
 * 4. An endpoint on the node that balances sees the client's own address: it answers through this node anyhow.
 * 5. Everyone else is seen as the node that balances, so that the reply comes back there.
 *
 * The node that balances: for a cluster IP, an external IP and a load-balancer IP the client's own node, since each node has these addresses;
 * for a client outside, node1, where the router sends them; for a node port, the node whose port it is.
 */

/** Namespaces of `test/lab/addresses.ts`. */
export type Client = 'pod-1-1' | 'pod-1-2' | 'pod-3-1' | 'node1' | 'node3' | 'ext';

export const CLIENTS: Readonly<Record<Client, string>> = {
  'pod-1-1': 'the endpoint itself',
  'pod-1-2': 'a pod on the node of an endpoint',
  'pod-3-1': 'a pod on a node without endpoints',
  node1: 'a node with an endpoint',
  node3: 'a node without endpoints',
  ext: 'a host outside the cluster',
};

export type Destination = 'cluster IP' | 'external IP' | 'load-balancer IP' | "node1's node port" | "node3's node port";

/** Whom an endpoint sees: the client by its own address, or a node by its InternalIP. */
export type Seen = 'client' | 'node1' | 'node3';

export interface MatrixRow {
  readonly from: Client;
  readonly to: Destination;
  /** Endpoints that answer, and whom each sees. No other answers. */
  readonly answers: Readonly<Record<'pod-1-1' | 'pod-2-1', Seen>>;
}

function row(from: Client, to: Destination, pod11: Seen, pod21: Seen): MatrixRow {
  return { from, to, answers: { 'pod-1-1': pod11, 'pod-2-1': pod21 } };
}

export const MATRIX: readonly MatrixRow[] = [
  //   client     connects to           pod-1-1 sees  pod-2-1 sees
  row('pod-1-1', 'cluster IP', /*        */ 'node1', 'client'),
  row('pod-1-2', 'cluster IP', /*        */ 'client', 'client'),
  row('pod-3-1', 'cluster IP', /*        */ 'client', 'client'),
  row('node1', 'cluster IP', /*          */ 'node1', 'node1'),
  row('node3', 'cluster IP', /*          */ 'node3', 'node3'),
  row('ext', 'cluster IP', /*            */ 'client', 'node1'),

  row('pod-1-1', 'external IP', /*       */ 'node1', 'client'),
  row('pod-1-2', 'external IP', /*       */ 'client', 'client'),
  row('pod-3-1', 'external IP', /*       */ 'client', 'client'),
  row('node1', 'external IP', /*         */ 'node1', 'node1'),
  row('node3', 'external IP', /*         */ 'node3', 'node3'),
  row('ext', 'external IP', /*           */ 'client', 'node1'),

  row('pod-1-1', 'load-balancer IP', /*  */ 'node1', 'client'),
  row('pod-1-2', 'load-balancer IP', /*  */ 'client', 'client'),
  row('pod-3-1', 'load-balancer IP', /*  */ 'client', 'client'),
  row('node1', 'load-balancer IP', /*    */ 'node1', 'node1'),
  row('node3', 'load-balancer IP', /*    */ 'node3', 'node3'),
  row('ext', 'load-balancer IP', /*      */ 'client', 'node1'),

  row('pod-1-1', "node1's node port", /* */ 'node1', 'client'),
  row('pod-1-2', "node1's node port", /* */ 'client', 'client'),
  row('pod-3-1', "node1's node port", /* */ 'client', 'node1'),
  row('node1', "node1's node port", /*   */ 'node1', 'node1'),
  row('node3', "node1's node port", /*   */ 'client', 'node1'),
  row('ext', "node1's node port", /*     */ 'client', 'node1'),

  row('pod-1-1', "node3's node port", /* */ 'node3', 'node3'),
  row('pod-1-2', "node3's node port", /* */ 'node3', 'node3'),
  row('pod-3-1', "node3's node port", /* */ 'client', 'client'),
  row('node1', "node3's node port", /*   */ 'node3', 'node3'),
  row('node3', "node3's node port", /*   */ 'node3', 'node3'),
  row('ext', "node3's node port", /*     */ 'node3', 'node3'),
];
