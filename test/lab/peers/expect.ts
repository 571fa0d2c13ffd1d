/** What a peer is to have, waited for; the text of a failure shows what it had instead. */
import { isDeepStrictEqual } from 'node:util';
import type { Family } from '../objects.ts';
import { until } from '../until.ts';
import type { Peer, PeerPath } from './peer.ts';

/** gobgpd tries a neighbour again some 5 to 10 seconds after it was not there. */
const SESSION_LIMIT_MS = 40_000;

/** Waits until sessions with all these neighbours are up. */
export async function established(peer: Peer, addresses: readonly string[], limitMs = SESSION_LIMIT_MS): Promise<void> {
  await until(
    `${peer.options.host.name} has sessions with ${addresses.join(', ')}`,
    async () => Object.fromEntries(await peer.sessions()),
    sessions => addresses.every(address => sessions[address]?.isEstablished),
    limitMs,
  );
}

/** Waits until there is no session with this neighbour. */
export async function gone(peer: Peer, address: string, limitMs = SESSION_LIMIT_MS): Promise<void> {
  await until(
    `${peer.options.host.name} has no session with ${address}`,
    async () => Object.fromEntries(await peer.sessions()),
    sessions => sessions[address]?.isEstablished !== true,
    limitMs,
  );
}

/** `203.0.113.1/32 via 192.168.1.11 path 64512`, with communities behind it where there are any. */
export function spell({ prefix, nextHop, asPath, communities }: PeerPath): string {
  const tail = communities.length === 0 ? '' : ` communities ${communities.toSorted().join(' ')}`;
  return `${prefix} via ${nextHop} path ${asPath.join(' ')}${tail}`;
}

/** All paths of a family as {@link spell} writes them, sorted; with `about` those to prefixes that begin so. */
export async function spelled(peer: Peer, family: Family, about = ''): Promise<readonly string[]> {
  return (await peer.paths(family, about)).map(spell).sort();
}

/** Waits until a peer has these paths of a family and no others (of those to prefixes that begin with `about`). */
export async function has(
  peer: Peer,
  family: Family,
  expected: readonly string[],
  options: { readonly about?: string; readonly limitMs?: number } = {},
): Promise<void> {
  const wanted = expected.toSorted();
  await until(
    `${peer.options.host.name} has exactly\n${wanted.join('\n')}`,
    async () => await spelled(peer, family, options.about),
    seen => isDeepStrictEqual(seen, wanted),
    options.limitMs ?? 15_000,
  );
}

/** How often each session began, by neighbour. */
export async function incarnations(peer: Peer): Promise<Readonly<Record<string, string>>> {
  return Object.fromEntries([...(await peer.sessions())].map(([address, { incarnation }]) => [address, incarnation]));
}
