/**
 * Entries as lines for people, in the words that the tools use themselves: ipvsadm-save(8), iptables-save(8), ipset save, ip(8), sysctl(8). Pure
 * text for `plan`, `why` and `status`; what the tools are given is the drivers' to render.
 */
import { familyOf, HOST_BITS, withPort } from '../net/address.ts';
import { markText } from '../net/marks.ts';
import type { Link } from './link.ts';
import {
  type BgpPeer,
  type BgpPolicy,
  type BgpStatement,
  type CniConfig,
  MAIN_TABLE,
  type NextHop,
  type UnicastRoute,
} from './routing-tables.ts';
import { MARK_DELIVERY_PRIORITY } from './service-tables.ts';
import {
  destinationKey,
  type Forwarding,
  type IpSetEntry,
  type IptablesEntry,
  type Listener,
  type TableName,
  type TableTypes,
  type VirtualServer,
} from './tables.ts';

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
  virtualServer: virtualServerLines,
  healthPort: ({ port, namespace, name, localEndpoints }) => [
    `listen on :${port} for ${namespace}/${name}: ${localEndpoints} ready endpoints here`,
  ],
  unicastRoute: routeLines,
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
  if (entry.kind === 'hook') return [`${tool} -A ${entry.from} ${entry.match === '' ? '' : `${entry.match} `}-j ${entry.to}`];
  return [`${tool} -N ${entry.name}`, ...entry.rules.map(rule => `${tool} -A ${entry.name} ${rule}`)];
}

const SERVICE_OPTION = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' } as const;
const FORWARDING_OPTION: Readonly<Record<Forwarding, string>> = { masquerade: '-m', tunnel: '-i', route: '-g' };

function virtualServerLines({
  listener,
  scheduler,
  schedulerFlags,
  persistenceSeconds,
  destinations,
}: VirtualServer): readonly string[] {
  const service = listenerOption(listener);
  const persistence = persistenceSeconds > 0 ? ` -p ${persistenceSeconds}` : '';
  const flags = schedulerFlags.length > 0 ? ` -b ${schedulerFlags.join(',')}` : '';
  return [
    `ipvsadm -A ${service} -s ${scheduler}${persistence}${flags}`,
    ...destinations.map(
      destination =>
        `ipvsadm -a ${service} -r ${destinationKey(destination)} ${FORWARDING_OPTION[destination.forwarding]} -w ${destination.weight}`,
    ),
  ];
}

function listenerOption(listener: Listener): string {
  return listener.by === 'address'
    ? `${SERVICE_OPTION[listener.protocol]} ${withPort(listener.address, listener.port)}`
    : `-f ${listener.mark}${listener.family === 'ipv6' ? ' -6' : ''}`;
}

function routeLines({ table, destination, nextHops, source }: UnicastRoute): readonly string[] {
  const where = `${table === MAIN_TABLE ? '' : ` table ${table}`}${source === undefined ? '' : ` src ${source}`}`;
  return nextHops.length === 0
    ? [`route ${destination}${where} (somebody else's)`]
    : nextHops.map(hop => `route ${destination}${hopText(hop)}${where} proto 17`);
}

function hopText({ link, gateway, vxlanRemote }: NextHop): string {
  const encapsulation = vxlanRemote === undefined ? '' : ` encap ip id 1 dst ${vxlanRemote}`;
  return `${encapsulation}${gateway === undefined ? '' : ` via ${gateway}`} dev ${link}`;
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
