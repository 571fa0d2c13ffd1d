/**
 * One iptables rule as a predicate over packets and a target, read from the text that `iptables-save` prints. Knows the words that our
 * plans use; a rule with any other is unknown, so that no condition goes unnoticed.
 */
import { parsePrefix } from '../net/prefix.ts';
import { prefixBits } from './address-bits.ts';
import { parseTarget, type RuleContext, setAndSides, type Target } from './rule-target.ts';
import { markAndMask, RuleWords, UntraceableRule } from './rule-words.ts';
import type { SetLookup, Side } from './set-lookup.ts';
import type { TracedPacket } from './traced-packet.ts';

export type Match = (packet: TracedPacket) => boolean;

/** A set that a rule asks, for which addresses of the packet. */
export interface AskedSet {
  readonly set: SetLookup;
  readonly sides: readonly Side[];
}

export interface Rule {
  readonly text: string;
  /** All must hold; in the rule's order. */
  readonly matches: readonly Match[];
  readonly target: Target;
  /** Sets that the matches and the target ask. */
  readonly sets: readonly AskedSet[];
}

/** As {@link parseRule}; what it cannot read is a rule that takes no packet and says why. */
export function readRule(text: string, context: RuleContext): Rule {
  try {
    return parseRule(text, context);
  } catch (thrown) {
    if (!(thrown instanceof UntraceableRule)) throw thrown;
    return { text, matches: [], target: { kind: 'unknown', reason: thrown.reason }, sets: [] };
  }
}

/** Throws where a word is not known. */
export function parseRule(text: string, context: RuleContext): Rule {
  const words = new RuleWords(text);
  const matches: Match[] = [];
  const sets: AskedSet[] = [];
  let protocol = '';
  while (!words.isAtEnd() && words.peek() !== '-j' && words.peek() !== '-g') {
    const isNegated = words.take('!');
    const option = words.next();
    if (option === '-p') protocol = isNegated ? '' : (words.peek() ?? '');
    const match = option === '-m' && !isNegated ? extension(words, protocol, context, sets) : basic(option, words, context);
    if (match !== undefined) matches.push(isNegated ? packet => !match(packet) : match);
  }
  const target = parseTarget(words, protocol, context);
  if (target.kind === 'mapped mark') sets.push(target.asks);
  return { text, matches, target, sets };
}

function basic(option: string, words: RuleWords, context: RuleContext): Match {
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
function prefix(words: RuleWords, { family }: RuleContext): string {
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
function extension(words: RuleWords, protocol: string, context: RuleContext, sets: AskedSet[]): Match | undefined {
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
      // What is traced opens a connection: of TCP, SYN alone.
      if (name === 'tcp' && words.take('--tcp-flags')) {
        const [mask, flags] = [words.next(), words.next()];
        if (mask !== 'SYN,RST' || flags !== 'SYN') throw words.error(`flags ${mask} ${flags}`);
        return ({ protocol: of }) => of === 'tcp';
      }
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
      return option(words, '--match-set', () => matchSet(words, context, sets));
    case 'conntrack':
      if (words.take('--ctdir')) return direction(words);
      return option(words, '--ctstate', () => states(words));
    case 'ipvs':
      return balanced(words);
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
function option(words: RuleWords, name: string, read: () => Match): Match {
  const isNegated = words.take('!');
  words.expect(name);
  const match = read();
  return isNegated ? packet => !match(packet) : match;
}

function ports(items: readonly string[], words: RuleWords): Match {
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
function multiport(words: RuleWords): Match {
  const items = words.next().split(',');
  const places = items.reduce((sum, item) => sum + (item.includes(':') ? 2 : 1), 0);
  if (places > 15) throw words.error(`${places} ports in one -m multiport`);
  return ports(items, words);
}

function icmpType(words: RuleWords): Match {
  const text = words.next();
  const [, type, code] = /^([0-9]+)(?:\/([0-9]+))?$/.exec(text) ?? [];
  if (type === undefined) throw words.error(`ICMP type ${text}`);
  return packet => packet.icmpType === Number(type) && (code === undefined || packet.icmpCode === Number(code));
}

function matchSet(words: RuleWords, context: RuleContext, sets: AskedSet[]): Match {
  const asked = setAndSides(words, context);
  sets.push(asked);
  return packet => asked.set.find(packet, asked.sides) !== undefined;
}

function states(words: RuleWords): Match {
  const known = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'];
  const wanted = words.next().split(',');
  if (!wanted.every(state => known.includes(state))) throw words.error(`state ${wanted.join()}`);
  return packet => wanted.includes(packet.state);
}

function direction(words: RuleWords): Match {
  const wanted = words.next();
  if (wanted !== 'ORIGINAL' && wanted !== 'REPLY') throw words.error(`direction ${wanted}`);
  return packet => packet.isReply === (wanted === 'REPLY');
}

/** `--ipvs` is implied: packets that IPVS does not forward match none of the others. */
function balanced(words: RuleWords): Match {
  if (words.take('--ipvs')) return packet => packet.balanced !== undefined;
  words.expect('--vdir');
  const isDirection = direction(words);
  words.expect('--vmethod');
  const method = words.next();
  return packet => packet.balanced === method && isDirection(packet);
}

function addressType(words: RuleWords): Match {
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
