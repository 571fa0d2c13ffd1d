/** Names that stand for something longer than a name may be. */
import { createHash } from 'node:crypto';
import { addressOfBytes, bytesOf, type IpAddress } from './address.ts';

/** RFC 4648 base32 in lower case and without the letters that look like digits (Crockford). */
export const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * `prefix` and `digits` base32 digits (5 bits each, at most 51) of SHA-256 over the parts. Each part goes in with its length, so that
 * the parts `a`, `bc` and `ab`, `c` have different names.
 */
export function hashedName(prefix: string, parts: readonly string[], digits: number): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:${part}`);
  const bytes = hash.digest();
  let text = '';
  for (let digit = 0; digit < digits; digit++) {
    const bit = digit * 5;
    const pair = ((bytes[bit >> 3] ?? 0) << 8) | (bytes[(bit >> 3) + 1] ?? 0);
    text += DIGITS[(pair >> (11 - (bit & 7))) & 31] ?? '';
  }
  return prefix + text;
}

/** The tunnel to the node with this address: `tun-` and 11 hex digits of SHA-256 over the bytes of the address. */
export function tunnelName(remote: IpAddress): string {
  return `tun-${createHash('sha256').update(bytesOf(remote)).digest('hex').slice(0, 11)}`;
}

/** 32-bit FNV-1a (draft-eastlake-fnv) of an address's bytes, as kube-router makes a BGP identifier of it: a dotted quad. */
export function identifierOf(address: IpAddress): IpAddress {
  let hash = 0x811c9dc5;
  for (const byte of bytesOf(address)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return addressOfBytes(Uint8Array.from([hash >>> 24, (hash >>> 16) & 255, (hash >>> 8) & 255, hash & 255]));
}
