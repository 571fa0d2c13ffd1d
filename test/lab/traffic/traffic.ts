/** Traffic between pods that tells what it met: packets of a length, transfers, and flows of which every packet counts. */
import type { LabHost } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import type { LabProcess } from '../process.ts';

/** Where `echo.pl` answers; it reads what is transferred at the next port, and gives what is fetched at the one after. */
const ECHO_PORT = 7000;
const SINK_PORT = ECHO_PORT + 1;
const SOURCE_PORT = ECHO_PORT + 2;
const FOLDER = 'test/lab/traffic';

/** Makes a host the other end of everything here. */
export async function serveTraffic(lab: Lab, host: LabHost): Promise<void> {
  await lab.startDaemon(host, ['perl', `${FOLDER}/echo.pl`, String(ECHO_PORT)]).waitForLine(/serving/, 10_000);
}

/**
 * How packets of so many bytes, IP header and all, fare that nobody may fragment, by address: `echo`, `silence`, or `too big for 1460` where the sender
 * knows that the path takes no more.
 */
export async function bigPings(
  lab: Lab,
  from: LabHost,
  addresses: readonly string[],
  length: number,
): Promise<Readonly<Record<string, string>>> {
  const printed = await lab.expectRun(from, ['perl', `${FOLDER}/big-ping.pl`, String(length), ...addresses]);
  const words = printed.split('\n');
  return Object.fromEntries(addresses.map((address, index) => [address, words[index] ?? '']));
}

export interface Transfer {
  readonly address: string;
  /** Bytes that arrived. */
  readonly arrived: number;
  /** The sender's address as the receiver saw it. */
  readonly source: string;
  /** Bytes of data in each segment, and of a whole packet, as TCP found out. */
  readonly segment: number;
  readonly pathMtu: number;
}

/** Sends so many bytes by TCP to each address, one after the other. Rejects where one does not get through. */
export async function transfers(
  lab: Lab,
  from: LabHost,
  addresses: readonly string[],
  bytes: number,
): Promise<readonly Transfer[]> {
  const targets = addresses.flatMap(address => [address, String(SINK_PORT)]);
  const printed = await lab.expectRun(from, ['perl', `${FOLDER}/transfer.pl`, String(bytes), ...targets]);
  const lines = printed.split('\n');
  return addresses.map((address, index) => {
    const line = lines[index] ?? '';
    const [arrived = '', source = '', ...numbers] = line.split(' ');
    if (numbers.length !== 2 || arrived === 'failed') throw new Error(`${bytes} bytes from ${from.name} to ${address}: ${line}`);
    const [segment = 0, pathMtu = 0] = numbers.map(Number);
    return { address, arrived: Number(arrived), source, segment, pathMtu };
  });
}

/** Fetches so many bytes by TCP from each address, one after the other, and gives how many came. Rejects where one cannot be asked, or stalls. */
export async function fetches(lab: Lab, from: LabHost, addresses: readonly string[], bytes: number): Promise<readonly number[]> {
  const targets = addresses.flatMap(address => [address, String(SOURCE_PORT)]);
  const printed = await lab.expectRun(from, ['perl', `${FOLDER}/fetch.pl`, String(bytes), ...targets]);
  const lines = printed.split('\n');
  return addresses.map((address, index) => {
    const line = lines[index] ?? '';
    if (!/^\d+$/.test(line)) throw new Error(`${bytes} bytes from ${address} to ${from.name}: ${line}`);
    return Number(line);
  });
}

export interface FlowReport {
  /** `udp 10.244.2.11`. */
  readonly flow: string;
  readonly sent: number;
  readonly answered: number;
  readonly longestWaitMs: number;
  /** When the packets without an answer were sent, in milliseconds since the flow began. */
  readonly missingAtMs: readonly number[];
}

export interface FlowTarget {
  readonly transport: 'udp' | 'tcp';
  readonly address: string;
}

/** Flows from one host that go on until they are ended: a numbered packet each every so many milliseconds, all answered by `echo.pl`. */
export class Flows {
  readonly #from: LabHost;
  readonly #process: LabProcess;
  readonly #count: number;

  private constructor(from: LabHost, process: LabProcess, count: number) {
    this.#from = from;
    this.#process = process;
    this.#count = count;
  }

  /** Resolves when each has had an answer: they are established. */
  static async begin(lab: Lab, from: LabHost, targets: readonly FlowTarget[], everyMs = 5): Promise<Flows> {
    const argv = targets.flatMap(({ transport, address }) => [transport, address, String(ECHO_PORT)]);
    const process = lab.startDaemon(from, ['perl', `${FOLDER}/flow.pl`, String(everyMs), ...argv]);
    await process.waitForLine(/^flowing$/, 10_000);
    return new Flows(from, process, targets.length);
  }

  /** Waits for the answers on their way and reports. */
  async end(): Promise<readonly FlowReport[]> {
    this.#process.endInput();
    const status = await this.#process.exited;
    const reports = this.#process.lines.filter(({ text }) => /^(udp|tcp) /.test(text)).map(({ text }) => reportOf(text));
    if (status !== 0 || reports.length !== this.#count) {
      throw new Error(`the flows of ${this.#from.name} ended with status ${status}:\n${this.#process.output}`);
    }
    return reports;
  }
}

function reportOf(line: string): FlowReport {
  const [transport = '', address = '', ...numbers] = line.split(' ');
  const [sent = 0, answered = 0, longestWaitMs = 0, ...missingAtMs] = numbers.map(Number);
  return { flow: `${transport} ${address}`, sent, answered, longestWaitMs, missingAtMs };
}

/** A line for each flow that lost packets: none where all were answered. TCP answers late where it had to send again, which the datagrams beside it tell. */
export function lossesOf(reports: readonly FlowReport[]): readonly string[] {
  return reports
    .filter(({ missingAtMs }) => missingAtMs.length > 0)
    .map(
      ({ flow, sent, missingAtMs }) =>
        `${flow}: ${missingAtMs.length} of ${sent} lost between ${missingAtMs[0]} and ${missingAtMs.at(-1)} ms`,
    );
}
