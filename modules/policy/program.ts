/**
 * Network policy as a program that no back end shows in: what `compile.ts` makes of policies, and what an emitter (`emit-iptables.ts`)
 * turns into rules and sets.
 *
 * A packet of a new flow is judged once for each end that is a pod of this node: the source pod's egress, the destination pod's ingress.
 * The pod's **group** stands for the set of policies that select it in that direction; the packet passes where at least one rule of one
 * of these policies matches, and pods that no policy selects are in no group.
 */
import type { LabelSelector, ObjectKey } from '../../daemon/cluster/kinds.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';

export type Direction = 'ingress' | 'egress';

export const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

/** Pods chosen by labels, of one namespace or of all whose labels match. Pods of hostNetwork, finished and without address are in none. */
export type Members =
  | { readonly in: 'namespace'; readonly namespace: string; readonly podSelector: LabelSelector }
  | { readonly in: 'namespaces'; readonly namespaceSelector: LabelSelector; readonly podSelector: LabelSelector };

/** A block of addresses without some parts of it. Every `except` lies within `cidr` and is smaller. */
export interface Block {
  readonly cidr: IpPrefix;
  readonly except: readonly IpPrefix[];
}

/** Who is at the other end of the flow. */
export type Peer =
  | { readonly who: 'anyone' }
  | { readonly who: 'members'; readonly members: Members }
  /** One of these blocks; several are only taken together where none has an `except`. */
  | { readonly who: 'blocks'; readonly blocks: readonly Block[] };

/** The destination port of the flow. */
export type Ports =
  | { readonly which: 'any' }
  | { readonly which: 'protocol'; readonly protocol: Protocol }
  /** First and last, both included; sorted, disjoint and not adjacent. */
  | { readonly which: 'numbers'; readonly protocol: Protocol; readonly ranges: readonly (readonly [number, number])[] }
  /** What the destination pod declares under this name: of pods of this node for ingress, of any pod for egress. */
  | { readonly which: 'named'; readonly protocol: Protocol; readonly name: string };

/** Allows what comes from (ingress) or goes to (egress) a peer at a port. */
export interface Allow {
  readonly peer: Peer;
  readonly ports: Ports;
  /** Index of the rule in the policy's list: `ingress[0]`. */
  readonly rule: number;
}

/** One policy in one direction. No allows: the pods it selects are closed unless another policy opens them. */
export interface PolicyProgram {
  readonly policy: ObjectKey;
  readonly direction: Direction;
  readonly allows: readonly Allow[];
}

/** Pods of this node with the same policies in one direction. */
export interface Group {
  readonly direction: Direction;
  /** Sorted, never empty; all of one namespace. */
  readonly policies: readonly ObjectKey[];
  /** Stands for direction and policies in names (`groupOf`). */
  readonly id: string;
}
