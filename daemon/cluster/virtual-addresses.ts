/**
 * The virtual addresses of a Service: ClusterIPs, and of its external and load-balancer addresses those that are allowed. What serves them
 * and what announces them must agree on it.
 */
import { type Family, familyOf, type IpAddress, isLinkLocal, isLoopback } from '../net/address.ts';
import { anyPrefixContains, type IpPrefix } from '../net/prefix.ts';
import { keyOf, type Service, type TrafficPolicy } from './kinds.ts';
import { isWrittenByUs } from './our-writing.ts';

/** A named pool of load-balancer addresses, as far as these are allowed by it. */
export interface NamedPool {
  readonly name: string;
  readonly prefixes: readonly IpPrefix[];
}

/** Which virtual addresses the operator allows. */
export interface VirtualAddressRules {
  /** `--service-external-ip-range`. */
  readonly externalIpRanges: readonly IpPrefix[];
  /** `--loadbalancer-ip-range`. */
  readonly loadBalancerIpRanges: readonly IpPrefix[];
  /** Those of `--loadbalancer-pools`, as they are now. */
  readonly namedPools: readonly NamedPool[];
  /** False while some of those cannot be read and are not known from before: load-balancer addresses that we handed out are allowed then. */
  readonly arePoolsKnown: boolean;
  /** `--service-cluster-ip-range`. */
  readonly clusterIpRanges: readonly IpPrefix[];
  /** `--strict-external-ip-validation`: no external or load-balancer IP outside the ranges above. */
  readonly strictExternalIpValidation: boolean;
}

/** The field of the Service that a virtual address comes from. */
export type VipOrigin = 'clusterIP' | 'externalIP' | 'loadBalancerIP';

export interface Vip {
  readonly address: IpAddress;
  /** At least one: an address may be external and the load balancer's as well. */
  readonly origins: readonly VipOrigin[];
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

const LOCAL = 'kube-router.io/service.local';

/** The Service's traffic policies; `kube-router.io/service.local: "true"` makes both Local, as its documentation says. */
export function policiesOf(service: Service): { readonly policies: TrafficPolicies; readonly objections: readonly Objection[] } {
  const local = service.annotations[LOCAL]?.trim() ?? '';
  if (local === 'true') return { policies: { internal: 'Local', external: 'Local' }, objections: [] };
  const policies: TrafficPolicies = { internal: service.internalTrafficPolicy, external: service.externalTrafficPolicy };
  if (local === '' || local === 'false') return { policies, objections: [] };
  const message = `Service ${keyOf(service.meta)}: ${LOCAL} is '${local}', which is neither "true" nor "false"; the Service's own traffic policies stand.`;
  return { policies, objections: [{ code: 'FW_SERVICE_ANNOTATION', message }] };
}

/** Why an address is left out; the code is that of the diagnostic. */
export interface Objection {
  readonly code: 'FW_OBJECT_FIELD' | 'FW_SERVICE_ADDRESS_RANGE' | 'FW_SERVICE_ANNOTATION';
  readonly message: string;
}

/** Each address once, ClusterIPs first. What cannot be used is an objection and stops nothing else. */
export function vipsOf(
  service: Service,
  policies: TrafficPolicies,
  rules: VirtualAddressRules,
): { readonly vips: readonly Vip[]; readonly objections: readonly Objection[] } {
  const vips = new Map<IpAddress, Vip>();
  const objections: Objection[] = [];
  const add = (address: IpAddress, origin: VipOrigin, policy: TrafficPolicy): void => {
    const former = vips.get(address);
    if (former === undefined) vips.set(address, { address, origins: [origin], family: familyOf(address), policy });
    else if (!former.origins.includes(origin)) vips.set(address, { ...former, origins: [...former.origins, origin] });
  };
  const name = keyOf(service.meta);
  for (const address of service.clusterIPs) {
    const objection = objectionToAddress(address);
    if (objection === undefined) add(address, 'clusterIP', policies.internal);
    else objections.push({ code: 'FW_OBJECT_FIELD', message: `Service ${name}: ClusterIP ${address} ${objection}` });
  }
  const families = familiesOf(service);
  for (const { address, origin } of externalAddresses(service)) {
    const isOurWork = origin === LOAD_BALANCER_IP && isWrittenByUs(service.loadBalancer);
    const objection = objectionToExternal(address, origin, families, isOurWork && !rules.arePoolsKnown ? LENIENT : rules, name);
    if (objection === undefined) add(address, origin.origin, policies.external);
    else objections.push(objection);
  }
  return { vips: [...vips.values()], objections };
}

/** Of an address that may be in a pool which cannot be read at the moment. */
const LENIENT: VirtualAddressRules = {
  externalIpRanges: [],
  loadBalancerIpRanges: [],
  namedPools: [],
  arePoolsKnown: false,
  clusterIpRanges: [],
  strictExternalIpValidation: false,
};

/** Where an external address comes from, with the flag that allows it. */
interface Origin {
  readonly origin: VipOrigin;
  readonly title: string;
  readonly flag: string;
  ranges(rules: VirtualAddressRules): readonly IpPrefix[];
  pools(rules: VirtualAddressRules): readonly NamedPool[];
}

const EXTERNAL_IP: Origin = {
  origin: 'externalIP',
  title: 'external IP',
  flag: '--service-external-ip-range',
  ranges: rules => rules.externalIpRanges,
  pools: () => [],
};
const LOAD_BALANCER_IP: Origin = {
  origin: 'loadBalancerIP',
  title: 'load-balancer IP',
  flag: '--loadbalancer-ip-range',
  ranges: rules => rules.loadBalancerIpRanges,
  pools: rules => rules.namedPools,
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
  rules: VirtualAddressRules,
  name: string,
): Objection | undefined {
  const subject = `Service ${name}: ${origin.title} ${address}`;
  const unusable = objectionToAddress(address);
  if (unusable !== undefined) return { code: 'FW_OBJECT_FIELD', message: `${subject} ${unusable}` };
  if (families !== undefined && !families.has(familyOf(address))) {
    const family = familyOf(address) === 'ipv6' ? 'IPv6' : 'IPv4';
    return {
      code: 'FW_OBJECT_FIELD',
      message: `${subject} is left out: the Service is not of family ${family}. Add ${family} to spec.ipFamilies (ipFamilyPolicy: PreferDualStack) or remove the address.`,
    };
  }
  const outside = objectionToRange(address, origin, rules);
  return outside === undefined ? undefined : { code: 'FW_SERVICE_ADDRESS_RANGE', message: `${subject} is rejected: ${outside}` };
}

/** Without strict validation every address is taken, as in kube-router. */
function objectionToRange(address: IpAddress, origin: Origin, rules: VirtualAddressRules): string | undefined {
  if (!rules.strictExternalIpValidation) return undefined;
  if (anyPrefixContains(rules.clusterIpRanges, address)) {
    return 'it lies in --service-cluster-ip-range, where ClusterIPs are handed out. Choose an address outside.';
  }
  const ranges = origin.ranges(rules);
  const pools = origin.pools(rules);
  if ([ranges, ...pools.map(({ prefixes }) => prefixes)].some(prefixes => anyPrefixContains(prefixes, address))) return undefined;
  const orPool = pools.length === 0 ? '' : ' or a pool';
  return `${outsideText(origin.flag, ranges, pools)} Add a range that holds it to ${origin.flag}${orPool}, or set --strict-external-ip-validation=false.`;
}

function outsideText(flag: string, ranges: readonly IpPrefix[], pools: readonly NamedPool[]): string {
  const named = `the ${pools.length === 1 ? 'pool' : 'pools'} ${pools.map(({ name }) => name).join(', ')}`;
  if (pools.length === 0 && ranges.length === 0) return `${flag} is not set, so that none is allowed.`;
  if (ranges.length === 0) return `it is outside ${named}, and ${flag} is not set.`;
  return `it is outside ${flag} (${ranges.join(',')})${pools.length === 0 ? '' : ` and ${named}`}.`;
}

/** Taking one of these would cut the host off from itself or its neighbours; the API server refuses them, a manifest folder does not. */
function objectionToAddress(address: IpAddress): string | undefined {
  if (isLoopback(address)) return 'is a loopback address, which belongs to each host alone; it is left out.';
  if (isLinkLocal(address)) return 'is link-local and cannot be a virtual address; it is left out.';
  if (address === '0.0.0.0' || address === '::') return 'is the unspecified address; it is left out.';
  if (/^(22[4-9]|23[0-9])\./.test(address) || /^ff[0-9a-f]{2}:/.test(address)) return 'is a multicast address; it is left out.';
  return undefined;
}
