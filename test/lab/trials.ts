/** What a lab needs of the kernel it runs on, and the commands that show whether it is there. */

/**
 * `services`: everything, IPVS and tunnels included. `policy`: what filters packets between pods; nearly every kernel has it. `bgp`: routing without
 * tunnels, and sessions with passwords. `overlays`: tunnels of every encapsulation, and what filters.
 */
export type LabNeeds = 'services' | 'policy' | 'bgp' | 'overlays';

/** Runs in namespaces of the agent's own and vanishes with it. */
interface Trial {
  readonly shows: string;
  readonly argv: readonly string[];
  readonly input?: string;
}

function links(...lines: readonly string[]): Pick<Trial, 'argv' | 'input'> {
  return { argv: ['ip', '-batch', '-'], input: `${lines.join('\n')}\n` };
}

const TOOLS = ['iptables', 'ip6tables'] as const;

const TUNNELS: Trial = {
  shows: 'ipip and ip6tnl with GUE around them, VXLAN-GPE whose routes say where to, rules',
  ...links(
    'fou add port 5555 gue',
    'fou add port 5555 gue -6',
    'link add tunnel-4 type ipip local 10.77.0.1 remote 10.77.0.2 encap gue encap-sport auto encap-dport 5555',
    'link add tunnel-6 type ip6tnl mode ip6ip6 local fd00:77::1 remote fd00:77::2 encap gue encap-sport auto encap-dport 5555 encap-udp6-csum',
    'link add tunnel-x type vxlan external gpe dstport 4790',
    'link set tunnel-x up',
    'route add 10.77.3.0/24 encap ip id 1 dst 10.77.0.3 dev tunnel-x',
    'route add fd00:77:3::/64 encap ip6 id 1 dst fd00:77::3 dev tunnel-x',
    'rule add from 10.77.1.0/24 lookup 77',
  ),
};

const BRIDGED_LINKS: Trial = {
  shows: 'veth and bridge links with IPv6',
  ...links(
    'netns add trial',
    'link add bridge-trial type bridge',
    'link set bridge-trial up',
    'addr add fd00:77::1/64 dev bridge-trial nodad',
    'link add veth-trial type veth peer name eth0 netns trial',
    'link set veth-trial master bridge-trial up',
  ),
};

/** setsockopt(TCP_MD5SIG) with a `struct tcp_md5sig` (linux/tcp.h): an address, the length of the key, the key. */
const SET_MD5_KEY =
  'socket S, 2, 1, 6; setsockopt S, 6, 14, pack("S x2 C4 x120 C2 S L a80", 2, 10, 77, 0, 2, 0, 0, 3, 0, "key") or die "$!\\n"';

/** One command per thing the tests cannot do without. */
export const TRIALS: Readonly<Record<LabNeeds, readonly Trial[]>> = {
  services: [
    {
      shows: 'dummy, ipip, veth and bridge links with IPv6',
      ...links(
        'netns add trial',
        'link add dummy-trial type dummy',
        'link set dummy-trial up',
        'addr add fd00:77::1/64 dev dummy-trial nodad',
        'link add tunnel-trial type ipip local 10.77.0.1 remote 10.77.0.2',
        'link add bridge-trial type bridge',
        'link add veth-trial type veth peer name eth0 netns trial',
      ),
    },
    { shows: 'ip_vs for IPv4', argv: ['ipvsadm', '-A', '-t', '10.77.0.9:80', '-s', 'rr'] },
    { shows: 'ip_vs for IPv6', argv: ['ipvsadm', '-A', '-t', '[fd00:77::9]:80', '-s', 'rr'] },
    { shows: 'ipset hash:ip,port', argv: ['ipset', 'create', 'trial', 'hash:ip,port'] },
    ...TOOLS.map(tool => ({
      shows: `${tool} with nat, MASQUERADE and the ipvs match`,
      argv: `${tool} -w -t nat -A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -j MASQUERADE`.split(' '),
    })),
  ],
  overlays: [
    BRIDGED_LINKS,
    TUNNELS,
    { shows: 'iptables on bridges (br_netfilter)', argv: ['cat', '/proc/sys/net/bridge/bridge-nf-call-iptables'] },
    { shows: 'ipset hash:net', argv: ['ipset', 'create', 'trial', 'hash:net'] },
    ...TOOLS.map(tool => ({
      shows: `${tool} with nat and MASQUERADE`,
      argv: `${tool} -w -t nat -A POSTROUTING -j MASQUERADE`.split(' '),
    })),
  ],
  bgp: [
    BRIDGED_LINKS,
    {
      shows: 'routes with several next hops',
      ...links(
        'addr add 10.77.0.1/24 dev bridge-trial',
        ...[
          '10.77.8.0/24 nexthop via 10.77.0.2 nexthop via 10.77.0.3',
          'fd00:78::/64 nexthop via fd00:77::2 nexthop via fd00:77::3',
        ].map(route => `route add ${route}`),
      ),
    },
    { shows: 'TCP MD5 signatures', argv: ['perl', '-e', SET_MD5_KEY] },
    { shows: 'ipset hash:net', argv: ['ipset', 'create', 'trial', 'hash:net'] },
    ...TOOLS.map(tool => ({
      shows: `${tool} with nat and MASQUERADE`,
      argv: `${tool} -w -t nat -A POSTROUTING -j MASQUERADE`.split(' '),
    })),
  ],
  policy: [
    BRIDGED_LINKS,
    { shows: 'iptables on bridges (br_netfilter)', argv: ['cat', '/proc/sys/net/bridge/bridge-nf-call-iptables'] },
    {
      shows: 'ipset hash:ip, hash:ip,port and hash:net',
      argv: ['ipset', 'restore'],
      input: ['hash:ip', 'hash:ip,port', 'hash:net']
        .flatMap((type, index) => [
          `create trial-${index}-iptables ${type} family inet\n`,
          `create trial-${index}-ip6tables ${type} family inet6\n`,
        ])
        .join(''),
    },
    ...TOOLS.flatMap(tool =>
      [
        `-m set --match-set trial-0-${tool} src -m conntrack --ctstate NEW -m mark --mark 0x0/0x1 -j MARK --set-xmark 0x1/0x1`,
        `-m set --match-set trial-1-${tool} dst,dst -m addrtype --dst-type LOCAL -m comment --comment trial -j RETURN`,
        '-p tcp -m multiport --dports 80,443 -j REJECT --reject-with tcp-reset',
        '-m limit --limit 10/min -j NFLOG --nflog-group 100',
      ].map(rule => ({ shows: `${tool} ${rule}`, argv: [tool, '-w', '-A', 'FORWARD', ...rule.split(' ')] })),
    ),
  ],
};
