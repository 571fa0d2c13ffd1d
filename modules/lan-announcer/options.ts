/** What the announcer needs of the configuration. */
import type { VirtualAddressRules } from '../../daemon/cluster/virtual-addresses.ts';
import type { FlagName, OptionValues } from '../../daemon/config/options.ts';
import type { Family } from '../../daemon/net/address.ts';
import { type AddressRange, prefixesOfRange } from '../../daemon/net/address-range.ts';

export interface LanAnnouncerOptions extends VirtualAddressRules {
  /** Families that are not switched off. */
  readonly families: readonly Family[];
  /** `--loadbalancer-ip-range`, as a pool. */
  readonly flagRanges: readonly AddressRange[];
  /** `--loadbalancer-pools`: there may be named pools. */
  readonly followsPools: boolean;
  /** `--loadbalancer-default-class`. */
  readonly servesDefaultClass: boolean;
  /** `--announce-interfaces`; empty for the links that have the node's addresses. */
  readonly links: readonly string[];
  /** Whether nobody else tells of Services' unusable addresses. */
  readonly tellsOfAddresses: boolean;
}

/** Reads the options of this module off the configuration; `explicit` are the flags that were given. */
export function lanAnnouncerOptionsOf(
  config: Pick<OptionValues, ConfigKey>,
  explicit: ReadonlySet<FlagName>,
): LanAnnouncerOptions {
  const isOff: Readonly<Record<Family, boolean>> = {
    ipv4: explicit.has('enable-ipv4') && !config.enableIpv4,
    ipv6: explicit.has('enable-ipv6') && !config.enableIpv6,
  };
  return {
    families: FAMILIES.filter(family => !isOff[family]),
    flagRanges: config.loadbalancerIpRange,
    followsPools: config.loadbalancerPools !== '',
    servesDefaultClass: config.loadbalancerDefaultClass,
    links: config.announceInterfaces,
    tellsOfAddresses: !config.runServiceProxy && !config.runRouter,
    externalIpRanges: config.serviceExternalIpRange,
    loadBalancerIpRanges: config.loadbalancerIpRange.flatMap(prefixesOfRange),
    namedPools: [],
    arePoolsKnown: config.loadbalancerPools === '',
    clusterIpRanges: config.serviceClusterIpRange,
    strictExternalIpValidation: config.strictExternalIpValidation,
  };
}

export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

type ConfigKey =
  | 'enableIpv4'
  | 'enableIpv6'
  | 'loadbalancerIpRange'
  | 'loadbalancerPools'
  | 'loadbalancerDefaultClass'
  | 'announceInterfaces'
  | 'runServiceProxy'
  | 'runRouter'
  | 'serviceExternalIpRange'
  | 'serviceClusterIpRange'
  | 'strictExternalIpValidation';
