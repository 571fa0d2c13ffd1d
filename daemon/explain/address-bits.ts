/** Addresses and prefixes as the bits they stand for, written out: `10.0.0.0/8` is `00001010`. Slow, and plain to see. */
import { bytesOf, type IpAddress } from '../net/address.ts';
import { type IpPrefix, prefixAddress, prefixLength } from '../net/prefix.ts';

/** 32 or 128 times `0` or `1`. */
export function addressBits(address: IpAddress): string {
  return Array.from(bytesOf(address), byte => byte.toString(2).padStart(8, '0')).join('');
}

/** As many as the prefix is long. */
export function prefixBits(prefix: IpPrefix): string {
  return addressBits(prefixAddress(prefix)).slice(0, prefixLength(prefix));
}
