/** Reading a page of Prometheus metrics (text format 0.0.4). */

/** Sums of samples by metric name, for those whose labels match. */
export class MetricsPage {
  readonly #lines: readonly string[];

  constructor(text: string) {
    this.#lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  }

  /** The sum over all samples of this name that have all these labels; 0 where there is none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    let sum = 0;
    for (const line of this.#lines) {
      if (!line.startsWith(`${name} `) && !line.startsWith(`${name}{`)) continue;
      if (wanted.every(label => line.includes(label))) sum += Number(line.slice(line.lastIndexOf(' ') + 1));
    }
    return sum;
  }

  /** Values of one label over all samples of this name that are above 0. */
  by(name: string, label: string): ReadonlyMap<string, number> {
    const values = new Map<string, number>();
    for (const line of this.#lines) {
      if (!line.startsWith(`${name}{`)) continue;
      const value = new RegExp(`[{,]${label}="([^"]*)"`).exec(line)?.[1] ?? '';
      const count = Number(line.slice(line.lastIndexOf(' ') + 1));
      if (count > 0) values.set(value, (values.get(value) ?? 0) + count);
    }
    return values;
  }
}

/** What grew from one page to the next, by label: `ipvsadm 1, ipset 2`. */
export function growth(name: string, label: string, before: MetricsPage, after: MetricsPage): ReadonlyMap<string, number> {
  const earlier = before.by(name, label);
  const grown = new Map<string, number>();
  for (const [value, count] of after.by(name, label)) {
    const difference = count - (earlier.get(value) ?? 0);
    if (difference > 0) grown.set(value, difference);
  }
  return grown;
}

/** Of what a histogram counted from one page to the next, the upper bound of the bucket that this share of it lies below, in the histogram's unit. */
export function quantileBound(histogram: string, share: number, before: MetricsPage, after: MetricsPage): number {
  const counts = [...growth(`${histogram}_bucket`, 'le', before, after)].map(
    ([bound, count]) => [bound === '+Inf' ? Infinity : Number(bound), count] as const,
  );
  const total = Math.max(...counts.map(([, count]) => count));
  return Math.min(...counts.filter(([, count]) => count >= share * total).map(([bound]) => bound));
}
