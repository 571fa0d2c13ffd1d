import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blocksOf, page, rowsOf, sectionsOf } from './pages.ts';
import { root } from './sources.ts';

const PATH = 'docs/why.md';

describe('docs/why.md', () => {
  it('shows answers as they are given: those of test/unit/explain', () => {
    const blocks = blocksOf(page(PATH));
    assert.ok(blocks.length >= 3);
    for (const { name, text } of blocks) {
      assert.equal(text, readFileSync(join(root, 'test/golden/explain', `${name}.txt`), 'utf8'), name);
    }
  });

  it('explains every verdict', () => {
    const source = readFileSync(join(root, 'daemon/explain/explanation.ts'), 'utf8');
    const [, union = ''] = /export type Outcome =([^;]*);/.exec(source) ?? [];
    const outcomes = [...union.matchAll(/\| '([a-z]+)'/g)].map(([, outcome]) => `\`${outcome ?? ''}\``);
    const section = sectionsOf(page(PATH)).find(({ title }) => title === 'Verdicts');
    assert.ok(outcomes.length > 10);
    assert.deepEqual(
      rowsOf(section?.prose ?? '').map(([verdict]) => verdict),
      outcomes,
    );
  });
});
