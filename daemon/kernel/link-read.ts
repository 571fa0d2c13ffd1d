/** Links as `ip -j -d link show` prints them, in the words of the table. */
import { FairwayError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import type { Link } from '../reconcile/link.ts';

/** A link of a type that we make. */
export interface Device {
  readonly link: Link;
  /** Up, and in all that {@link Link} does not say as we make it. */
  readonly isAsMade: boolean;
}

/** A port of a bridge, or a link. */
type Shown = Readonly<Record<string, unknown>>;

/** Time to live of tunnels' own packets (kube-router's of FoU): an overlay is one hop to what is inside, however far the node is. */
export const TUNNEL_TTL = 225;

/** The links that a batch of `link show` prints: one JSON list a command, with empty objects for what its filter left out. */
export function devicesOf(stdout: string): readonly Device[] {
  return shownIn(stdout).flatMap(shown => {
    const link = linkOf(shown);
    return link === undefined ? [] : [{ link, isAsMade: isUp(shown) && isAsMade(link, dataOf(shown)) }];
  });
}

/** Names of the bridges that ports are attached to, from `link show type bridge_slave`. */
export function bridgesInUse(stdout: string): ReadonlySet<string> {
  return new Set(shownIn(stdout).map(({ master }) => String(master)));
}

/** A port of a bridge. */
export interface PortState {
  readonly bridge: string;
  readonly isHairpin: boolean;
}

/** The ports of all bridges by name, from the same. */
export function portsOf(stdout: string): ReadonlyMap<string, PortState> {
  return new Map(
    shownIn(stdout).map(shown => {
      const { hairpin } = recordOf(infoOf(shown)['info_slave_data']);
      return [String(shown['ifname']), { bridge: String(shown['master']), isHairpin: hairpin === true }];
    }),
  );
}

function linkOf(shown: Shown): Link | undefined {
  const { ifname: name, mtu } = shown;
  if (typeof name !== 'string' || typeof mtu !== 'number') return undefined;
  const data = dataOf(shown);
  const type = infoOf(shown)['info_kind'];
  switch (type) {
    case 'dummy':
      return { name, type };
    case 'bridge':
      return { name, type, mtu };
    case 'vxlan':
      return { name, type, port: Number(data['port']), mtu };
    case 'ipip':
    case 'ip6tnl': {
      const local = parseAddress(String(data['local'])) ?? parseAddress(UNSPECIFIED[type]);
      const remote = parseAddress(String(data['remote'])) ?? parseAddress(UNSPECIFIED[type]);
      if (local === undefined || remote === undefined) return undefined;
      const encap = recordOf(data['encap']);
      return { name, type, local, remote, guePort: encap['type'] === 'gue' ? Number(encap['dport']) : undefined, mtu };
    }
    default:
      return undefined;
  }
}

/** ip prints `any`. */
const UNSPECIFIED = { ipip: '0.0.0.0', ip6tnl: '::' } as const;

/** What is not printed is not doubted: versions of ip differ in what they print. */
function isAsMade(link: Link, data: Shown): boolean {
  switch (link.type) {
    case 'dummy':
    case 'bridge':
      return true;
    case 'vxlan':
      return data['external'] === true && data['gpe'] === true;
    case 'ipip':
      return agrees(data, { proto: 'ipip', ttl: TUNNEL_TTL, pmtudisc: true }) && isEncapAsMade(data['encap'], false);
    case 'ip6tnl':
      // The limit is an option of 8 bytes in every outer packet; it is printed where there is one.
      return agrees(data, { proto: 'ip6ip6', ttl: TUNNEL_TTL, encap_limit: undefined }) && isEncapAsMade(data['encap'], true);
  }
}

function isEncapAsMade(encap: unknown, csum6: boolean): boolean {
  return encap === undefined || agrees(recordOf(encap), { type: 'gue', sport: 0, csum: false, remcsum: false, csum6 });
}

function agrees(data: Shown, wanted: Shown): boolean {
  return Object.entries(wanted).every(([name, value]) => data[name] === undefined || data[name] === value);
}

function isUp({ flags }: Shown): boolean {
  return Array.isArray(flags) && flags.includes('UP');
}

function infoOf(shown: Shown): Shown {
  return recordOf(shown['linkinfo']);
}

function dataOf(shown: Shown): Shown {
  return recordOf(infoOf(shown)['info_data']);
}

function recordOf(value: unknown): Shown {
  return typeof value === 'object' && value !== null ? (value as Shown) : {};
}

function shownIn(stdout: string): readonly Shown[] {
  return stdout.split('\n').flatMap(line => {
    if (line.trim() === '') return [];
    const list: unknown = parseJson(line);
    if (!Array.isArray(list)) throw unreadable();
    return list.map(recordOf).filter(({ ifname }) => ifname !== undefined);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable({ cause });
  }
}

function unreadable(options?: ErrorOptions): FairwayError {
  return new FairwayError(
    'FW_READ_UNPARSABLE',
    "'ip -j link show' printed no list of links: iproute2 4.17 or newer is needed",
    options,
  );
}
