import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { page } from './pages.ts';
import { type ServedMetric, servedMetrics } from './served-metrics.ts';
import { root } from './sources.ts';

const PATH = 'docs/metrics.md';

/** Headings, with the metrics that are listed below them. */
const SECTIONS: readonly (readonly [title: string, isIn: (metric: ServedMetric) => boolean])[] = [
  ['Under kube-router’s names', ({ name }) => name.startsWith('kube_router_')],
  ['Our own', ({ name }) => name.startsWith('fairway_')],
  ['The process', ({ name }) => !/^(kube_router|fairway)_/.test(name)],
];

function tableOf(metrics: readonly ServedMetric[]): string {
  const rows = metrics
    .toSorted((one, other) => (one.name < other.name ? -1 : 1))
    .map(
      ({ name, type, labels, help }) =>
        `| \`${name}\` | ${type} | ${labels.map(label => `\`${label}\``).join(', ')} | ${help} |\n`,
    );
  return `| metric | type | labels | what |\n|---|---|---|---|\n${rows.join('')}`;
}

/** The page with the first table below this heading made anew. */
function withTable(text: string, title: string, table: string): string {
  const start = text.indexOf(`## ${title}\n`);
  assert.ok(start >= 0, `${PATH} has no heading '${title}'`);
  const end = text.indexOf('\n## ', start + 1);
  const section = text.slice(start, end < 0 ? undefined : end);
  assert.match(section, /^(\|.*\n)+/m, `${PATH}, '${title}', has no table`);
  return text.replace(section, () => section.replace(/^(\|.*\n)+/m, () => table));
}

describe(PATH, () => {
  it('lists what a daemon with all modules serves', () => {
    const all = servedMetrics();
    const made = SECTIONS.reduce((text, [title, isIn]) => withTable(text, title, tableOf(all.filter(isIn))), page(PATH));
    if (process.env['UPDATE'] === '1') writeFileSync(join(root, PATH), made);
    assert.equal(
      page(PATH),
      made,
      `${PATH} is out of date; renew it with: UPDATE=1 node node_modules/mocha/bin/mocha.js test/structure/metrics-page.test.ts`,
    );
  });

  it('says of each metric of ours in a sentence of its own what it is', () => {
    const ours = servedMetrics().filter(({ name }) => /^(kube_router|fairway)_/.test(name));
    const said = ours.map(({ help }) => help);
    assert.deepEqual(
      said.filter((help, index) => help.length < 10 || said.indexOf(help) !== index),
      [],
    );
  });

  it('keeps to the conventions of Prometheus under our own names', () => {
    const wrong = servedMetrics().filter(({ name, type }) => {
      if (!name.startsWith('fairway_')) return false;
      return type === 'counter' ? !name.endsWith('_total') : name.endsWith('_total');
    });
    assert.deepEqual(wrong, []);
  });
});
