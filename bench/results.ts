/** Numbers, and tables of them beside their targets. */
import { styleText } from 'node:util';

/** One line of a result: what was measured, beside what it is measured against. */
export interface Result {
  readonly what: string;
  /** As printed: `3.1 ms`. */
  readonly measured: string;
  /** The target or the yardstick, as printed; '' where there is none. */
  readonly against: string;
  /** Undefined where there is no target. */
  readonly isMet?: boolean;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** @param share 0 for the least, 1 for the most */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function milliseconds(value: number): string {
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} ms`;
}

export function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}

/** A result that is met where it is at most the target. */
export function atMost(what: string, value: number, target: number, unit: (value: number) => string, remark = ''): Result {
  return { what, measured: unit(value), against: `at most ${unit(target)}${remark}`, isMet: value <= target };
}

export function plain(what: string, measured: string, against = ''): Result {
  return { what, measured, against };
}

export function printResults(title: string, results: readonly Result[]): void {
  process.stdout.write(`\n${styleText('bold', `== ${title}`)}\n`);
  const widths = [
    Math.max(...results.map(({ what }) => what.length)),
    Math.max(...results.map(({ measured }) => measured.length)),
    Math.max(...results.map(({ against }) => against.length)),
  ];
  for (const { what, measured, against, isMet } of results) {
    const verdict = isMet === undefined ? '' : isMet ? styleText('green', 'met') : styleText('red', 'MISSED');
    const columns = [what.padEnd(widths[0] ?? 0), measured.padStart(widths[1] ?? 0), against.padEnd(widths[2] ?? 0), verdict];
    process.stdout.write(`   ${columns.join('  ').trimEnd()}\n`);
  }
}
