import assert from 'node:assert/strict';
import { FLAG_NAMES, OPTIONS, optionOf } from '../../daemon/config/options.ts';
import { POLICY_ALLOWED, POLICY_BALANCED } from '../../daemon/net/marks.ts';
import { DIAGNOSTIC_CODES } from '../../daemon/reconcile/fragment.ts';
import { CHAINS, SETS } from '../../modules/policy/names.ts';
import { shownEntries, shownRules, shownSets } from '../fixtures/policy-page.ts';
import { blocksOf, page, sectionsOf } from './pages.ts';
import { sources } from './sources.ts';

const PATH = 'docs/policy.md';

function shown(name: string): readonly string[] {
  return (
    blocksOf(page(PATH))
      .find(block => block.name === name)
      ?.text.trimEnd()
      .split('\n') ?? []
  );
}

function byChain(lines: readonly string[]): readonly (readonly [string, readonly string[]])[] {
  return [...Map.groupBy(lines, line => line.split(' ')[1] ?? '')].sort();
}

describe('docs/policy.md', () => {
  it('shows every rule of the example as it is planned, chain by chain in order', () => {
    assert.deepEqual(byChain(shown('iptables-save')), byChain(shownRules('ipv4')));
  });

  it('shows every set of the example with its elements', () => {
    assert.deepEqual([...shown('ipset')].sort(), [...shownSets('ipv4')].sort());
  });

  it('names every chain and set there is one of', () => {
    const text = page(PATH);
    const names = [...Object.values(CHAINS), ...Object.values(SETS)];
    assert.deepEqual(
      names.filter(name => !text.includes(name)),
      [],
    );
  });

  it('names no chain or set of ours that is not planned', () => {
    const planned = [...shownEntries(), ...shownEntries({ defaultDeny: true })].flatMap(({ table, value }) => {
      if (table === 'iptables') return value.kind === 'chain' ? [value.name] : [];
      return table === 'ipset' && value.kind === 'set' ? [value.name] : [];
    });
    const named = page(PATH).match(/\b(?:FAIRWAY-[A-Za-z0-9-]*[A-Za-z0-9]|fairway-[a-z]+(?:-[a-z0-9]+)*)/g) ?? [];
    const unknown = new Set(named.filter(name => !planned.some(known => known.startsWith(name))));
    // Of the second step of the dispatch.
    assert.deepEqual(
      [...unknown].filter(name => !/^(FAIRWAY-INGRESS|fairway-ingress)-[0-9a-f]$/.test(name)),
      [],
    );
  });

  it('names every mark, and no other', () => {
    const marks = [POLICY_ALLOWED, POLICY_BALANCED].map(mark => `0x${mark.toString(16)}`);
    const prose = sectionsOf(page(PATH)).find(({ title }) => title === 'Marks')?.prose ?? '';
    assert.deepEqual([...new Set(prose.match(/0x[0-9a-f]+/g))].sort(), marks.sort());
  });

  it('names every flag the module listens to', () => {
    const prose = sectionsOf(page(PATH)).find(({ title }) => title === 'Flags')?.prose ?? '';
    const flags = FLAG_NAMES.filter(flag => {
      const { groups, withoutEffect } = optionOf(flag);
      return groups.includes('policy') && withoutEffect === undefined;
    });
    assert.ok(flags.length > 5);
    assert.deepEqual(
      flags.filter(flag => !prose.includes(`\`--${flag}\``)),
      [],
    );
  });

  it('names every code the module raises', () => {
    const raised = sources('modules/policy').flatMap(({ syntax }) => syntax.text.match(/\bFW_[A-Z_]+/g) ?? []);
    assert.ok(raised.length > 0, 'the code was not searched');
    assert.deepEqual(
      [...new Set(raised)].filter(code => !page(PATH).includes(`\`${code}\``)),
      [],
    );
  });

  it('names flags and codes that there are', () => {
    const text = page(PATH);
    const flags =
      sectionsOf(text)
        .find(({ title }) => title === 'Flags')
        ?.prose.match(/--([a-z0-9-]+)/g) ?? [];
    assert.ok(flags.length > 5);
    assert.deepEqual(
      flags.filter(flag => !Object.hasOwn(OPTIONS, flag.slice(2))),
      [],
    );
    assert.deepEqual(
      (text.match(/\bFW_[A-Z_]+/g) ?? []).filter(code => !Object.hasOwn(DIAGNOSTIC_CODES, code)),
      [],
    );
  });
});
