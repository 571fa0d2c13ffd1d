/**
 * What a client or a server in one namespace can do and what it then sees. Servers answer with who they are and whom they see, so that a
 * client learns in one exchange which backend served it and which source address arrived there.
 */
import { constants } from 'node:os';
import type { Agent, Exchange } from './agent.ts';

export type Transport = 'tcp' | 'udp' | 'sctp';

/** A server's answer, as it saw the exchange. */
export interface Answer {
  readonly outcome: 'answer';
  /** The name the server was started with. */
  readonly server: string;
  /** The client's address and port as they arrived at the server. */
  readonly peer: string;
  readonly peerPort: number;
  /** The server's own end. */
  readonly local: string;
  readonly localPort: number;
}

/** How an attempt ended without an answer. */
export interface NoAnswer {
  /**
   * `refused`: an RST or an ICMP error came back at once. `reset`: an established connection was reset. `closed`: the other side ended it.
   * `timeout`: silence. `failed`: the sending side's own error (no route, address not ours).
   */
  readonly outcome: 'refused' | 'reset' | 'closed' | 'timeout' | 'failed';
  /** The error's name (`ECONNREFUSED`, `EHOSTUNREACH`), if there was one. */
  readonly errno?: string;
  /** What was being waited for. */
  readonly during: 'bind' | 'connect' | 'send' | 'answer';
}

export type Reply = Answer | NoAnswer;

export interface Target {
  readonly transport: Transport;
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  readonly port: number;
  /** The client's own address and port; chosen by the kernel unless told. */
  readonly sourceAddress?: string;
  readonly sourcePort?: number;
  /** Milliseconds until the outcome is `timeout`; 2000 unless told. */
  readonly timeoutMs?: number;
}

/** A server that answers until it is ended. */
export interface Server {
  /** Closes the listening socket and every connection it has accepted. */
  end(): void;
}

/** A connection (or a UDP socket with a fixed source port) that stays open between exchanges. */
export interface Connection {
  /** What came back when it was opened. */
  readonly opened: Reply;
  /** Sends a line and waits for the server's next answer. */
  say(text: string, timeoutMs?: number): Promise<Reply>;
  close(): void;
}

export class Probe {
  /** The namespace it acts in. */
  readonly namespace: string;
  readonly #agent: Agent;

  constructor(agent: Agent, namespace: string) {
    this.#agent = agent;
    this.namespace = namespace;
  }

  /**
   * Starts a server. `name` must not contain blanks. For UDP the address must be one of the namespace's own, not `0.0.0.0`: answers leave
   * from it. Rejects with LabError if the address or port cannot be had.
   */
  async serve(transport: Transport, address: string, port: number, name: string): Promise<Server> {
    const started = Promise.withResolvers<void>();
    const exchange = this.#agent.open('serve', [this.namespace, transport, address, String(port), name], {
      told: () => started.resolve(),
      failed: started.reject,
    });
    await started.promise;
    return { end: () => end(exchange) };
  }

  /** One fresh connection (or datagram) and its outcome. */
  async connect(target: Target): Promise<Reply> {
    const [outcome, text] = await this.#agent.ask('connect', ...this.#fields(target));
    return reply(String(outcome), String(text));
  }

  /** Fresh connections one after the other, in one request. */
  async burst(target: Target, count: number): Promise<readonly Reply[]> {
    const fields = await this.#agent.ask('burst', String(count), ...this.#fields(target));
    const replies: Reply[] = [];
    for (let at = 0; at + 1 < fields.length; at += 2) replies.push(reply(String(fields[at]), String(fields[at + 1])));
    return replies;
  }

  /** Opens a connection and keeps it, whatever the outcome: see `opened`. */
  async hold(target: Target): Promise<Connection> {
    const first = Promise.withResolvers<Reply>();
    const waiting = [first];
    const exchange = this.#agent.open('hold', this.#fields(target), {
      told: (verb, [outcome, text]) => {
        if (verb === 'result') waiting.shift()?.resolve(reply(String(outcome), String(text)));
      },
      failed: error => {
        for (const next of waiting.splice(0)) next.reject(error);
      },
    });
    const opened = await first.promise;
    return {
      opened,
      say: async (text, timeoutMs = 2000) => {
        const next = Promise.withResolvers<Reply>();
        waiting.push(next);
        exchange.send('say', text, String(timeoutMs));
        return await next.promise;
      },
      close: () => end(exchange),
    };
  }

  #fields(target: Target): string[] {
    return targetFields(this.namespace, target);
  }
}

/** A target as the agent takes it. */
export function targetFields(namespace: string, target: Target): string[] {
  const { transport, address, port, sourceAddress = '', sourcePort = 0, timeoutMs = 2000 } = target;
  return [namespace, transport, address, String(port), sourceAddress, String(sourcePort), String(timeoutMs)];
}

/** How often each server answered; replies without an answer are counted under their outcome (`refused`, `timeout`). */
export function tally(replies: readonly Reply[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const one of replies) {
    const name = one.outcome === 'answer' ? one.server : one.outcome;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

function end(exchange: Exchange): void {
  // Requests are carried out in order: what is asked after this finds the port free.
  exchange.send('end');
  exchange.close();
}

const REFUSALS: ReadonlySet<string> = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EACCES', 'ENOPROTOOPT', 'EPROTO']);

/** An outcome as the agent tells it. */
export function reply(outcome: string, text: string): Reply {
  if (outcome === 'answer') {
    const [server = '', peer = '', peerPort = '', local = '', localPort = ''] = text.split(' ');
    return { outcome, server, peer, peerPort: Number(peerPort), local, localPort: Number(localPort) };
  }
  const during = text === 'bind' || text === 'connect' || text === 'send' ? text : 'answer';
  if (outcome === 'timeout' || outcome === 'closed') return { outcome, during };
  const errno = errnoName(Number(outcome.replace('errno ', '')));
  if (during === 'bind') return { outcome: 'failed', errno, during };
  if (errno === 'ETIMEDOUT') return { outcome: 'timeout', errno, during };
  if (errno === 'ECONNRESET' || errno === 'EPIPE') return { outcome: 'reset', errno, during };
  return { outcome: REFUSALS.has(errno) ? 'refused' : 'failed', errno, during };
}

function errnoName(errno: number): string {
  const known = Object.entries(constants.errno).find(([, number]) => number === errno);
  return known?.[0] ?? `errno ${errno}`;
}
