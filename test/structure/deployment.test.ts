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

  it('of the unit are accepted without a warning, in each way that its environment file offers', () => {
    assert.match(page(UNIT), /^ExecStart=\/usr\/bin\/fairway \$FAIRWAY_SOURCE \$FAIRWAY_FLAGS$/m);
    const offered = (variable: string): readonly string[] =>
      [...page('systemd/fairway.env').matchAll(new RegExp(`^#?${variable}="(.*)"$`, 'gm'))].map(([, value = '']) => value);
    const [sources, flags] = [offered('FAIRWAY_SOURCE'), offered('FAIRWAY_FLAGS')];
    assert.ok(sources.includes('--manifests=/etc/fairway/manifests') && sources.includes('--kubeconfig=/etc/fairway/kubeconfig'));
    for (const source of sources)
      for (const words of flags) assert.deepEqual(verdict([source, ...words.split(' ')], {}), [], `${source} ${words}`);
  });
});
