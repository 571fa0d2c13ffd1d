/** A ConfigMap of named pools of load-balancer addresses to the narrow type. */
import type { AddressPools, ObjectMeta } from './kinds.ts';
import type { FieldReader, RawObject } from './raw-object.ts';

/** Never undefined. */
export function projectAddressPools(meta: ObjectMeta, _raw: RawObject, _read: FieldReader): AddressPools {
  return { kind: 'ConfigMap', meta, pools: [], unreadable: undefined };
}
