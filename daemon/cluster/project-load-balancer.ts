/** What the allocation of load-balancer addresses looks at of a core/v1 Service. */
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { IpFamilyPolicy, LoadBalancer, ServiceType } from './kinds.ts';
import { type FieldReader, isRawObject, type RawObject } from './raw-object.ts';
import { versionOf } from './watch-event.ts';

const FAMILY_POLICIES: readonly IpFamilyPolicy[] = ['SingleStack', 'PreferDualStack', 'RequireDualStack'];
const NO_LABELS: Readonly<Record<string, string>> = Object.freeze({});

/** Undefined for a Service of another type whose status names no address: most are, and there may be ten thousand. */
export function loadBalancerOf(type: ServiceType, raw: RawObject, read: FieldReader): LoadBalancer | undefined {
  const ingress = ingressOf(raw);
  const ingressIPs = [...new Set(ingress.flatMap(({ ip }) => addressOf(ip)))];
  const isAsked = type === 'LoadBalancer';
  if (!isAsked && ingressIPs.length === 0) return undefined;
  const spec = read.object(raw['spec'], 'spec');
  const meta = read.object(raw['metadata'], 'metadata');
  const { manager, time } = writerOf(meta['managedFields']);
  return {
    loadBalancerClass: read.string(spec['loadBalancerClass'], 'spec.loadBalancerClass'),
    loadBalancerIP: read.string(spec['loadBalancerIP'], 'spec.loadBalancerIP').trim(),
    ipFamilyPolicy: read.word(spec['ipFamilyPolicy'], FAMILY_POLICIES, defaultPolicyOf(spec), 'spec.ipFamilyPolicy'),
    labels: isAsked ? read.stringMap(meta['labels'], 'metadata.labels', () => true) : NO_LABELS,
    selector: isAsked ? selectorText(read.stringMap(spec['selector'], 'spec.selector', () => true)) : '',
    ingressIPs,
    ingressHostnames: ingress.flatMap(({ hostname }) => (typeof hostname === 'string' && hostname !== '' ? [hostname] : [])),
    writtenBy: read.string(manager, 'metadata.managedFields[].manager'),
    writtenAt: time,
    resourceVersion: versionOf(raw),
  };
}

/** As the API server fills it in for what names two families. */
function defaultPolicyOf({ ipFamilies, clusterIPs }: RawObject): IpFamilyPolicy {
  const isDual = [ipFamilies, clusterIPs].some(list => Array.isArray(list) && list.length === 2);
  return isDual ? 'RequireDualStack' : 'SingleStack';
}

/** What is wrong in it is said where the addresses that are served are read. */
function ingressOf(raw: RawObject): readonly RawObject[] {
  const ingress = within(raw, 'status', 'loadBalancer', 'ingress');
  return Array.isArray(ingress) ? ingress.filter(isRawObject) : [];
}

function addressOf(value: unknown): readonly IpAddress[] {
  const address = typeof value === 'string' ? parseAddress(value) : undefined;
  return address === undefined ? [] : [address];
}

/** One text for one selector, whatever its order. */
function selectorText(selector: Readonly<Record<string, string>>): string {
  return Object.entries(selector)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(',');
}

/**
 * Who wrote the addresses last. The API server keeps for each field who set it (KEP-555), by update as well as by apply; the list `ingress` is
 * atomic, so that it has one owner, or several that wrote the very same.
 */
function writerOf(managedFields: unknown): { readonly manager: unknown; readonly time: number } {
  let last: { readonly manager: unknown; readonly time: number } = { manager: undefined, time: 0 };
  for (const entry of Array.isArray(managedFields) ? managedFields.filter(isRawObject) : []) {
    if (entry['subresource'] !== undefined && entry['subresource'] !== '' && entry['subresource'] !== 'status') continue;
    if (within(entry, 'fieldsV1', 'f:status', 'f:loadBalancer', 'f:ingress') === undefined) continue;
    const time = timeOf(entry['time']);
    if (last.manager === undefined || time > last.time) last = { manager: entry['manager'], time };
  }
  return last;
}

/** Undefined where the way to it ends early. */
function within(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce((at, field) => (isRawObject(at) && Object.hasOwn(at, field) ? at[field] : undefined), value);
}

function timeOf(value: unknown): number {
  const milliseconds = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(milliseconds) ? 0 : milliseconds;
}
