/** IP prefixes (CIDR) as canonical text: host bits cleared, the address canonical. `===` is equality. */
import { addressOfBytes, bytesOf, type Family, familyOf, HOST_BITS, type IpAddress, parseAddress } from './address.ts';

declare const ipPrefix: unique symbol;

/** A prefix such as `10.96.0.0/12`, host bits zero. */
export type IpPrefix = string & { readonly [ipPrefix]: true };

/** The canonical prefix, or undefined where the text is none. Host bits are cleared: `10.0.0.1/8` is `10.0.0.0/8`. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseAddress(text.slice(0, slash));
  const bits = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(bits)) return undefined;
  const length = Number(bits);
  return length > HOST_BITS[familyOf(address)] ? undefined : prefixOf(address, length);
}

/** Like {@link parsePrefix} for text known to be a prefix: throws where it is not one. */
export function mustParsePrefix(text: string): IpPrefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new TypeError(`not an IP prefix: ${JSON.stringify(text)}`);
  return prefix;
}

/** The prefix of the given length (in bits) that holds the address. */
export function prefixOf(address: IpAddress, length: number): IpPrefix {
  const bytes = bytesOf(address);
  for (let index = 0; index < bytes.length; index++) {
    const kept = Math.min(8, Math.max(0, length - index * 8));
    bytes[index] = (bytes[index] ?? 0) & (0xff << (8 - kept)) & 0xff;
  }
  return `${addressOfBytes(bytes)}/${length}` as IpPrefix;
}

/** The prefix that holds this address alone: /32 or /128. */
export function hostPrefix(address: IpAddress): IpPrefix {
  return `${address}/${HOST_BITS[familyOf(address)]}` as IpPrefix;
}

/** The first address of the prefix; of a host prefix the only one. */
export function prefixAddress(prefix: IpPrefix): IpAddress {
  return prefix.slice(0, prefix.indexOf('/')) as IpAddress;
}

export function prefixFamily(prefix: IpPrefix): Family {
  return prefix.includes(':') ? 'ipv6' : 'ipv4';
}

/** Prefix length in bits. */
export function prefixLength(prefix: IpPrefix): number {
  return Number(prefix.slice(prefix.indexOf('/') + 1));
}

export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  return prefixFamily(prefix) === familyOf(address) && prefixOf(address, prefixLength(prefix)) === prefix;
}

export function anyPrefixContains(prefixes: readonly IpPrefix[], address: IpAddress): boolean {
  return prefixes.some(prefix => prefixContains(prefix, address));
}
