import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'mocha';
import type { LabelOperator, LabelSelector } from '../../../daemon/cluster/kinds.ts';
import { matchesLabels, matchesNamespace, readSelector, selectorOf } from '../../../daemon/cluster/selectors.ts';
import { namespace, requirement, selector } from '../../fixtures/cluster.ts';

interface Reading {
  readonly selector: LabelSelector;
  readonly isWhole: boolean;
  readonly complaints: readonly string[];
}

function reading(raw: unknown): Reading {
  const complaints: string[] = [];
  const complain = (field: string, value: unknown, remedy: string): void => {
    complaints.push(`${field}: ${JSON.stringify(value)}: ${remedy}`);
  };
  return { ...readSelector(raw, 'sel', { complain }), complaints };
}

const OPERATORS: readonly LabelOperator[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const NAME = 'kubernetes.io/metadata.name';

describe('a label selector', () => {
  it('matches by each operator as the API defines it: NotIn and DoesNotExist hold for what has no such label', () => {
    const cases: readonly (readonly [LabelOperator, readonly string[], Record<string, string>, boolean])[] = [
      ['In', ['a', 'b'], { k: 'b' }, true],
      ['In', ['a', 'b'], { k: 'c' }, false],
      ['In', ['a'], {}, false],
      ['In', [''], { k: '' }, true],
      ['In', [''], {}, false],
      ['NotIn', ['a'], { k: 'a' }, false],
      ['NotIn', ['a'], { k: 'b' }, true],
      ['NotIn', ['a'], {}, true],
      ['NotIn', [''], { k: '' }, false],
      ['Exists', [], { k: '' }, true],
      ['Exists', [], { other: 'k' }, false],
      ['DoesNotExist', [], { k: '' }, false],
      ['DoesNotExist', [], {}, true],
    ];
    const got = cases.map(([operator, values, labels]) =>
      matchesLabels(selector({}, requirement('k', operator, ...values)), labels),
    );
    assert.deepEqual(
      got,
      cases.map(([, , , expected]) => expected),
    );
  });

  it('matches where all of its requirements hold, and everything when it has none', () => {
    const both = selector({ app: 'web' }, requirement('tier', 'NotIn', 'test'));
    assert.equal(matchesLabels(both, { app: 'web', tier: 'prod' }), true);
    assert.equal(matchesLabels(both, { app: 'web', tier: 'test' }), false);
    assert.equal(matchesLabels(both, { tier: 'prod' }), false);
    assert.equal(matchesLabels(selector(), {}), true);
  });

  it('asks for contradictory values of one label, and then matches nothing', () => {
    const contradictory = selector({ app: 'web' }, requirement('app', 'In', 'api'));
    assert.equal(matchesLabels(contradictory, { app: 'web' }), false);
    assert.equal(matchesLabels(contradictory, { app: 'api' }), false);
  });

  it('does not take what every JavaScript object has for a label', () => {
    for (const key of ['constructor', 'toString', 'hasOwnProperty', 'valueOf']) {
      assert.equal(matchesLabels(selector({}, requirement(key, 'Exists')), {}), false, key);
      assert.equal(matchesLabels(selector({}, requirement(key, 'DoesNotExist')), {}), true, key);
      assert.equal(matchesLabels(selector({}, requirement(key, 'NotIn', 'x')), {}), true, key);
      assert.equal(matchesLabels(selector({ [key]: 'x' }), { [key]: 'x' }), true, key);
    }
  });

  it('has one text for one meaning, whatever the order it was written in', () => {
    const one = reading({
      matchLabels: { b: '2', a: '1' },
      matchExpressions: [
        { key: 'c', operator: 'NotIn', values: ['y', 'x', 'y'] },
        { key: 'b', operator: 'In', values: ['2', '2'] },
        { key: 'c', operator: 'Exists' },
        { key: 'c', operator: 'NotIn', values: ['x'] },
      ],
    });
    const other = reading({
      matchExpressions: [
        { key: 'c', operator: 'NotIn', values: ['x'] },
        { key: 'c', operator: 'Exists', values: [] },
        { key: 'a', operator: 'In', values: ['1'] },
        { key: 'c', operator: 'NotIn', values: ['x', 'y'] },
      ],
      matchLabels: { b: '2' },
    });
    assert.deepEqual(one, other);
    assert.deepEqual(one, {
      selector: {
        requirements: [
          { key: 'a', operator: 'In', values: ['1'] },
          { key: 'b', operator: 'In', values: ['2'] },
          { key: 'c', operator: 'Exists', values: [] },
          { key: 'c', operator: 'NotIn', values: ['x'] },
          { key: 'c', operator: 'NotIn', values: ['x', 'y'] },
        ],
      },
      isWhole: true,
      complaints: [],
    });
  });

  it('is the empty one where it is absent, null or has null parts', () => {
    for (const raw of [
      undefined,
      null,
      {},
      { matchLabels: null, matchExpressions: null },
      { matchLabels: {}, matchExpressions: [] },
    ]) {
      assert.deepEqual(reading(raw), { selector: { requirements: [] }, isWhole: true, complaints: [] });
    }
  });

  const UNREADABLE: readonly (readonly [unknown, string])[] = [
    ['app=web', 'sel: "app=web": not a label selector; write matchLabels or matchExpressions under it'],
    [{ matchLabel: { app: 'web' } }, 'sel: "matchLabel": not a field of a selector; correct or remove it'],
    [{ matchLabels: ['app'] }, 'sel.matchLabels: ["app"]: not a map of labels; write it as "app: web"'],
    [{ matchLabels: { version: 1 } }, 'sel.matchLabels[version]: 1: not a string; put it in quotes'],
    [{ matchLabels: { 'a b': 'x' } }, 'sel.matchLabels: "a b": not a label name; write it as app or example.com/app'],
    [{ matchLabels: { 'a/b/c': 'x' } }, 'sel.matchLabels: "a/b/c": not a label name; write it as app or example.com/app'],
    [{ matchExpressions: {} }, 'sel.matchExpressions: {}: not a list; begin each expression with "- key:"'],
    [{ matchExpressions: ['x'] }, 'sel.matchExpressions[]: "x": not an expression; write it with key, operator and values'],
    [
      { matchExpressions: [{ operator: 'Exists' }] },
      'sel.matchExpressions[].key: undefined: not a label name; write it as app or example.com/app',
    ],
    [
      { matchExpressions: [{ key: 'k', operator: 'Equals', values: ['a'] }] },
      'sel.matchExpressions[].operator: "Equals": not one of In, NotIn, Exists, DoesNotExist; correct it',
    ],
    [{ matchExpressions: [{ key: 'k', operator: 'In' }] }, 'sel.matchExpressions[].values: undefined: In needs values; add some'],
    [
      { matchExpressions: [{ key: 'k', operator: 'NotIn', values: [] }] },
      'sel.matchExpressions[].values: []: NotIn needs values; add some',
    ],
    [
      { matchExpressions: [{ key: 'k', operator: 'Exists', values: ['a'] }] },
      'sel.matchExpressions[].values: ["a"]: Exists takes no values; remove them',
    ],
    [
      { matchExpressions: [{ key: 'k', operator: 'In', values: 'a' }] },
      'sel.matchExpressions[].values: "a": not a list; write it as [a, b]',
    ],
    [
      { matchExpressions: [{ key: 'k', operator: 'NotIn', values: ['a', 5] }] },
      'sel.matchExpressions[].values[]: 5: not a string; put it in quotes',
    ],
    [
      { matchExpressions: [{ key: 'k', operator: 'Exists', value: ['a'] }] },
      'sel.matchExpressions[]: "value": not a field of an expression; correct or remove it',
    ],
  ];
  for (const [raw, complaint] of UNREADABLE) {
    it(`is unreadable as ${JSON.stringify(raw)}, and says why`, () => {
      assert.deepEqual(reading(raw), { selector: { requirements: [] }, isWhole: false, complaints: [complaint] });
      assert.equal(selectorOf(raw, 'sel', { complain: () => undefined }), undefined);
    });
  }

  it('keeps its readable requirements whole: one value less of In would select fewer', () => {
    const { selector: kept, isWhole } = reading({
      matchLabels: { app: 'web', version: 2 },
      matchExpressions: [
        { key: 'tier', operator: 'In', values: ['a', 7] },
        { key: 'zone', operator: 'Exists' },
      ],
    });
    assert.deepEqual([kept, isWhole], [selector({ app: 'web' }, requirement('zone', 'Exists')), false]);
  });

  it('of any shape is read without an exception, and says what it did not understand', () => {
    const fields = ['matchLabels', 'matchExpressions', 'key', 'operator', 'values', 'app', '__proto__', 'constructor'];
    const { value } = fc.letrec(tie => ({
      value: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom<unknown>(...OPERATORS, 'app', '', 5, null, true),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom(...fields), tie('value'), { maxKeys: 4 }),
      ),
    }));
    fc.assert(
      fc.property(value, raw => {
        const { isWhole, complaints, selector: kept } = reading(JSON.parse(JSON.stringify(raw)));
        assert.equal(isWhole, complaints.length === 0);
        assert.equal(typeof matchesLabels(kept, { app: 'web' }), 'boolean');
      }),
      { numRuns: 500 },
    );
  });

  it('selects a superset when parts of it cannot be read', () => {
    const expression = fc.record({
      key: fc.constantFrom<unknown>('a', 'b', 'c', 7, 'a b'),
      operator: fc.constantFrom<unknown>(...OPERATORS, 'Equals'),
      values: fc.array(fc.constantFrom<unknown>('1', '2', 3), { maxLength: 3 }),
    });
    const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2', '3'));
    fc.assert(
      fc.property(fc.array(expression, { maxLength: 4 }), labels, (matchExpressions, of) => {
        const alone = matchExpressions.map(one => reading({ matchExpressions: [one] }));
        const expected = alone.every(({ isWhole, selector: only }) => !isWhole || matchesLabels(only, of));
        assert.equal(matchesLabels(reading({ matchExpressions }).selector, of), expected);
      }),
    );
  });

  it('answers a million questions in well under a second', () => {
    const asked = selector({ app: 'web' }, requirement('tier', 'NotIn', 'a', 'b'), requirement('zone', 'Exists'));
    const pods = Array.from({ length: 1000 }, (_, index) => ({
      app: 'web',
      tier: `t${index % 7}`,
      zone: 'z',
      name: `p${index}`,
    }));
    const since = performance.now();
    let matching = 0;
    for (let round = 0; round < 1000; round++) for (const labels of pods) if (matchesLabels(asked, labels)) matching++;
    assert.equal(matching, 1_000_000);
    assert.ok(performance.now() - since < 2000);
  });
});

describe('a namespace selector', () => {
  it('sees the labels of the Namespace', () => {
    const team = namespace('shop', { team: 'blue' });
    assert.equal(matchesNamespace(selector({ team: 'blue' }), 'shop', team), true);
    assert.equal(matchesNamespace(selector({ team: 'red' }), 'shop', team), false);
    assert.equal(matchesNamespace(selector({}, requirement('gone', 'DoesNotExist')), 'shop', team), true);
  });

  it('sees the label of its name, which the API server gives it and a hand-made object may lack', () => {
    const bare = { ...namespace('shop'), labels: {} };
    for (const object of [bare, namespace('shop')]) {
      assert.equal(matchesNamespace(selector({ [NAME]: 'shop' }), 'shop', object), true);
      assert.equal(matchesNamespace(selector({ [NAME]: 'other' }), 'shop', object), false);
      assert.equal(matchesNamespace(selector({}, requirement(NAME, 'NotIn', 'shop')), 'shop', object), false);
      assert.equal(matchesNamespace(selector({}, requirement(NAME, 'Exists')), 'shop', object), true);
    }
  });

  it('takes of a namespace that nobody has seen nothing but its name for sure', () => {
    const matches = (asked: LabelSelector): boolean => matchesNamespace(asked, 'shop', undefined);
    assert.equal(matches(selector()), true);
    assert.equal(matches(selector({ [NAME]: 'shop' })), true);
    assert.equal(matches(selector({}, requirement(NAME, 'In', 'other', 'shop'))), true);
    assert.equal(matches(selector({ [NAME]: 'other' })), false);
    for (const uncertain of [
      requirement('team', 'NotIn', 'red'),
      requirement('team', 'DoesNotExist'),
      requirement('team', 'Exists'),
      requirement('team', 'In', 'blue'),
      requirement(NAME, 'NotIn', 'other'),
      requirement(NAME, 'Exists'),
      requirement(NAME, 'DoesNotExist'),
    ]) {
      assert.equal(matches(selector({}, uncertain)), false, JSON.stringify(uncertain));
      assert.equal(matches(selector({ [NAME]: 'shop' }, uncertain)), false, JSON.stringify(uncertain));
    }
  });
});
