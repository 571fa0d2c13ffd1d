/** What `fairway check` found, as values and as text. */

/** `missing`: something that is enabled cannot do its work. `warning`: it can, though not all of it or not for long. */
export type Verdict = 'ok' | 'warning' | 'missing';

export interface Finding {
  readonly verdict: Verdict;
  readonly subject: string;
  /** What is wrong and what to do; for what is well, how it was found. */
  readonly remark: string;
}

export interface FindingGroup {
  readonly title: string;
  readonly findings: readonly Finding[];
}

/** Looks at one aspect of the host. What it cannot look at is a finding too: it never rejects but for an aborted signal. */
export interface Examiner {
  readonly title: string;
  examine(signal: AbortSignal): Promise<readonly Finding[]>;
}

export function ok(subject: string, remark: string): Finding {
  return { verdict: 'ok', subject, remark };
}

export function warning(subject: string, remark: string): Finding {
  return { verdict: 'warning', subject, remark };
}

export function missing(subject: string, remark: string): Finding {
  return { verdict: 'missing', subject, remark };
}

/** The worst of all. */
export function verdictOf(groups: readonly FindingGroup[]): Verdict {
  const verdicts = new Set(groups.flatMap(({ findings }) => findings.map(({ verdict }) => verdict)));
  if (verdicts.has('missing')) return 'missing';
  return verdicts.has('warning') ? 'warning' : 'ok';
}

/** Groups as paragraphs, one line a finding, the verdict first: for people, and for `grep missing`. */
export function findingsText(groups: readonly FindingGroup[]): string {
  return groups
    .filter(({ findings }) => findings.length > 0)
    .map(({ title, findings }) => `${title}\n${findings.map(lineOf).join('')}`)
    .join('\n');
}

function lineOf({ verdict, subject, remark }: Finding): string {
  return `  ${verdict.padEnd('warning'.length)} ${subject}: ${remark}\n`;
}

export function findingsJson(groups: readonly FindingGroup[]): string {
  return `${JSON.stringify({ verdict: verdictOf(groups), groups }, undefined, 2)}\n`;
}
