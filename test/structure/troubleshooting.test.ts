import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { codeWordsOf, page, rowsOf, sectionsOf } from './pages.ts';
import { root, sources, visit } from './sources.ts';

const PATH = 'docs/troubleshooting.md';
/** What stands for names and numbers. */
const GAP = '…';
/** A piece of a message that is shorter may be in the code by chance. */
const SHORTEST = 8;

interface Row {
  readonly what: string;
  readonly anchor: string;
  readonly says: string;
  readonly keeps: string;
  readonly remedy: string;
  readonly tests: readonly { readonly file: string; readonly title: string }[];
}

function rows(): readonly Row[] {
  const section = sectionsOf(page(PATH)).find(({ title }) => title === 'What goes wrong');
  assert.ok(section !== undefined, `${PATH} has no section 'What goes wrong'`);
  return rowsOf(section.prose).map(([what = '', says = '', keeps = '', remedy = '', tests = '']) => ({
    what: what.replace(/^<a id="[^"]*"><\/a>/, ''),
    anchor: /^<a id="([a-z0-9-]+)"><\/a>/.exec(what)?.[1] ?? '',
    says,
    keeps,
    remedy,
    tests: tests.split('<br>').map(each => {
      const [, file = '', title = ''] = /^`([^`]+)`: (.+)$/.exec(each.trim()) ?? [];
      return { file, title };
    }),
  }));
}

/** All text between quotes of the daemon and its modules, gaps where something is filled in; one after another where they are added up. */
function spokenText(): string {
  const texts: string[] = [];
  for (const { syntax } of sources('daemon', 'modules')) {
    visit(syntax, node => {
      if (ts.isStringLiteralLike(node)) texts.push(node.text);
      else if (ts.isTemplateExpression(node))
        texts.push([node.head, ...node.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join(GAP));
      else if (ts.isPropertyAssignment(node) && ts.isIdentifier(node.name)) texts.push(node.name.text);
    });
  }
  return texts.join('\n');
}

/** Titles of tests in a file as they are written, gaps where something is filled in. */
function titlesIn(file: string): readonly string[] {
  const titles: string[] = [];
  const syntax = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.ES2024, true);
  visit(syntax, node => {
    if (!ts.isCallExpression(node) || node.expression.getText() !== 'it') return;
    const [title] = node.arguments;
    if (title === undefined) return;
    if (ts.isStringLiteralLike(title)) titles.push(title.text);
    else if (ts.isTemplateExpression(title))
      titles.push([title.head, ...title.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join(GAP));
  });
  return titles;
}

describe('docs/troubleshooting.md', () => {
  it('names at least 25 things that go wrong, each under an anchor of its own, with what keeps working and a remedy', () => {
    const all = rows();
    assert.ok(all.length >= 25, `${all.length} rows`);
    assert.deepEqual(
      all.filter(({ anchor, keeps, remedy, says }) => [anchor, keeps, remedy, says].includes('')).map(({ what }) => what),
      [],
    );
    assert.equal(new Set(all.map(({ anchor }) => anchor)).size, all.length);
  });

  it('leads from symptoms to rows that there are', () => {
    const anchors = new Set(rows().map(({ anchor }) => anchor));
    const links = [...page(PATH).matchAll(/\]\(#([a-z0-9-]+)\)/g)].flatMap(([, anchor]) => anchor ?? []);
    assert.ok(links.length > 20);
    assert.deepEqual(
      links.filter(anchor => !anchors.has(anchor)),
      [],
    );
  });

  it('quotes messages that are in the code', () => {
    const spoken = spokenText();
    const unknown = rows().flatMap(({ what, says }) =>
      codeWordsOf(says)
        .flatMap(quote => quote.split(GAP))
        .filter(piece => piece !== '' && (piece.length < SHORTEST || !spoken.includes(piece)))
        .map(piece => `${what}: ${piece}`),
    );
    assert.deepEqual(unknown, []);
  });

  it('quotes a message for each, or says that there is none', () => {
    const silent = rows().filter(({ says }) => codeWordsOf(says).length === 0 && !says.startsWith('nothing'));
    assert.deepEqual(
      silent.map(({ what }) => what),
      [],
    );
  });

  it('names a test for each, and only tests that there are', () => {
    const absent = rows().flatMap(({ what, tests }) =>
      tests
        .filter(({ file, title }) => file === '' || !existsSync(join(root, file)) || !titlesIn(file).includes(title))
        .map(({ file, title }) => `${what}: ${file}: ${title}`),
    );
    assert.deepEqual(absent, []);
  });
});
