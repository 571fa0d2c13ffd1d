/** What `ip` is told and tells about addresses that this node answers for on the local network: ip-address(8), ip-neighbour(8). */
import { familyOf, HOST_BITS, type IpAddress, parseAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import type { LanAddress } from '../reconcile/service-tables.ts';

/** Prefix length of the twin that an IPv4 address has for the moment of its announcement. */
export const ANNOUNCING_BITS = 31;

/** An address as it stands on a link. */
export interface AddressOnLink {
  readonly address: IpAddress;
  /**
   * `held`: a host address in use, or whose uniqueness is being tested. `duplicate`: another host answered the test (RFC 4862, 5.4), it is in nobody's
   * use here. `twin`: left of an announcement that was cut short. `other`: of a prefix length that we never give.
   */
  readonly state: 'held' | 'tentative' | 'duplicate' | 'twin' | 'other';
}

/**
 * IPv4 ones have global scope: the kernel then puts them behind the host's own, so that nobody who takes the first address of the link (kubelet for
 * the Node, routes that name no source) gets one of these. IPv6 ones are deprecated to the same end; without `nodad`, so that a former owner who is
 * still there is noticed, and the kernel announces the address when he is not.
 */
export function additionLines({ address, link }: LanAddress): readonly string[] {
  const how = familyOf(address) === 'ipv4' ? '' : ' preferred_lft 0 noprefixroute';
  return [`addr add ${hostPrefix(address)} dev ${link}${how}`];
}

export function removalLines({ address, link }: LanAddress): readonly string[] {
  return [`addr del ${hostPrefix(address)} dev ${link}`];
}

export function twinRemovalLines({ address, link }: LanAddress): readonly string[] {
  return [`addr del ${address}/${ANNOUNCING_BITS} dev ${link}`];
}

/**
 * One ARP announcement (RFC 5227, 2.3): a broadcast request for the address by the address itself. The kernel sends a request at once when an entry
 * without an answer is to be used (NTF_USE), and names as sender the first address of the link that has the target in its subnet; that is the host's own
 * where it is in the same one. Hence the twin: link scope goes to the head of the list. It is gone again within the same millisecond, and so is the
 * entry, of which the table of neighbours holds but few (gc_thresh3). IPv6 needs none of this: see ndisc_notify.
 */
export function announcementLines({ address, link }: LanAddress): readonly string[] {
  if (familyOf(address) === 'ipv6') return [];
  return [
    `addr add ${address}/${ANNOUNCING_BITS} dev ${link} scope link noprefixroute`,
    ...questionLines({ address, link }),
    `addr del ${address}/${ANNOUNCING_BITS} dev ${link}`,
    ...answerRemovalLines({ address, link }),
  ];
}

/** Asks the local network who has the address, by the host's own address where that is in the same subnet. The answer is in the table of neighbours. */
export function questionLines({ address, link }: LanAddress): readonly string[] {
  if (familyOf(address) === 'ipv6') return [];
  // An entry that holds an answer would not be asked for again.
  return [`neigh replace ${address} dev ${link} nud failed`, `neigh replace ${address} dev ${link} use`];
}

export function answerRemovalLines({ address, link }: LanAddress): readonly string[] {
  return familyOf(address) === 'ipv6' ? [] : [`neigh del ${address} dev ${link}`];
}

/** Of a line of `ip -o addr show`: `2: eth0    inet6 2001:db8::7/128 scope global dadfailed deprecated tentative noprefixroute \ ...`. */
export function standingAddressOf(line: string): AddressOnLink | undefined {
  const [, text = '', bits, flags = ''] = /^[0-9]+: \S+ +inet6? ([0-9a-f.:]+)\/([0-9]+) ([^\\]*)/.exec(line) ?? [];
  const address = parseAddress(text);
  if (address === undefined) return undefined;
  const words = flags.split(' ');
  if (Number(bits) === HOST_BITS[familyOf(address)]) {
    if (words.includes('dadfailed')) return { address, state: 'duplicate' };
    return { address, state: words.includes('tentative') ? 'tentative' : 'held' };
  }
  const isTwin = familyOf(address) === 'ipv4' && Number(bits) === ANNOUNCING_BITS && ` ${flags} `.includes(' scope link ');
  return { address, state: isTwin ? 'twin' : 'other' };
}

/** Who answers for which address, from `ip -o neigh show dev LINK`: `192.0.2.7 lladdr 02:00:00:00:00:01 REACHABLE`. */
export function neighbourOf(line: string): { readonly address: IpAddress; readonly mac: string } | undefined {
  const [, text = '', mac] = /^(\S+) (?:dev \S+ )?lladdr ([0-9a-f:]+)/.exec(line) ?? [];
  const address = parseAddress(text);
  return address === undefined || mac === undefined ? undefined : { address, mac };
}
