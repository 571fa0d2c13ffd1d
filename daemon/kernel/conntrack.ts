/** Flows that conntrack remembers, and forgetting some of them: conntrack(8). */
import { FairwayError, messageOf } from '../errors.ts';
import { familyOf, type IpAddress, parseAddress } from '../net/address.ts';
import { inParallel } from '../net/in-parallel.ts';
import type { Protocol } from '../net/port.ts';
import type { CommandResult, CommandRunner } from './command.ts';

/** Flows to one address and port that one and the same answers. */
export interface AnsweredFlows {
  readonly protocol: Protocol;
  /** As the client sees it. */
  readonly address: IpAddress;
  readonly port: number;
  /** Who answers: an endpoint, or the address itself where nothing is translated. */
  readonly answeredBy: IpAddress;
  readonly answeringPort: number;
}

/** So many are asked for one by one; of more, it is looked first which of them there are: each search goes through the whole table. */
const FEW = 4;
/** Processes at a time. */
const AT_ONCE = 4;

/**
 * Forgets these flows, and no others: their next packets are new connections. That there is none of them is well. Throws FW_COMMAND_FAILED,
 * FW_CAPABILITY_TOOL_MISSING.
 */
export async function forgetFlows(runner: CommandRunner, flows: readonly AnsweredFlows[], signal: AbortSignal): Promise<void> {
  const all = new Map(flows.map(each => [lineOf(each), each]));
  const lines = new Set(all.keys());
  const due = all.size <= FEW ? [...lines] : await linesThere(runner, lines, [...all.values()], signal);
  // `-R -` (1.4.7) would take all lines at once, but opens /dev/stdin anew, which the socket that Node gives a child does not allow.
  await inParallel(due, AT_ONCE, line => remove(runner, line, signal));
}

function lineOf({ protocol, address, port, answeredBy, answeringPort }: AnsweredFlows): string {
  const reply = `--reply-src ${answeredBy} --reply-port-src ${answeringPort}`;
  return `-D -p ${protocol.toLowerCase()} --orig-dst ${address} --orig-port-dst ${port} ${reply}`;
}

async function remove(runner: CommandRunner, line: string, signal: AbortSignal): Promise<void> {
  const result = await runner.run({ argv: ['conntrack', ...line.split(' ')] }, signal);
  // Status 1 with this sentence is how it says that there was none.
  if (result.status !== 0 && !result.stderr.includes(' 0 flow entries have been deleted'))
    throw failure(`conntrack ${line}`, result);
}

/** Of these lines, those that would find something. */
async function linesThere(
  runner: CommandRunner,
  lines: ReadonlySet<string>,
  flows: readonly AnsweredFlows[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const there = new Set<string>();
  const listings = new Map(flows.map(({ protocol, address }) => [`${protocol} ${familyOf(address)}`, { protocol, address }]));
  for (const { protocol, address } of listings.values()) {
    const argv = ['conntrack', '-L', '-p', protocol.toLowerCase(), '-f', familyOf(address)] as const;
    const onLine = (text: string): void => {
      const found = flowsOf(protocol, text);
      const line = found === undefined ? '' : lineOf(found);
      if (lines.has(line)) there.add(line);
    };
    const result = await runner.lines({ argv }, onLine, signal);
    if (result.status !== 0) throw failure(argv.join(' '), result);
  }
  return [...there];
}

/** `udp 17 29 src=10.0.0.1 dst=10.96.0.10 sport=1000 dport=53 [UNREPLIED] src=10.244.1.5 dst=10.0.0.1 sport=8053 dport=1000 mark=0 use=1`. */
const ENTRY = /dst=(\S+) sport=\d+ dport=(\d+) .*src=(\S+) dst=\S+ sport=(\d+)/;

function flowsOf(protocol: Protocol, text: string): AnsweredFlows | undefined {
  const [, dst = '', dport, src = '', sport] = ENTRY.exec(text) ?? [];
  const [address, answeredBy] = [parseAddress(dst), parseAddress(src)];
  if (address === undefined || answeredBy === undefined) return undefined;
  return { protocol, address, port: Number(dport), answeredBy, answeringPort: Number(sport) };
}

function failure(command: string, { status, stderr }: CommandResult): FairwayError {
  return new FairwayError('FW_COMMAND_FAILED', `'${command}' ended with status ${status}: ${messageOf(stderr)}`);
}
