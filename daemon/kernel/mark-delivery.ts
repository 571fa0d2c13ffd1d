/** The driver of delivery by mark: ip-rule(8), and the routing table that says of every address that it is this host's. */
import { FairwayError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { MARK_DELIVERY_PRIORITY, MARK_DELIVERY_TABLE, type MarkDelivery, SERVICE_TABLES } from '../reconcile/service-tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, type BatchLines, textOf } from './ip-batch.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Of one mark: its rules, and whether the table has the route. */
interface Found {
  readonly delivery: MarkDelivery;
  /** Priority of each rule. What a deletion does not name the kernel takes for any: without it, a rule that asks more might go. */
  readonly priorities: readonly number[];
  readonly hasRoute: boolean;
}

interface Seen {
  readonly found: ReadonlyMap<string, Found>;
  /** Families with rules of somebody else that lead to the table. */
  readonly shared: ReadonlySet<Family>;
}

/**
 * A rule whose mask is its mark and that leads to the table is ours, at whatever priority; kube-router's, one for each of its marks and without mask, are
 * not. One that is wanted counts as missing unless there is exactly one rule, and the route. The route is left where another rule needs it.
 */
export function markDeliveryDriver({ runner }: { readonly runner: CommandRunner }): TableDriver<MarkDelivery> {
  const lines = async (argv: readonly [string, ...string[]], signal: AbortSignal): Promise<readonly string[]> => {
    const { status, stdout, stderr } = await runner.run({ argv }, signal);
    // A kernel without IPv6 has no rules of it, and a table that nobody has used is none.
    if (status !== 0 && !/not supported|does not exist/.test(stderr))
      throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${stderr.trim()}`);
    return stdout.split('\n');
  };

  const look = async (signal: AbortSignal): Promise<Seen> => {
    const found = new Map<string, Found>();
    const shared = new Set<Family>();
    for (const family of FAMILIES) {
      const option = family === 'ipv6' ? '-6' : '-4';
      // Numbers: kube-router gives the table a name in rt_tables.
      const rules = (await lines(['ip', option, '-N', 'rule', 'show'], signal)).filter(line => LEADS_TO_TABLE.test(line));
      const ours = rules.flatMap(line => markRuleOf(line) ?? []);
      if (ours.length < rules.length) shared.add(family);
      if (ours.length === 0) continue;
      const routes = await lines(
        ['ip', option, '-N', 'route', 'show', 'table', `${MARK_DELIVERY_TABLE}`, 'type', 'local'],
        signal,
      );
      const hasRoute = routes.some(line => /^(2|local) default dev lo\b/.test(line));
      for (const { mark, priority } of ours) {
        const delivery: MarkDelivery = { family, mark, table: MARK_DELIVERY_TABLE };
        const key = SERVICE_TABLES.markDelivery.key(delivery);
        found.set(key, { delivery, priorities: [...(found.get(key)?.priorities ?? []), priority], hasRoute });
      }
    }
    return { found, shared };
  };

  return {
    async read(expected, signal) {
      const found = [...(await look(signal)).found].filter(([key, each]) => isSound(each) || !expected.has(key));
      return new Map(found.map(([key, { delivery }]) => [key, expected.get(key) ?? delivery]));
    },
    async apply(changes, signal) {
      try {
        const { found, shared } = await look(signal);
        const failed = new Map<string, FairwayError>();
        for (const family of FAMILIES) {
          const due = changes.filter(change => deliveryOf(change).family === family);
          if (due.length === 0) continue;
          const leftovers: Leftovers = shared.has(family) || isAnyLeft(found, due, family) ? 'route stays' : 'none';
          const linesOf = (change: Change<MarkDelivery>): BatchLines =>
            linesFrom(found.get(change.key)?.priorities ?? [], change, leftovers);
          const read = async (): Promise<ReadonlyMap<string, Found>> => (await look(signal)).found;
          const batch = { runner, family, linesOf, nameOf, isDone, read };
          for (const [key, error] of (await applyBatch(batch, due, signal)).failed) failed.set(key, error);
        }
        return { failed };
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        return { failed: new Map(changes.map(({ key }) => [key, thrown])) };
      }
    },
    render: changes =>
      textOf(changes.flatMap(change => linesFrom(change.op === 'create' ? [] : [MARK_DELIVERY_PRIORITY], change, 'none'))),
  };
}

type Leftovers = 'none' | 'route stays';

/** Whether any mark of the family is delivered after these changes. */
function isAnyLeft(found: Seen['found'], changes: readonly Change<MarkDelivery>[], family: Family): boolean {
  const left = new Set([...found].flatMap(([key, { delivery }]) => (delivery.family === family ? [key] : [])));
  for (const { op, key } of changes) {
    if (op === 'delete') left.delete(key);
    else left.add(key);
  }
  return left.size > 0;
}

/** The lines that lead from rules at these priorities to one and the route, or to none. */
function linesFrom(priorities: readonly number[], change: Change<MarkDelivery>, leftovers: Leftovers): BatchLines {
  const { mark, table } = deliveryOf(change);
  const rule = (verb: 'add' | 'del', priority: number): string =>
    `rule ${verb} priority ${priority} fwmark ${markText(mark)} lookup ${table}`;
  const route = `local default dev lo table ${table}`;
  if (change.op === 'delete') {
    return [...priorities.map(priority => rule('del', priority)), ...(leftovers === 'none' ? [`route del ${route}`] : [])];
  }
  const surplus = priorities.slice(1).map(priority => rule('del', priority));
  return [`route replace ${route}`, ...(priorities.length === 0 ? [rule('add', MARK_DELIVERY_PRIORITY)] : surplus)];
}

function deliveryOf(change: Change<MarkDelivery>): MarkDelivery {
  return change.op === 'delete' ? change.from : change.to;
}

function isSound({ priorities, hasRoute }: Found): boolean {
  return priorities.length === 1 && hasRoute;
}

function isDone(change: Change<MarkDelivery>, found: ReadonlyMap<string, Found>): boolean {
  const there = found.get(change.key);
  return change.op === 'delete' ? there === undefined : there !== undefined && isSound(there);
}

function nameOf({ family, mark }: MarkDelivery): string {
  return `delivery of ${family} packets with mark ${markText(mark)}`;
}

function markText(mark: number): string {
  return `0x${mark.toString(16)}/0x${mark.toString(16)}`;
}

/** As `ip -N rule show` has it. */
const LEADS_TO_TABLE = / lookup 78(?: |$)/;

/** `32764:	from all fwmark 0x1000/0x1000 lookup 78` */
function markRuleOf(line: string): { readonly mark: number; readonly priority: number } | undefined {
  const [, priority, value, mask] =
    /^(\d+):\s+from all fwmark (0x[0-9a-f]+)\/(0x[0-9a-f]+) lookup 78(?: proto \S+)?\s*$/.exec(line) ?? [];
  return value === undefined || value !== mask ? undefined : { mark: Number(value), priority: Number(priority) };
}
