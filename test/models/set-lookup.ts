/** What a set of the kernel (ipset(8)) finds in a packet, by the elements that a plan puts in. What the kernel would refuse throws. */
import { familyOf, type IpAddress, parseAddress } from '../../daemon/net/address.ts';
import { parsePrefix } from '../../daemon/net/prefix.ts';
import type { IpSetEntry } from '../../daemon/reconcile/tables.ts';
import { prefixBits } from './address-bits.ts';
import type { TracedPacket } from './traced-packet.ts';

type SetHead = Extract<IpSetEntry, { kind: 'set' }>;

/** Which address of the packet a dimension looks at: `src`, `dst`. */
export type Side = 'src' | 'dst';

/** What an element says of the packet's mark: the bits of the mask become those of the value. */
export interface ElementMark {
  readonly value: number;
  readonly mask: number;
}

/** A set with its elements; `find` is what `-m set --match-set NAME sides` asks. */
export interface SetLookup {
  readonly head: SetHead;
  /** One for each dimension of the set's type. */
  readonly dimensions: number;
  add(value: string): void;
  find(packet: TracedPacket, sides: readonly Side[]): boolean;
  /** The mark that is found: what `-j SET --map-set NAME sides --map-mark` asks. */
  markOf(packet: TracedPacket, sides: readonly Side[]): ElementMark | undefined;
}

/** The longest name the kernel takes, without the terminating zero (IPSET_MAXNAMELEN). */
const LONGEST_NAME = 31;

export function setLookup(head: SetHead): SetLookup {
  if (head.name.length > LONGEST_NAME) throw new Error(`set name too long: ${head.name}`);
  switch (head.type) {
    case 'hash:ip':
      return new AddressSet(head);
    case 'hash:ip,port':
      return new PortSet(head);
    case 'hash:net':
      return new NetSet(head);
    case 'hash:ip,port,ip':
      return new PortAddressSet(head);
    case 'hash:ip,port,net':
      return new PortNetSet(head);
  }
}

/** Size, family and spelling are the same matter for all types. */
abstract class Elements {
  readonly head: SetHead;
  #count = 0;

  constructor(head: SetHead) {
    this.head = head;
  }

  protected count(): void {
    this.#count++;
    if (this.#count > this.head.maxElements) throw new Error(`set ${this.head.name} is full: ${this.head.maxElements}`);
  }

  markOf(_packet: TracedPacket, _sides: readonly Side[]): ElementMark | undefined {
    throw new Error(`${this.head.name}: marks are looked up in sets of address and port only`);
  }

  protected address(text: string): IpAddress {
    const address = parseAddress(text);
    if (address === undefined || address !== text) throw new Error(`${this.head.name}: not a canonical address: ${text}`);
    if (familyOf(address) !== this.head.family) throw new Error(`${this.head.name}: an address of another family: ${text}`);
    return address;
  }

  /** As `ipset save` prints: a single address without a length. A length of zero the kernel refuses. */
  protected prefix(text: string): NonNullable<ReturnType<typeof parsePrefix>> {
    const full = text.includes('/') ? text : `${this.address(text)}/${this.head.family === 'ipv4' ? 32 : 128}`;
    const prefix = parsePrefix(full);
    const isHost = text.endsWith('/128') || (this.head.family === 'ipv4' && text.endsWith('/32'));
    if (prefix === undefined || prefix !== full || isHost || prefix.endsWith('/0')) {
      throw new Error(`${this.head.name}: not an element of ${this.head.type}: ${text}`);
    }
    this.address(prefix.slice(0, prefix.indexOf('/')));
    return prefix;
  }
}

class AddressSet extends Elements implements SetLookup {
  readonly dimensions = 1;
  readonly #addresses = new Set<string>();

  add(value: string): void {
    this.count();
    this.#addresses.add(this.address(value));
  }

  find(packet: TracedPacket, [side]: readonly Side[]): boolean {
    return this.#addresses.has(sideOf(packet, side).address);
  }
}

class PortSet extends Elements implements SetLookup {
  readonly dimensions = 2;
  readonly #elements = new Map<string, ElementMark>();

  add(value: string): void {
    this.count();
    const [, element = '', , mark, mask] = /^(\S+)( skbmark (0x[0-9a-f]+)\/(0x[0-9a-f]+))?$/.exec(value) ?? [];
    const [, address = '', protocol, port] = /^([^,]+),(tcp|udp|sctp):([0-9]+)$/.exec(element) ?? [];
    if (protocol === undefined || Number(port) > 65535 || String(Number(port)) !== port) {
      throw new Error(`${this.head.name}: not an address with a port: ${value}`);
    }
    if (mark !== undefined && this.head.carriesMarks !== true) throw new Error(`${this.head.name}: no place for marks: ${value}`);
    this.#elements.set(`${this.address(address)},${protocol}:${port}`, { value: Number(mark ?? 0), mask: Number(mask ?? 0) });
  }

  find(packet: TracedPacket, sides: readonly Side[]): boolean {
    return this.#elements.has(addressAndPort(packet, sides));
  }

  override markOf(packet: TracedPacket, sides: readonly Side[]): ElementMark | undefined {
    return this.#elements.get(addressAndPort(packet, sides));
  }
}

/** An address with a port, as in {@link PortSet}, and a second address. */
class PortAddressSet extends Elements implements SetLookup {
  readonly dimensions = 3;
  readonly #elements = new Set<string>();

  add(value: string): void {
    this.count();
    const [, address = '', protocol, port, second = ''] = /^([^,]+),(tcp|udp|sctp):([0-9]+),([^,]+)$/.exec(value) ?? [];
    if (protocol === undefined || Number(port) > 65535 || String(Number(port)) !== port) {
      throw new Error(`${this.head.name}: not two addresses with a port: ${value}`);
    }
    this.#elements.add(`${this.address(address)},${protocol}:${port},${this.address(second)}`);
  }

  find(packet: TracedPacket, sides: readonly Side[]): boolean {
    return this.#elements.has(`${addressAndPort(packet, sides)},${sideOf(packet, sides[2]).address}`);
  }
}

/** An address with a port, as in {@link PortSet}, and a prefix. */
class PortNetSet extends Elements implements SetLookup {
  readonly dimensions = 3;
  readonly #prefixes = new Map<string, string[]>();

  add(value: string): void {
    this.count();
    const [, address = '', protocol, port, net = ''] = /^([^,]+),(tcp|udp|sctp):([0-9]+),([^, ]+)$/.exec(value) ?? [];
    if (protocol === undefined || Number(port) > 65535 || String(Number(port)) !== port) {
      throw new Error(`${this.head.name}: not an address with a port and a prefix: ${value}`);
    }
    const key = `${this.address(address)},${protocol}:${port}`;
    this.#prefixes.set(key, [...(this.#prefixes.get(key) ?? []), prefixBits(this.prefix(net))]);
  }

  find(packet: TracedPacket, sides: readonly Side[]): boolean {
    const { bits } = sideOf(packet, sides[2]);
    return this.#prefixes.get(addressAndPort(packet, sides))?.some(prefix => bits.startsWith(prefix)) ?? false;
  }
}

/** The longest prefix that holds the address decides; `nomatch` elements decide against. */
class NetSet extends Elements implements SetLookup {
  readonly dimensions = 1;
  readonly #matches = new Map<string, boolean>();
  #lengths: readonly number[] = [];

  add(value: string): void {
    this.count();
    const [, text = '', nomatch] = /^(\S+?)( nomatch)?$/.exec(value) ?? [];
    const bits = prefixBits(this.prefix(text));
    this.#matches.set(bits, nomatch === undefined);
    this.#lengths = [...new Set([...this.#lengths, bits.length])].sort((a, b) => b - a);
  }

  find(packet: TracedPacket, [side]: readonly Side[]): boolean {
    const { bits } = sideOf(packet, side);
    for (const length of this.#lengths) {
      const isMatch = this.#matches.get(bits.slice(0, length));
      if (isMatch !== undefined) return isMatch;
    }
    return false;
  }
}

/** Of ICMP the kernel takes type and code for the port, under `icmp:`: no element we make says so. */
function addressAndPort(packet: TracedPacket, [addressSide, portSide]: readonly Side[]): string {
  return `${sideOf(packet, addressSide).address},${packet.protocol}:${sideOf(packet, portSide).port}`;
}

function sideOf(
  packet: TracedPacket,
  side: Side | undefined,
): { readonly address: string; readonly bits: string; readonly port: number } {
  return side === 'src'
    ? { address: packet.source, bits: packet.sourceBits, port: packet.sourcePort }
    : { address: packet.destination, bits: packet.destinationBits, port: packet.destinationPort };
}
