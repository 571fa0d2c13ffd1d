/** What the allocation of load-balancer addresses looks at of a core/v1 Service. */
import type { LoadBalancer, ServiceType } from './kinds.ts';
import type { FieldReader, RawObject } from './raw-object.ts';

/** Undefined for a Service of another type whose status names no address. */
export function loadBalancerOf(_type: ServiceType, _raw: RawObject, _read: FieldReader): LoadBalancer | undefined {
  return undefined;
}
