/** The driver of rules: ip-rule(8), those that send packets from a prefix to the table of routes by tunnels. */
import { FairwayError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import { parseAddress } from '../net/address.ts';
import { hostPrefix, type IpPrefix, parsePrefix, prefixFamily } from '../net/prefix.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { POD_SOURCE_TABLE, type SourceRule } from '../reconcile/routing-tables.ts';
import { TABLES } from '../reconcile/tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, type BatchLines, textOf } from './ip-batch.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/**
 * Every rule `from PREFIX lookup 77` that asks nothing else is ours, at whatever priority: kube-router's become ours as they are. The kernel makes a
 * second one of a rule that is there, at another priority; so what is there is counted before a change, and of several one is left.
 */
export function ruleDriver({ runner }: { readonly runner: CommandRunner }): TableDriver<SourceRule> {
  /** How many rules there are of each key. */
  const count = async (families: readonly Family[], signal: AbortSignal): Promise<ReadonlyMap<string, Counted>> => {
    const counts = new Map<string, Counted>();
    for (const family of families) {
      // Numbers: kube-router gives the table a name in rt_tables.
      const argv = ['ip', family === 'ipv6' ? '-6' : '-4', '-N', 'rule', 'show'] as const;
      const onLine = (line: string): void => {
        const from = sourceOf(line);
        if (from === undefined) return;
        const rule: SourceRule = { from, table: POD_SOURCE_TABLE };
        const key = TABLES.rule.key(rule);
        counts.set(key, { rule, times: (counts.get(key)?.times ?? 0) + 1 });
      };
      const result = await runner.lines({ argv }, onLine, signal);
      // A kernel without IPv6 has no rules of it.
      if (result.status !== 0 && !result.stderr.includes('not supported')) {
        throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
      }
    }
    return counts;
  };

  const applyFamily = async (
    family: Family,
    changes: readonly Change<SourceRule>[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, FairwayError>> => {
    if (changes.length === 0) return new Map();
    try {
      const there = await count([family], signal);
      const linesOf = (change: Change<SourceRule>): BatchLines => linesFrom(there.get(change.key)?.times ?? 0, change);
      const due = changes.filter(change => linesOf(change).length > 0);
      // Without the family ip takes no IPv6 prefix here.
      const batch = { runner, family, linesOf, nameOf, isDone, read: (): ReturnType<typeof count> => count([family], signal) };
      return (await applyBatch(batch, due, signal)).failed;
    } catch (thrown) {
      if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
      return new Map(changes.map(({ key }) => [key, thrown]));
    }
  };

  return {
    async read(expected, signal) {
      const counts = await count(FAMILIES, signal);
      // A wanted one that is there twice counts as missing: making it leaves one.
      const once = [...counts].filter(([key, { times }]) => times === 1 || !expected.has(key));
      return new Map(once.map(([key, { rule }]) => [key, expected.get(key) ?? rule]));
    },
    async apply(changes, signal) {
      const failed = new Map<string, FairwayError>();
      for (const family of FAMILIES) {
        const ofFamily = changes.filter(change => familyOf(change) === family);
        for (const [key, error] of await applyFamily(family, ofFamily, signal)) failed.set(key, error);
      }
      return { failed };
    },
    render: changes => textOf(changes.flatMap(change => linesFrom(change.op === 'create' ? 0 : 1, change))),
  };
}

interface Counted {
  readonly rule: SourceRule;
  readonly times: number;
}

/** The lines that lead from so many equal rules to one, or to none. */
function linesFrom(times: number, change: Change<SourceRule>): BatchLines {
  const wanted = change.op === 'delete' ? 0 : 1;
  const { from, table } = change.op === 'delete' ? change.from : change.to;
  const rule = `from ${from} lookup ${table}`;
  return times < wanted ? [`rule add ${rule}`] : new Array<string>(times - wanted).fill(`rule del ${rule}`);
}

function isDone(change: Change<SourceRule>, found: ReadonlyMap<string, Counted>): boolean {
  return found.has(change.key) === (change.op !== 'delete');
}

function nameOf({ from, table }: SourceRule): string {
  return `rule from ${from} to table ${table}`;
}

function familyOf(change: Change<SourceRule>): Family {
  return prefixFamily(change.op === 'delete' ? change.from.from : change.to.from);
}

/** The prefix of a line of `ip -N rule show` that is a rule of ours: `32765:	from 10.244.1.0/24 lookup 77`. */
export function sourceOf(line: string): IpPrefix | undefined {
  const [, text = ''] = /^[0-9]+:\s+from ([0-9a-f.:]+(?:\/[0-9]+)?) lookup 77(?: proto \S+)?\s*$/.exec(line) ?? [];
  if (text.includes('/')) return parsePrefix(text);
  const address = parseAddress(text);
  return address === undefined ? undefined : hostPrefix(address);
}
