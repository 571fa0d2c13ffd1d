/**
 * What a set of the kernel (ipset(8)) finds in a packet. Nothing is indexed: elements are asked for by the names that the packet would have, so
 * that a look into a set of a hundred thousand elements costs as much as into an empty one.
 */
import { HOST_BITS } from '../net/address.ts';
import { prefixOf } from '../net/prefix.ts';
import { elementText } from '../reconcile/set-element.ts';
import type { IpSetEntry, IpSetType } from '../reconcile/tables.ts';
import type { TracedPacket } from './traced-packet.ts';

export type SetHead = Extract<IpSetEntry, { kind: 'set' }>;

/** Which address of the packet a dimension looks at: `src`, `dst`. */
export type Side = 'src' | 'dst';

/** What an element says of the packet's mark: the bits of the mask become those of the value. */
export interface ElementMark {
  readonly value: number;
  readonly mask: number;
}

/** What is in a set. */
export interface SetContent {
  readonly head: SetHead;
  /** The element of this name with what is said of it, as `ipset save` prints it. */
  element(name: string): string | undefined;
  /** Lengths of prefixes that may be in it, the longest first. */
  lengths(): Iterable<number>;
}

/** `find` is what `-m set --match-set NAME sides` asks. */
export interface SetLookup {
  readonly head: SetHead;
  /** One for each dimension of the set's type. */
  readonly dimensions: number;
  /** The element that matches, as it is printed. */
  find(packet: TracedPacket, sides: readonly Side[]): string | undefined;
}

const DIMENSIONS: Readonly<Record<IpSetType, number>> = {
  'hash:ip': 1,
  'hash:net': 1,
  'hash:ip,port': 2,
  'hash:ip,port,ip': 3,
  'hash:ip,port,net': 3,
};

export function setLookup(content: SetContent): SetLookup {
  const { head } = content;
  return { head, dimensions: DIMENSIONS[head.type], find: (packet, sides) => found(content, packet, sides) };
}

/** The bits of the mark that an element says; undefined where it says none. */
export function markOf(element: string): ElementMark | undefined {
  const [, mark, mask] = / skbmark (0x[0-9a-f]+)\/(0x[0-9a-f]+)$/.exec(element) ?? [];
  return mark === undefined ? undefined : { value: Number(mark), mask: Number(mask) };
}

function found(content: SetContent, packet: TracedPacket, sides: readonly Side[]): string | undefined {
  const [first, second, third] = sides;
  switch (content.head.type) {
    case 'hash:ip':
      return content.element(addressOf(packet, first));
    case 'hash:net':
      return withinPrefix(content, '', packet, first);
    case 'hash:ip,port':
      return content.element(addressAndPort(packet, first, second));
    case 'hash:ip,port,ip':
      return content.element(`${addressAndPort(packet, first, second)},${addressOf(packet, third)}`);
    case 'hash:ip,port,net':
      return withinPrefix(content, `${addressAndPort(packet, first, second)},`, packet, third);
  }
}

/** The longest prefix that holds the address decides; `nomatch` elements decide against. */
function withinPrefix(content: SetContent, before: string, packet: TracedPacket, side: Side | undefined): string | undefined {
  const address = addressOf(packet, side);
  const longest = HOST_BITS[packet.family];
  for (const length of content.lengths()) {
    if (length > longest) continue;
    const element = content.element(`${before}${length === longest ? address : elementText(prefixOf(address, length))}`);
    if (element !== undefined) return element.endsWith(' nomatch') ? undefined : element;
  }
  return undefined;
}

/** Of ICMP the kernel takes type and code for the port, under `icmp:`: no element we make says so. */
function addressAndPort(packet: TracedPacket, address: Side | undefined, port: Side | undefined): string {
  const number = port === 'src' ? packet.sourcePort : packet.destinationPort;
  return `${addressOf(packet, address)},${packet.protocol}:${number}`;
}

function addressOf(packet: TracedPacket, side: Side | undefined): TracedPacket['source'] {
  return side === 'src' ? packet.source : packet.destination;
}
