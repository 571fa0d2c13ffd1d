/** Load on Services from one host: many connections of several kinds at once, made by one small process, each with its outcome. */
import type { LabHost } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { type Reply, reply, type Transport } from '../probe.ts';
import type { LabProcess } from '../process.ts';

export interface Stream {
  /**
   * `short`: a fresh connection each time. `keep`: connections that ask each time and are opened again when they end. `flow`: numbered datagrams from
   * one socket.
   */
  readonly kind: 'short' | 'keep' | 'flow';
  readonly transport: Transport;
  readonly address: string;
  readonly port: number;
  readonly everyMs: number;
  /** The client's own port, or the first of `count` that short connections use in turn. */
  readonly sourcePort?: number;
  /** Of `keep`: how many connections; 1 unless told. */
  readonly count?: number;
}

/** One exchange. Times are milliseconds of the lab's clock (`lab.now`). */
export interface Exchange {
  /** The client's name. */
  readonly from: string;
  readonly stream: Stream;
  /** Which of the stream's connections, or which datagram of a flow. */
  readonly number: number;
  /** Whether the connection was being opened. */
  readonly isOpening: boolean;
  readonly began: number;
  readonly ended: number;
  readonly reply: Reply;
}

export class Load {
  readonly from: LabHost;
  /** In the order they ended. */
  readonly exchanges: Exchange[] = [];
  readonly #streams: readonly Stream[];
  readonly #process: LabProcess;

  private constructor(lab: Lab, from: LabHost, streams: readonly Stream[]) {
    this.from = from;
    this.#streams = streams;
    const argv = streams.flatMap(({ kind, transport, address, port, everyMs, sourcePort = 0, count = 1 }) =>
      [kind, transport, address, port, everyMs, sourcePort, count].map(String),
    );
    this.#process = lab.startDaemon(from, ['perl', 'test/lab/traffic/load.pl', ...argv], {
      onLine: ({ text }) => this.#take(text),
    });
  }

  /** Resolves when each stream has had an answer; unless `answered` is false: then at once. */
  static async begin(lab: Lab, from: LabHost, streams: readonly Stream[], { answered = true } = {}): Promise<Load> {
    const load = new Load(lab, from, streams);
    if (answered) await load.#process.waitForLine(/^flowing$/, 15_000);
    return load;
  }

  /** What ended so far of one stream, from one time on. */
  of(stream: Stream, since = 0): readonly Exchange[] {
    return this.exchanges.filter(one => one.stream === stream && one.began >= since);
  }

  /** Waits for the answers on their way. */
  async end(): Promise<readonly Exchange[]> {
    this.#process.endInput();
    const status = await this.#process.exited;
    if (status !== 0)
      throw new Error(`the load from ${this.from.name} ended with status ${status}:\n${this.#process.output.slice(-2000)}`);
    return this.exchanges;
  }

  #take(line: string): void {
    const match = /^(\d+) (\d+) (open|on) (\S+) (\S+) (errno \d+|\S+) (.*)$/.exec(line);
    if (match === null) return;
    const [, index = '', number = '', phase, began, ended, outcome = '', text = ''] = match;
    const stream = this.#streams[Number(index)];
    if (stream === undefined) return;
    this.exchanges.push({
      from: this.from.name,
      stream,
      number: Number(number),
      isOpening: phase === 'open',
      began: Number(began),
      ended: Number(ended),
      reply: reply(outcome, text),
    });
  }
}

/** A retransmitted SYN comes after a second: what takes longer than this lost a packet, or the lab was very busy. */
const LATE_MS = 900;

/** Connections that were not made, or only with a packet sent twice: one line each, none where all is well. */
export function failedOpenings(exchanges: readonly Exchange[]): readonly string[] {
  return exchanges
    .filter(({ stream, isOpening }) => isOpening && stream.kind !== 'flow')
    .filter(({ reply: { outcome }, began, ended }) => outcome !== 'answer' || ended - began > LATE_MS)
    .map(shown);
}

/** Connections that were established and then failed. */
export function cuts(exchanges: readonly Exchange[]): readonly Exchange[] {
  return exchanges.filter(
    ({ stream, isOpening, reply: { outcome } }) => stream.kind === 'keep' && !isOpening && outcome !== 'answer',
  );
}

export interface Fate {
  readonly lastAnswer: number;
  /** When it failed, and how; undefined while it goes on. */
  readonly cutAt: number | undefined;
  readonly cutBy: Reply | undefined;
}

/** What became of the connections that were kept, by the endpoint that answered when they were opened: of each endpoint's the first. */
export function fates(exchanges: readonly Exchange[]): ReadonlyMap<string, Fate> {
  const fate = new Map<string, Fate>();
  const endpointOf = new Map<string, string>();
  for (const { stream, number, isOpening, ended, reply: one } of exchanges) {
    if (stream.kind !== 'keep') continue;
    const connection = `${stream.address} ${number}`;
    // Those that take the place of one that was cut are not the endpoint's first.
    if (isOpening && one.outcome === 'answer' && !fate.has(one.server)) endpointOf.set(connection, one.server);
    const server = endpointOf.get(connection);
    if (server === undefined) continue;
    if (one.outcome === 'answer') fate.set(server, { lastAnswer: ended, cutAt: undefined, cutBy: undefined });
    else fate.set(server, { lastAnswer: fate.get(server)?.lastAnswer ?? 0, cutAt: ended, cutBy: one });
  }
  return fate;
}

/** Datagrams of flows without an answer. */
export function lost(exchanges: readonly Exchange[]): readonly Exchange[] {
  return exchanges.filter(({ stream, reply: { outcome } }) => stream.kind === 'flow' && outcome !== 'answer');
}

export function shown({ from, stream, number, began, ended, reply: { outcome, ...rest } }: Exchange): string {
  const { kind, transport, address, port } = stream;
  const how = 'during' in rest ? `${outcome} during ${rest.during} ${rest.errno ?? ''}` : `${outcome} of ${rest.server}`;
  return `${from}: ${kind} ${transport} ${address}:${port} #${number} at ${Math.round(began)} after ${Math.round(ended - began)} ms: ${how}`;
}

/** Who answered, in the order of asking, repetitions left out: `pod-1-1 timeout pod-2-1`. */
export function turns(exchanges: readonly Exchange[]): string {
  const names = exchanges.toSorted((one, other) => one.began - other.began).map(({ reply: one }) => serverOf(one));
  return names.filter((name, index) => name !== names[index - 1]).join(' ');
}

export function serverOf(one: Reply): string {
  return one.outcome === 'answer' ? one.server : one.outcome;
}
