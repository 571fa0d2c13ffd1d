/** Ranges of addresses, as pools of load-balancer addresses are written: a CIDR, one address, or `first-last`. Addresses count as numbers. */
import { addressOfBytes, bytesOf, type Family, familyOf, HOST_BITS, type IpAddress, parseAddress } from './address.ts';
import { type IpPrefix, parsePrefix, prefixAddress, prefixFamily, prefixLength, prefixOf } from './prefix.ts';

/** `first` to `last`, both included, of one family. */
export interface AddressRange {
  readonly first: IpAddress;
  readonly last: IpAddress;
  /** What it was written as, if that was a CIDR: the first and the last address of a subnet are not for everybody. */
  readonly prefix: IpPrefix | undefined;
}

/** `192.0.2.0/28`, `192.0.2.7`, `192.0.2.10-192.0.2.20`; undefined where the text is none of these or does not ascend. */
export function parseAddressRange(text: string): AddressRange | undefined {
  const prefix = parsePrefix(text.trim());
  if (prefix !== undefined) return { first: prefixAddress(prefix), last: lastOf(prefix), prefix };
  const [firstText = '', lastText = firstText, ...rest] = text.split('-').map(part => part.trim());
  const first = parseAddress(firstText);
  const last = parseAddress(lastText);
  if (first === undefined || last === undefined || rest.length > 0 || familyOf(first) !== familyOf(last)) return undefined;
  return numberOf(first) > numberOf(last) ? undefined : { first, last, prefix: undefined };
}

/** Text that {@link parseAddressRange} reads back as the same range. */
export function formatAddressRange({ first, last, prefix }: AddressRange): string {
  return prefix ?? (first === last ? first : `${first}-${last}`);
}

export function rangeFamily({ first }: AddressRange): Family {
  return familyOf(first);
}

export function rangeContains({ first, last }: AddressRange, address: IpAddress): boolean {
  if (familyOf(address) !== familyOf(first)) return false;
  const number = numberOf(address);
  return numberOf(first) <= number && number <= numberOf(last);
}

export function rangesOverlap(one: AddressRange, other: AddressRange): boolean {
  if (familyOf(one.first) !== familyOf(other.first)) return false;
  return numberOf(one.first) <= numberOf(other.last) && numberOf(other.first) <= numberOf(one.last);
}

/** The fewest prefixes that hold exactly the addresses of the range, ascending. */
export function prefixesOfRange({ first, last, prefix }: AddressRange): readonly IpPrefix[] {
  if (prefix !== undefined) return [prefix];
  const family = familyOf(first);
  const end = numberOf(last);
  const prefixes: IpPrefix[] = [];
  for (let start = numberOf(first); start <= end; ) {
    const bits = blockBits(start, end, HOST_BITS[family]);
    prefixes.push(prefixOf(addressOfNumber(start, family), HOST_BITS[family] - bits));
    start += 1n << BigInt(bits);
  }
  return prefixes;
}

/** Of the largest block that begins at `start`, is aligned, and does not reach beyond `end`: its host bits. */
function blockBits(start: bigint, end: bigint, most: number): number {
  let bits = 0;
  while (bits < most && (start >> BigInt(bits)) % 2n === 0n && start + (2n << BigInt(bits)) - 1n <= end) bits++;
  return bits;
}

/** An address as an unsigned number of 32 or 128 bits. */
export function numberOf(address: IpAddress): bigint {
  const bytes = bytesOf(address);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return bytes.length === 4 ? BigInt(view.getUint32(0)) : (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

/** The address of that number, which is below 2^32 or 2^128. */
export function addressOfNumber(number: bigint, family: Family): IpAddress {
  const bytes = new Uint8Array(HOST_BITS[family] / 8);
  const view = new DataView(bytes.buffer);
  if (family === 'ipv4') {
    view.setUint32(0, Number(number));
  } else {
    view.setBigUint64(0, number >> 64n);
    view.setBigUint64(8, BigInt.asUintN(64, number));
  }
  return addressOfBytes(bytes);
}

function lastOf(prefix: IpPrefix): IpAddress {
  const family = prefixFamily(prefix);
  const size = 1n << BigInt(HOST_BITS[family] - prefixLength(prefix));
  return addressOfNumber(numberOf(prefixAddress(prefix)) + size - 1n, family);
}
