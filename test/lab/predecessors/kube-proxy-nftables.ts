/** kube-proxy's nftables mode: a table of its own in each family (pkg/proxy/nftables/proxier.go, v1.34; `baseRules` of its test). */
import type { LabNode } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { FAMILIES, type Family } from '../objects.ts';
import { digits, type Served, servedOn } from './service.ts';

export async function nftablesModeOn(lab: Lab, node: LabNode): Promise<void> {
  const lines = FAMILIES.flatMap(family => tableOf(servedOn(lab, node, family), family));
  await lab.expectRun(node, ['nft', '-f', '-'], { input: `${lines.join('\n')}\n` });
}

/** Base chains with their type, hook and priority. */
const BASE_CHAINS: readonly (readonly [string, string])[] = [
  ['filter-prerouting-pre-dnat', 'type filter hook prerouting priority -110'],
  ['filter-output-pre-dnat', 'type filter hook output priority -110'],
  ['filter-forward', 'type filter hook forward priority 0'],
  ['filter-input', 'type filter hook input priority 0'],
  ['filter-output', 'type filter hook output priority 0'],
  ['nat-output', 'type nat hook output priority -100'],
  ['nat-postrouting', 'type nat hook postrouting priority 100'],
  ['nat-prerouting', 'type nat hook prerouting priority -100'],
];

const CHAINS: readonly string[] = [
  'cluster-ips-check',
  'firewall-check',
  'mark-for-masquerade',
  'masquerading',
  'nodeport-endpoints-check',
  'reject-chain',
  'services',
  'service-endpoints-check',
];

function tableOf(served: readonly Served[], family: Family): readonly string[] {
  const ip = family === 'ipv4' ? 'ip' : 'ip6';
  const address = family === 'ipv4' ? 'ipv4_addr' : 'ipv6_addr';
  const range = family === 'ipv4' ? '10.96.0.0/16' : 'fd00:10:96::/112';
  const table = `${ip} kube-proxy`;
  const rule = (chain: string, text: string): string => `add rule ${table} ${chain} ${text}`;
  const map = (name: string, key: string): string => `add map ${table} ${name} { type ${key} : verdict ; }`;
  const [{ vip, node } = { vip: '', node: '' }] = served;
  return [
    `add table ${table} { comment "rules for kube-proxy" ; }`,
    `add set ${table} cluster-ips { type ${address} ; comment "Active ClusterIPs" ; }`,
    `add set ${table} nodeport-ips { type ${address} ; comment "IPs that accept NodePort traffic" ; }`,
    ...['firewall-ips', 'no-endpoint-services', 'service-ips'].map(name => map(name, `${address} . inet_proto . inet_service`)),
    ...['no-endpoint-nodeports', 'service-nodeports'].map(name => map(name, 'inet_proto . inet_service')),
    ...BASE_CHAINS.map(([name, hook]) => `add chain ${table} ${name} { ${hook} ; }`),
    ...CHAINS.map(name => `add chain ${table} ${name}`),
    rule('cluster-ips-check', `${ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"`),
    rule('cluster-ips-check', `${ip} daddr { ${range} } drop comment "Drop traffic to unallocated ClusterIPs"`),
    rule('filter-prerouting-pre-dnat', 'ct state new jump firewall-check'),
    rule('filter-output-pre-dnat', 'ct state new jump firewall-check'),
    ...['filter-forward', 'filter-input', 'filter-output'].map(name => rule(name, 'ct state new jump service-endpoints-check')),
    rule('filter-input', 'ct state new jump nodeport-endpoints-check'),
    ...['filter-forward', 'filter-output'].map(name => rule(name, 'ct state new jump cluster-ips-check')),
    rule('firewall-check', `${ip} daddr . meta l4proto . th dport vmap @firewall-ips`),
    rule('mark-for-masquerade', 'mark set mark or 0x4000'),
    rule('masquerading', 'mark and 0x4000 == 0 return'),
    rule('masquerading', 'mark set mark xor 0x4000'),
    rule('masquerading', 'masquerade fully-random'),
    rule('nat-output', 'jump services'),
    rule('nat-prerouting', 'jump services'),
    rule('nat-postrouting', 'jump masquerading'),
    rule('nodeport-endpoints-check', `${ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports`),
    rule('reject-chain', 'reject'),
    rule('services', `${ip} daddr . meta l4proto . th dport vmap @service-ips`),
    rule('services', `${ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports`),
    rule('service-endpoints-check', `${ip} daddr . meta l4proto . th dport vmap @no-endpoint-services`),
    `add element ${table} nodeport-ips { ${node} }`,
    `add element ${table} cluster-ips { ${vip} }`,
    ...served.flatMap(one => serviceLines(one, table, ip)),
  ];
}

function serviceLines(served: Served, table: string, ip: string): readonly string[] {
  const { title, protocol, port, nodePort, vip, clusterCidr, endpoints } = served;
  const path = title.replace(':', `/${protocol}/`);
  const service = `service-${digits(title + protocol, 8)}-${path}`;
  const external = `external-${digits(title + protocol, 8)}-${path}`;
  const chains = endpoints.map(
    ({ address, at }) => `endpoint-${digits(title + protocol + at, 8)}-${path}__${address.replaceAll(':', '.')}/8080`,
  );
  return [
    ...[service, external, ...chains].map(name => `add chain ${table} ${name}`),
    ...endpoints.flatMap(({ address, at }, index) => [
      `add rule ${table} ${chains[index]} ${ip} saddr ${address} jump mark-for-masquerade`,
      `add rule ${table} ${chains[index]} meta l4proto ${protocol} dnat to ${at}`,
    ]),
    `add rule ${table} ${service} ${ip} daddr ${vip} ${ip} saddr != ${clusterCidr} jump mark-for-masquerade`,
    `add rule ${table} ${service} numgen random mod ${chains.length} vmap { ${chains.map((name, index) => `${index} : goto ${name}`).join(' , ')} }`,
    `add rule ${table} ${external} jump mark-for-masquerade`,
    `add rule ${table} ${external} goto ${service}`,
    `add element ${table} service-ips { ${vip} . ${protocol} . ${port} : goto ${service} }`,
    `add element ${table} service-nodeports { ${protocol} . ${nodePort} : goto ${external} }`,
  ];
}
