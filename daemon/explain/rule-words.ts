/** An iptables rule word by word. */
import { ruleWords } from '../net/words.ts';

/** Reads words one by one. */
export class RuleWords {
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

  error(reason: string): UntraceableRule {
    return new UntraceableRule(reason, this.#rule);
  }
}

/** A rule with a word that is not known here, or that the kernel would refuse. Never leaves this folder: see `readRule`. */
export class UntraceableRule extends Error {
  readonly reason: string;

  constructor(reason: string, rule: string) {
    super(`rule cannot be traced, ${reason}: ${rule}`);
    this.reason = reason;
  }
}

/** `0x10000/0x10000`; without a mask all bits count. */
export function markAndMask(words: RuleWords): readonly [number, number] {
  const text = words.next();
  const [, value, mask] = /^(0x[0-9a-f]+)(?:\/(0x[0-9a-f]+))?$/.exec(text) ?? [];
  if (value === undefined) throw words.error(`mark ${text}`);
  return [Number(value), Number(mask ?? 0xffffffff)];
}
