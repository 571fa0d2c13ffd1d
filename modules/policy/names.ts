/** Names in the kernel. All are stable: they depend on what a chain or set is for, never on when it was made or who else is there. */

import type { ObjectKey } from '../../daemon/cluster/kinds.ts';
import type { Family } from '../../daemon/net/address.ts';
import { DIGITS, hashedName } from '../../daemon/net/names.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import type { Block, Direction, Group, Members } from './program.ts';

/** Place of our hooks among all of Fairway's in one built-in chain: policy judges before Services accept. */
export const HOOK_ORDER = 10;

export const CHAINS = {
  forward: 'FAIRWAY-POLICY-FORWARD',
  input: 'FAIRWAY-POLICY-INPUT',
  output: 'FAIRWAY-POLICY-OUTPUT',
  /** Accepts what is from or to pods of this node. */
  pods: 'FAIRWAY-PODS',
  /** Finds the group of a packet's source or destination. */
  egress: 'FAIRWAY-EGRESS',
  ingress: 'FAIRWAY-INGRESS',
  /** Where a policy's rule goes on that allows. */
  allow: 'FAIRWAY-ALLOW',
  /** Where a group's chain goes on with what one of its policies allows. */
  pass: 'FAIRWAY-PASS',
  /** A pod may always reach itself. */
  self: 'FAIRWAY-SELF',
  deny: 'FAIRWAY-DENY',
  /** With `--netpol-default-deny`: pods that nobody knows yet. */
  defaultDeny: 'FAIRWAY-DEFAULT-DENY',
} as const;

/** Sets there is one of, by what they hold. */
export const SETS = {
  /** Every pod of this node. kube-router's name for the same. */
  localPods: 'kube-router-local-pods',
  /** Pods of this node that at least one policy selects. */
  egress: 'fairway-egress',
  ingress: 'fairway-ingress',
  /** Pods of this node that no policy selects; only with `--netpol-default-deny`. */
  openEgress: 'fairway-open-egress',
  openIngress: 'fairway-open-ingress',
  /** Endpoints of this node as destination and source at once. */
  self: 'fairway-self',
  /** Address and port of Services whose address is outside the ranges that flags give. */
  servicePorts: 'fairway-service-ports',
} as const;

const INITIAL: Readonly<Record<Direction, string>> = { ingress: 'I', egress: 'E' };

/** A group with its id, which is made once: names are asked for again and again. */
export function groupOf(direction: Direction, policies: readonly ObjectKey[]): Group {
  return { direction, policies, id: hashedName('', ['group', direction, ...policies], CHAIN_DIGITS) };
}

export function groupChain({ direction, id }: Group): string {
  return `FAIRWAY-G${INITIAL[direction]}-${id}`;
}

export function policyChain(policy: ObjectKey, direction: Direction): string {
  return hashedName(`FAIRWAY-P${INITIAL[direction]}-`, ['policy', direction, policy], CHAIN_DIGITS);
}

export function groupSet({ id }: Group): string {
  return `fairway-g-${id.slice(0, SET_DIGITS)}`;
}

/** One of sixteen: where there are many groups they are found in two steps. */
export function bucketOf({ id }: Group): string {
  return (DIGITS.indexOf(id.slice(-1)) % 16).toString(16);
}

/** The set of all pods whose group is in the bucket, and the chain that tells the groups apart. */
export function bucketSet(direction: Direction, bucket: string): string {
  return `fairway-${direction}-${bucket}`;
}

export function bucketChain(direction: Direction, bucket: string): string {
  return `FAIRWAY-${direction.toUpperCase()}-${bucket}`;
}

export function membersSet(members: Members): string {
  return hashedName('fairway-p-', membersIdentity(members), SET_DIGITS);
}

/** `scope`: pods of this node, or of the whole cluster. */
export function namedPortSet(scope: 'node' | 'cluster', protocol: Protocol, name: string): string {
  return hashedName('fairway-n-', ['named port', scope, protocol, name], SET_DIGITS);
}

export function blocksSet(blocks: readonly Block[]): string {
  return hashedName(
    'fairway-b-',
    ['blocks', ...blocks.flatMap(({ cidr, except }) => [cidr, String(except.length), ...except])],
    SET_DIGITS,
  );
}

/** A set holds addresses of one family; IPv6 twins carry kube-router's prefix. */
export function ofFamily(set: string, family: Family): string {
  return family === 'ipv6' ? `inet6:${set}` : set;
}

/** What tells one selection of pods from another. */
export function membersIdentity(members: Members): readonly string[] {
  const podSelector = JSON.stringify(members.podSelector.requirements);
  return members.in === 'namespace'
    ? ['namespace', members.namespace, podSelector]
    : ['namespaces', JSON.stringify(members.namespaceSelector.requirements), podSelector];
}

/** Chains have up to 28 characters, `FAIRWAY-GI-` and these. */
const CHAIN_DIGITS = 16;
/** Sets have up to 31 characters, `inet6:fairway-p-` and these: 75 bits. */
const SET_DIGITS = 15;
