/** Prefixes that no neighbour may send packets to through us (RFC 6890, RFC 5735): a route to one is a mistake or an attack. */
import { HOST_BITS } from '../../daemon/net/address.ts';
import {
  type IpPrefix,
  mustParsePrefix,
  prefixAddress,
  prefixContains,
  prefixFamily,
  prefixLength,
} from '../../daemon/net/prefix.ts';
import type { PrefixRange } from '../../daemon/reconcile/routing-tables.ts';

const WHOLE_BLOCKS = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  '::1/128',
  '::ffff:0:0/96',
  'fe80::/10',
  'ff00::/8',
].map(mustParsePrefix);

/** The default routes alone, whatever is in them; and each block with all inside it. */
export const MARTIANS: readonly PrefixRange[] = [
  ...['0.0.0.0/0', '::/0'].map(text => ({ prefix: mustParsePrefix(text), minLength: 0, maxLength: 0 })),
  ...WHOLE_BLOCKS.map(prefix => ({ prefix, minLength: prefixLength(prefix), maxLength: HOST_BITS[prefixFamily(prefix)] })),
];

/** Whether it lies in a martian block, or is a default route. */
export function isMartian(prefix: IpPrefix): boolean {
  return prefixLength(prefix) === 0 || WHOLE_BLOCKS.some(block => isInside(prefix, block));
}

/** Whether the first prefix is the second or a part of it. */
export function isInside(inner: IpPrefix, outer: IpPrefix): boolean {
  return prefixLength(inner) >= prefixLength(outer) && prefixContains(outer, prefixAddress(inner));
}
