/**
 * Which endpoints serve a port: ready ones; where there is none, those that terminate and still serve (KEP-1669). Looked at once for the
 * whole cluster and once for this node alone, as kube-proxy does for the traffic policies Cluster and Local. For the whole cluster the hints
 * of the slices hold (`spec.trafficDistribution`, KEP-2433, KEP-3015): this node's endpoints, else those of its zone, else all.
 */
import type { EndpointSlice, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { type Destination, destinationKey } from '../../daemon/reconcile/tables.ts';

/** Where the node is, as hints name it. */
export interface Place {
  readonly nodeName: string;
  /** Label `topology.kubernetes.io/zone`; '' where absent. */
  readonly zone: string;
}

export interface EndpointChoice {
  /** For policy Cluster. */
  readonly cluster: readonly Destination[];
  /** For policy Local. */
  readonly local: readonly Destination[];
  /** Of both, those on this node. */
  readonly onThisNode: readonly Destination[];
  /** Those for policy Cluster of which no slice says the node: they may be here as well as anywhere. */
  readonly somewhere: readonly Destination[];
  /** All on this node, also those that are not ready (yet, or any more). */
  readonly knownHere: readonly Destination[];
}

/** Endpoints of the port of that name and protocol (API: slices are matched by name, never by number) in all slices of a family. */
export function chooseEndpoints(
  slices: readonly EndpointSlice[],
  port: { readonly name: string; readonly protocol: Protocol },
  family: Family,
  place: Place,
): EndpointChoice {
  const candidates = [...candidatesOf(slices, port, family, place.nodeName).values()];
  const here = candidates.filter(candidate => candidate.isLocal);
  const cluster = hinted(readyElseServing(candidates), place);
  const local = readyElseServing(here);
  const chosen = new Set([...cluster, ...local]);
  return {
    cluster: cluster.map(destinationOf),
    local: local.map(destinationOf),
    onThisNode: here.filter(candidate => chosen.has(candidate)).map(destinationOf),
    somewhere: cluster.filter(({ isPlaced }) => !isPlaced).map(destinationOf),
    knownHere: here.map(destinationOf),
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
  isPlaced: boolean;
  /** Of all copies that are ready; empty where none has hints. */
  forNodes: readonly string[];
  forZones: readonly string[];
}

const NO_NAMES: readonly string[] = [];

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
          candidate = {
            destination,
            isReady: false,
            isServingWhileTerminating: false,
            isLocal: false,
            isPlaced: false,
            forNodes: NO_NAMES,
            forZones: NO_NAMES,
          };
          candidates.set(key, candidate);
        }
        if (endpoint.ready) {
          candidate.isReady = true;
          candidate.forNodes = union(candidate.forNodes, endpoint.forNodes);
          candidate.forZones = union(candidate.forZones, endpoint.forZones);
        }
        candidate.isServingWhileTerminating ||= endpoint.serving && endpoint.terminating;
        candidate.isPlaced ||= endpoint.nodeName !== '';
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

/**
 * Hints say nothing unless every ready endpoint has one and one of them is for here; terminating endpoints, a last resort, are taken whatever
 * they say (kube-proxy: pkg/proxy/topology.go).
 */
function hinted(candidates: readonly Candidate[], { nodeName, zone }: Place): readonly Candidate[] {
  if (!candidates.every(({ isReady }) => isReady)) return candidates;
  return (
    meantFor(candidates, ({ forNodes }) => forNodes, nodeName) ??
    meantFor(candidates, ({ forZones }) => forZones, zone) ??
    candidates
  );
}

function meantFor(
  candidates: readonly Candidate[],
  hints: (candidate: Candidate) => readonly string[],
  name: string,
): readonly Candidate[] | undefined {
  if (name === '' || candidates.some(candidate => hints(candidate).length === 0)) return undefined;
  const meant = candidates.filter(candidate => hints(candidate).includes(name));
  return meant.length > 0 ? meant : undefined;
}

function union(some: readonly string[], more: readonly string[]): readonly string[] {
  if (some.length === 0 || more.length === 0) return some.length === 0 ? more : some;
  return [...new Set([...some, ...more])];
}

function destinationOf(candidate: Candidate): Destination {
  return candidate.destination;
}
