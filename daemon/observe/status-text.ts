/** The status of a daemon as text for a terminal. */
import type { FailureLine, LoadBalancerLines, ModuleLine, StatusReport, TableLine } from './status.ts';

export function statusText(report: StatusReport): string {
  const age = (at: string): string => span(Date.parse(report.at) - Date.parse(at));
  const sections = [
    headLine(report, age),
    section('modules', report.modules.map(moduleLine)),
    section('cluster', [
      ...report.cluster.map(({ kind, objects, isListed, trouble }) =>
        [`${kind}: ${isListed ? objects : 'no full list yet'}`, trouble].filter(part => part !== undefined).join('; '),
      ),
    ]),
    section('rounds', [roundText(report, age)]),
    section('tables', tableRows(report.tables, age)),
    section(
      'failing',
      report.failures.map(failure => failureText(failure, report.at)),
    ),
    section('changed by others', driftLines(report, age)),
    section('BGP neighbors', neighborLines(report)),
    section('load-balancer addresses', loadBalancerLines(report.loadBalancer)),
    section(
      'diagnostics',
      report.diagnostics.map(({ code, message }) => `${code} ${message}`),
    ),
    section('remarks', report.remarks),
  ];
  return sections.filter(text => text !== '').join('');
}

function headLine(
  { version, node, pid, startedAt, isReady, isLive, isNodeLeaving }: StatusReport,
  age: (at: string) => string,
): string {
  const state = [
    isReady ? 'ready' : 'not ready: the first round is not in yet',
    ...(isLive ? [] : ['its loop has not ticked in time']),
    ...(isNodeLeaving ? ['the node is about to leave the cluster'] : []),
  ];
  return `fairway ${version} on ${node}, pid ${pid}, for ${age(startedAt)}: ${state.join('; ')}\n`;
}

function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? '' : `${title}\n${lines.map(line => `  ${line}\n`).join('')}`;
}

function moduleLine({ name, state, reason, since }: ModuleLine): string {
  return state === 'degraded' ? `${name}: degraded since ${since ?? ''}: ${reason ?? ''}` : `${name}: ${state}`;
}

function roundText({ rounds: { count, last } }: StatusReport, age: (at: string) => string): string {
  if (last === undefined) return 'none yet';
  const { at, milliseconds, created, updated, deleted } = last;
  return `${count}, the last ${age(at)} ago in ${milliseconds} ms: ${created} created, ${updated} updated, ${deleted} deleted`;
}

function tableRows(tables: readonly TableLine[], age: (at: string) => string): readonly string[] {
  if (tables.length === 0) return [];
  const rows = tables.map(({ table, entries, wanted, failing, readAt, unreadable }) => [
    table,
    `${entries}`,
    `${wanted}`,
    `${failing}`,
    unreadable === undefined ? (readAt === undefined ? 'never' : `${age(readAt)} ago`) : `cannot be read: ${unreadable}`,
  ]);
  return aligned([['', 'there', 'wanted', 'failing', 'read back'], ...rows]);
}

/** Columns of numbers to the right, words to the left. */
function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const width = (column: number): number => Math.max(...rows.map(row => row[column]?.length ?? 0));
  return rows.map(row =>
    row
      .map((cell, column) => {
        if (column === 0) return cell.padEnd(width(0));
        return column === row.length - 1 ? cell : cell.padStart(width(column));
      })
      .join('  '),
  );
}

function failureText({ table, key, object, code, message, tries, retryAt }: FailureLine, now: string): string {
  const wait = span(Math.max(0, Date.parse(retryAt) - Date.parse(now)));
  return `${table} ${key}${object === undefined ? '' : ` for ${object}`}: ${code} ${message} (tries: ${tries}, next in ${wait})`;
}

function driftLines({ drift: { count, latest } }: StatusReport, age: (at: string) => string): readonly string[] {
  const lines = latest.map(({ at, table, key, found }) => `${age(at)} ago: ${table} ${key} was ${WORDS[found]}`);
  return count > latest.length ? [...lines, `${count} in all since the start`] : lines;
}

const WORDS = { missing: 'gone', changed: 'changed', unexpected: 'added' } as const;

function neighborLines({ bgp }: StatusReport): readonly string[] {
  if (bgp === undefined) return [];
  if (bgp.trouble !== undefined) return [bgp.trouble];
  if (bgp.neighbors.length === 0) return ['none'];
  return bgp.neighbors.map(
    ({ address, asn, state, received, advertised }) =>
      `${address} AS ${asn}: ${state}, ${received} prefixes in, ${advertised} out`,
  );
}

function loadBalancerLines(lines: LoadBalancerLines | undefined): readonly string[] {
  if (lines === undefined) return [];
  const { leadership, holder, pools, waiting } = lines;
  return [
    leadership,
    ...(holder === undefined || leadership.includes(holder) ? [] : [`the Lease is held by ${holder}`]),
    ...pools.map(({ name, addresses, inUse }) => `pool ${name}: ${inUse} of ${countText(addresses)} in use`),
    ...(waiting === 0 ? [] : [`Services that wait for an address: ${waiting}`]),
  ];
}

/** Pools of IPv6 have more addresses than anybody reads the digits of: `2^64`, `about 2^65`. */
function countText(count: number): string {
  if (count <= Number.MAX_SAFE_INTEGER) return `${count}`;
  const power = Math.log2(count);
  return Number.isInteger(power) ? `2^${power}` : `about 2^${Math.round(power)}`;
}

/** A span of time in its two largest units: `3h12m`, `4s`, `250ms`. */
function span(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))}ms`;
  const seconds = Math.floor(milliseconds / 1000);
  const units = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  return units
    .slice(first, first + 2)
    .filter(([count], index) => index === 0 || count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join('');
}
