/** kube-router's rules (ip-rule(8)) and the routing tables that they lead to: 78 for direct server return, 79 for external addresses. */
import { FairwayError, messageOf } from '../errors.ts';
import type { CommandRunner } from '../kernel/command.ts';
import { textOf } from '../kernel/ip-batch.ts';
import { isExternalAddressRule, markOfRule } from './kube-router.ts';
import type { Ground, Swept } from './sweeping.ts';

const FAMILIES = ['-4', '-6'] as const;
type FamilyOption = (typeof FAMILIES)[number];

/** Marks of its direct server return: each has a rule of its own, which it never deletes. */
export async function kubeRoutersMarks(runner: CommandRunner, signal: AbortSignal): Promise<ReadonlySet<number>> {
  const lines: string[] = [];
  for (const family of FAMILIES) lines.push(...(await shown(runner, ['ip', family, '-N', 'rule', 'show'], signal)));
  return new Set(lines.flatMap(line => markOfRule(line) ?? []));
}

/**
 * Table 78 is ours too: its route goes when no rule leads there any more. The rule of a mark tells whose its virtual service is, and stays with it
 * (`used`).
 */
export async function sweepRules(
  { runner }: Ground,
  used: ReadonlySet<number>,
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  for (const family of FAMILIES) await sweepFamily(runner, family, used, swept, signal);
}

async function sweepFamily(
  runner: CommandRunner,
  family: FamilyOption,
  used: ReadonlySet<number>,
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  const rules = await shown(runner, ['ip', family, '-N', 'rule', 'show'], signal);
  const marks = rules.flatMap(line => markOfRule(line) ?? []).filter(mark => !used.has(mark));
  const external = rules.filter(isExternalAddressRule);
  const isDeliveryNeeded = rules.filter(line => /\blookup 78\b/.test(line)).length > marks.length;
  const delivery = isDeliveryNeeded ? [] : (await routesOf(runner, family, 78, signal)).filter(isDelivery);
  const beyond = await routesOf(runner, family, 79, signal);
  const lines = [
    ...marks.map(mark => `rule del priority 32764 fwmark 0x${mark.toString(16)} lookup 78`),
    ...external.map(() => 'rule del priority 32765 lookup 79'),
    ...delivery.map(() => 'route del local default dev lo table 78'),
    ...(beyond.length > 0 ? ['route flush table 79'] : []),
  ];
  if (lines.length === 0) return;
  const { status, stderr } = await runner.run({ argv: ['ip', family, '-force', '-batch', '-'], stdin: textOf(lines) }, signal);
  if (status !== 0) {
    swept.remains(`rules of tables 78 and 79: ${messageOf(stderr)}`);
    return;
  }
  swept.removed('rules', marks.length + external.length);
  swept.removed('routes', delivery.length + beyond.length);
}

function isDelivery(line: string): boolean {
  return /^(2|local) default dev lo\b/.test(line);
}

function routesOf(runner: CommandRunner, family: FamilyOption, table: number, signal: AbortSignal): Promise<readonly string[]> {
  return shown(runner, ['ip', family, '-N', 'route', 'show', 'table', String(table)], signal);
}

/** A kernel without IPv6 has no rules of it, and a table that nobody has used is none. */
async function shown(
  runner: CommandRunner,
  argv: readonly [string, ...string[]],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { status, stdout, stderr } = await runner.run({ argv }, signal);
  if (status !== 0 && !/not supported|does not exist/.test(stderr))
    throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${stderr.trim()}`);
  return stdout.split('\n').filter(line => line !== '');
}
