/** What the services module needs of the configuration. */
import type { VirtualAddressRules } from '../../daemon/cluster/virtual-addresses.ts';
import type { FlagName, OptionValues } from '../../daemon/config/options.ts';
import type { Family } from '../../daemon/net/address.ts';
import { prefixesOfRange } from '../../daemon/net/address-range.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';

/**
 * `auto`: the family is served where the node has an address of it. `on`: likewise, and a node without one is told. `off`: never.
 * A flag left at its default is `auto`, one that was given `on` or `off`.
 */
type FamilySwitch = 'auto' | 'on' | 'off';

export interface ServicesOptions extends VirtualAddressRules {
  /** `--loadbalancer-pools`: there may be named pools. */
  readonly followsPools: boolean;
  /** `--enable-ipv4`, `--enable-ipv6`. */
  readonly families: Readonly<Record<Family, FamilySwitch>>;
  /** `--masquerade-all`: every balanced packet gets the node's address as its source. */
  readonly masqueradeAll: boolean;
  /** `--nodeport-bindon-all-ip`: node ports on every address of the host. */
  readonly nodeportBindOnAllIp: boolean;
  /** `--nodeport-addresses`: node ports only on addresses inside; empty for no restriction. */
  readonly nodeportAddresses: readonly IpPrefix[];
  /** `--ipvs-permit-all`. The name is kube-router's and says the opposite: true installs the firewall in front of virtual addresses. */
  readonly ipvsPermitAll: boolean;
  /** `--ipvs-graceful-termination`: endpoints that are removed keep their connections for a while. */
  readonly drains: boolean;
}

/** Reads the options of this module off the configuration; `explicit` are the flags that were given. */
export function servicesOptionsOf(config: Pick<OptionValues, ConfigKey>, explicit: ReadonlySet<FlagName>): ServicesOptions {
  return {
    families: {
      ipv4: explicit.has('enable-ipv4') ? givenSwitch(config.enableIpv4) : 'auto',
      ipv6: explicit.has('enable-ipv6') ? givenSwitch(config.enableIpv6) : 'auto',
    },
    masqueradeAll: config.masqueradeAll,
    nodeportBindOnAllIp: config.nodeportBindonAllIp,
    nodeportAddresses: config.nodeportAddresses,
    externalIpRanges: config.serviceExternalIpRange,
    loadBalancerIpRanges: config.loadbalancerIpRange.flatMap(prefixesOfRange),
    namedPools: [],
    arePoolsKnown: config.loadbalancerPools === '',
    followsPools: config.loadbalancerPools !== '',
    clusterIpRanges: config.serviceClusterIpRange,
    strictExternalIpValidation: config.strictExternalIpValidation,
    ipvsPermitAll: config.ipvsPermitAll,
    drains: config.ipvsGracefulTermination,
  };
}

function givenSwitch(value: boolean): FamilySwitch {
  return value ? 'on' : 'off';
}

type ConfigKey =
  | 'enableIpv4'
  | 'enableIpv6'
  | 'masqueradeAll'
  | 'nodeportBindonAllIp'
  | 'nodeportAddresses'
  | 'serviceExternalIpRange'
  | 'loadbalancerIpRange'
  | 'loadbalancerPools'
  | 'serviceClusterIpRange'
  | 'strictExternalIpValidation'
  | 'ipvsPermitAll'
  | 'ipvsGracefulTermination';
