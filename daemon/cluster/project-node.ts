/** core/v1 Node to the narrow type. */
import type { IpPrefix } from '../net/prefix.ts';
import type { Node, ObjectMeta } from './kinds.ts';
import { ownAnnotation } from './own-annotations.ts';
import { type FieldReader, isAbsent, type RawObject } from './raw-object.ts';

const POD_CIDRS = 'kube-router.io/pod-cidrs';
const POD_CIDR = 'kube-router.io/pod-cidr';

/** The cluster autoscaler's, on a node that it is about to drain and delete. */
const TO_BE_DELETED = 'ToBeDeletedByClusterAutoscaler';

/** Never undefined: a Node with a name is a Node. */
export function projectNode(meta: ObjectMeta, raw: RawObject, read: FieldReader): Node {
  const rawMeta = read.object(raw['metadata'], 'metadata');
  const annotations = read.stringMap(rawMeta['annotations'], 'metadata.annotations', ownAnnotation);
  const byType = addressesByType(raw, read);
  return {
    kind: 'Node',
    meta,
    labels: read.stringMap(rawMeta['labels'], 'metadata.labels', () => true),
    annotations,
    internalIPs: read.addresses(byType.InternalIP, 'status.addresses[].address'),
    externalIPs: read.addresses(byType.ExternalIP, 'status.addresses[].address'),
    podCIDRs: podCIDRsOf(annotations, raw, read),
    isLeaving: !isAbsent(rawMeta['deletionTimestamp']) || isToBeDeleted(raw, read),
    isReady: isReady(raw, read),
  };
}

/** The node controller makes it Unknown when the kubelet is not heard of any more. */
function isReady(raw: RawObject, read: FieldReader): boolean {
  const status = read.object(raw['status'], 'status');
  const ready = read.objects(status['conditions'], 'status.conditions').find(({ type }) => type === 'Ready');
  return ready === undefined || ready['status'] === 'True';
}

/** Whatever the taint's effect. */
function isToBeDeleted(raw: RawObject, read: FieldReader): boolean {
  const spec = read.object(raw['spec'], 'spec');
  return read.objects(spec['taints'], 'spec.taints').some(taint => taint['key'] === TO_BE_DELETED);
}

/** Host names and other types are none of our business, whatever their text. */
function addressesByType(raw: RawObject, read: FieldReader): { InternalIP: unknown[]; ExternalIP: unknown[] } {
  const byType: { InternalIP: unknown[]; ExternalIP: unknown[] } = { InternalIP: [], ExternalIP: [] };
  const status = read.object(raw['status'], 'status');
  for (const address of read.objects(status['addresses'], 'status.addresses')) {
    if (address['type'] === 'InternalIP' || address['type'] === 'ExternalIP') byType[address['type']].push(address['address']);
  }
  return byType;
}

/** The annotations override the spec as in kube-router; one that holds no prefix at all overrides nothing. */
function podCIDRsOf(annotations: Readonly<Record<string, string>>, raw: RawObject, read: FieldReader): readonly IpPrefix[] {
  for (const key of [POD_CIDRS, POD_CIDR]) {
    const texts = (annotations[key] ?? '').split(',').filter(text => text.trim() !== '');
    const prefixes = read.prefixes(texts, `metadata.annotations[${key}]`);
    if (prefixes.length > 0) return prefixes;
  }
  const spec = read.object(raw['spec'], 'spec');
  const listed = read.list(spec['podCIDRs'], 'spec.podCIDRs');
  if (listed.length > 0) return read.prefixes(listed, 'spec.podCIDRs[]');
  return isAbsent(spec['podCIDR']) || spec['podCIDR'] === '' ? [] : read.prefixes([spec['podCIDR']], 'spec.podCIDR');
}
