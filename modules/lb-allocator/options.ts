/** What the allocator of load-balancer addresses needs of the configuration. */
import type { OptionValues } from '../../daemon/config/options.ts';
import type { AddressRange } from '../../daemon/net/address-range.ts';

export interface LbAllocatorOptions {
  /** `--loadbalancer-ip-range`: the pool `default`. */
  readonly flagRanges: readonly AddressRange[];
  /** `--loadbalancer-pools` is given: there may be named pools, for certain namespaces too. */
  readonly hasNamedPools: boolean;
  /** `--loadbalancer-default-class`: Services that name no class are served. */
  readonly servesDefaultClass: boolean;
}

export function lbAllocatorOptionsOf(config: Pick<OptionValues, ConfigKey>): LbAllocatorOptions {
  return {
    flagRanges: config.loadbalancerIpRange,
    hasNamedPools: config.loadbalancerPools !== '',
    servesDefaultClass: config.loadbalancerDefaultClass,
  };
}

type ConfigKey = 'loadbalancerIpRange' | 'loadbalancerPools' | 'loadbalancerDefaultClass';
