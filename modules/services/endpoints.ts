/**
 * Which endpoints serve a port: ready ones; where there is none, those that terminate and still serve (KEP-1669). Looked at once for the
 * whole cluster and once for this node alone, as kube-proxy does for the traffic policies Cluster and Local.
 */
import type { EndpointSlice, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { type Destination, destinationKey } from '../../daemon/reconcile/tables.ts';

export interface EndpointChoice {
  /** For policy Cluster. */
  readonly cluster: readonly Destination[];
  /** For policy Local. */
  readonly local: readonly Destination[];
  /** Of both, those on this node. */
  readonly onThisNode: readonly Destination[];
}

/** Endpoints of the port of that name and protocol (API: slices are matched by name, never by number) in all slices of a family. */
export function chooseEndpoints(
  slices: readonly EndpointSlice[],
  port: { readonly name: string; readonly protocol: Protocol },
  family: Family,
  nodeName: string,
): EndpointChoice {
  const candidates = [...candidatesOf(slices, port, family, nodeName).values()];
  const here = candidates.filter(candidate => candidate.isLocal);
  const cluster = readyElseServing(candidates);
  const local = readyElseServing(here);
  const chosen = new Set([...cluster, ...local]);
  return {
    cluster: cluster.map(destinationOf),
    local: local.map(destinationOf),
    onThisNode: here.filter(candidate => chosen.has(candidate)).map(destinationOf),
  };
}

/** The destinations a policy leaves, or `drop`: this node has none while others have. With none anywhere the list is empty: refused. */
export function underPolicy(choice: EndpointChoice, policy: TrafficPolicy): readonly Destination[] | 'drop' {
  switch (policy) {
    case 'Cluster':
      return choice.cluster;
    case 'Local':
      return choice.local.length === 0 && choice.cluster.length > 0 ? 'drop' : choice.local;
  }
}

interface Candidate {
  readonly destination: Destination;
  isReady: boolean;
  isServingWhileTerminating: boolean;
  isLocal: boolean;
}

/**
 * Unique by address and port. The API allows an endpoint in two slices while it moves from one to the other; the copies need not agree,
 * so that one good copy is enough.
 */
function candidatesOf(
  slices: readonly EndpointSlice[],
  port: { readonly name: string; readonly protocol: Protocol },
  family: Family,
  nodeName: string,
): Map<string, Candidate> {
  const candidates = new Map<string, Candidate>();
  for (const slice of slices) {
    if (slice.family !== family) continue;
    for (const { name, protocol, port: number } of slice.ports) {
      if (name !== port.name || protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) {
        if (familyOf(endpoint.address) !== family) continue;
        const destination: Destination = { address: endpoint.address, port: number, weight: 1, forwarding: 'masquerade' };
        const key = destinationKey(destination);
        let candidate = candidates.get(key);
        if (candidate === undefined) {
          candidate = { destination, isReady: false, isServingWhileTerminating: false, isLocal: false };
          candidates.set(key, candidate);
        }
        candidate.isReady ||= endpoint.ready;
        candidate.isServingWhileTerminating ||= endpoint.serving && endpoint.terminating;
        candidate.isLocal ||= nodeName !== '' && endpoint.nodeName === nodeName;
      }
    }
  }
  return candidates;
}

function readyElseServing(candidates: readonly Candidate[]): readonly Candidate[] {
  const ready = candidates.filter(candidate => candidate.isReady);
  return ready.length > 0 ? ready : candidates.filter(candidate => candidate.isServingWhileTerminating);
}

function destinationOf(candidate: Candidate): Destination {
  return candidate.destination;
}
