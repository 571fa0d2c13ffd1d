/** The nodes that addresses are shared out among: what of Nodes, heartbeats and pools decides it, and nothing else, so that it seldom changes. */
import type { AddressPool, Node } from '../../daemon/cluster/kinds.ts';
import { matchesLabels } from '../../daemon/cluster/selectors.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { FAMILIES } from './options.ts';
import { type Contender, hashOf } from './rendezvous.ts';

/** In the order in which they are preferred. */
export const STATES = ['well', 'leaving', 'unready'] as const;
export type AnnouncerState = (typeof STATES)[number];

export interface Announcer extends Contender {
  /** `leaving`: ready, and about to be taken out of the cluster. `unready`: by its condition, or for want of a heartbeat. */
  readonly state: AnnouncerState;
  /** Families of its addresses. */
  readonly families: readonly Family[];
  /** Whatever else answers for them, it is not for us. */
  readonly addresses: readonly IpAddress[];
  /** It has the label {@link EXCLUSION}. */
  readonly isExcluded: boolean;
  /** Names of the pools whose `nodeSelector` it matches. */
  readonly pools: readonly string[];
}

/** API: "Well-Known Labels": the presence counts, whatever the value. */
export const EXCLUSION = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** Without any Node this is bare metal: the host is the one there is, and takes everything. */
export function announcersOf(
  { node, nodes, silentNodes }: Pick<Snapshot, 'node' | 'nodes' | 'silentNodes'>,
  pools: readonly AddressPool[],
): readonly Announcer[] {
  if (nodes.size > 0) return [...nodes.values()].map(each => announcerOf(each, silentNodes, pools)).sort(byName);
  return [
    {
      name: node.name,
      hash: hashOf(node.name),
      state: 'well',
      families: familiesAmong(node.addresses),
      // The host's, among which may be those that it answers for.
      addresses: [],
      isExcluded: false,
      pools: pools.map(({ name }) => name),
    },
  ];
}

function announcerOf(node: Node, silentNodes: ReadonlySet<string>, pools: readonly AddressPool[]): Announcer {
  const { name } = node.meta;
  const addresses = [...node.internalIPs, ...node.externalIPs];
  return {
    name,
    hash: hashOf(name),
    state: !node.isReady || silentNodes.has(name) ? 'unready' : node.isLeaving ? 'leaving' : 'well',
    families: familiesAmong(addresses),
    addresses,
    isExcluded: Object.hasOwn(node.labels, EXCLUSION),
    pools: pools.flatMap(pool =>
      pool.nodeSelector !== undefined && matchesLabels(pool.nodeSelector, node.labels) ? [pool.name] : [],
    ),
  };
}

function familiesAmong(addresses: readonly IpAddress[]): readonly Family[] {
  return FAMILIES.filter(family => addresses.some(address => familyOf(address) === family));
}

function byName(one: Announcer, other: Announcer): number {
  return one.name < other.name ? -1 : 1;
}
