/**
 * A packet's walk through the chains of one table of iptables: what the kernel would do with hooks, chains and sets (iptables(8), ipset(8)).
 * A rule that is not known takes no packet, and the walk says that it met one.
 */
import type { IpAddress } from '../net/address.ts';
import type { Rule } from './rule-match.ts';
import type { TracedPacket } from './traced-packet.ts';

export interface Walk {
  /** `fall through`: the hooks are done, and the rest of the built-in chain decides. `endless`: chains that lead in a circle, which the kernel refuses. */
  readonly verdict: 'accept' | 'drop' | 'reject' | 'new source' | 'fall through' | 'endless';
  /** `tcp-reset` ... of a reject, else ''. */
  readonly rejectWith: string;
  /** Of a new source; undefined for the address of the link. */
  readonly source: IpAddress | undefined;
  /** Prefixes of the NFLOG rules it met. */
  readonly logged: readonly string[];
  /** Rules that were looked at, those that did not match and the hooks among them. */
  readonly rules: number;
  /** The mark it leaves with. */
  readonly mark: number;
}

/** Called for every rule that is looked at. */
export type Observer = (chain: string, rule: Rule, isMatch: boolean, mark: number) => void;

/** The rules of a chain, built-in ones too; undefined where there is none. */
export type Chains = (name: string) => readonly Rule[] | undefined;

/** More than any sane walk: chains that go round in a circle are refused by the kernel. */
const MOST_RULES = 100_000;

/** From the start of a chain; the packet's mark may be another afterwards. */
export function walkChains(chains: Chains, start: string, packet: TracedPacket, observe: Observer = () => {}): Walk {
  const logged: string[] = [];
  let rules = 0;
  let here = { chain: start, at: 0 };
  /** Where jumps came from; a goto leaves no trace, so that its chain returns where the one before it would have. */
  const callers: { chain: string; at: number }[] = [];
  const end = (verdict: Walk['verdict'], more: { rejectWith?: string; source?: IpAddress | undefined } = {}): Walk => ({
    verdict,
    rejectWith: '',
    source: undefined,
    ...more,
    logged,
    rules,
    mark: packet.mark,
  });
  for (;;) {
    const rule = chains(here.chain)?.[here.at];
    const returnsNow = rule === undefined;
    if (!returnsNow) {
      if (++rules > MOST_RULES) return end('endless');
      const isMatch = rule.target.kind !== 'unknown' && rule.matches.every(match => match(packet));
      observe(here.chain, rule, isMatch, packet.mark);
      here = { chain: here.chain, at: here.at + 1 };
      if (!isMatch) continue;
    }
    const target = returnsNow ? ({ kind: 'return' } as const) : rule.target;
    switch (target.kind) {
      case 'none':
      case 'unknown':
        break;
      case 'accept':
      case 'drop':
        return end(target.kind);
      case 'reject':
        return end('reject', { rejectWith: target.with });
      case 'new source':
        return end('new source', { source: target.address });
      case 'mark':
        packet.mark = marked(packet.mark, target);
        break;
      case 'mapped mark':
        packet.mark = marked(packet.mark, target.markOf(packet) ?? { value: 0, mask: 0 });
        break;
      case 'log':
        logged.push(target.prefix);
        break;
      case 'return': {
        const caller = callers.pop();
        if (caller === undefined) return end('fall through');
        here = caller;
        break;
      }
      case 'jump':
        callers.push(here);
        here = { chain: target.chain, at: 0 };
        break;
      case 'goto':
        here = { chain: target.chain, at: 0 };
        break;
    }
  }
}

/** `--set-xmark`, and marks of elements of sets. */
function marked(mark: number, { value, mask }: { readonly value: number; readonly mask: number }): number {
  return ((mark & ~mask) ^ value) >>> 0;
}
