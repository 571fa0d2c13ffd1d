import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { BUILT_MODULES } from '../../daemon/config/modules.ts';
import { findFlag } from '../../daemon/config/options.ts';
import { parseArguments } from '../../daemon/config/parse.ts';
import { blocksOf, codeWordsOf, page, sectionsOf } from './pages.ts';
import { root } from './sources.ts';

const UNIT = 'systemd/fairway.service';

/** Options of other programs that pages speak of, and the word for any flag. */
const FOREIGN = new Set([
  '--flag',
  '--cleanup',
  '--noflush',
  '--cpu-prof',
  '--set',
  '--ctdir',
  '--disable-network-policy',
  '--disable-kube-proxy',
]);

const FLAG = /(?<![\w-])--[a-z][a-z0-9-]*/g;

function flagsIn(text: string): readonly string[] {
  return [...text.matchAll(FLAG)].map(([flag]) => flag);
}

/** Flags in code words and shell lines of a page; kernel rules in blocks of other languages are not ours. */
function flagsOfPage(path: string): readonly string[] {
  const text = page(path);
  const words = sectionsOf(text).flatMap(({ title, prose }) => codeWordsOf(`${title}\n${prose}`));
  const shell = blocksOf(text)
    .filter(({ language }) => language === 'sh')
    .flatMap(block => block.text.split('\n'))
    .filter(line => line.includes('fairway.js'));
  return [...words, ...shell].flatMap(flagsIn);
}

/** What the parser says of a command line, with the flags it warns about. */
function verdict(argv: readonly string[], environment: Record<string, string>): readonly string[] {
  const result = parseArguments(argv, environment, BUILT_MODULES);
  if (result.kind === 'errors') return result.errors.map(({ subject, problem }) => `${subject} ${problem}`);
  assert.ok(result.kind === 'run', `expected a configuration, not ${result.kind}`);
  return result.warnings.map(({ message }) => message);
}

describe('flags in pages and deployment files', () => {
  const pages = ['README.md', ...globSync('{docs,examples,manifests,systemd}/*.md', { cwd: root })];

  for (const path of pages.sort()) {
    it(`of ${path} exist`, () => {
      const unknown = flagsOfPage(path).filter(flag => !FOREIGN.has(flag) && findFlag(flag.slice(2)) === undefined);
      assert.deepEqual([...new Set(unknown)], []);
    });
  }

  it('of the unit are accepted without a warning', () => {
    const [, line = ''] =
      /^ExecStart=\/usr\/bin\/env \$\{FAIRWAY_NODE\} --max-semi-space-size=2 \$\{FAIRWAY_PROGRAM\} (.*) \$FAIRWAY_FLAGS$/m.exec(
        page(UNIT),
      ) ?? [];
    const [, added = ''] = /^FAIRWAY_FLAGS=(.*)$/m.exec(page('systemd/fairway.env')) ?? [];
    const argv = [...line.split(' '), ...added.split(' ').filter(word => word !== '')];
    assert.ok(argv.includes('--manifests=/etc/fairway/manifests'));
    assert.deepEqual(verdict(argv, {}), []);
  });
});
