/** Entries as the tools print them: `iptables-save`, `ipset save`, `ipvsadm -Sn`, `ip route show`, `ip address`. */
import { withPort } from '../net/address.ts';
import type { Protocol } from '../net/port.ts';
import { prefixFamily } from '../net/prefix.ts';
import { isOverlayLink, MAIN_TABLE, ROUTE_METRIC, ROUTE_PROTOCOL, type UnicastRoute } from './routing-tables.ts';
import {
  destinationKey,
  type Forwarding,
  type IptablesEntry,
  type Listener,
  type TableName,
  type TableTypes,
  type VirtualServer,
} from './tables.ts';

/** How a hook without an order of its own stands there. */
const DEFAULT_HOOK_ORDER = 10;

const PROTOCOL_OPTION: Readonly<Record<Protocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' };
const FORWARDING_OPTION: Readonly<Record<Forwarding, string>> = { masquerade: '-m', tunnel: '-i', route: '-g' };

/** The lines of an entry. Tables that a packet does not meet have their key. */
export function kernelText<K extends TableName>(table: K, key: string, value: TableTypes[K]): readonly string[] {
  const entry = { table, value } as {
    readonly [T in TableName]: { readonly table: T; readonly value: TableTypes[T] };
  }[TableName];
  switch (entry.table) {
    case 'iptables':
      return iptablesLines(entry.value);
    case 'ipset':
      return [
        entry.value.kind === 'set'
          ? `create ${entry.value.name} ${entry.value.type} family ${entry.value.family === 'ipv6' ? 'inet6' : 'inet'}`
          : `add ${entry.value.set} ${entry.value.value}`,
      ];
    case 'virtualServer':
      return virtualServerLines(entry.value);
    case 'unicastRoute':
      return [routeLine(entry.value)];
    case 'address':
    case 'lanAddress':
      return [`${entry.value.address} dev ${entry.value.link}`];
    case 'bgpPath':
      return [`${entry.value.prefix} via ${entry.value.nextHop}`];
    case 'link':
    case 'route':
    case 'sysctl':
    case 'fouPort':
    case 'bridgePort':
    case 'markDelivery':
    case 'podTunnel':
    case 'healthPort':
    case 'rule':
    case 'cniConfig':
    case 'bgpServer':
    case 'bgpPolicy':
    case 'bgpPeer':
    case 'serviceStatus':
      return [`${table} ${key}`];
  }
}

function iptablesLines(entry: IptablesEntry): readonly string[] {
  return entry.kind === 'hook' ? [hookLine(entry)] : entry.rules.map(rule => ruleLine(entry.name, rule));
}

export function ruleLine(chain: string, rule: string): string {
  return `-A ${chain} ${rule}`;
}

export function hookLine({ from, to, order, match }: Extract<IptablesEntry, { kind: 'hook' }>): string {
  const comment = order === DEFAULT_HOOK_ORDER ? '' : `-m comment --comment fairway-${order} `;
  return ruleLine(from, `${match === '' ? '' : `${match} `}${comment}-j ${to}`);
}

export function virtualServerLines({
  listener,
  scheduler,
  schedulerFlags,
  persistenceSeconds,
  destinations,
}: VirtualServer): readonly string[] {
  const option = listenerOption(listener);
  const persistence = persistenceSeconds > 0 ? ` -p ${persistenceSeconds}` : '';
  const flags = schedulerFlags.length > 0 ? ` -b ${schedulerFlags.join(',')}` : '';
  return [
    `-A ${option} -s ${scheduler}${persistence}${flags}`,
    ...destinations.map(
      destination =>
        `-a ${option} -r ${destinationKey(destination)} ${FORWARDING_OPTION[destination.forwarding]} -w ${destination.weight}`,
    ),
  ];
}

function listenerOption(listener: Listener): string {
  return listener.by === 'address'
    ? `${PROTOCOL_OPTION[listener.protocol]} ${withPort(listener.address, listener.port)}`
    : `-f ${listener.mark}${listener.family === 'ipv6' ? ' -6' : ''}`;
}

/** `ip route show` says the table only where it is not the main one. */
export function routeLine({ table, destination, nextHops, source }: UnicastRoute): string {
  const isIpv6 = prefixFamily(destination) === 'ipv6';
  const ways = nextHops.map(({ link, gateway, vxlanRemote }) => {
    const encap = vxlanRemote === undefined ? '' : `encap ip${vxlanRemote.includes(':') ? '6' : ''} id 1 dst ${vxlanRemote} `;
    const via = gateway ?? (isIpv6 && isOverlayLink(link) ? 'fe80::1' : undefined);
    return `${encap}${via === undefined ? '' : `via ${via} `}dev ${link}`;
  });
  const [only = ''] = ways;
  const isMain = table === MAIN_TABLE;
  const first = ways.length === 1 ? ` ${only}` : '';
  const rest = ways.length === 1 ? '' : ways.map(way => ` nexthop ${way} weight 1`).join('');
  const from = source === undefined ? '' : ` src ${source}`;
  return `${destination}${first}${isMain ? '' : ` table ${table}`} proto ${ROUTE_PROTOCOL}${from}${isMain ? ` metric ${ROUTE_METRIC}` : ''}${rest}`;
}
