/**
 * IP addresses as canonical text: dotted decimal for IPv4, RFC 5952 for IPv6. `===` is equality and a Map key is the value.
 */

declare const ipAddress: unique symbol;

/** An IPv4 or IPv6 address in canonical text. Only {@link parseAddress} and {@link addressOfBytes} make one. */
export type IpAddress = string & { readonly [ipAddress]: true };

export type Family = 'ipv4' | 'ipv6';

/** The length of a host prefix: 32 or 128 bits. */
export const HOST_BITS: Readonly<Record<Family, number>> = { ipv4: 32, ipv6: 128 };

/** The canonical form of an address, or undefined where the text is none. Leading zeros in IPv4 are refused (RFC 6943, 3.1.1), zones too. */
export function parseAddress(text: string): IpAddress | undefined {
  const bytes = parseAddressBytes(text);
  return bytes === undefined ? undefined : addressOfBytes(bytes);
}

/** Like {@link parseAddress} for text known to be an address: throws where it is not one. */
export function mustParseAddress(text: string): IpAddress {
  const address = parseAddress(text);
  if (address === undefined) throw new TypeError(`not an IP address: ${JSON.stringify(text)}`);
  return address;
}

export function familyOf(address: IpAddress): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}

/** The 4 or 16 bytes of an address, network order. */
export function bytesOf(address: IpAddress): Uint8Array {
  const bytes = parseAddressBytes(address);
  if (bytes === undefined) throw new TypeError(`not an IP address: ${JSON.stringify(address)}`);
  return bytes;
}

/** The address of 4 or 16 bytes in network order. */
export function addressOfBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return bytes.join('.') as IpAddress;
  if (bytes.length === 16) return formatV6(bytes) as IpAddress;
  throw new TypeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
}

/** The same addresses in the same order. */
export function sameAddresses(one: readonly IpAddress[], other: readonly IpAddress[]): boolean {
  return one.length === other.length && one.every((address, index) => address === other[index]);
}

/** 127.0.0.0/8 or ::1. */
export function isLoopback(address: IpAddress): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291). */
export function isLinkLocal(address: IpAddress): boolean {
  return address.startsWith('169.254.') || /^fe[89ab]/.test(address);
}

/** An address with its port as `ipvsadm` and URLs write it: `10.0.0.1:80`, `[fd00::1]:80`. */
export function withPort(address: IpAddress, port: number): string {
  return familyOf(address) === 'ipv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

function parseAddressBytes(text: string): Uint8Array | undefined {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return undefined;
    const value = Number(part);
    if (value > 255) return undefined;
    bytes[index] = value;
  }
  return bytes;
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  head.forEach((group, index) => {
    view.setUint16(index * 2, group);
  });
  tail.forEach((group, index) => {
    view.setUint16((8 - tail.length + index) * 2, group);
  });
  return bytes;
}

/** Sixteen-bit groups; only the end of the whole address may be dotted decimal (`::ffff:10.0.0.1`). */
function parseGroups(text: string, isEnd: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = isEnd && index === parts.length - 1 ? parseV4(part) : undefined;
      if (v4 === undefined) return undefined;
      const view = new DataView(v4.buffer);
      groups.push(view.getUint16(0), view.getUint16(2));
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as `::`, the first one on a tie. */
function formatV6(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(index * 2));
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  if (best.start < 0) return groups.map(group => group.toString(16)).join(':');
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map(group => group.toString(16))
      .join(':');
  return `${hex(0, best.start)}::${hex(best.start + best.length, 8)}`;
}
