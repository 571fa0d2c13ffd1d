/** How many packets the rules of one chain met (iptables(8), `-L CHAIN -v`). */
import type { Family } from '../net/address.ts';
import type { CommandRunner } from './command.ts';
import type { IptablesTools } from './iptables-flavour.ts';

export interface ChainPacketsOptions {
  readonly runner: CommandRunner;
  readonly tools: IptablesTools;
  /** Of the filter table. */
  readonly chain: string;
}

/** Milliseconds for one listing: who asks for metrics waits no longer than this. */
const LIMIT_MS = 5_000;
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** By family; one whose chain is not there, or cannot be asked, is absent. */
export async function chainPackets(options: ChainPacketsOptions, signal: AbortSignal): Promise<ReadonlyMap<Family, number>> {
  const counts = await Promise.all(FAMILIES.map(family => packetsOf(options, family, signal)));
  return new Map(FAMILIES.flatMap((family, index) => (counts[index] === undefined ? [] : [[family, counts[index]] as const])));
}

async function packetsOf(
  { runner, tools, chain }: ChainPacketsOptions,
  family: Family,
  signal: AbortSignal,
): Promise<number | undefined> {
  const [save] = tools.byFamily[family]?.save ?? [];
  if (save === undefined) return undefined;
  const program = save.replace(/-save$/, '');
  let packets = 0;
  const onLine = (line: string): void => {
    // Numbers first: the two lines of heading have none.
    packets += Number(/^ *(\d+) +\d+ /.exec(line)?.[1] ?? 0);
  };
  // Without -w a lock that somebody holds would be a failure.
  const argv = [program, '-w', '1', '-t', 'filter', '-nvxL', chain] as const;
  const result = await runner.lines({ argv, timeoutMs: LIMIT_MS }, onLine, signal).catch(() => undefined);
  return result?.status === 0 ? packets : undefined;
}
