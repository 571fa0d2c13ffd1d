/**
 * The lab's address plan, the same on every run:
 *
 * | what                    | IPv4                      | IPv6                              |
 * |-------------------------|---------------------------|-----------------------------------|
 * | lan1: node1, node2, rt  | 192.168.1.0/24            | fd00:192:168:1::/64               |
 * | lan3: node3..., rt      | 192.168.3.0/24            | fd00:192:168:3::/64               |
 * | outside: ext, rt        | 10.10.1.0/24              | fd00:10:10:1::/64                 |
 * | nodeN                   | 192.168.{1,3}.(10+N)      | fd00:192:168:{1,3}::(10+N)        |
 * | rt on each              | .254                      | ::254                             |
 * | ext                     | 10.10.1.200               | fd00:10:10:1::200                 |
 * | pods of nodeN           | 10.244.N.0/24             | fd00:10:244:N::/64                |
 * | kube-bridge of nodeN    | 10.244.N.1                | fd00:10:244:N::1                  |
 * | pod-N-M                 | 10.244.N.(10+M)           | fd00:10:244:N::(10+M)             |
 *
 * The host parts of IPv6 addresses are written with the decimal digits of the IPv4 ones, so that they read alike. Free for a test's own use:
 * 10.96.0.0/16 and fd00:10:96::/112 (cluster IPs), 203.0.113.0/24 and 2001:db8:203::/64 (external and load-balancer IPs; rt knows no
 * route to them until the test adds one).
 */

/** An address in each family. */
export interface Addresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** A network namespace of the lab: its name is what `lab.run` and `lab.probe` take. */
export interface LabHost {
  readonly name: string;
  readonly addresses: Addresses;
}

export interface LabPod extends LabHost {
  /** The node it runs on. */
  readonly node: string;
}

export interface LabNode extends LabHost {
  /** 1 for node1. */
  readonly number: number;
  /** The LAN it is on: 1 or 3. */
  readonly lan: 1 | 3;
  readonly podCidrs: Addresses;
  /** The addresses of kube-bridge: its pods' gateways. */
  readonly bridge: Addresses;
  readonly pods: readonly LabPod[];
}

export interface TopologyOptions {
  /** 3 unless told. At most 200; 80 on one LAN. */
  readonly nodes?: number;
  /** 2 unless told. At most 200. */
  readonly podsPerNode?: number;
  /** 2 unless told: then nodes from node3 on are behind the router. With 1, all are on lan1. */
  readonly lans?: 1 | 2;
  /** `static`: nodes and router know the way to every pod CIDR from the start. `none`: the routes are the daemon's business. */
  readonly podRoutes?: 'static' | 'none';
}

/** Everything there is in a topology. */
export interface AddressPlan {
  readonly nodes: readonly LabNode[];
  readonly router: LabHost;
  readonly outside: LabHost;
}

export const IPV4_LENGTH = 24;
export const IPV6_LENGTH = 64;

/** The router's addresses on one of its three links. */
export function routerOn(lan: 1 | 3 | 'outside'): Addresses {
  return lan === 'outside'
    ? { ipv4: '10.10.1.254', ipv6: 'fd00:10:10:1::254' }
    : { ipv4: `192.168.${lan}.254`, ipv6: `fd00:192:168:${lan}::254` };
}

/** Names and addresses for a topology of this size. */
export function planAddresses(options: TopologyOptions): AddressPlan {
  const nodes = Array.from({ length: options.nodes ?? 3 }, (_, index) => planNode(index + 1, options));
  return {
    nodes,
    router: { name: 'rt', addresses: routerOn('outside') },
    outside: { name: 'ext', addresses: { ipv4: '10.10.1.200', ipv6: 'fd00:10:10:1::200' } },
  };
}

function planNode(number: number, options: TopologyOptions): LabNode {
  const { podsPerNode: pods = 2, lans = 2 } = options;
  const lan = lans === 1 || number <= 2 ? 1 : 3;
  const name = `node${number}`;
  return {
    name,
    number,
    lan,
    addresses: { ipv4: `192.168.${lan}.${10 + number}`, ipv6: `fd00:192:168:${lan}::${10 + number}` },
    podCidrs: { ipv4: `10.244.${number}.0/${IPV4_LENGTH}`, ipv6: `fd00:10:244:${number}::/${IPV6_LENGTH}` },
    bridge: { ipv4: `10.244.${number}.1`, ipv6: `fd00:10:244:${number}::1` },
    pods: Array.from({ length: pods }, (_, index) => ({
      name: `pod-${number}-${index + 1}`,
      node: name,
      addresses: { ipv4: `10.244.${number}.${11 + index}`, ipv6: `fd00:10:244:${number}::${11 + index}` },
    })),
  };
}
