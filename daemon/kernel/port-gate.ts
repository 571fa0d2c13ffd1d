/**
 * Keeps new connections to one TCP port out for a while: their SYNs are dropped, so that whoever calls asks again a second later (RFC 6298), where a
 * connection that is accepted and closed would count as a failure. What is connected already goes on.
 */
import type { Clock } from '../net/clock.ts';
import type { CommandRunner } from './command.ts';
import type { IptablesTools } from './iptables-flavour.ts';

export interface PortGateOptions {
  readonly runner: CommandRunner;
  readonly tools: IptablesTools;
  readonly clock: Clock;
  readonly port: number;
  /** Stands in the rule as a comment. */
  readonly reason: string;
}

export interface PortGate {
  /** Until {@link PortGate.open}, for {@link GATE_LIMIT_MS} at the most. Where iptables does not work it stays open. */
  close(): Promise<void>;
  open(): Promise<void>;
  /** As {@link PortGate.open}, where perhaps a process that was killed closed it. */
  clear(): Promise<void>;
}

/** Milliseconds that a gate stays closed at most, however long its owner takes. */
export const GATE_LIMIT_MS = 30_000;
/** As many rules as processes were killed while theirs was there. */
const MOST_RULES = 8;
/** Seconds to wait for other users of the xtables lock. */
const LOCK_WAIT_SECONDS = 5;
/** Milliseconds that one change takes at most. */
const CHANGE_LIMIT_MS = 10_000;

export function portGate(options: PortGateOptions): PortGate {
  return new Gate(options);
}

class Gate implements PortGate {
  readonly #options: PortGateOptions;
  readonly #rule: string;
  /** Defined while it is closed. */
  #cancelLimit: (() => void) | undefined;

  constructor(options: PortGateOptions) {
    this.#options = options;
    this.#rule = `-p tcp --dport ${options.port} --syn -m comment --comment "${options.reason}" -j DROP`;
  }

  async close(): Promise<void> {
    if (this.#cancelLimit !== undefined) return;
    this.#cancelLimit = this.#options.clock.after(GATE_LIMIT_MS, () => void this.open());
    await this.#change(`-I INPUT ${this.#rule}`);
  }

  async open(): Promise<void> {
    if (this.#cancelLimit === undefined) return;
    this.#cancelLimit();
    this.#cancelLimit = undefined;
    await this.clear();
  }

  async clear(): Promise<void> {
    for (let count = 0; count < MOST_RULES; count++) if (!(await this.#change(`-D INPUT ${this.#rule}`))) return;
  }

  /** Whether a family took it: what cannot be closed is open, and what is not there cannot be deleted. */
  async #change(line: string): Promise<boolean> {
    const { runner, tools } = this.#options;
    const stdin = `*filter\n${line}\nCOMMIT\n`;
    const taken = await Promise.all(
      Object.values(tools.byFamily).map(async ({ restore }) => {
        const argv = [...restore, '--noflush', '-w', String(LOCK_WAIT_SECONDS)] as const;
        const run = runner.run({ argv, stdin, timeoutMs: CHANGE_LIMIT_MS }, new AbortController().signal);
        return run.then(
          ({ status }) => status === 0,
          () => false,
        );
      }),
    );
    return taken.includes(true);
  }
}
