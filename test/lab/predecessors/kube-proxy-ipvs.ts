/** kube-proxy's IPVS mode (pkg/proxy/ipvs/{proxier,ipset}.go, v1.30): virtual servers, `kube-ipvs0`, sets, and rules that match on them. */
import type { LabNode } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { FAMILIES, type Family } from '../objects.ts';
import { restore } from './kube-proxy-iptables.ts';
import { servedOn, VIP } from './service.ts';

/** By type, in the order of `ipsetInfo`. */
const SETS: Readonly<Record<string, readonly string[]>> = {
  'hash:ip,port,ip': ['LOOP-BACK', 'LOAD-BALANCER-SOURCE-IP'],
  'hash:ip,port': [
    'CLUSTER-IP',
    'EXTERNAL-IP',
    'EXTERNAL-IP-LOCAL',
    'LOAD-BALANCER',
    'LOAD-BALANCER-FW',
    'LOAD-BALANCER-LOCAL',
    'NODE-PORT-SCTP-HASH',
    'NODE-PORT-LOCAL-SCTP-HASH',
  ],
  'hash:ip,port,net': ['LOAD-BALANCER-SOURCE-CIDR'],
  'hash:ip': ['IPVS-IPS'],
  'bitmap:port': ['NODE-PORT-TCP', 'NODE-PORT-LOCAL-TCP', 'NODE-PORT-UDP', 'NODE-PORT-LOCAL-UDP', 'HEALTH-CHECK-NODE-PORT'],
};

function setName(name: string, family: Family): string {
  return `KUBE-${family === 'ipv6' ? '6-' : ''}${name}`.slice(0, 31);
}

export async function ipvsModeOn(lab: Lab, node: LabNode): Promise<void> {
  const sysctls = ['net.ipv4.vs.conntrack=1', 'net.ipv4.vs.expire_nodest_conn=1', 'net.ipv4.vs.expire_quiescent_template=1'];
  await lab.expectRun(node, ['sysctl', '-w', ...sysctls, 'net.ipv4.ip_forward=1']);
  const sets = FAMILIES.flatMap(family => setLines(lab, node, family));
  await lab.expectRun(node, ['ipset', 'restore'], { input: `${sets.join('\n')}\n` });
  const servers = FAMILIES.flatMap(family => serverLines(lab, node, family));
  // Those that no Service has go, those that are there already stay as they are: so it takes over from others.
  const there = await lab.expectRun(node, ['ipvsadm', '-Sn']);
  const strange = there.split('\n').filter(line => line.startsWith('-A ') && !servers.includes(line));
  const deletions = strange.map(line => line.replace(/^-A (\S+ \S+) .*/, '-D $1'));
  await lab.run(node, ['ipvsadm', '-R'], { input: `${[...deletions, ...servers].join('\n')}\n` });
  await restore(lab, node, 'nft', family => rules(family));
  // kube-proxy leaves the link down: its addresses are the host's all the same, over IPv4.
  const links = ['link add kube-ipvs0 type dummy', 'link set kube-ipvs0 up', ...FAMILIES.map(addressLine)];
  await lab.expectRun(node, ['ip', '-batch', '-'], { input: `${links.join('\n')}\n` });
}

function addressLine(family: Family): string {
  return family === 'ipv4' ? `addr add ${VIP.ipv4}/32 dev kube-ipvs0` : `addr add ${VIP.ipv6}/128 dev kube-ipvs0 nodad`;
}

function setLines(lab: Lab, node: LabNode, family: Family): readonly string[] {
  const name = (plain: string): string => setName(plain, family);
  return [
    ...Object.entries(SETS).flatMap(([type, names]) =>
      names.map(plain =>
        type === 'bitmap:port'
          ? `create ${name(plain)} bitmap:port range 0-65535`
          : `create ${name(plain)} ${type} family ${family === 'ipv4' ? 'inet' : 'inet6'} hashsize 1024 maxelem 65536`,
      ),
    ),
    `add ${name('IPVS-IPS')} ${VIP[family]}`,
    ...servedOn(lab, node, family).flatMap(({ protocol, port, nodePort, vip, endpoints }) => [
      `add ${name('CLUSTER-IP')} ${vip},${protocol}:${port}`,
      `add ${name(`NODE-PORT-${protocol.toUpperCase()}`)} ${nodePort}`,
      ...endpoints.map(({ address }) => `add ${name('LOOP-BACK')} ${address},${protocol}:8080,${address}`),
    ]),
  ];
}

function serverLines(lab: Lab, node: LabNode, family: Family): readonly string[] {
  const bracketed = (address: string): string => (family === 'ipv4' ? address : `[${address}]`);
  return servedOn(lab, node, family).flatMap(({ protocol, port, nodePort, vip, node: own, endpoints }) =>
    [`${bracketed(vip)}:${port}`, `${bracketed(own)}:${nodePort}`, `${bracketed(node.bridge[family])}:${nodePort}`].flatMap(
      at => {
        const server = `${protocol === 'tcp' ? '-t' : '-u'} ${at}`;
        return [`-A ${server} -s rr`, ...endpoints.map(({ at: to }) => `-a ${server} -r ${to} -m -w 1`)];
      },
    ),
  );
}

function rules(family: Family): string {
  const set = (plain: string, dimensions: string): string => `-m set --match-set ${setName(plain, family)} ${dimensions}`;
  const comment = (text: string): string => `-m comment --comment "${text}"`;
  const clusterCidr = family === 'ipv4' ? '10.244.0.0/16' : 'fd00:10:244::/48';
  const clusterIp = comment('Kubernetes service cluster ip + port for masquerade purpose');
  return [
    '*filter',
    ...['FORWARD', 'NODE-PORT', 'PROXY-FIREWALL', 'SOURCE-RANGES-FIREWALL', 'IPVS-FILTER', 'IPVS-OUT-FILTER'].map(
      chain => `:KUBE-${chain} - [0:0]`,
    ),
    `-I FORWARD ${comment('kubernetes forwarding rules')} -j KUBE-FORWARD`,
    `-I INPUT ${comment('kubernetes health check rules')} -j KUBE-NODE-PORT`,
    ...['INPUT', 'FORWARD'].map(chain => `-I ${chain} ${comment('kube-proxy firewall rules')} -j KUBE-PROXY-FIREWALL`),
    `-I INPUT ${comment('kubernetes ipvs access filter')} -j KUBE-IPVS-FILTER`,
    `-I OUTPUT ${comment('kubernetes ipvs access filter')} -j KUBE-IPVS-OUT-FILTER`,
    '-A KUBE-SOURCE-RANGES-FIREWALL -j DROP',
    `-A KUBE-FORWARD ${comment('kubernetes forwarding rules')} -m mark --mark 0x4000/0x4000 -j ACCEPT`,
    `-A KUBE-FORWARD ${comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `-A KUBE-NODE-PORT ${comment('Kubernetes health check node port')} ${set('HEALTH-CHECK-NODE-PORT', 'dst')} -j ACCEPT`,
    ...['LOAD-BALANCER', 'CLUSTER-IP', 'EXTERNAL-IP', 'EXTERNAL-IP-LOCAL'].map(
      plain => `-A KUBE-IPVS-FILTER ${set(plain, 'dst,dst')} -j RETURN`,
    ),
    `-A KUBE-IPVS-FILTER ${set('HEALTH-CHECK-NODE-PORT', 'dst')} -j RETURN`,
    `-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW ${set('IPVS-IPS', 'dst')} -j REJECT`,
    'COMMIT',
    '*nat',
    ...['SERVICES', 'POSTROUTING', 'NODE-PORT', 'LOAD-BALANCER', 'MARK-MASQ'].map(chain => `:KUBE-${chain} - [0:0]`),
    ...['PREROUTING', 'OUTPUT'].map(chain => `-I ${chain} ${comment('kubernetes service portals')} -j KUBE-SERVICES`),
    `-I POSTROUTING ${comment('kubernetes postrouting rules')} -j KUBE-POSTROUTING`,
    `-A KUBE-SERVICES -s ${family === 'ipv4' ? '127.0.0.0/8' : '::1/128'} -j RETURN`,
    `-A KUBE-POSTROUTING ${comment('Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose')} ${set('LOOP-BACK', 'dst,dst,src')} -j MASQUERADE`,
    `-A KUBE-NODE-PORT -p tcp ${comment('Kubernetes nodeport TCP port for masquerade purpose')} ${set('NODE-PORT-TCP', 'dst')} -j KUBE-MARK-MASQ`,
    `-A KUBE-NODE-PORT -p udp ${comment('Kubernetes nodeport UDP port for masquerade purpose')} ${set('NODE-PORT-UDP', 'dst')} -j KUBE-MARK-MASQ`,
    `-A KUBE-SERVICES ! -s ${clusterCidr} ${clusterIp} ${set('CLUSTER-IP', 'dst,dst')} -j KUBE-MARK-MASQ`,
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    '-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ',
    `-A KUBE-SERVICES ${set('CLUSTER-IP', 'dst,dst')} -j ACCEPT`,
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    `-A KUBE-POSTROUTING ${comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully`,
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    'COMMIT',
    '',
  ].join('\n');
}
