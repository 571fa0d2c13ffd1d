/** What would be changed, as a difference for people: each change with the object behind it, lines in the words of the tools. Pure. */
import type { OwnedChange, TableChanges } from '../reconcile/view.ts';

/** What would be done, in the form asked for. */
export function planOutput(tables: readonly TableChanges[], form: 'text' | 'json' | 'script'): string {
  switch (form) {
    case 'json':
      return `${JSON.stringify(planReport(tables), undefined, 2)}\n`;
    case 'script':
      return tables
        .filter(({ script }) => script !== '')
        .map(({ table, script }) => `# ${table}\n${script.endsWith('\n') ? script : `${script}\n`}`)
        .join('');
    case 'text':
      return planText(tables);
  }
}

function planReport(tables: readonly TableChanges[]): unknown {
  return {
    changes: tables.flatMap(({ table, changes }) =>
      changes.map(({ op, key, before, after, owners }) => ({
        table,
        op,
        key,
        objects: owners.map(({ kind, key: name }) => `${kind} ${name}`),
        before,
        after,
      })),
    ),
    unreadable: tables.flatMap(({ table, unreadable }) =>
      unreadable === undefined ? [] : [{ table, code: unreadable.code, message: unreadable.message }],
    ),
  };
}

function planText(tables: readonly TableChanges[]): string {
  const parts = tables
    .filter(({ changes }) => changes.length > 0)
    .map(({ table, changes }) => `${table}\n${changes.map(changeText).join('')}`);
  return `${parts.join('')}${summary(tables)}\n`;
}

const VERBS = { create: 'create', update: 'change', delete: 'remove' } as const;

function changeText({ op, key, before, after, owners }: OwnedChange): string {
  const behind = owners.map(({ kind, key: name }) => `${kind} ${name}`).join(', ') || 'nobody wants it';
  const lines = lineEdits(before, after).filter(line => !line.startsWith('  '));
  return `  ${VERBS[op]} ${key}  # ${behind}\n${lines.map(line => `    ${line}\n`).join('')}`;
}

function summary(tables: readonly TableChanges[]): string {
  const all = tables.flatMap(({ changes }) => changes);
  if (all.length === 0) return 'nothing would be changed';
  const count = (op: OwnedChange['op']): number => all.filter(change => change.op === op).length;
  return `${count('create')} to create, ${count('update')} to change, ${count('delete')} to remove`;
}

/**
 * How one list of lines becomes the other: what goes with `- `, what comes with `+ `, what stays with two blanks. By the longest common subsequence,
 * since order is meaning in a chain.
 */
export function lineEdits(before: readonly string[], after: readonly string[]): readonly string[] {
  const start = commonLength(before, after);
  const end = commonLength(before.slice(start).toReversed(), after.slice(start).toReversed());
  const [from, to] = [before.slice(start, before.length - end), after.slice(start, after.length - end)];
  const lengths = commonLengths(from, to);
  const edits = before.slice(0, start).map(kept);
  let [i, j] = [0, 0];
  while (i < from.length || j < to.length) {
    if (i < from.length && from[i] === to[j]) {
      edits.push(kept(from[i++] ?? ''));
      j += 1;
    } else if (i < from.length && (j === to.length || at(lengths, i + 1, j) >= at(lengths, i, j + 1)))
      edits.push(`- ${from[i++] ?? ''}`);
    else edits.push(`+ ${to[j++] ?? ''}`);
  }
  return [...edits, ...before.slice(before.length - end).map(kept)];
}

function kept(line: string): string {
  return `  ${line}`;
}

function commonLength(one: readonly string[], other: readonly string[]): number {
  const difference = one.findIndex((line, index) => line !== other[index]);
  return difference < 0 ? one.length : difference;
}

/** `[i][j]`: how many lines `from[i..]` and `to[j..]` can have in common. */
function commonLengths(from: readonly string[], to: readonly string[]): readonly Uint32Array[] {
  const lengths = Array.from({ length: from.length + 1 }, () => new Uint32Array(to.length + 1));
  for (let i = from.length - 1; i >= 0; i--)
    for (let j = to.length - 1; j >= 0; j--) {
      const row = lengths[i];
      if (row === undefined) continue;
      row[j] = from[i] === to[j] ? at(lengths, i + 1, j + 1) + 1 : Math.max(at(lengths, i + 1, j), at(lengths, i, j + 1));
    }
  return lengths;
}

function at(lengths: readonly Uint32Array[], i: number, j: number): number {
  return lengths[i]?.[j] ?? 0;
}
