/**
 * Entries as lines for people, in the words that the tools use themselves: ipvsadm-save(8), iptables-save(8), ipset save, ip(8), sysctl(8). Pure
 * text for `plan`; what the tools are given is the drivers' to render.
 */
import { familyOf, HOST_BITS } from '../net/address.ts';
import { markText } from '../net/marks.ts';
import { hookLine, routeLine, ruleLine, virtualServerLines } from './kernel-text.ts';
import type { Link } from './link.ts';
import type { BgpPeer, BgpPolicy, BgpStatement, CniConfig } from './routing-tables.ts';
import { MARK_DELIVERY_PRIORITY } from './service-tables.ts';
import type { IpSetEntry, IptablesEntry, TableName, TableTypes } from './tables.ts';

type Lines<T> = (entry: T) => readonly string[];

/** At least one line; more where an entry has parts that change by themselves: rules of a chain, destinations of a virtual server. */
export function entryLines<K extends TableName>(table: K, entry: TableTypes[K]): readonly string[] {
  return LINES[table](entry);
}

const LINES: { readonly [K in TableName]: Lines<TableTypes[K]> } = {
  sysctl: ({ path, value }) => [`${path} = ${value}`],
  fouPort: ({ family, port }) => [`fou port ${port} gue ${family}`],
  link: link => [linkLine(link)],
  bridgePort: ({ link, bridge }) => [`link ${link} master ${bridge} hairpin on`],
  address: ({ link, address }) => [`address ${address}/${HOST_BITS[familyOf(address)]} dev ${link}`],
  route: ({ destination, link, source }) => [
    `route local ${destination} dev ${link} table local${source === undefined ? '' : ` src ${source}`}`,
  ],
  markDelivery: ({ family, mark, table }) => [
    `rule fwmark ${markText(mark, mark)} lookup ${table} priority ${MARK_DELIVERY_PRIORITY} (${family})`,
  ],
  ipset: entry => [setLine(entry)],
  iptables: ruleLines,
  podTunnel: ({ pod, vip }) => [`in the pod ${pod}: address ${vip} dev kube-tunnel-if`],
  virtualServer: server => virtualServerLines(server).map(line => `ipvsadm ${line}`),
  healthPort: ({ port, namespace, name, localEndpoints }) => [
    `listen on :${port} for ${namespace}/${name}: ${localEndpoints} ready endpoints here`,
  ],
  unicastRoute: route =>
    route.nextHops.length === 0 ? [`route ${route.destination} (somebody else's)`] : [`route ${routeLine(route)}`],
  rule: ({ from, table }) => [`rule from ${from} lookup ${table}`],
  cniConfig: config => [cniLine(config)],
  bgpServer: ({ asn, routerId, port, listenAddresses }) => [
    `bgp as ${asn} router-id ${routerId} port ${port} listen ${listenAddresses.join(',') || 'nowhere'}`,
  ],
  bgpPolicy: policyLines,
  bgpPath: ({ prefix, nextHop, audience }) => [
    `path ${prefix} nexthop ${nextHop} for ${audience === 'everyone' ? 'nodes and fabric' : 'the fabric'}`,
  ],
  bgpPeer: peer => [peerLine(peer)],
  lanAddress: ({ link, address }) => [`answer for ${address} on ${link}`],
  serviceStatus: ({ namespace, name, addresses }) => [`status of ${namespace}/${name}: ${addresses.join(' ') || 'no address'}`],
};

function linkLine(link: Link): string {
  switch (link.type) {
    case 'dummy':
      return `link ${link.name} type dummy`;
    case 'bridge':
      return `link ${link.name} type bridge${link.mtu === undefined ? '' : ` mtu ${link.mtu}`}`;
    case 'ipip':
    case 'ip6tnl': {
      const gue = link.guePort === undefined ? '' : ` encap gue encap-dport ${link.guePort}`;
      return `link ${link.name} type ${link.type} local ${link.local} remote ${link.remote}${gue} mtu ${link.mtu}`;
    }
    case 'vxlan':
      return `link ${link.name} type vxlan external gpe dstport ${link.port} mtu ${link.mtu}`;
  }
}

function setLine(entry: IpSetEntry): string {
  if (entry.kind === 'element') return `add ${entry.set} ${entry.value}`;
  const family = entry.family === 'ipv4' ? 'inet' : 'inet6';
  return `create ${entry.name} ${entry.type} family ${family} maxelem ${entry.maxElements}${entry.carriesMarks === true ? ' skbinfo' : ''}`;
}

/** A chain begins with its declaration, so that an empty one shows too. */
function ruleLines(entry: IptablesEntry): readonly string[] {
  const tool = `${entry.family === 'ipv4' ? 'iptables' : 'ip6tables'} -t ${entry.table}`;
  if (entry.kind === 'hook') return [`${tool} ${hookLine(entry)}`];
  return [`${tool} -N ${entry.name}`, ...entry.rules.map(rule => `${tool} ${ruleLine(entry.name, rule)}`)];
}

function cniLine({ path, podCIDRs, mtu }: CniConfig): string {
  return `${path}: ranges ${podCIDRs.join(', ') || 'none'}${mtu === undefined ? '' : `, mtu ${mtu}`}`;
}

function policyLines({ direction, statements, otherwise }: BgpPolicy): readonly string[] {
  return [...statements.map(statement => `${direction} ${statementText(statement)}`), `${direction} otherwise ${otherwise}`];
}

function statementText({ neighbors, prefixes, origin, audience, verdict, actions }: BgpStatement): string {
  const ranges = prefixes?.map(({ prefix, minLength, maxLength }) => `${prefix} ${minLength}..${maxLength}`);
  const conditions = [
    neighbors === undefined ? '' : ` neighbor ${neighbors.join(',')}`,
    ranges === undefined ? '' : ` prefix ${ranges.join(',')}`,
    origin === undefined ? '' : ` origin ${origin}`,
    audience === undefined ? '' : ` audience ${audience}`,
  ];
  const { setCommunities, prepend, nextHopSelf } = actions;
  const done = [
    setCommunities === undefined ? '' : ` community ${setCommunities.join(',') || 'none'}`,
    prepend === undefined ? '' : ` prepend ${prepend.asn} ${prepend.times}`,
    nextHopSelf ? ' nexthop self' : '',
  ];
  return `${conditions.join('')} ${verdict}${done.join('')}`.trim();
}

/** Without the password: only whether there is one. */
function peerLine(peer: BgpPeer): string {
  const remarks = [
    peer.localAddress === undefined ? '' : ` local ${peer.localAddress}`,
    peer.password.isEmpty ? '' : ' password (set)',
    peer.multihopTtl === 0 ? '' : ` multihop ${peer.multihopTtl}`,
    peer.gracefulRestart === undefined ? '' : ` graceful-restart ${peer.gracefulRestart.restartSeconds} s`,
    peer.reflectorClusterId === undefined ? '' : ` client of cluster ${peer.reflectorClusterId}`,
  ];
  return `neighbor ${peer.address} as ${peer.asn} port ${peer.port} hold ${peer.holdSeconds} s ${peer.families.join(',')}${remarks.join('')}`;
}
