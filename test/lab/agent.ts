/**
 * The test's side of the lab's agent (`agent.pl`), the one process that starts programs, touches files and opens sockets in the namespaces
 * of the lab. Every request opens an exchange with a number; answers carry the number. When the agent ends, every open exchange fails.
 */
import type { Readable, Writable } from 'node:stream';
import { encodeFrame, FrameReader } from './frames.ts';

/** A running agent as seen from here: a guest (see guest.ts) or a child process on this machine. */
export interface AgentProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How many bytes `stdin` takes before the agent has read them; see CONSOLE_WINDOW in guest.ts. */
  readonly inputWindow: number;
  /** Never rejects. `console` is what the kernel said last, if it was a guest that died. */
  readonly exited: Promise<{ readonly status: number; readonly console: string }>;
  kill(): void;
}

/** What was asked cannot be done; the message is the agent's (`bind tcp 10.0.0.1 port 80: Address already in use`). */
export class LabError extends Error {
  override readonly name: string = 'LabError';
}

/** The place ended under the test, or was closed. */
export class LabGone extends LabError {
  override readonly name = 'LabGone';
}

/** What an exchange is told. `failure` ends it: the agent refused the request or is gone. */
export interface Listener {
  told(verb: string, fields: readonly Buffer[]): void;
  failed(error: LabError): void;
}

/** One open exchange. */
export interface Exchange {
  /** Says more within the exchange, such as `stdin` of a process. */
  send(verb: string, ...fields: readonly (string | Uint8Array)[]): void;
  /** Forgets the exchange: nothing more is told. */
  close(): void;
}

export class Agent {
  /** Settles when the place is gone. Never rejects. */
  readonly gone: Promise<LabGone>;
  readonly #process: AgentProcess;
  readonly #listeners = new Map<string, Listener>();
  #nextNumber = 1;
  #goneBecause: LabGone | undefined;
  #stderr = '';
  readonly #outbox: Buffer[] = [];
  /** Bytes written that the agent has not read yet. */
  #unread = 0;
  readonly #ready: Promise<void>;

  constructor(process: AgentProcess) {
    this.#process = process;
    const ready = Promise.withResolvers<void>();
    this.#ready = ready.promise;
    this.#ready.catch(() => {});
    this.#listeners.set('', {
      told: (verb, [count]) => {
        if (verb === 'ready') ready.resolve();
        if (verb === 'got') this.#unread -= Number(String(count));
        this.#flush();
      },
      failed: ready.reject,
    });
    const reader = new FrameReader();
    process.stdout.on('data', (chunk: Buffer) => {
      for (const [number, verb, ...fields] of reader.push(chunk)) this.#deliver(String(number), String(verb), fields);
    });
    process.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + String(chunk)).slice(-4000);
    });
    this.gone = process.exited.then(exit => this.#end(exit));
  }

  /** Resolves when the agent takes requests. Nothing may be written before: a guest's console loses sight of bytes that come too early. */
  async ready(): Promise<void> {
    await this.#ready;
  }

  /** Asks for something with one answer: its fields, after the verb. Rejects with LabError. */
  async ask(verb: string, ...fields: readonly (string | Uint8Array)[]): Promise<readonly Buffer[]> {
    const answer = Promise.withResolvers<readonly Buffer[]>();
    const exchange = this.open(verb, fields, {
      told: (_verb, told) => answer.resolve(told),
      failed: answer.reject,
    });
    try {
      return await answer.promise;
    } finally {
      exchange.close();
    }
  }

  /** Opens an exchange with several answers. */
  open(verb: string, fields: readonly (string | Uint8Array)[], listener: Listener): Exchange {
    const number = String(this.#nextNumber++);
    if (this.#goneBecause === undefined) this.#listeners.set(number, listener);
    else listener.failed(this.#goneBecause);
    const send = (word: string, ...more: readonly (string | Uint8Array)[]): void => {
      if (this.#goneBecause !== undefined) return;
      this.#outbox.push(encodeFrame([number, word, ...more]));
      this.#flush();
    };
    send(verb, ...fields);
    return { send, close: () => this.#listeners.delete(number) };
  }

  /** Ends the agent and with it every program, socket and namespace of the place. */
  async close(): Promise<void> {
    this.open('leave', [], { told: () => {}, failed: () => {} });
    const patience = setTimeout(() => this.#process.kill(), 2000);
    await this.gone;
    clearTimeout(patience);
  }

  #flush(): void {
    for (;;) {
      const next = this.#outbox[0];
      const room = this.#process.inputWindow - this.#unread;
      if (next === undefined || room <= 0) return;
      const part = next.subarray(0, room);
      if (part.byteLength === next.byteLength) this.#outbox.shift();
      else this.#outbox[0] = next.subarray(room);
      this.#unread += part.byteLength;
      this.#process.stdin.write(part);
    }
  }

  #deliver(number: string, verb: string, fields: readonly Buffer[]): void {
    const listener = this.#listeners.get(number);
    if (listener === undefined) return;
    if (verb === 'error') listener.failed(new LabError(String(fields[0])));
    else listener.told(verb, fields);
  }

  #end(exit: { readonly status: number; readonly console: string }): LabGone {
    const said = [this.#stderr.trim(), exit.console].filter(text => text !== '').join('\n');
    const error = new LabGone(`the lab ended with status ${exit.status}${said === '' ? '' : `:\n${said}`}`);
    this.#goneBecause = error;
    for (const listener of this.#listeners.values()) listener.failed(error);
    this.#listeners.clear();
    return error;
  }
}
