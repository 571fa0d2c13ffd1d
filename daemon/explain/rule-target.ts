/** What an iptables rule does with the packets that it takes, read from the text that `iptables-save` prints. */
import { type Family, familyOf, type IpAddress, parseAddress } from '../net/address.ts';
import type { IptablesTable } from '../reconcile/tables.ts';
import { markAndMask, type RuleWords } from './rule-words.ts';
import { type ElementMark, markOf, type SetLookup, type Side } from './set-lookup.ts';
import type { TracedPacket } from './traced-packet.ts';

export type Target =
  | { readonly kind: 'none' }
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'reject'; readonly with: string }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  /** The mark of the element that is found, if one is. */
  | {
      readonly kind: 'mapped mark';
      readonly asks: { readonly set: SetLookup; readonly sides: readonly Side[] };
      readonly markOf: (packet: TracedPacket) => ElementMark | undefined;
    }
  /** Without an address, that of the link by which the packet leaves. */
  | { readonly kind: 'new source'; readonly address: IpAddress | undefined }
  | { readonly kind: 'log'; readonly prefix: string }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  /** What the rule does is not known. */
  | { readonly kind: 'unknown'; readonly reason: string };

/** What the rules of one table of one family refer to. A set of the wrong family is refused as iptables does. */
export interface RuleContext {
  readonly family: Family;
  readonly table: IptablesTable;
  /** By name; undefined where there is none. */
  readonly setOf: (name: string) => SetLookup | undefined;
  readonly hasChain: (name: string) => boolean;
}

/** A set and which addresses of the packet it is asked for: `kube-router-svip-prt dst,dst`. */
export function setAndSides(
  words: RuleWords,
  { family, setOf }: RuleContext,
): { readonly set: SetLookup; readonly sides: readonly Side[] } {
  const name = words.next();
  const sides = words.next().split(',');
  const set = setOf(name);
  if (set === undefined) throw words.error(`no set ${name}`);
  if (set.head.family !== family) throw words.error(`set ${name} is of the other family`);
  if (sides.length !== set.dimensions) throw words.error(`set ${name} has ${set.dimensions} dimensions`);
  if (!sides.every((side): side is Side => side === 'src' || side === 'dst')) throw words.error(`sides ${sides.join()}`);
  return { set, sides };
}

export function parseTarget(words: RuleWords, protocol: string, context: RuleContext): Target {
  if (words.isAtEnd()) return { kind: 'none' };
  const isGoto = words.next() === '-g';
  const name = words.next();
  const found = isGoto ? { kind: 'goto' as const, chain: name } : jumpTarget(name, words, protocol, context);
  if ('chain' in found && !context.hasChain(found.chain)) throw words.error(`no chain ${found.chain}`);
  if (!words.isAtEnd()) throw words.error(`word ${words.next()} after the target`);
  return found;
}

function jumpTarget(name: string, words: RuleWords, protocol: string, context: RuleContext): Target {
  switch (name) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
      return { kind: 'drop' };
    case 'RETURN':
      return { kind: 'return' };
    case 'REJECT':
      only('filter', name, words, context);
      words.expect('--reject-with');
      return { kind: 'reject', with: rejection(words, protocol, context) };
    case 'MARK': {
      words.expect('--set-xmark');
      const [value, mask] = markAndMask(words);
      return { kind: 'mark', value, mask };
    }
    case 'SET':
      only('mangle', name, words, context);
      return mappedMark(words, context);
    case 'TCPMSS': {
      only('mangle', name, words, context);
      words.expect('--set-mss');
      const size = Number(words.next());
      if (!Number.isInteger(size) || size < 500 || size > 65_495) throw words.error(`segment size ${size}`);
      return { kind: 'none' };
    }
    case 'SNAT':
      only('nat', name, words, context);
      words.expect('--to-source');
      return newSource(words, sourceAddress(words, context));
    case 'MASQUERADE':
      only('nat', name, words, context);
      return newSource(words, undefined);
    case 'NFLOG':
      return log(words);
    default:
      return { kind: 'jump', chain: name };
  }
}

/** The kernel refuses the target in any other table. */
function only(table: IptablesTable, name: string, words: RuleWords, context: RuleContext): void {
  if (context.table !== table) throw words.error(`${name} in table ${context.table}`);
}

/** `-j SET --map-set NAME dst,dst --map-mark`: the kernel looks for the packet in the set, and goes on whether it is there or not. */
function mappedMark(words: RuleWords, context: RuleContext): Target {
  words.expect('--map-set');
  const { set, sides } = setAndSides(words, context);
  words.expect('--map-mark');
  if (set.head.carriesMarks !== true) throw words.error(`elements of set ${set.head.name} carry no marks`);
  return { kind: 'mapped mark', asks: { set, sides }, markOf: packet => markOf(set.find(packet, sides) ?? '') };
}

function sourceAddress(words: RuleWords, { family }: RuleContext): IpAddress {
  const text = words.next();
  const address = parseAddress(text);
  if (address === undefined || address !== text || familyOf(address) !== family) throw words.error(`address ${text}`);
  return address;
}

/** Which port of the source it chooses makes no difference here. */
function newSource(words: RuleWords, address: IpAddress | undefined): Target {
  words.take('--random-fully');
  return { kind: 'new source', address };
}

function rejection(words: RuleWords, protocol: string, { family }: RuleContext): string {
  const how = words.next();
  const known = family === 'ipv4' ? ['icmp-port-unreachable', 'icmp-proto-unreachable'] : ['icmp6-port-unreachable'];
  if (!known.includes(how) && !(how === 'tcp-reset' && protocol === 'tcp')) throw words.error(`reject with ${how}`);
  return how;
}

/** The kernel cuts a prefix that is longer than 63 bytes; the tool refuses it. */
function log(words: RuleWords): Target {
  words.expect('--nflog-prefix');
  const text = words.next();
  const { length } = new TextEncoder().encode(text);
  if (length > 63) throw words.error(`prefix of ${length} bytes`);
  words.expect('--nflog-group');
  if (words.next() !== '100') throw words.error('NFLOG group');
  return { kind: 'log', prefix: text };
}
