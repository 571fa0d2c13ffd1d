/** Rules and chains of a predecessor, in both flavours of iptables: its container may have used the other one than the node. */
import { FairwayError, messageOf } from '../errors.ts';
import { type IptablesTool, toolOf } from '../kernel/iptables-flavour.ts';
import { reasonOf } from '../kernel/iptables-refusal.ts';
import { LeftoverReader, scriptOf, type TableLeftovers } from './iptables-reader.ts';
import type { Ground, Swept } from './sweeping.ts';
import { type Ours, oursBy, type Traces } from './traces.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
/** Seconds to wait for other users of the xtables lock. */
const LOCK_WAIT_SECONDS = 5;

interface Look {
  readonly tool: IptablesTool;
  readonly reader: LeftoverReader;
}

/** What there is in every rule set that a tool is installed for. A rule set that the kernel does not have holds nothing. */
async function looks(
  { runner }: Ground,
  traces: Traces,
  marks: ReadonlySet<number>,
  signal: AbortSignal,
): Promise<readonly Look[]> {
  const look = async (tool: IptablesTool): Promise<readonly Look[]> => {
    const reader = new LeftoverReader(traces, marks);
    try {
      await runner.lines({ argv: tool.save }, line => reader.line(line), signal);
      return [{ tool, reader }];
    } catch (thrown) {
      if (signal.aborted || !(thrown instanceof FairwayError) || thrown.code !== 'FW_CAPABILITY_TOOL_MISSING') throw thrown;
      return [];
    }
  };
  const named: Look[] = [];
  for (const flavour of ['nft', 'legacy'] as const)
    for (const family of FAMILIES) named.push(...(await look(toolOf(flavour, family))));
  if (named.length > 0) return named;
  for (const family of FAMILIES) named.push(...(await look(toolOf('default', family))));
  return named;
}

/** Which modules of ours are at work here. */
export async function sweepIptables(
  ground: Ground,
  traces: Traces,
  marks: ReadonlySet<number>,
  swept: Swept,
  signal: AbortSignal,
): Promise<Ours> {
  const seen = await looks(ground, traces, marks, signal);
  for (const { tool, reader } of seen) {
    for (const table of reader.unread)
      swept.remains(`table ${table} of ${tool.save[0]}: it holds what only nft(8) can show, look there`);
    for (const table of reader.tables) await remove(ground, tool, table, swept, signal);
  }
  return oursBy(new Set(seen.flatMap(({ reader }) => [...reader.ownChains])));
}

async function remove(
  { runner }: Ground,
  tool: IptablesTool,
  table: TableLeftovers,
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  for (const kept of table.kept) swept.remains(`chain ${kept} (table ${table.table} of ${tool.save[0]})`);
  const { rules, chains } = table;
  if (rules.length + chains.length === 0) return;
  const where = `${rules.length} rules and ${chains.length} chains in table ${table.table} of ${tool.restore[0]}`;
  try {
    const argv = [...tool.restore, '--noflush', '-w', String(LOCK_WAIT_SECONDS)] as const;
    const result = await runner.run({ argv, stdin: scriptOf(table) }, signal);
    if (result.status !== 0) {
      swept.remains(`${where}: ${reasonOf(result)}`);
      return;
    }
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    swept.remains(`${where}: ${messageOf(thrown)}`);
    return;
  }
  swept.removed('iptables rules', rules.length);
  swept.removed('iptables chains', chains.length);
}
