/** Which pods network policies are about, which of them are this node's, and which a policy selects. What enforces policies and what explains them agree on it. */
import type { NetworkPolicy, Pod } from './kinds.ts';
import { matchesLabels } from './selectors.ts';
import type { NodeView } from './snapshot.ts';

/**
 * Whether policies are about this pod at all, as subject or as peer. A pod in its node's network has the node's addresses, a finished
 * one has given its own back.
 */
export function hasOwnAddress(pod: Pod): boolean {
  return !pod.hostNetwork && !pod.finished && pod.addresses.length > 0;
}

/** `spec.nodeName` says where a pod is; of one that has none, the host's address does. */
export function isOfNode(pod: Pod, node: Pick<NodeView, 'name' | 'addresses'>): boolean {
  if (pod.nodeName !== '') return pod.nodeName === node.name;
  return pod.hostIPs.some(address => node.addresses.includes(address));
}

export function selects(policy: NetworkPolicy, pod: Pod): boolean {
  return policy.meta.namespace === pod.meta.namespace && matchesLabels(policy.podSelector, pod.labels);
}

/** Of two pods with one address at a time, the younger has it: the other is on its way out. Of the equally old, the last by name. */
export function isYounger(one: Pod, other: Pod): boolean {
  if (one.meta.creationTimestamp !== other.meta.creationTimestamp) {
    return one.meta.creationTimestamp > other.meta.creationTimestamp;
  }
  return one.meta.namespace === other.meta.namespace
    ? one.meta.name > other.meta.name
    : one.meta.namespace > other.meta.namespace;
}
