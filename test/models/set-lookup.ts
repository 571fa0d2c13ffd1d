/** What a set of the kernel (ipset(8)) finds in a packet, by the elements that a plan puts in. What the kernel would refuse throws. */
import { familyOf, type IpAddress, parseAddress } from '../../daemon/net/address.ts';
import { parsePrefix } from '../../daemon/net/prefix.ts';
import type { IpSetEntry } from '../../daemon/reconcile/tables.ts';
import { prefixBits } from './address-bits.ts';
import type { TracedPacket } from './rule-match.ts';

type SetHead = Extract<IpSetEntry, { kind: 'set' }>;

/** Which address of the packet a dimension looks at: `src`, `dst`. */
export type Side = 'src' | 'dst';

/** A set with its elements; `find` is what `-m set --match-set NAME sides` asks. */
export interface SetLookup {
  readonly head: SetHead;
  /** One for each dimension of the set's type. */
  readonly dimensions: number;
  add(value: string): void;
  find(packet: TracedPacket, sides: readonly Side[]): boolean;
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

  protected address(text: string): IpAddress {
    const address = parseAddress(text);
    if (address === undefined || address !== text) throw new Error(`${this.head.name}: not a canonical address: ${text}`);
    if (familyOf(address) !== this.head.family) throw new Error(`${this.head.name}: an address of another family: ${text}`);
    return address;
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
  readonly #elements = new Set<string>();

  add(value: string): void {
    this.count();
    const [, address = '', protocol, port] = /^([^,]+),(tcp|udp|sctp):([0-9]+)$/.exec(value) ?? [];
    if (protocol === undefined || Number(port) > 65535 || String(Number(port)) !== port) {
      throw new Error(`${this.head.name}: not an address with a port: ${value}`);
    }
    this.#elements.add(`${this.address(address)},${protocol}:${port}`);
  }

  /** Of ICMP the kernel takes type and code for the port, under `icmp:`: no element we make says so. */
  find(packet: TracedPacket, [addressSide, portSide]: readonly Side[]): boolean {
    return this.#elements.has(`${sideOf(packet, addressSide).address},${packet.protocol}:${sideOf(packet, portSide).port}`);
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

  find(packet: TracedPacket, [addressSide, portSide, secondSide]: readonly Side[]): boolean {
    const { address } = sideOf(packet, addressSide);
    const { port } = sideOf(packet, portSide);
    return this.#elements.has(`${address},${packet.protocol}:${port},${sideOf(packet, secondSide).address}`);
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
    const bits = prefixBits(this.#prefixOf(text));
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

  /** As `ipset save` prints: a single address without a length. A length of zero the kernel refuses. */
  #prefixOf(text: string): NonNullable<ReturnType<typeof parsePrefix>> {
    const full = text.includes('/') ? text : `${this.address(text)}/${this.head.family === 'ipv4' ? 32 : 128}`;
    const prefix = parsePrefix(full);
    const isHost = text.endsWith('/128') || (this.head.family === 'ipv4' && text.endsWith('/32'));
    if (prefix === undefined || prefix !== full || isHost || prefix.endsWith('/0')) {
      throw new Error(`${this.head.name}: not an element of hash:net: ${text}`);
    }
    this.address(prefix.slice(0, prefix.indexOf('/')));
    return prefix;
  }
}

function sideOf(
  packet: TracedPacket,
  side: Side | undefined,
): { readonly address: string; readonly bits: string; readonly port: number } {
  return side === 'src'
    ? { address: packet.source, bits: packet.sourceBits, port: packet.sourcePort }
    : { address: packet.destination, bits: packet.destinationBits, port: packet.destinationPort };
}
