/**
 * What follows an announcement: the second one (RFC 5227, 2.3: two, two seconds apart), and the question whether another host answers for the address
 * too. An IPv6 address whose test for uniqueness failed, since a former owner was still there, is put on its link again until it is alone.
 */
import { FairwayError } from '../errors.ts';
import { familyOf, HOST_BITS } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { type LanAddress, lanAddressKey } from '../reconcile/service-tables.ts';
import type { CommandRunner } from './command.ts';
import { textOf } from './ip-batch.ts';
import { linksOf, standingOn } from './lan-address.ts';
import {
  additionLines,
  announcementLines,
  answerRemovalLines,
  neighbourOf,
  questionLines,
  removalLines,
} from './lan-address-lines.ts';
import type { LanAddressRecord } from './lan-address-record.ts';

/** `mac` is undefined for IPv6, where the kernel only says that somebody answered. */
export interface Duplicate extends LanAddress {
  readonly mac: string | undefined;
}

export interface LanSecondLookOptions {
  readonly runner: CommandRunner;
  readonly record: LanAddressRecord;
  /** Keys of addresses left to another host, with his hardware address: kept here, and not put on a link meanwhile. */
  readonly left: Map<string, string>;
  /** Keys of those that another host was last seen to answer for: kept here. */
  readonly duplicates: Set<string>;
  readonly clock: Pick<Clock, 'after'>;
  /** Another host answers for the address; once until it does no more. */
  readonly onDuplicate: (duplicate: Duplicate) => void;
  /** It does no more. */
  readonly onAlone: (entry: LanAddress) => void;
  /** Addresses were left to others, or are to be had again: the table is to be read. */
  readonly onMoved: () => void;
  /** A look failed; the next is as ever. */
  readonly onTrouble: (error: FairwayError) => void;
}

/**
 * Milliseconds: between the two announcements; from a question to the look for answers; between looks at a duplicate, doubling. Of a node that learns nothing:
 * until it asks for the first time, longer than an API server takes to start anew, and between two times.
 */
const WAIT_MS = { second: 2000, answers: 1000, longest: 60_000, blind: 15_000, patrol: 30_000 };

/** Looked at together: each has an entry in the kernel's table of neighbours meanwhile, which is for others (gc_thresh1 is 128). */
const AT_ONCE = 64;

interface Due {
  readonly entry: LanAddress;
  /** Whether it is to be announced as well. */
  readonly task: 'announce' | 'ask';
  readonly waitMs: number;
}

export class LanSecondLook {
  readonly #options: LanSecondLookOptions;
  readonly #stopping = new AbortController();
  readonly #due = new Map<string, Due>();
  readonly #duplicates: Set<string>;
  /** Keys of addresses left to another host, with his hardware address. */
  readonly #left: Map<string, string>;
  /** Keys of those that nobody else had for a moment: not left once more, or two who are blind would step back and forth together. */
  readonly #retaken = new Set<string>();
  readonly #cancels = new Set<() => void>();
  #cancelPatrol: (() => void) | undefined;
  #isWaiting = false;
  #looking: Promise<unknown> = Promise.resolve();

  constructor(options: LanSecondLookOptions) {
    this.#options = options;
    this.#left = options.left;
    this.#duplicates = options.duplicates;
  }

  /**
   * Whether this node learns no more which node is to answer for what. It may have been given up by the others then, who see that it is not heard: so it
   * looks again and again who else answers, and leaves him what it had. It is the one that knows less.
   */
  blind(isBlind: boolean): void {
    if (isBlind === (this.#cancelPatrol !== undefined)) return;
    this.#cancelPatrol?.();
    this.#cancelPatrol = isBlind ? this.#after(WAIT_MS.blind, () => this.#patrol()) : undefined;
    this.#retaken.clear();
    if (isBlind || this.#left.size === 0) return;
    this.#left.clear();
    this.#options.onMoved();
  }

  #patrol(): void {
    this.#cancelPatrol = this.#after(WAIT_MS.patrol, () => this.#patrol());
    for (const [key, entry] of this.#options.record.entries)
      if (isIpv4(entry) && !this.#due.has(key) && !this.#duplicates.has(key))
        this.#due.set(key, { entry, task: 'ask', waitMs: WAIT_MS.second });
    this.add([]);
  }

  /** They were announced once, or a link of theirs came back. */
  add(entries: Iterable<LanAddress>): void {
    for (const entry of entries) this.#due.set(lanAddressKey(entry), { entry, task: 'announce', waitMs: WAIT_MS.second });
    if (this.#due.size > 0 && !this.#isWaiting) {
      this.#isWaiting = true;
      this.#after(WAIT_MS.second, () => this.#round());
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('nothing is announced any more'));
    for (const cancel of this.#cancels) cancel();
    await this.#looking;
  }

  #after(milliseconds: number, work: () => unknown): () => void {
    if (this.#stopping.signal.aborted) return () => undefined;
    const cancel = this.#options.clock.after(milliseconds, () => {
      this.#cancels.delete(cancel);
      this.#looking = this.#looking.then(work).catch((thrown: unknown) => {
        if (this.#stopping.signal.aborted) return;
        if (!(thrown instanceof FairwayError)) throw thrown;
        this.#options.onTrouble(thrown);
      });
    });
    this.#cancels.add(cancel);
    return cancel;
  }

  /** Announces and asks; the answers are looked for later. */
  async #round(): Promise<void> {
    this.#isWaiting = false;
    const due = [...this.#due.values()].slice(0, AT_ONCE);
    for (const { entry } of due) this.#due.delete(lanAddressKey(entry));
    // More than are looked at together wait for another turn.
    this.add([]);
    await this.#options.record.exclusively(async () => {
      const kept = due.filter(({ entry }) => this.#isOurs(entry) || this.#left.has(lanAddressKey(entry)));
      this.#after(WAIT_MS.answers, () => this.#judge(kept));
      await this.#batch(
        kept.flatMap(({ entry, task }) => [...(task === 'announce' ? announcementLines(entry) : []), ...questionLines(entry)]),
      );
    });
  }

  async #judge(asked: readonly Due[]): Promise<void> {
    const entries = asked.map(({ entry }) => entry);
    const macs = await this.#answers(linksOf(entries.filter(isIpv4)));
    await this.#batch(entries.flatMap(answerRemovalLines));
    await this.#options.record.exclusively(async () => {
      const links = linksOf(entries.filter(entry => !isIpv4(entry)));
      const standing = await standingOn(this.#options.runner, links, this.#stopping.signal);
      const again: string[] = [];
      const left: LanAddress[] = [];
      for (const each of asked) {
        const { entry } = each;
        const key = lanAddressKey(entry);
        const mac = macs.get(key);
        if (this.#left.has(key)) this.#judgeLeft(each, mac);
        if (!this.#isOurs(entry)) continue;
        const states = standing.get(key);
        if (mac === undefined && states?.has('duplicate') !== true) {
          this.#isAlone(each, states?.has('tentative') === true);
          continue;
        }
        if (mac !== undefined && this.#isSuccessor(key)) {
          this.#options.onDuplicate({ ...entry, mac });
          this.#duplicates.add(key);
          this.#judgeLeft(each, mac);
          left.push(entry);
          continue;
        }
        this.#isDuplicate(each, mac);
        if (!isIpv4(entry)) again.push(...removalLines(entry), ...additionLines(entry));
      }
      await this.#batch(again);
      await this.#leave(left);
    });
  }

  /** Who answered before we were blind is none. */
  #isSuccessor(key: string): boolean {
    return this.#cancelPatrol !== undefined && !this.#duplicates.has(key) && !this.#retaken.has(key);
  }

  async #leave(entries: readonly LanAddress[]): Promise<void> {
    if (entries.length === 0) return;
    const keys = entries.map(lanAddressKey);
    this.#options.record.startLeaving(keys);
    await this.#batch(entries.flatMap(removalLines));
    await this.#options.record.remove(keys);
    this.#options.onMoved();
  }

  #judgeLeft(each: Due, mac: string | undefined): void {
    const key = lanAddressKey(each.entry);
    if (mac !== undefined) {
      this.#left.set(key, mac);
      // Without pause: as soon as our kubelet is heard again he gives it up, and we may be the last to know.
      this.#lookAgain({ ...each, waitMs: WAIT_MS.second });
      return;
    }
    this.#left.delete(key);
    this.#retaken.add(key);
    this.#isAlone(each, false);
    this.#options.onMoved();
  }

  /** Who answered on these links, by the key of the address. */
  async #answers(links: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const macs = new Map<string, string>();
    for (const link of links) {
      const argv = ['ip', '-o', '-4', 'neigh', 'show', 'dev', link] as const;
      const onLine = (line: string): void => {
        const neighbour = neighbourOf(line);
        if (neighbour !== undefined) macs.set(lanAddressKey({ link, address: neighbour.address }), neighbour.mac);
      };
      await this.#options.runner.lines({ argv }, onLine, this.#stopping.signal);
    }
    return macs;
  }

  #isAlone({ entry }: Due, isTested: boolean): void {
    if (isTested) this.#lookAgain({ entry, task: 'ask', waitMs: WAIT_MS.second });
    else if (this.#duplicates.delete(lanAddressKey(entry))) this.#options.onAlone(entry);
  }

  #isDuplicate({ entry, waitMs }: Due, mac: string | undefined): void {
    if (!this.#duplicates.has(lanAddressKey(entry))) this.#options.onDuplicate({ ...entry, mac });
    this.#duplicates.add(lanAddressKey(entry));
    this.#lookAgain({ entry, task: 'ask', waitMs: Math.min(waitMs * 2, WAIT_MS.longest) });
  }

  #lookAgain(due: Due): void {
    this.#after(due.waitMs - WAIT_MS.second, () => {
      const key = lanAddressKey(due.entry);
      if (this.#due.has(key) || !(this.#left.has(key) || this.#isOurs(due.entry))) return;
      this.#due.set(key, due);
      this.add([]);
    });
  }

  /** Not one that was taken away meanwhile. */
  #isOurs({ link, address }: LanAddress): boolean {
    const prefixLength = HOST_BITS[familyOf(address)];
    return this.#options.record.standingOf({ link, address, prefixLength }) === 'ours';
  }

  /** What is refused (a link that went) shows in the next look, or in the table's. */
  async #batch(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await this.#options.runner.run({ argv: ['ip', '-force', '-batch', '-'], stdin: textOf(lines) }, this.#stopping.signal);
  }
}

function isIpv4({ address }: LanAddress): boolean {
  return familyOf(address) === 'ipv4';
}
