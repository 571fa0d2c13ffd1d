/** kube-proxy's iptables mode as `iptables-save` shows it (pkg/proxy/iptables/proxier.go, v1.30), and what the kubelet has beside it (pkg/kubelet/kubelet_network_linux.go). */
import type { LabNode } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { FAMILIES, type Family } from '../objects.ts';
import { digits, type Served, servedOn } from './service.ts';

const FLAVOURS = ['nft', 'legacy'] as const;

/** Restores text for each family on top of what is there. */
export async function restore(
  lab: Lab,
  node: LabNode,
  flavour: (typeof FLAVOURS)[number],
  textOf: (family: Family) => string,
): Promise<void> {
  for (const family of FAMILIES) {
    const tool = `${family === 'ipv4' ? 'iptables' : 'ip6tables'}-${flavour}-restore`;
    await lab.expectRun(node, [tool, '--noflush'], { input: textOf(family) });
  }
}

/** Chains that a node without kube-proxy has as well. */
export async function kubeletOn(lab: Lab, node: LabNode): Promise<void> {
  await restore(lab, node, 'nft', family =>
    [
      '*mangle',
      ':KUBE-IPTABLES-HINT - [0:0]',
      ':KUBE-KUBELET-CANARY - [0:0]',
      'COMMIT',
      '*nat',
      ':KUBE-KUBELET-CANARY - [0:0]',
      'COMMIT',
      '*filter',
      ':KUBE-FIREWALL - [0:0]',
      ':KUBE-KUBELET-CANARY - [0:0]',
      '-A INPUT -j KUBE-FIREWALL',
      '-A OUTPUT -j KUBE-FIREWALL',
      ...(family === 'ipv4'
        ? [
            '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
          ]
        : []),
      'COMMIT',
      '',
    ].join('\n'),
  );
}

const MASQUERADING: readonly string[] = [
  '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
  '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
  '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
  '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
];

export async function iptablesModeOn(lab: Lab, node: LabNode, flavour: (typeof FLAVOURS)[number]): Promise<void> {
  await restore(lab, node, flavour, family => {
    const served = servedOn(lab, node, family);
    return ['*mangle', ':KUBE-PROXY-CANARY - [0:0]', 'COMMIT', ...filterTable(), ...natTable(served), ''].join('\n');
  });
}

function filterTable(): readonly string[] {
  const isNew = '-m conntrack --ctstate NEW -m comment --comment';
  return [
    '*filter',
    ...['EXTERNAL-SERVICES', 'FORWARD', 'NODEPORTS', 'PROXY-CANARY', 'PROXY-FIREWALL', 'SERVICES'].map(
      chain => `:KUBE-${chain} - [0:0]`,
    ),
    ...['INPUT', 'OUTPUT', 'FORWARD'].map(
      chain => `-I ${chain} ${isNew} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`,
    ),
    '-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    ...['OUTPUT', 'FORWARD'].map(chain => `-I ${chain} ${isNew} "kubernetes service portals" -j KUBE-SERVICES`),
    '-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
    ...['INPUT', 'FORWARD'].map(
      chain => `-I ${chain} ${isNew} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`,
    ),
    '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    'COMMIT',
  ];
}

function natTable(served: readonly Served[]): readonly string[] {
  const names = served.map(one => namesOf(one));
  const chains = ['SERVICES', 'NODEPORTS', 'POSTROUTING', 'MARK-MASQ', 'PROXY-CANARY'].map(chain => `KUBE-${chain}`);
  return [
    '*nat',
    ...[...chains, ...names.flatMap(({ service, external, endpoints }) => [service, external, ...endpoints])].map(
      chain => `:${chain} - [0:0]`,
    ),
    ...['PREROUTING', 'OUTPUT'].map(chain => `-I ${chain} -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`),
    '-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ...MASQUERADING,
    ...served.flatMap((one, index) => serviceRules(one, names[index] ?? namesOf(one))),
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    'COMMIT',
  ];
}

interface Names {
  readonly service: string;
  readonly external: string;
  readonly endpoints: readonly string[];
}

function namesOf({ title, protocol, endpoints }: Served): Names {
  return {
    service: `KUBE-SVC-${digits(title + protocol)}`,
    external: `KUBE-EXT-${digits(title + protocol)}`,
    endpoints: endpoints.map(({ at }) => `KUBE-SEP-${digits(title + protocol + at)}`),
  };
}

function serviceRules(served: Served, names: Names): readonly string[] {
  const { title, protocol, port, nodePort, vipPrefix, clusterCidr, endpoints } = served;
  const to = `-p ${protocol} -m comment --comment "${title} cluster IP" -m ${protocol} --dport ${port}`;
  return [
    `-A KUBE-NODEPORTS -p ${protocol} -m comment --comment "${title}" -m ${protocol} --dport ${nodePort} -j ${names.external}`,
    `-A KUBE-SERVICES -d ${vipPrefix} ${to} -j ${names.service}`,
    `-A ${names.external} -m comment --comment "masquerade traffic for ${title} external destinations" -j KUBE-MARK-MASQ`,
    `-A ${names.external} -j ${names.service}`,
    `-A ${names.service} ! -s ${clusterCidr} -d ${vipPrefix} ${to} -j KUBE-MARK-MASQ`,
    ...endpoints.flatMap(({ prefix, at }, index) => {
      const chain = names.endpoints[index] ?? '';
      const share =
        index + 1 < endpoints.length ? `-m statistic --mode random --probability ${1 / (endpoints.length - index)} ` : '';
      return [
        `-A ${names.service} -m comment --comment "${title} -> ${at}" ${share}-j ${chain}`,
        `-A ${chain} -s ${prefix} -m comment --comment "${title}" -j KUBE-MARK-MASQ`,
        `-A ${chain} -p ${protocol} -m comment --comment "${title}" -m ${protocol} -j DNAT --to-destination ${at}`,
      ];
    }),
  ];
}
