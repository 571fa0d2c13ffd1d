/** Prefixes as elements of sets (ipset(8)): as `ipset save` prints them, and as its hash types can hold them. */
import { HOST_BITS } from '../net/address.ts';
import { type IpPrefix, mustParsePrefix, prefixAddress, prefixFamily, prefixLength } from '../net/prefix.ts';

/** The prefix, or its two halves where its length is 0: no hash type holds that. */
export function halved(prefix: IpPrefix): readonly IpPrefix[] {
  if (prefixLength(prefix) > 0) return [prefix];
  return (prefixFamily(prefix) === 'ipv4' ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1']).map(mustParsePrefix);
}

/** A prefix that is one host stands without its length. */
export function elementText(prefix: IpPrefix): string {
  return prefixLength(prefix) === HOST_BITS[prefixFamily(prefix)] ? prefixAddress(prefix) : prefix;
}
