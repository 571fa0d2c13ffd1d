/** The virtual addresses of a Service: ClusterIPs, and of its external and load-balancer addresses those that are allowed. */
import type { Service, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf, type IpAddress, isLinkLocal, isLoopback } from '../../daemon/net/address.ts';
import { anyPrefixContains } from '../../daemon/net/prefix.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { ServicesOptions } from './options.ts';

export interface Vip {
  readonly address: IpAddress;
  readonly family: Family;
  readonly policy: TrafficPolicy;
}

export interface TrafficPolicies {
  readonly internal: TrafficPolicy;
  readonly external: TrafficPolicy;
}

/**
 * The families a Service is of; undefined for any. A Service from the API always says it. One from a manifest folder may have
 * neither ClusterIP nor `ipFamilies` and live on its external addresses alone.
 */
export function familiesOf(service: Service): ReadonlySet<Family> | undefined {
  if (service.ipFamilies.length === 0 && service.clusterIPs.length === 0) return undefined;
  return new Set([...service.ipFamilies, ...service.clusterIPs.map(familyOf)]);
}

/** Each address once, ClusterIPs first. What cannot be used is a diagnostic and stops nothing else. */
export function vipsOf(
  service: Service,
  policies: TrafficPolicies,
  options: ServicesOptions,
  owner: ObjectRef,
  diagnostics: Diagnostic[],
): readonly Vip[] {
  const vips = new Map<IpAddress, Vip>();
  const add = (address: IpAddress, policy: TrafficPolicy): void => {
    if (!vips.has(address)) vips.set(address, { address, family: familyOf(address), policy });
  };
  for (const address of service.clusterIPs) {
    const objection = objectionToAddress(address);
    if (objection === undefined) add(address, policies.internal);
    else
      diagnostics.push({
        code: 'FW_OBJECT_FIELD',
        object: owner,
        message: `Service ${owner.key}: ClusterIP ${address} ${objection}`,
      });
  }
  const families = familiesOf(service);
  for (const { address, origin } of externalAddresses(service)) {
    const diagnostic = objectionToExternal(address, origin, families, options, owner);
    if (diagnostic === undefined) add(address, policies.external);
    else diagnostics.push(diagnostic);
  }
  return [...vips.values()];
}

/** Where an external address comes from, with the flag that allows it. */
interface Origin {
  readonly title: string;
  readonly flag: string;
  ranges(options: ServicesOptions): ServicesOptions['externalIpRanges'];
}

const EXTERNAL_IP: Origin = {
  title: 'external IP',
  flag: '--service-external-ip-range',
  ranges: options => options.externalIpRanges,
};
const LOAD_BALANCER_IP: Origin = {
  title: 'load-balancer IP',
  flag: '--loadbalancer-ip-range',
  ranges: options => options.loadBalancerIpRanges,
};

function externalAddresses(service: Service): readonly { address: IpAddress; origin: Origin }[] {
  const external = service.externalIPs.map(address => ({ address, origin: EXTERNAL_IP }));
  // The annotation counts by its presence, as in kube-router, which deprecated it.
  if ('kube-router.io/service.skiplbips' in service.annotations) return external;
  return [...external, ...service.loadBalancerIPs.map(address => ({ address, origin: LOAD_BALANCER_IP }))];
}

function objectionToExternal(
  address: IpAddress,
  origin: Origin,
  families: ReadonlySet<Family> | undefined,
  options: ServicesOptions,
  owner: ObjectRef,
): Diagnostic | undefined {
  const subject = `Service ${owner.key}: ${origin.title} ${address}`;
  const unusable = objectionToAddress(address);
  if (unusable !== undefined) return { code: 'FW_OBJECT_FIELD', object: owner, message: `${subject} ${unusable}` };
  if (families !== undefined && !families.has(familyOf(address))) {
    const family = familyOf(address) === 'ipv6' ? 'IPv6' : 'IPv4';
    return {
      code: 'FW_OBJECT_FIELD',
      object: owner,
      message: `${subject} is left out: the Service is not of family ${family}. Add ${family} to spec.ipFamilies (ipFamilyPolicy: PreferDualStack) or remove the address.`,
    };
  }
  const outside = objectionToRange(address, origin, options);
  return outside === undefined
    ? undefined
    : { code: 'FW_SERVICE_ADDRESS_RANGE', object: owner, message: `${subject} is rejected: ${outside}` };
}

/** Without strict validation every address is taken, as in kube-router. */
function objectionToRange(address: IpAddress, origin: Origin, options: ServicesOptions): string | undefined {
  if (!options.strictExternalIpValidation) return undefined;
  if (anyPrefixContains(options.clusterIpRanges, address)) {
    return 'it lies in --service-cluster-ip-range, where ClusterIPs are handed out. Choose an address outside.';
  }
  const ranges = origin.ranges(options);
  if (anyPrefixContains(ranges, address)) return undefined;
  const reason =
    ranges.length === 0
      ? `${origin.flag} is not set, so that none is allowed.`
      : `it is outside ${origin.flag} (${ranges.join(',')}).`;
  return `${reason} Add a range that holds it to ${origin.flag}, or set --strict-external-ip-validation=false.`;
}

/** Taking one of these would cut the host off from itself or its neighbours; the API server refuses them, a manifest folder does not. */
function objectionToAddress(address: IpAddress): string | undefined {
  if (isLoopback(address)) return 'is a loopback address, which belongs to each host alone; it is left out.';
  if (isLinkLocal(address)) return 'is link-local and cannot be a virtual address; it is left out.';
  if (address === '0.0.0.0' || address === '::') return 'is the unspecified address; it is left out.';
  if (/^(22[4-9]|23[0-9])\./.test(address) || /^ff[0-9a-f]{2}:/.test(address)) return 'is a multicast address; it is left out.';
  return undefined;
}
