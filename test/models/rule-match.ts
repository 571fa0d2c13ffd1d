/**
 * One iptables rule as a predicate over packets and a target, read from the text that `iptables-save` prints. Knows the words that our
 * plans use; any other throws, so that no condition goes unnoticed.
 */
import { ruleWords } from '../../daemon/kernel/iptables-rule.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import { parsePrefix } from '../../daemon/net/prefix.ts';
import { prefixBits } from './address-bits.ts';
import type { SetLookup, Side } from './set-lookup.ts';

export type ConnectionState = 'NEW' | 'ESTABLISHED' | 'RELATED' | 'INVALID' | 'UNTRACKED';

/** A packet as the matches see it. Ports are -1 where the protocol has none, likewise type and code of ICMP. */
export interface TracedPacket {
  readonly family: Family;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourceBits: string;
  readonly destinationBits: string;
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp' | 'ipv6-icmp';
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType: number;
  readonly icmpCode: number;
  readonly state: ConnectionState;
  readonly isSourceLocal: boolean;
  readonly isDestinationLocal: boolean;
  /** '' where there is none. */
  readonly inLink: string;
  readonly outLink: string;
  /** Rules change it on the way. */
  mark: number;
}

export type Match = (packet: TracedPacket) => boolean;

export type Target =
  | { readonly kind: 'none' }
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'reject'; readonly with: string }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  | { readonly kind: 'log'; readonly prefix: string }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export interface Rule {
  readonly text: string;
  /** All must hold; in the rule's order. */
  readonly matches: readonly Match[];
  readonly target: Target;
}

/** What the rules of one family refer to. Sets by name; one of the wrong family is refused as iptables does. */
export interface RuleContext {
  readonly family: Family;
  readonly sets: ReadonlyMap<string, SetLookup>;
}

/** Reads words one by one. */
class Words {
  readonly #rule: string;
  readonly #words: readonly string[];
  #at = 0;

  constructor(rule: string) {
    this.#rule = rule;
    this.#words = ruleWords(rule);
  }

  isAtEnd(): boolean {
    return this.#at >= this.#words.length;
  }

  peek(): string | undefined {
    return this.#words[this.#at];
  }

  next(): string {
    const word = this.#words[this.#at++];
    if (word === undefined) throw this.error('ends too early');
    return word;
  }

  /** Takes the word if it is the next one. */
  take(word: string): boolean {
    if (this.peek() !== word) return false;
    this.#at++;
    return true;
  }

  expect(word: string): void {
    if (!this.take(word)) throw this.error(`"${word}" expected before "${this.peek() ?? ''}"`);
  }

  error(reason: string): Error {
    return new Error(`rule cannot be traced, ${reason}: ${this.#rule}`);
  }
}

export function parseRule(text: string, context: RuleContext): Rule {
  const words = new Words(text);
  const matches: Match[] = [];
  let protocol = '';
  while (!words.isAtEnd() && words.peek() !== '-j' && words.peek() !== '-g') {
    const isNegated = words.take('!');
    const option = words.next();
    if (option === '-p') protocol = isNegated ? '' : (words.peek() ?? '');
    const match = option === '-m' && !isNegated ? extension(words, protocol, context) : basic(option, words, context);
    if (match !== undefined) matches.push(isNegated ? packet => !match(packet) : match);
  }
  return { text, matches, target: target(words, protocol, context) };
}

function basic(option: string, words: Words, context: RuleContext): Match {
  switch (option) {
    case '-s': {
      const bits = prefix(words, context);
      return packet => packet.sourceBits.startsWith(bits);
    }
    case '-d': {
      const bits = prefix(words, context);
      return packet => packet.destinationBits.startsWith(bits);
    }
    case '-i': {
      const isLink = link(words.next());
      return packet => isLink(packet.inLink);
    }
    case '-o': {
      const isLink = link(words.next());
      return packet => isLink(packet.outLink);
    }
    case '-p': {
      const name = words.next();
      const known = context.family === 'ipv4' ? ['tcp', 'udp', 'sctp', 'icmp'] : ['tcp', 'udp', 'sctp', 'ipv6-icmp'];
      if (!known.includes(name)) throw words.error(`protocol ${name}`);
      return packet => packet.protocol === name;
    }
    default:
      throw words.error(`word ${option}`);
  }
}

/** `-s` and `-d` are printed with their length always, and never with one of zero. */
function prefix(words: Words, { family }: RuleContext): string {
  const text = words.next();
  const parsed = parsePrefix(text);
  if (parsed === undefined || parsed !== text || parsed.endsWith('/0')) throw words.error(`prefix ${text}`);
  if (parsed.includes(':') !== (family === 'ipv6')) throw words.error(`family of ${text}`);
  return prefixBits(parsed);
}

function link(name: string): (name: string) => boolean {
  return name.endsWith('+') ? other => other.startsWith(name.slice(0, -1)) : other => other === name;
}

/** A match after `-m`, with its options; undefined where it holds for every packet. */
function extension(words: Words, protocol: string, context: RuleContext): Match | undefined {
  const name = words.next();
  switch (name) {
    case 'comment':
      words.expect('--comment');
      words.next();
      return undefined;
    case 'limit':
      while (words.peek() === '--limit' || words.peek() === '--limit-burst') {
        words.next();
        words.next();
      }
      return undefined;
    case 'tcp':
    case 'udp':
    case 'sctp':
      if (protocol !== name) throw words.error(`-m ${name} without -p ${name}`);
      return option(words, '--dport', () => ports([words.next()], words));
    case 'multiport':
      if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw words.error('-m multiport without a protocol that has ports');
      return option(words, '--dports', () => multiport(words));
    case 'icmp':
    case 'icmp6': {
      const [wanted, flag] = name === 'icmp' ? ['icmp', '--icmp-type'] : ['ipv6-icmp', '--icmpv6-type'];
      if (protocol !== wanted) throw words.error(`-m ${name} without -p ${wanted}`);
      return option(words, flag, () => icmpType(words));
    }
    case 'set':
      return option(words, '--match-set', () => matchSet(words, context));
    case 'conntrack':
      return option(words, '--ctstate', () => states(words));
    case 'mark':
      return option(words, '--mark', () => {
        const [value, mask] = markAndMask(words);
        return packet => (packet.mark & mask) >>> 0 === value;
      });
    case 'addrtype':
      return addressType(words);
    default:
      throw words.error(`match ${name}`);
  }
}

/** `[!] --option VALUE`, of which there must be one. */
function option(words: Words, name: string, read: () => Match): Match {
  const isNegated = words.take('!');
  words.expect(name);
  const match = read();
  return isNegated ? packet => !match(packet) : match;
}

function ports(items: readonly string[], words: Words): Match {
  const ranges = items.map(item => {
    const [first = '', last = first] = item.split(':');
    if (!/^[0-9]+(:[0-9]+)?$/.test(item) || Number(first) > Number(last) || Number(last) > 65535) {
      throw words.error(`port ${item}`);
    }
    return [Number(first), Number(last)] as const;
  });
  return ({ destinationPort }) => ranges.some(([first, last]) => destinationPort >= first && destinationPort <= last);
}

/** A list has at most 15 places, of which a range takes two (XT_MULTI_PORTS). */
function multiport(words: Words): Match {
  const items = words.next().split(',');
  const places = items.reduce((sum, item) => sum + (item.includes(':') ? 2 : 1), 0);
  if (places > 15) throw words.error(`${places} ports in one -m multiport`);
  return ports(items, words);
}

function icmpType(words: Words): Match {
  const text = words.next();
  const [, type, code] = /^([0-9]+)(?:\/([0-9]+))?$/.exec(text) ?? [];
  if (type === undefined) throw words.error(`ICMP type ${text}`);
  return packet => packet.icmpType === Number(type) && (code === undefined || packet.icmpCode === Number(code));
}

function matchSet(words: Words, { family, sets }: RuleContext): Match {
  const name = words.next();
  const sides = words.next().split(',');
  const set = sets.get(name);
  if (set === undefined) throw words.error(`no set ${name}`);
  if (set.head.family !== family) throw words.error(`set ${name} is of the other family`);
  if (sides.length !== set.dimensions) throw words.error(`set ${name} has ${set.dimensions} dimensions`);
  if (!sides.every((side): side is Side => side === 'src' || side === 'dst')) throw words.error(`sides ${sides.join()}`);
  return packet => set.find(packet, sides);
}

function states(words: Words): Match {
  const known = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'];
  const wanted = words.next().split(',');
  if (!wanted.every(state => known.includes(state))) throw words.error(`state ${wanted.join()}`);
  return packet => wanted.includes(packet.state);
}

function addressType(words: Words): Match {
  const isNegated = words.take('!');
  const side = words.next();
  words.expect('LOCAL');
  const isLocal = (packet: TracedPacket): boolean => {
    if (side === '--src-type') return packet.isSourceLocal;
    if (side === '--dst-type') return packet.isDestinationLocal;
    throw words.error(side);
  };
  if (side !== '--src-type' && side !== '--dst-type') throw words.error(side);
  return isNegated ? packet => !isLocal(packet) : isLocal;
}

/** `0x10000/0x10000`; without a mask all bits count. */
function markAndMask(words: Words): readonly [number, number] {
  const text = words.next();
  const [, value, mask] = /^(0x[0-9a-f]+)(?:\/(0x[0-9a-f]+))?$/.exec(text) ?? [];
  if (value === undefined) throw words.error(`mark ${text}`);
  return [Number(value), Number(mask ?? 0xffffffff)];
}

function target(words: Words, protocol: string, { family }: RuleContext): Target {
  if (words.isAtEnd()) return { kind: 'none' };
  const isGoto = words.next() === '-g';
  const name = words.next();
  const found = isGoto ? { kind: 'goto' as const, chain: name } : jumpTarget(name, words, protocol, family);
  if (!words.isAtEnd()) throw words.error(`word ${words.next()} after the target`);
  return found;
}

function jumpTarget(name: string, words: Words, protocol: string, family: Family): Target {
  switch (name) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
      return { kind: 'drop' };
    case 'RETURN':
      return { kind: 'return' };
    case 'REJECT':
      words.expect('--reject-with');
      return { kind: 'reject', with: rejection(words, protocol, family) };
    case 'MARK': {
      words.expect('--set-xmark');
      const [value, mask] = markAndMask(words);
      return { kind: 'mark', value, mask };
    }
    case 'NFLOG':
      return log(words);
    default:
      return { kind: 'jump', chain: name };
  }
}

function rejection(words: Words, protocol: string, family: Family): string {
  const how = words.next();
  const known = family === 'ipv4' ? ['icmp-port-unreachable', 'icmp-proto-unreachable'] : ['icmp6-port-unreachable'];
  if (!known.includes(how) && !(how === 'tcp-reset' && protocol === 'tcp')) throw words.error(`reject with ${how}`);
  return how;
}

/** The kernel cuts a prefix that is longer than 63 bytes; the tool refuses it. */
function log(words: Words): Target {
  words.expect('--nflog-prefix');
  const text = words.next();
  if (Buffer.byteLength(text) > 63) throw words.error(`prefix of ${Buffer.byteLength(text)} bytes`);
  words.expect('--nflog-group');
  if (words.next() !== '100') throw words.error('NFLOG group');
  return { kind: 'log', prefix: text };
}
