/** core/v1 Events on Services, as client-go's recorder writes them: `kubectl describe service` shows these everywhere. */
import type { ObjectPlace } from '../cluster/api-objects.ts';
import type { DiagnosticCode } from '../reconcile/fragment.ts';

/** What is to be told of a Service. */
export interface ServiceEvent {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, stable: what people switch on. */
  readonly reason: string;
  readonly message: string;
}

/** Of diagnostics that are about Services; others are no Events. */
export const EVENT_REASONS: Readonly<Partial<Record<DiagnosticCode, string>>> = {
  FW_LB_EXHAUSTED: 'AddressPoolExhausted',
  FW_LB_TAKEN: 'AddressTaken',
  FW_LB_OUTSIDE: 'AddressOutsidePools',
  FW_LB_FAMILY: 'AddressFamilyUnavailable',
  FW_LB_REQUEST: 'AddressRequestUnusable',
  FW_LB_CONFLICT: 'AddressConflict',
  FW_LB_STATUS: 'AddressStatusDiffers',
};

/** One Event object, and how often what it says was told by it. */
export interface WrittenEvent {
  readonly place: ObjectPlace;
  readonly count: number;
}

/** The API server refuses longer ones. */
const MESSAGE_LIMIT = 1024;
const COMPONENT = 'fairway';

/** @param id unlike that of any other Event on the Service */
export function eventPlace({ namespace, name }: ServiceEvent, id: string): ObjectPlace {
  return { group: '', resource: 'events', subresource: '', namespace, name: `${name}.${id}` };
}

/** RFC 3339 in whole seconds: metav1.Time, unlike that of a Lease. */
export function eventTime(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/\.[0-9]+Z$/, 'Z');
}

export function eventObject(event: ServiceEvent, place: ObjectPlace, time: string, host: string): object {
  const { namespace, name, uid, type, reason, message } = event;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace: place.namespace, name: place.name },
    involvedObject: { apiVersion: 'v1', kind: 'Service', namespace, name, uid },
    type,
    reason,
    message: message.slice(0, MESSAGE_LIMIT),
    source: { component: COMPONENT, host },
    reportingComponent: COMPONENT,
    reportingInstance: host,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
