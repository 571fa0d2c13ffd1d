/**
 * What a Kubernetes API server says no to, of the objects that a daemon writes: `ValidateLoadBalancerStatus` and `legacyValidateEvent`
 * (pkg/apis/core/validation), `ValidateLeaseSpec` (pkg/apis/coordination/validation), and how times are decoded (apimachinery, metav1).
 */
import { isIP } from 'node:net';
import type { ApiObject, ResourceName } from './object-store.ts';

type Fields = Readonly<Record<string, unknown>>;

/** RFC 3339 with exactly six digits: Go reads a MicroTime no other way. */
const MICRO_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}(Z|[+-]\d{2}:\d{2})$/;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** Why the object is refused; undefined where it is not. */
export function faultOf(resource: ResourceName, object: ApiObject): string | undefined {
  if (resource === 'services') return statusFault(object);
  if (resource === 'leases') return leaseFault(fieldsOf(object['spec']));
  return resource === 'events' ? eventFault(object) : undefined;
}

function statusFault(service: ApiObject): string | undefined {
  const ingress = fieldsOf(fieldsOf(service['status'])['loadBalancer'])['ingress'];
  const entries = Array.isArray(ingress) ? ingress.map(fieldsOf) : [];
  if (entries.length > 0 && fieldsOf(service['spec'])['type'] !== 'LoadBalancer')
    return "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'";
  return entries
    .map(({ ip, hostname, ipMode }, index) => entryFault(ip, hostname, ipMode, index))
    .find(fault => fault !== undefined);
}

function entryFault(ip: unknown, hostname: unknown, ipMode: unknown, index: number): string | undefined {
  const at = `status.loadBalancer.ingress[${index}]`;
  if (ip !== undefined && (typeof ip !== 'string' || isIP(ip) === 0))
    return `${at}.ip: Invalid value: must be a valid IP address`;
  if (ipMode !== undefined && ip === undefined) return `${at}.ipMode: Forbidden: may not be specified when \`ip\` is not set`;
  if (ipMode !== undefined && ipMode !== 'VIP' && ipMode !== 'Proxy') return `${at}.ipMode: Unsupported value`;
  if (hostname === undefined) return undefined;
  const isName = typeof hostname === 'string' && SUBDOMAIN.test(hostname) && isIP(hostname) === 0;
  return isName ? undefined : `${at}.hostname: Invalid value: must be a DNS name, not an IP address`;
}

function leaseFault({ leaseDurationSeconds, leaseTransitions, acquireTime, renewTime }: Fields): string | undefined {
  if (leaseDurationSeconds !== undefined && !(Number(leaseDurationSeconds) > 0))
    return 'spec.leaseDurationSeconds: Invalid value: must be greater than 0';
  if (leaseTransitions !== undefined && !(Number(leaseTransitions) >= 0))
    return 'spec.leaseTransitions: Invalid value: must be greater than or equal to 0';
  const times = [acquireTime, renewTime].filter(time => time !== undefined && time !== null);
  return times.every(time => typeof time === 'string' && MICRO_TIME.test(time))
    ? undefined
    : 'spec: a MicroTime cannot be parsed';
}

function eventFault({ metadata, ...event }: ApiObject): string | undefined {
  const involved = fieldsOf(event['involvedObject']);
  if (involved['namespace'] !== metadata?.namespace)
    return 'involvedObject.namespace: Invalid value: does not match event.namespace';
  if (!SUBDOMAIN.test(metadata?.name ?? ''))
    return 'metadata.name: Invalid value: a lowercase RFC 1123 subdomain must consist of …';
  const times = [event['firstTimestamp'], event['lastTimestamp']].filter(time => time !== undefined && time !== null);
  return times.every(time => typeof time === 'string' && TIME.test(time)) ? undefined : 'a Time cannot be parsed';
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}
