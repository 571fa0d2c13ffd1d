/** Which lines of `ip monitor` tell that something we rely on went, or came back: a link that flapped, a route of ours that somebody deleted. */
import type { Disturbance } from '../cluster/disturbance.ts';
import type { HostAddress } from '../cluster/snapshot.ts';
import { familyOf, HOST_BITS, isLinkLocal, parseAddress } from '../net/address.ts';
import { MAIN_TABLE, ROUTE_PROTOCOL, unicastRouteKey } from '../reconcile/routing-tables.ts';
import type { AddressStanding } from './lan-address-record.ts';
import { shownRouteOf } from './unicast-route-line.ts';

export const DISTURBANCES: readonly Disturbance[] = ['hostLinks', 'ownLinks', 'routes', 'rules', 'lanAddresses'];

/** What is read of a link's flags: routes leave the kernel with the first step down, the other two say what they are worth. */
export type LinkState = 'up' | 'no carrier' | 'down';

export interface DisturbanceSurroundings {
  readonly isOwnLink: (name: string) => boolean;
  /** What an address on a link of the host is to us. */
  readonly standingOf: (entry: HostAddress) => AddressStanding;
  /** As last read. */
  readonly addresses: () => readonly HostAddress[];
}

/** Listens to a monitor; remembers the state of each link, since the monitor repeats lines for anything about it. */
export class DisturbanceListener {
  readonly #surroundings: DisturbanceSurroundings;
  readonly #states: Map<string, LinkState>;

  constructor(surroundings: DisturbanceSurroundings, states: ReadonlyMap<string, LinkState>) {
    this.#surroundings = surroundings;
    this.#states = new Map(states);
  }

  /** States that were not told of, as they were read. */
  learn(states: ReadonlyMap<string, LinkState>): void {
    for (const [name, state] of states) if (!this.#states.has(name)) this.#states.set(name, state);
  }

  /** Lines were missed: what is remembered may be no more. */
  forget(): void {
    this.#states.clear();
  }

  /** What a line about a link or one of its addresses means; undefined for nothing. */
  hearLink(name: string, line: string): Disturbance | undefined {
    const address = addressIn(name, line);
    if (address !== undefined) return this.#hearAddress(address, line);
    // Ports of a bridge have no addresses to use; and that they leave it is printed as if they were deleted.
    if (PORT.test(line)) return undefined;
    const before = this.#states.get(name);
    const flags = line.startsWith(DELETED) ? undefined : FLAGS.exec(line)?.[1]?.split(',');
    const now = flags === undefined ? undefined : linkState(flags);
    if (now === undefined) this.#states.delete(name);
    else this.#states.set(name, now);
    if (this.#surroundings.isOwnLink(name)) return isLoss(before, now) ? 'ownLinks' : undefined;
    return before !== now && this.#hasAddresses(name) ? 'hostLinks' : undefined;
  }

  /** Whether a line may tell of something that is not of our doing. */
  concernsHost(name: string, line: string): boolean {
    const address = addressIn(name, line);
    return address === undefined || this.#isHosts(address, line);
  }

  /** Addresses of our own links are the table's. */
  #hearAddress(entry: HostAddress, line: string): Disturbance | undefined {
    if (isLinkLocal(entry.address) || this.#surroundings.isOwnLink(entry.link)) return undefined;
    if (this.#isHosts(entry, line)) return this.#isAddressChange(entry, line) ? 'hostLinks' : undefined;
    return this.#isLostAnnouncement(entry, line) ? 'lanAddresses' : undefined;
  }

  #isHosts(entry: HostAddress, line: string): boolean {
    switch (this.#surroundings.standingOf(entry)) {
      case "the host's":
        return true;
      case 'left':
        return !line.startsWith(DELETED);
      case 'ours':
      case 'leaving':
        return false;
    }
  }

  /** Not the twin of an announcement, which goes by itself. */
  #isLostAnnouncement(entry: HostAddress, line: string): boolean {
    const isWhole = entry.prefixLength === HOST_BITS[familyOf(entry.address)];
    return isWhole && line.startsWith(DELETED) && this.#surroundings.standingOf(entry) === 'ours';
  }

  /** A line may tell of new lifetimes only. */
  #isAddressChange({ link, address }: HostAddress, line: string): boolean {
    const isKnown = this.#surroundings.addresses().some(known => known.link === link && known.address === address);
    return line.startsWith(DELETED) || !isKnown;
  }

  /** Every link has a link-local address, pods' too: no route of ours needs one. */
  #hasAddresses(name: string): boolean {
    return this.#surroundings.addresses().some(({ link, address }) => link === name && !isLinkLocal(address));
  }
}

const DELETED = 'Deleted ';
/** `8: eth0    inet 192.0.2.1/24 ...`, `8: eth0    inet 192.0.2.1 peer 192.0.2.2/32 ...`. */
const ADDRESS = /^(?:Deleted )?[0-9]+: \S+\s+inet6? ([0-9a-f.:]+)(?: peer [0-9a-f.:]+)?(?:\/([0-9]+))?/;
const PORT = / master \S/;
const FLAGS = /^[0-9]+: \S+: <([^>]*)>/;
/** `Deleted 10.1.0.0/24 via 192.0.2.9 dev eth0 proto 70 metric 32070`. */
const OUR_ROUTE = ` proto ${ROUTE_PROTOCOL} `;
/** `Deleted 32765:	from 10.1.0.0/24 lookup 77`, with the tab; a link's number is followed by a space. */
const RULE = /^Deleted [0-9]+:\t.* lookup 77\b/;

/**
 * What a line about no link means. Ten thousand routes of ours are as many lines: one that tells of something new costs a comparison. Needs a
 * monitor that prints numbers (`-N`): kube-router names its table.
 */
export function disturbanceOf(line: string): 'routes' | 'rules' | undefined {
  if (!line.startsWith(DELETED)) return undefined;
  if (line.includes(OUR_ROUTE)) return 'routes';
  return RULE.test(line) ? 'rules' : undefined;
}

/** The key, in its table, of the route of ours that such a line says is gone; undefined where it cannot be read. */
export function goneRouteOf(line: string): string | undefined {
  const route = shownRouteOf(line.slice(DELETED.length));
  return route === undefined ? undefined : unicastRouteKey(route.table ?? MAIN_TABLE, route.destination);
}

/** The state from flags as ip prints them. */
export function linkState(flags: readonly string[]): LinkState {
  if (!flags.includes('UP')) return 'down';
  return flags.includes('NO-CARRIER') ? 'no carrier' : 'up';
}

function addressIn(link: string, line: string): HostAddress | undefined {
  const [, text = '', bits] = ADDRESS.exec(line) ?? [];
  const address = parseAddress(text);
  return address === undefined ? undefined : { link, address, prefixLength: Number(bits ?? HOST_BITS[familyOf(address)]) };
}

/** Making a link is no disturbance, nor bringing it up. */
function isLoss(before: LinkState | undefined, now: LinkState | undefined): boolean {
  return now === undefined || (now === 'down' && before !== undefined && before !== 'down');
}
