/**
 * What kube-router v2 leaves on a node when it is stopped, by its source (pkg/controllers/{netpol,proxy,routing}, pkg/routes, pkg/tunnels). Its own
 * --cleanup-config misses most of it, and destroys the sets of others.
 *
 * Some of it has the names of ours, and is ours where a module of ours is at work that uses it: `kube-dummy-if` with its addresses, IPVS, the
 * sets named kube-router-*, tunnels, routes and rules. The daemon has taken these over in place.
 *
 * The CNI file stays: pods are made by it. So do sysctls, and the names of routing tables in rt_tables, which are only names.
 */
import { createHash } from 'node:crypto';
import type { IpAddress } from '../net/address.ts';
import type { Ours, SavedRule, Traces } from './traces.ts';

const CHAINS: Readonly<Record<string, RegExp>> = {
  filter:
    /^(KUBE-ROUTER-(INPUT|FORWARD|OUTPUT|SERVICES)|KUBE-POD-FW-[A-Z2-7]{16}|KUBE-NWPLCY-(DEFAULT|COMMON|TAIL|[A-Z2-7]{16}))$/,
  nat: /^KUBE-ROUTER-HAIRPIN$/,
};

/** Rules in built-in chains by table and chain, as `iptables-save` prints them. */
const RULES: Readonly<Record<string, readonly RegExp[]>> = {
  'filter FORWARD': [
    /^-i kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT$/,
    /^-o kube-bridge -m comment --comment "allow inbound traffic to pods" -j ACCEPT$/,
    /^-o \S+ -m comment --comment "allow outbound node port traffic on node interface with which node ip is associated" -j ACCEPT$/,
  ],
  'nat POSTROUTING': [
    // Pod egress; older versions without the set of nodes.
    /^-m set --match-set (inet6:)?kube-router-pod-subnets src -m set ! --match-set (inet6:)?kube-router-pod-subnets dst( -m set ! --match-set (inet6:)?kube-router-node-ips dst)? -j MASQUERADE( --random-fully)?$/,
    // What IPVS sends on, per pod CIDR, or with --masquerade-all. The comment is empty.
    /^(! -s \S+ ! -d \S+ )?-m ipvs (--ipvs )?--vdir ORIGINAL --vmethod MASQ( -m comment --comment "")? (! -s \S+ ! -d \S+ )?-j SNAT --to-source \S+( --random-fully)?$/,
  ],
  'mangle PREROUTING': [
    // Direct server return: two IP headers must fit.
    /^-s \S+ -i kube-bridge -p tcp -m tcp --sport [0-9]+ --tcp-flags SYN,RST SYN -j TCPMSS --set-mss [0-9]+$/,
  ],
};

/** A packet to a virtual address of direct server return is given the mark of its virtual service. */
const MARK_RULE = /^-d \S+ -p \S+ -m \S+ --dport [0-9]+ -j MARK --set-xmark (0x[0-9a-f]+)\/0xffffffff$/;

function isRule({ table, chain, text }: SavedRule, marks: ReadonlySet<number>): boolean {
  if (RULES[`${table} ${chain}`]?.some(pattern => pattern.test(text)) === true) return true;
  if (table !== 'mangle' || (chain !== 'PREROUTING' && chain !== 'OUTPUT')) return false;
  const [, mark] = MARK_RULE.exec(text) ?? [];
  return mark !== undefined && marks.has(Number(mark));
}

export const KUBE_ROUTER: Traces = {
  of: 'kube-router',
  isChain: (table, name) => CHAINS[table]?.test(name) === true,
  lent: new Map(),
  isRule,
  // One for each policy or rule; TMP-* are left where it was killed while it filled them.
  isSet: name => /^(inet6:)?(KUBE-(SRC|DST)-[A-Z2-7]{16}|TMP-[A-Z2-7]{16,})$/.test(name),
  nftTables: ['ip kube-router-filter-ipv4', 'ip6 kube-router-filter-ipv6'],
  dummy: 'kube-dummy-if',
  healthPort: 20_244,
};

/** Sets with names of kube-router's that a module of ours uses too. */
const SHARED_SETS: Readonly<Record<keyof Ours, readonly string[]>> = {
  services: ['kube-router-svip', 'kube-router-svip-prt', 'kube-router-local-ips'],
  policy: ['kube-router-local-pods'],
  routing: ['kube-router-pod-subnets', 'kube-router-node-ips'],
};

/** Whether a set has a name that both use and is not ours. */
export function isSharedSetOfTheirs(name: string, ours: Ours): boolean {
  const plain = name.replace(/^inet6:/, '');
  return (['services', 'policy', 'routing'] as const).some(module => !ours[module] && SHARED_SETS[module].includes(plain));
}

/** Its name of the tunnel to a node: the digest of the address without what is between its digits. */
export function kubeRoutersTunnel(remote: IpAddress): string {
  return `tun-${createHash('sha256').update(remote.replaceAll(/[.:]/g, '')).digest('hex').slice(0, 11)}`;
}

/** Rules of `ip -N rule show` (ip-rule(8)) that are kube-router's alone: delivery by mark without a mask, and the table of external addresses. */
export function markOfRule(line: string): number | undefined {
  const [, mark] = /^32764:\s+from all fwmark (0x[0-9a-f]+) lookup 78\b/.exec(line) ?? [];
  return mark === undefined ? undefined : Number(mark);
}

export function isExternalAddressRule(line: string): boolean {
  return /^32765:\s+from all lookup 79\b/.test(line);
}
