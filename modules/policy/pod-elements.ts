/** What a pod puts into sets: its addresses and named ports. */
import type { Pod } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { protocolName } from './emit-iptables.ts';
import { bucketOf, bucketSet, groupSet, ofFamily, SETS } from './names.ts';
import { DIRECTIONS, type Direction, type Group } from './program.ts';
import type { Chosen, Selection } from './selections.ts';

/** How many elements of each family a pod has in the sets of a selection. */
export interface Share {
  readonly selection: Selection;
  readonly elements: Readonly<Record<Family, number>>;
}

export interface PodElements {
  readonly shares: readonly Share[];
  readonly entries: readonly Entry[];
}

/** A pod of this node as its policies see it. */
export interface LocalPlace {
  readonly groupOf: (direction: Direction) => Group | undefined;
  /** Where the groups of a direction are so many that they are found by buckets. */
  readonly hasBuckets: (direction: Direction) => boolean;
  /** `--netpol-default-deny`: pods that no policy selects are named as well. */
  readonly defaultDeny: boolean;
}

const SELECTED: Readonly<Record<Direction, string>> = { ingress: SETS.ingress, egress: SETS.egress };
const OPEN: Readonly<Record<Direction, string>> = { ingress: SETS.openIngress, egress: SETS.openEgress };

/** `addresses`: those that are the pod's own and of filtered families; `local`: undefined for pods of other nodes. */
export function elementsOfPod(
  pod: Pod,
  addresses: readonly IpAddress[],
  selections: readonly Selection[],
  local: LocalPlace | undefined,
): PodElements {
  const entries: Entry[] = [];
  const add = (set: string, address: IpAddress, value: string): void => {
    entries.push(entry('ipset', { kind: 'element', set: ofFamily(set, familyOf(address)), value }));
  };
  if (local !== undefined) for (const address of addresses) entries.push(...placeEntries(address, local));
  const shares = selections.map((selection): Share => {
    const elements = { ipv4: 0, ipv6: 0 };
    for (const address of addresses) {
      for (const value of valuesOf(selection.chosen, pod, address)) {
        add(selection.name, address, value);
        elements[familyOf(address)]++;
      }
    }
    return { selection, elements };
  });
  return { shares, entries };
}

/**
 * By which group policies select it, that they do, and that it is a pod of this node. They come in this order and go in the opposite one, so
 * that a pod that is judged is always in a group, and one that is accepted as this node's is judged.
 */
function placeEntries(address: IpAddress, { groupOf, hasBuckets, defaultDeny }: LocalPlace): readonly Entry[] {
  const family = familyOf(address);
  const element = (set: string): Entry => entry('ipset', { kind: 'element', set: ofFamily(set, family), value: address });
  return [
    ...DIRECTIONS.flatMap(direction => {
      const group = groupOf(direction);
      if (group === undefined) return defaultDeny ? [element(OPEN[direction])] : [];
      const refines = ofFamily(SELECTED[direction], family);
      const sets = [groupSet(group), ...(hasBuckets(direction) ? [bucketSet(direction, bucketOf(group))] : [])];
      const inGroup = sets.map(set => entry('ipset', { kind: 'element', set: ofFamily(set, family), value: address, refines }));
      return [...inGroup, element(SELECTED[direction])];
    }),
    element(SETS.localPods),
  ];
}

/** As `ipset save` prints them. */
function valuesOf(chosen: Chosen, pod: Pod, address: IpAddress): Iterable<string> {
  if (chosen.by === 'members') return [address];
  const ports = pod.namedPorts.filter(({ name, protocol }) => name === chosen.name && protocol === chosen.protocol);
  return new Set(ports.map(({ protocol, port }) => `${address},${protocolName(protocol)}:${port}`));
}
