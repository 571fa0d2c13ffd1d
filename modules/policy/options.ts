/** What the policy module needs of the configuration. */
import type { FlagName, OptionValues } from '../../daemon/config/options.ts';
import type { Family } from '../../daemon/net/address.ts';
import { prefixesOfRange } from '../../daemon/net/address-range.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';

/** `auto`: the family is filtered where node or pods have addresses of it. A flag left at its default is `auto`. */
export type FamilySwitch = 'auto' | 'on' | 'off';

export interface PolicyOptions {
  /** `--enable-ipv4`, `--enable-ipv6`. */
  readonly families: Readonly<Record<Family, FamilySwitch>>;
  /** `--netpol-default-deny`: an address of the node's pod CIDRs is closed until its pod is known. */
  readonly defaultDeny: boolean;
  /** `--netpol-deny-with`: answer denied packets, or be silent. */
  readonly denyWith: 'reject' | 'drop';
  /**
   * `--service-cluster-ip-range`, `--service-external-ip-range`, `--loadbalancer-ip-range`: what pods send there is left to the service
   * proxy and judged behind it, by the endpoint.
   */
  readonly serviceRanges: readonly IpPrefix[];
  /** `--loadbalancer-pools`: there may be named pools, whose addresses are of these ranges as well. */
  readonly followsPools: boolean;
  /** `--strict-external-ip-validation`: no external or load-balancer IP is served outside of them. */
  readonly strictExternalIpValidation: boolean;
  /** `--service-node-port-range`: likewise, on addresses of the host. */
  readonly nodePorts: { readonly first: number; readonly last: number };
}

/** Reads the options of this module off the configuration; `explicit` are the flags that were given. */
export function policyOptionsOf(config: Pick<OptionValues, ConfigKey>, explicit: ReadonlySet<FlagName>): PolicyOptions {
  const switchOf = (flag: 'enable-ipv4' | 'enable-ipv6', value: boolean): FamilySwitch =>
    explicit.has(flag) ? (value ? 'on' : 'off') : 'auto';
  return {
    families: { ipv4: switchOf('enable-ipv4', config.enableIpv4), ipv6: switchOf('enable-ipv6', config.enableIpv6) },
    defaultDeny: config.netpolDefaultDeny,
    denyWith: config.netpolDenyWith,
    serviceRanges: [
      ...config.serviceClusterIpRange,
      ...config.serviceExternalIpRange,
      ...config.loadbalancerIpRange.flatMap(prefixesOfRange),
    ],
    followsPools: config.loadbalancerPools !== '',
    strictExternalIpValidation: config.strictExternalIpValidation,
    nodePorts: config.serviceNodePortRange,
  };
}

type ConfigKey =
  | 'enableIpv4'
  | 'enableIpv6'
  | 'netpolDefaultDeny'
  | 'netpolDenyWith'
  | 'serviceClusterIpRange'
  | 'serviceExternalIpRange'
  | 'loadbalancerIpRange'
  | 'loadbalancerPools'
  | 'strictExternalIpValidation'
  | 'serviceNodePortRange';
