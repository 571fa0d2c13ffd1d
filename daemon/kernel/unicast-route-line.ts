/** Routes as `ip -o -N route show` prints them and as `ip route` takes them. */
import { type IpAddress, parseAddress } from '../net/address.ts';
import { hostPrefix, type IpPrefix, parsePrefix, prefixFamily } from '../net/prefix.ts';
import {
  isOverlayLink,
  MAIN_TABLE,
  type NextHop,
  nextHopKey,
  ROUTE_METRIC,
  ROUTE_PROTOCOL,
  type UnicastRoute,
} from '../reconcile/routing-tables.ts';

/** What an IPv6 route has that asks for none. */
const KERNEL_METRIC = { ipv4: 0, ipv6: 1024 } as const;

/** The VXLAN network identifier (RFC 7348) of all nodes. */
const VXLAN_ID = 1;

/**
 * The gateway of IPv6 routes by our links to other nodes. No one has it: these links ask for no neighbour. Without one the kernel remembers a
 * neighbour for each address of a pod that is sent to, and takes no second next hop into the route ("Device only routes can not be added").
 */
const OVERLAY_GATEWAY = 'fe80::1';

/** A unicast route as it is printed. */
export interface ShownRoute {
  readonly destination: IpPrefix;
  /** A number; undefined where the line does not tell (the main one). */
  readonly table: number | undefined;
  /** A number; undefined where it was asked for or is that of ip itself (`boot`). */
  readonly protocol: number | undefined;
  readonly metric: number;
  readonly source: IpAddress | undefined;
  /** Sorted, as in {@link UnicastRoute}. */
  readonly nextHops: readonly NextHop[];
}

/**
 * The route of a line of `ip -o -N route show`, undefined where it is of another type:
 * `10.1.0.0/24 via 192.168.1.2 dev eth0 src 192.168.1.1 metric 32070`,
 * `fd00:2::/64 metric 32070 pref medium\	nexthop via fd00:192::2 dev eth0 weight 1 \	nexthop via fd00:192::3 dev eth0 weight 1`,
 * `10.2.0.0/24  encap ip id 1 src 0.0.0.0 dst 192.168.1.2 ttl 0 tos 0 dev fairway-vxlan metric 32070`.
 */
export function shownRouteOf(line: string): ShownRoute | undefined {
  const end = line.indexOf(' ');
  const destination = destinationOf(line.slice(0, end), line);
  if (destination === undefined) return undefined;
  const [whole = '', ...hops] = line.slice(end).split('nexthop');
  const { rest, remote } = withoutEncap(whole);
  const words = wordsOf(rest);
  const nextHops = hops.length === 0 ? [nextHopOf(words, remote)] : hops.map(readNextHop);
  return {
    destination,
    table: numberOf(words.get('table')),
    protocol: numberOf(words.get('proto')),
    metric: numberOf(words.get('metric')) ?? 0,
    source: parseAddress(words.get('src') ?? ''),
    nextHops: nextHops.length === 1 ? nextHops : nextHops.sort((one, other) => (nextHopKey(one) < nextHopKey(other) ? -1 : 1)),
  };
}

/** Whether a route of our protocol has the metric that we give. */
export function hasOurMetric({ table, destination }: UnicastRoute, metric: number): boolean {
  return metric === (table === MAIN_TABLE ? ROUTE_METRIC : KERNEL_METRIC[prefixFamily(destination)]);
}

/** What `ip route add` and `replace` take. */
export function routeText(route: UnicastRoute): string {
  const { destination, table, source, nextHops } = route;
  const metric = table === MAIN_TABLE ? ` metric ${ROUTE_METRIC}` : '';
  const src = source === undefined ? '' : ` src ${source}`;
  const hops = nextHops.map(hop => hopText(hop, destination));
  const ways = hops.length === 1 ? ` ${hops.join('')}` : hops.map(hop => ` nexthop ${hop}`).join('');
  return `${destination} table ${table} proto ${ROUTE_PROTOCOL}${metric}${src}${ways}`;
}

/**
 * No `onlink`: a gateway that is on no network of the link is a mistake that the kernel tells. Over IPv6 the kernel takes no UDP packet without a
 * checksum (RFC 8200, 8.1), so that VXLAN has one there.
 */
function hopText({ link, gateway, vxlanRemote }: NextHop, destination: IpPrefix): string {
  const isIpv6 = prefixFamily(destination) === 'ipv6';
  const encap =
    vxlanRemote === undefined
      ? ''
      : vxlanRemote.includes(':')
        ? `encap ip6 id ${VXLAN_ID} dst ${vxlanRemote} csum `
        : `encap ip id ${VXLAN_ID} dst ${vxlanRemote} `;
  const via = gateway ?? (isIpv6 && isOverlayLink(link) ? OVERLAY_GATEWAY : undefined);
  return `${encap}${via === undefined ? '' : `via ${via} `}dev ${link}`;
}

function destinationOf(text: string, line: string): IpPrefix | undefined {
  if (text.includes('/')) return parsePrefix(text);
  if (text === 'default') return parsePrefix(line.includes(' pref ') ? '::/0' : '0.0.0.0/0');
  const address = parseAddress(text);
  return address === undefined ? undefined : hostPrefix(address);
}

function readNextHop(text: string): NextHop {
  const { rest, remote } = withoutEncap(text);
  return nextHopOf(wordsOf(rest), remote);
}

function nextHopOf(words: ReadonlyMap<string, string>, vxlanRemote: IpAddress | undefined): NextHop {
  const link = words.get('dev') ?? '';
  const gateway = parseAddress(words.get('via') ?? '');
  return { link, gateway: gateway === OVERLAY_GATEWAY && isOverlayLink(link) ? undefined : gateway, vxlanRemote };
}

/** An encapsulation that is not as we make it has no remote for us, which makes the route another one. */
function withoutEncap(text: string): { readonly rest: string; readonly remote: IpAddress | undefined } {
  if (!text.includes(' encap ')) return { rest: text, remote: undefined };
  const [whole = '', kind, id, remote = '', flags = ''] = ENCAP.exec(text) ?? [];
  const isOurs = Number(id) === VXLAN_ID && flags.trim() === (kind === 'ip6' ? 'csum' : '');
  return { rest: text.replace(whole, ' '), remote: isOurs ? parseAddress(remote) : undefined };
}

const ENCAP =
  / encap (ip6?) id ([0-9]+) src \S+ dst (\S+) (?:ttl|hoplimit) [0-9]+ (?:tos|tc) [0-9]+((?: (?:key|csum|seq))*)(?= |$)/;

/** Each word that has a value, with it. */
function wordsOf(text: string): ReadonlyMap<string, string> {
  const words = new Map<string, string>();
  const parts = text.split(' ');
  for (let index = 0; index < parts.length - 1; index++) {
    const part = parts[index];
    if (part !== undefined && VALUED.has(part)) words.set(part, parts[++index] ?? '');
  }
  return words;
}

const VALUED: ReadonlySet<string> = new Set(['via', 'dev', 'src', 'metric', 'proto', 'table']);

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^[0-9]+$/.test(text) ? undefined : Number(text);
}
