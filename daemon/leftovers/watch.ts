/** The daemon's eye on what predecessors left: told once after the start, and with `--take-over` removed when ours is in force and they run no more. */
import type { Predecessor } from '../config/options-commands.ts';
import { messageOf } from '../errors.ts';
import type { CommandRunner } from '../kernel/command.ts';
import type { Clock } from '../net/clock.ts';
import type { Log } from '../observe/log.ts';
import type { runningAs } from './running.ts';
import { nftTables } from './set-sweep.ts';
import { sweep, TRACES } from './sweep.ts';
import type { Ground } from './sweeping.ts';

export interface LeftoverWatchOptions {
  readonly ground: Omit<Ground, 'runner'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly running: typeof runningAs;
  readonly hasLink: (name: string) => Promise<boolean>;
  /** Whose leftovers are removed without being asked again. */
  readonly takeOver: readonly Predecessor[];
  /** Whose leftovers matter to what is switched on. */
  readonly concerns: readonly Predecessor[];
  /** `first round`: ours is there as far as it could be made; `whole`: and nothing of it failed. */
  readonly progress: () => 'none' | 'first round' | 'whole';
}

/** Milliseconds between two looks while something is waited for: doubling. */
const PAUSE_MS = { first: 500, longest: 30_000 };
/** Chains that one line of the log names. */
const NAMED = 3;

export class LeftoverWatch {
  readonly #options: LeftoverWatchOptions;
  readonly #abort = new AbortController();
  /** Chains of predecessors that readings for other ends have shown. */
  readonly #chains = new Set<string>();
  readonly #pending: Set<Predecessor>;
  /** What was said last of each, so that it is said once. */
  readonly #said = new Map<Predecessor, string>();
  #cancel: (() => void) | undefined;
  #hasLooked = false;
  #pauseMs = PAUSE_MS.first;
  #work: Promise<void> = Promise.resolve();

  constructor(options: LeftoverWatchOptions) {
    this.#options = options;
    this.#pending = new Set(options.takeOver);
  }

  /** A chain that is not ours, in either flavour of iptables. Costs nothing: rule sets are read anyhow. */
  chainSeen(name: string): void {
    if (!this.#hasLooked && name.startsWith('KUBE-')) this.#chains.add(name);
  }

  /** From now on, by these tools. */
  start(runner: CommandRunner): void {
    this.#arm({ ...this.#options.ground, runner });
  }

  #arm(ground: Ground): void {
    this.#cancel = this.#options.clock.after(this.#pauseMs, () => {
      this.#work = this.#step(ground).catch((thrown: unknown) => {
        if (this.#abort.signal.aborted) return;
        this.#options.log.warn(`what predecessors left cannot be looked at: ${messageOf(thrown)}`, { code: 'FW_COMMAND_FAILED' });
        this.#again(ground);
      });
    });
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error('leftovers are no longer looked at'));
    this.#cancel?.();
    await this.#work;
  }

  /** Resolves when what is under way is done. */
  settled(): Promise<void> {
    return this.#work;
  }

  /** A line for each predecessor that is still to be dealt with, as last seen. */
  remarks(): readonly string[] {
    return [...this.#said.values()];
  }

  async #step(ground: Ground): Promise<void> {
    const progress = this.#options.progress();
    if (progress !== 'none' && !this.#hasLooked) {
      await this.#look(ground);
      this.#hasLooked = true;
      this.#chains.clear();
      this.#pauseMs = PAUSE_MS.first;
    }
    if (progress === 'whole') for (const of of [...this.#pending]) await this.#takeOver(of, ground);
    if (!this.#hasLooked || this.#pending.size > 0) this.#again(ground);
  }

  #again(ground: Ground): void {
    if (this.#abort.signal.aborted) return;
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MS.longest);
    this.#arm(ground);
  }

  /** One process at most, and none where they are to be taken over anyhow. */
  async #look(ground: Ground): Promise<void> {
    const asked = this.#options.concerns.filter(of => !this.#pending.has(of));
    if (asked.length === 0) return;
    const tables = await nftTables(ground, { nftTables: asked.flatMap(of => TRACES[of].nftTables) }, this.#abort.signal);
    for (const of of asked) {
      const signs = await this.#signsOf(of, tables === 'nft is missing' ? [] : tables);
      if (signs.length === 0) continue;
      const how = await this.#options.running(of, this.#abort.signal);
      this.#say(
        of,
        how === undefined
          ? `${of} left its rules here (${signs.join(', ')}): see that it does not come back, then run 'fairway cleanup --of=${of}' or start with --take-over=${of}`
          : `${of} runs here as well (${how}), and each undoes what the other does: delete its DaemonSet or keep it from this node, then run 'fairway cleanup --of=${of}'`,
      );
    }
  }

  async #signsOf(of: Predecessor, nft: readonly string[]): Promise<readonly string[]> {
    const traces = TRACES[of];
    const chains = [...this.#chains].filter(name => ['filter', 'nat', 'mangle'].some(table => traces.isChain(table, name)));
    const tables = nft.filter(table => traces.nftTables.includes(table));
    const { dummy } = traces;
    // kube-router's is ours as well.
    const hasLink = of === 'kube-proxy' && (await this.#options.hasLink(dummy));
    return [
      ...(chains.length === 0 ? [] : [`${chains.length} chains such as ${chains.slice(0, NAMED).join(', ')}`]),
      ...tables.map(table => `table ${table}`),
      ...(hasLink ? [`link ${dummy}`] : []),
    ];
  }

  async #takeOver(of: Predecessor, ground: Ground): Promise<void> {
    const { clock, log } = this.#options;
    const how = await this.#options.running(of, this.#abort.signal);
    if (how !== undefined) {
      this.#say(of, `${of} still runs here (${how}): what it left is removed when it does not any more`);
      return;
    }
    const { counts, left } = await sweep(ground, clock, of, this.#abort.signal);
    if (counts.size > 0)
      log.info(`taken over from ${of}: removed ${[...counts].map(([kind, count]) => `${count} ${kind}`).join(', ')}`);
    if (left.length === 0) {
      this.#pending.delete(of);
      this.#said.delete(of);
    } else this.#say(of, `not all that ${of} left could be removed yet: ${left.join('; ')}`);
  }

  #say(of: Predecessor, text: string): void {
    if (this.#said.get(of) === text) return;
    this.#said.set(of, text);
    this.#options.log.warn(text);
  }
}
