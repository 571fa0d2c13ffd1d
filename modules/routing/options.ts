/** What the routing module needs of the configuration. */
import type { VirtualAddressRules } from '../../daemon/cluster/virtual-addresses.ts';
import type { Config } from '../../daemon/config/config.ts';
import type { FlagName } from '../../daemon/config/options.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import { prefixesOfRange } from '../../daemon/net/address-range.ts';
import { Secret } from '../../daemon/net/secret.ts';
import type { GracefulRestart } from '../../daemon/reconcile/routing-tables.ts';

/** `auto`: the family is routed where the node has an address of it. A flag left at its default is `auto`. */
export type FamilySwitch = 'auto' | 'on' | 'off';

export interface Overlay {
  /** Tunnels to nodes of other subnets only, or to all. */
  readonly reach: 'subnet' | 'full';
  readonly encapsulation: 'ipip' | 'fou' | 'vxlan';
  /** UDP port of FoU (GUE) and VXLAN. */
  readonly port: number;
}

/** An external peer of `--peer-router-ips` and its siblings. */
export interface FlagPeer {
  readonly address: IpAddress;
  readonly asn: number;
  readonly port: number;
  readonly password: Secret;
}

/** Which addresses of Services are announced where their annotations do not say. */
export interface Advertised {
  readonly clusterIP: boolean;
  readonly externalIP: boolean;
  readonly loadBalancerIP: boolean;
}

export interface RoutingOptions extends VirtualAddressRules {
  /** `--loadbalancer-pools`: there may be named pools. */
  readonly followsPools: boolean;
  readonly families: Readonly<Record<Family, FamilySwitch>>;
  readonly podRoutes: 'bgp' | 'api';
  readonly overlay: Overlay | undefined;
  readonly autoMtu: boolean;
  readonly egress: boolean;
  /** The CNI configuration file; undefined where it is not ours to keep. */
  readonly cniFile: string | undefined;
  /** Whether pods may start only when their policies are in force: the policy module is on. */
  readonly policyFirst: boolean;
  /** Whether nobody else tells of Services' unusable addresses. */
  readonly tellsOfAddresses: boolean;
  readonly advertise: Advertised;
  readonly advertisePodCidr: boolean;
  readonly overrideNextHop: boolean;
  /** Of `--router-id`: an address, `generate`, or empty. */
  readonly routerId: string;
  readonly clusterAsn: number;
  readonly fullMesh: boolean;
  readonly ibgp: boolean;
  readonly bgpPort: number;
  readonly holdSeconds: number;
  readonly multihopTtl: number;
  readonly gracefulRestart: GracefulRestart | undefined;
  /** When there are any, those of node annotations do not count. */
  readonly peers: readonly FlagPeer[];
}

const DEFAULT_ASN = 64_512;
const BGP_PORT = 179;
const NO_PASSWORD = new Secret('');

/** Reads the options off the configuration. `passwords` are those of the flag or its file, one a peer or none at all. */
export function routingOptionsOf(config: Config, explicit: ReadonlySet<FlagName>, passwords: readonly Secret[]): RoutingOptions {
  const switchOf = (flag: 'enable-ipv4' | 'enable-ipv6', value: boolean): FamilySwitch =>
    explicit.has(flag) ? (value ? 'on' : 'off') : 'auto';
  const seconds = (milliseconds: number): number => Math.round(milliseconds / 1000);
  return {
    families: { ipv4: switchOf('enable-ipv4', config.enableIpv4), ipv6: switchOf('enable-ipv6', config.enableIpv6) },
    podRoutes: config.podRoutes,
    overlay: config.enableOverlay
      ? { reach: config.overlayType, encapsulation: config.overlayEncap, port: overlayPort(config, explicit) }
      : undefined,
    autoMtu: config.autoMtu,
    egress: config.enablePodEgress,
    cniFile: config.enableCni ? config.environment.cniConfFile : undefined,
    policyFirst: config.runFirewall,
    tellsOfAddresses: !config.runServiceProxy,
    advertise: {
      clusterIP: config.advertiseClusterIp,
      externalIP: config.advertiseExternalIp,
      loadBalancerIP: config.advertiseLoadbalancerIp,
    },
    advertisePodCidr: config.advertisePodCidr,
    overrideNextHop: config.overrideNexthop,
    routerId: config.routerId,
    clusterAsn: config.clusterAsn || DEFAULT_ASN,
    fullMesh: config.nodesFullMesh,
    ibgp: config.enableIbgp,
    bgpPort: config.bgpPort,
    holdSeconds: Math.min(seconds(config.bgpHoldtime), 65_535),
    multihopTtl: config.peerRouterMultihopTtl < 2 ? 0 : config.peerRouterMultihopTtl,
    gracefulRestart: config.bgpGracefulRestart
      ? {
          restartSeconds: seconds(config.bgpGracefulRestartTime),
          deferralSeconds: seconds(config.bgpGracefulRestartDeferralTime),
        }
      : undefined,
    peers: config.peerRouterIps.map((address, index) => ({
      address,
      asn: config.peerRouterAsns[index] ?? 0,
      port: config.peerRouterPorts[index] ?? BGP_PORT,
      password: passwords[index] ?? NO_PASSWORD,
    })),
    externalIpRanges: config.serviceExternalIpRange,
    loadBalancerIpRanges: config.loadbalancerIpRange.flatMap(prefixesOfRange),
    namedPools: [],
    arePoolsKnown: config.loadbalancerPools === '',
    followsPools: config.loadbalancerPools !== '',
    clusterIpRanges: config.serviceClusterIpRange,
    strictExternalIpValidation: config.strictExternalIpValidation,
  };
}

/** IANA's port of VXLAN-GPE. FoU's default is another, so that a node can go from one encapsulation to the other: both would want the same socket. */
const VXLAN_GPE_PORT = 4790;

function overlayPort({ overlayEncap, overlayEncapPort }: Config, explicit: ReadonlySet<FlagName>): number {
  return overlayEncap === 'vxlan' && !explicit.has('overlay-encap-port') ? VXLAN_GPE_PORT : overlayEncapPort;
}
