/**
 * kube-router v2 with all features, as its kernel state shows (pkg/controllers/{netpol,proxy,routing}): pod routing with tunnels to the other LAN, the
 * service proxy with one Service of direct server return, and a policy over all pods.
 */
import { createHash } from 'node:crypto';
import type { LabNode } from '../addresses.ts';
import { POD_PORT } from '../describe-services.ts';
import type { Lab } from '../lab.ts';
import { FAMILIES, type Family } from '../objects.ts';
import { restore } from './kube-proxy-iptables.ts';
import { digits, servedOn, VIP } from './service.ts';

/** The mark of its virtual service of direct server return, for a Service that is gone. */
const MARK = 0x2a17;
const DIRECT = '203.0.113.9';
/** Chains are made anew at every sync, under names with the time in them. */
const VERSION = '1764124219000000000';

export interface KubeRouterOptions {
  readonly flavour: 'nft' | 'legacy';
  /** `--use-nftables-for-netpol`. */
  readonly policiesBy: 'iptables' | 'nftables';
}

export async function kubeRouterOn(lab: Lab, node: LabNode, options: KubeRouterOptions): Promise<void> {
  const { flavour, policiesBy } = options;
  const sysctls = ['vs.conntrack=1', 'vs.expire_nodest_conn=1', 'vs.expire_quiescent_template=1', 'ip_forward=1'];
  await lab.expectRun(node, ['sysctl', '-w', ...sysctls.map(each => `net.ipv4.${each}`)]);
  for (const family of FAMILIES) {
    const option = family === 'ipv4' ? '-4' : '-6';
    const lines = [...routing(lab, node, family), ...virtualAddress(node, family), ...directRules()];
    await lab.expectRun(node, ['ip', option, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
  await lab.expectRun(node, ['ipset', 'restore'], {
    input: `${FAMILIES.flatMap(family => sets(lab, node, family)).join('\n')}\n`,
  });
  await lab.expectRun(node, ['ipvsadm', '-R'], {
    input: `${FAMILIES.flatMap(family => servers(lab, node, family)).join('\n')}\n`,
  });
  await restore(lab, node, flavour, family => rules(node, family, policiesBy));
  if (policiesBy === 'nftables') await lab.expectRun(node, ['nft', '-f', '-'], { input: FAMILIES.map(policyTable).join('') });
}

function tunnelTo(node: LabNode, family: Family): string {
  const text = node.addresses[family].replaceAll(/[.:]/g, '');
  return `tun-${createHash('sha256').update(text).digest('hex').slice(0, 11)}`;
}

/** Straight to nodes of the same LAN, by tunnels to the others (`--overlay-type=subnet`). */
function routing(lab: Lab, node: LabNode, family: Family): readonly string[] {
  const own = node.addresses[family];
  const others = lab.nodes.filter(other => other !== node);
  const tunnel = family === 'ipv4' ? 'type ipip' : 'type ip6tnl mode ip6ip6';
  return [
    ...others.flatMap(other => {
      const [cidr, remote] = [other.podCidrs[family], other.addresses[family]];
      if (other.lan === node.lan) return [`route add ${cidr} via ${remote} proto 17`];
      const name = tunnelTo(other, family);
      return [
        `link add ${name} ${tunnel} local ${own} remote ${remote}`,
        `link set ${name} up`,
        `route add ${remote} dev ${name} table 77`,
        `route add ${cidr} dev ${name} src ${own} proto 17`,
      ];
    }),
    `rule add from ${node.podCidrs[family]} lookup 77`,
  ];
}

function virtualAddress(node: LabNode, family: Family): readonly string[] {
  const vip = VIP[family];
  return [
    ...(family === 'ipv4' ? ['link add kube-dummy-if type dummy', 'link set kube-dummy-if up'] : []),
    family === 'ipv4' ? `addr add ${vip}/32 dev kube-dummy-if scope link` : `addr add ${vip}/128 dev kube-dummy-if nodad`,
    `route replace local ${vip} dev kube-dummy-if table local proto kernel scope host src ${node.addresses[family]}`,
  ];
}

/** Rules of each mark are never deleted; those of table 79 are there on every node. */
function directRules(): readonly string[] {
  return [
    'route replace local default dev lo table 78',
    `rule add priority 32764 fwmark 0x${MARK.toString(16)} lookup 78`,
    'rule add priority 32765 lookup 79',
  ];
}

function prefixed(name: string, family: Family): string {
  return `${family === 'ipv6' ? 'inet6:' : ''}${name}`;
}

function sets(lab: Lab, node: LabNode, family: Family): readonly string[] {
  const of = family === 'ipv4' ? 'inet' : 'inet6';
  const make = (name: string, type: string, elements: readonly string[]): readonly string[] => [
    `create ${prefixed(name, family)} ${type} family ${of} timeout 0`,
    ...elements.map(element => `add ${prefixed(name, family)} ${element} timeout 0`),
  ];
  const served = servedOn(lab, node, family);
  return [
    ...make(
      'kube-router-pod-subnets',
      'hash:net',
      lab.nodes.map(each => each.podCidrs[family]),
    ),
    ...make(
      'kube-router-node-ips',
      'hash:ip',
      lab.nodes.map(each => each.addresses[family]),
    ),
    ...make('kube-router-local-ips', 'hash:ip', [node.addresses[family]]),
    ...make('kube-router-svip', 'hash:ip', [VIP[family]]),
    ...make(
      'kube-router-svip-prt',
      'hash:ip,port',
      served.map(({ vip, protocol, port }) => `${vip},${protocol}:${port}`),
    ),
    ...make(
      'kube-router-local-pods',
      'hash:ip',
      node.pods.map(pod => pod.addresses[family]),
    ),
    ...make(
      targetSet(family),
      'hash:ip',
      lab.pods.map(pod => pod.addresses[family]),
    ),
  ];
}

function servers(lab: Lab, node: LabNode, family: Family): readonly string[] {
  const bracketed = (address: string): string => (family === 'ipv4' ? address : `[${address}]`);
  const byAddress = servedOn(lab, node, family).flatMap(({ protocol, port, nodePort, vip, node: own, endpoints }) =>
    [`${bracketed(vip)}:${port}`, `${bracketed(own)}:${nodePort}`].flatMap(at => {
      const server = `${protocol === 'tcp' ? '-t' : '-u'} ${at}`;
      return [`-A ${server} -s rr`, ...endpoints.map(({ at: to }) => `-a ${server} -r ${to} -m -w 1`)];
    }),
  );
  if (family === 'ipv6') return byAddress;
  return [...byAddress, `-A -f ${MARK} -s rr`, `-a -f ${MARK} -r ${lab.pod(1, 1).addresses.ipv4}:${POD_PORT} -i -w 1`];
}

function targetSet(family: Family): string {
  return `KUBE-DST-${digits(`laball-pods${family}`)}`;
}

const TOP_CHAINS = ['INPUT', 'FORWARD', 'OUTPUT'] as const;

function rules(node: LabNode, family: Family, policiesBy: KubeRouterOptions['policiesBy']): string {
  const own = node.addresses[family];
  const cidr = node.podCidrs[family];
  const set = (name: string, how: string): string => `--match-set ${prefixed(name, family)} ${how}`;
  const unreachable = family === 'ipv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
  const inTunnel = family === 'ipv4' ? 1440 : 1400;
  return [
    '*filter',
    ':KUBE-ROUTER-SERVICES - [0:0]',
    ...(policiesBy === 'iptables' ? policyRules(node, family) : []),
    '-I FORWARD 1 -o eth0 -m comment --comment "allow outbound node port traffic on node interface with which node ip is associated" -j ACCEPT',
    '-I FORWARD 1 -o kube-bridge -m comment --comment "allow inbound traffic to pods" -j ACCEPT',
    '-I FORWARD 1 -i kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT',
    `-I INPUT 1 -m comment --comment "handle traffic to IPVS service IPs in custom chain" -m set ${set('kube-router-svip', 'dst')} -j KUBE-ROUTER-SERVICES`,
    `-A KUBE-ROUTER-SERVICES -m comment --comment "allow input traffic to ipvs services" -m set ${set('kube-router-svip-prt', 'dst,dst')} -j ACCEPT`,
    `-A KUBE-ROUTER-SERVICES -m comment --comment "reject all unexpected traffic to service IPs" -m set ! ${set('kube-router-local-ips', 'dst')} -j REJECT --reject-with ${unreachable}`,
    'COMMIT',
    '*nat',
    ':KUBE-ROUTER-HAIRPIN - [0:0]',
    `-A POSTROUTING -m set ${set('kube-router-pod-subnets', 'src')} -m set ! ${set('kube-router-pod-subnets', 'dst')} -m set ! ${set('kube-router-node-ips', 'dst')} -j MASQUERADE --random-fully`,
    `-A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "" ! -s ${cidr} ! -d ${cidr} -j SNAT --to-source ${own} --random-fully`,
    '-A POSTROUTING -m ipvs --vdir ORIGINAL -j KUBE-ROUTER-HAIRPIN',
    ...node.pods.map(pod => {
      const address = pod.addresses[family];
      return `-A KUBE-ROUTER-HAIRPIN -s ${address} -d ${address} -m ipvs --vaddr ${VIP[family]} --vport 80 -j SNAT --to-source ${VIP[family]}`;
    }),
    'COMMIT',
    ...(family === 'ipv4'
      ? [
          '*mangle',
          ...['PREROUTING', 'OUTPUT'].map(
            chain => `-A ${chain} -d ${DIRECT} -m tcp -p tcp --dport 80 -j MARK --set-mark ${MARK}`,
          ),
          `-A PREROUTING -s ${DIRECT} -m tcp -p tcp --sport 80 -i kube-bridge --tcp-flags SYN,RST SYN -j TCPMSS --set-mss ${inTunnel}`,
          'COMMIT',
        ]
      : []),
    '',
  ].join('\n');
}

/** Every pod has a chain; all pods are selected by a policy that allows everybody. */
function policyRules(node: LabNode, family: Family): readonly string[] {
  const policy = `KUBE-NWPLCY-${digits(`laball-pods${VERSION}${family}`)}`;
  const target = `-m set --match-set ${prefixed(targetSet(family), family)} dst`;
  const pods = node.pods.map(pod => ({
    address: pod.addresses[family],
    chain: `KUBE-POD-FW-${digits(`lab${pod.name}${VERSION}`)}`,
  }));
  const jumps = pods.flatMap(({ address, chain }) => [
    ...['-d', '-s'].flatMap(side => [
      `-A KUBE-ROUTER-FORWARD ${side} ${address} -m comment --comment "rule to jump traffic of POD to chain ${chain}" -j ${chain}`,
      `-A KUBE-ROUTER-FORWARD ${side} ${address} -m physdev --physdev-is-bridged -j ${chain}`,
      `-A KUBE-ROUTER-OUTPUT ${side} ${address} -j ${chain}`,
    ]),
    `-A KUBE-ROUTER-INPUT -s ${address} -j ${chain}`,
  ]);
  const passed =
    '-m comment --comment "rule to explicitly ACCEPT traffic that comply to network policies" -m mark --mark 0x20000/0x20000 -j ACCEPT';
  return [
    ...TOP_CHAINS.map(chain => `:KUBE-ROUTER-${chain} - [0:0]`),
    ...['DEFAULT', 'COMMON', 'TAIL'].map(chain => `:KUBE-NWPLCY-${chain} - [0:0]`),
    `:${policy} - [0:0]`,
    ...pods.map(({ chain }) => `:${chain} - [0:0]`),
    ...TOP_CHAINS.map(
      chain => `-I ${chain} 1 -m comment --comment "kube-router netpol - ${digits(chain)}" -j KUBE-ROUTER-${chain}`,
    ),
    ...(family === 'ipv4'
      ? [
          '-A KUBE-ROUTER-INPUT -d 10.96.0.0/16 -m comment --comment "allow traffic to primary/secondary cluster IP range" -j RETURN',
        ]
      : []),
    ...(family === 'ipv6'
      ? [
          '-A KUBE-ROUTER-INPUT -d fd00:10:96::/112 -m comment --comment "allow traffic to primary/secondary cluster IP range" -j RETURN',
        ]
      : []),
    '-A KUBE-ROUTER-INPUT -p tcp -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN',
    '-A KUBE-ROUTER-INPUT -p udp -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN',
    '-A KUBE-NWPLCY-DEFAULT -j MARK --set-xmark 0x10000/0x10000',
    '-A KUBE-NWPLCY-COMMON -m conntrack --ctstate INVALID -j DROP',
    '-A KUBE-NWPLCY-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    `-A KUBE-NWPLCY-COMMON -p ${family === 'ipv4' ? 'icmp' : 'ipv6-icmp'} -j ACCEPT`,
    '-A KUBE-NWPLCY-TAIL -m mark --mark 0x20000/0x20000 -j ACCEPT',
    `-A ${policy} ${target} -j MARK --set-xmark 0x10000/0x10000`,
    `-A ${policy} ${target} -m mark --mark 0x10000/0x10000 -j RETURN`,
    ...jumps,
    ...TOP_CHAINS.flatMap(chain => [`-A KUBE-ROUTER-${chain} -j KUBE-NWPLCY-TAIL`, `-A KUBE-ROUTER-${chain} ${passed}`]),
    ...pods.flatMap(({ address, chain }) => [
      `-A ${chain} -j KUBE-NWPLCY-COMMON`,
      `-A ${chain} -d ${address} -m addrtype --src-type LOCAL -j ACCEPT`,
      `-A ${chain} -s ${address} -j KUBE-NWPLCY-DEFAULT`,
      `-A ${chain} -d ${address} -m comment --comment "run through nw policy all-pods" -j ${policy}`,
      `-A ${chain} -m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100`,
      `-A ${chain} -m mark ! --mark 0x10000/0x10000 -j REJECT`,
      `-A ${chain} -j MARK --set-xmark 0x0/0x10000`,
      `-A ${chain} -j MARK --set-xmark 0x20000/0x20000`,
    ]),
  ];
}

/** The nftables back end: base chains that accept all here, which is what these pods' policy comes to. */
function policyTable(family: Family): string {
  const table = family === 'ipv4' ? 'ip kube-router-filter-ipv4' : 'ip6 kube-router-filter-ipv6';
  return [
    `add table ${table}`,
    ...TOP_CHAINS.map(
      chain => `add chain ${table} KUBE-ROUTER-${chain} { type filter hook ${chain.toLowerCase()} priority 0 ; policy accept ; }`,
    ),
    `add chain ${table} KUBE-NWPLCY-COMMON`,
    `add rule ${table} KUBE-NWPLCY-COMMON ct state established,related accept`,
    ...TOP_CHAINS.map(chain => `add rule ${table} KUBE-ROUTER-${chain} jump KUBE-NWPLCY-COMMON`),
    '',
  ].join('\n');
}
