/** coordination.k8s.io/v1 Lease to the narrow type. */
import type { Lease, ObjectMeta } from './kinds.ts';
import type { FieldReader, RawObject } from './raw-object.ts';

/** What the kubelet asks for unless configured otherwise (`nodeLeaseDurationSeconds`). */
const DURATION_SECONDS = 40;

/** Never undefined: a Lease that says nothing is a heartbeat that never comes again. */
export function projectLease(meta: ObjectMeta, raw: RawObject, read: FieldReader): Lease {
  const spec = read.object(raw['spec'], 'spec');
  const seconds = spec['leaseDurationSeconds'];
  return {
    kind: 'Lease',
    meta,
    renewTime: read.string(spec['renewTime'], 'spec.renewTime'),
    leaseDurationSeconds: typeof seconds === 'number' && seconds > 0 ? seconds : DURATION_SECONDS,
  };
}
