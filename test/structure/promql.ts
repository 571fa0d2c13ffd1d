/** As much of PromQL as it takes to say which metrics and labels an expression asks for. */

export interface Selector {
  readonly metric: string;
  /** That it matches on. */
  readonly labels: readonly string[];
}

export interface Query {
  readonly selectors: readonly Selector[];
  /** By which it groups or joins. */
  readonly groupedBy: readonly string[];
  readonly functions: readonly string[];
}

const KEYWORDS = new Set([
  'by',
  'without',
  'on',
  'ignoring',
  'group_left',
  'group_right',
  'and',
  'or',
  'unless',
  'bool',
  'offset',
]);
const GROUPING = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;
const TOKEN = /([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?/g;

/** @param expression may hold Grafana's variables: `$node`, `${node}`, `[[node]]` */
export function parseQuery(expression: string): Query {
  const plain = expression
    .replace(/\[\[\w+\]\]|\$\{\w+\}|\$\w+/g, 'x')
    // What is quoted is no name, and may hold anything.
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\boffset\s+\w+/g, ' ');
  const groupedBy = [...plain.matchAll(GROUPING)].flatMap(([, names = '']) => namesIn(names));
  const selectors: Selector[] = [];
  const functions: string[] = [];
  for (const [, word = '', behind = ''] of plain.replace(GROUPING, ' ').matchAll(TOKEN)) {
    if (KEYWORDS.has(word)) continue;
    if (behind === '(') functions.push(word);
    else selectors.push({ metric: word, labels: namesIn(behind) });
  }
  return { selectors, groupedBy, functions };
}

function namesIn(text: string): readonly string[] {
  return [...text.matchAll(/[a-zA-Z_]\w*/g)].map(([name]) => name);
}
