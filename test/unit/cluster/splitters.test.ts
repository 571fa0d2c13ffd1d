import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'mocha';
import { LineSplitter } from '../../../daemon/cluster/line-splitter.ts';
import { ListSplitter } from '../../../daemon/cluster/list-splitter.ts';
import { splitDocuments } from '../../../daemon/cluster/manifest-documents.ts';
import { sameObject } from '../../../daemon/cluster/same-object.ts';
import { isNewerVersion } from '../../../daemon/cluster/watch-event.ts';

/** The bytes cut into pieces of these lengths, again and again. */
function pieces(bytes: Buffer, lengths: readonly number[]): Buffer[] {
  const cut: Buffer[] = [];
  for (let from = 0, turn = 0; from < bytes.length; turn++) {
    const length = lengths[turn % lengths.length] ?? 1;
    cut.push(bytes.subarray(from, from + length));
    from += length;
  }
  return cut;
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });

describe('a stream of the API server', () => {
  it('gives the same lines however it is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' }).map(text => text.replaceAll('\n', ' '))), lengths, (lines, cuts) => {
        const splitter = new LineSplitter();
        const bytes = Buffer.from(lines.map(line => `${line}\n`).join(''));
        assert.deepEqual(
          pieces(bytes, cuts).flatMap(piece => [...splitter.push(piece)]),
          lines.map(line => Buffer.from(line).toString()),
        );
        assert.equal(splitter.pending, 0);
      }),
    );
  });

  it('gives the same list items however it is cut and whatever is in them', () => {
    const item = fc.dictionary(fc.constantFrom('a', 'items', '{', '"'), fc.jsonValue());
    const list = fc.record({
      kind: fc.constant('List'),
      metadata: fc.record({ resourceVersion: fc.constant('7'), items: fc.constant([{}]) }),
      items: fc.array(item),
    });
    fc.assert(
      fc.property(list, lengths, fc.constantFrom(undefined, 2), (generated, cuts, indent) => {
        const whole = JSON.parse(JSON.stringify(generated)) as typeof generated;
        const splitter = new ListSplitter();
        const found = pieces(Buffer.from(JSON.stringify(whole, undefined, indent)), cuts).flatMap(piece => [
          ...splitter.push(piece),
        ]);
        assert.deepEqual(
          found.map((text): unknown => JSON.parse(text)),
          whole.items,
        );
        assert.deepEqual(splitter.envelope(), { ...whole, items: [] });
      }),
    );
  });

  it('that ends too early is no list', () => {
    const bytes = Buffer.from('{"kind":"List","metadata":{"resourceVersion":"7"},"items":[{"a":1},{"b":2}]}');
    for (let end = 0; end < bytes.length; end++) {
      const splitter = new ListSplitter();
      for (const _ of splitter.push(bytes.subarray(0, end)));
      assert.throws(() => splitter.envelope(), SyntaxError);
    }
  });
});

describe('resource versions', () => {
  it('are compared as numbers of any length, and what is no number counts as newer', () => {
    assert.deepEqual(
      [
        ['9', '10'],
        ['10', '9'],
        ['10', '10'],
        ['99999999999999999999', '100000000000000000000'],
        ['x', '5'],
        ['', '5'],
        ['5', undefined],
      ].map(([version = '', than]) => isNewerVersion(version, than)),
      [false, true, false, false, true, true, true],
    );
  });
});

describe('YAML documents', () => {
  it('are found with their line numbers, wherever the markers stand', () => {
    const cases: [string, [string, number][]][] = [
      ['a: 1', [['a: 1', 1]]],
      [
        'a: 1\n---\nb: 2\n',
        [
          ['a: 1\n', 1],
          ['---\nb: 2\n', 2],
        ],
      ],
      [
        '# c\n%YAML 1.2\n---\na: 1\n--- {b: 2}\n---',
        [
          ['# c\n%YAML 1.2\n---\na: 1\n', 1],
          ['--- {b: 2}\n', 5],
          ['---', 6],
        ],
      ],
      ['a: |\n  ---\n  x\nb: "---"\n---x: 1\n', [['a: |\n  ---\n  x\nb: "---"\n---x: 1\n', 1]]],
      [
        'a: 1\r\n---\r\nb: 2\r\n',
        [
          ['a: 1\r\n', 1],
          ['---\r\nb: 2\r\n', 2],
        ],
      ],
    ];
    for (const [text, expected] of cases)
      assert.deepEqual(
        splitDocuments(text).map(({ text, line }) => [text, line]),
        expected,
      );
  });
});

describe('projected objects', () => {
  it('are the same exactly when their text is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        const copy: unknown = JSON.parse(JSON.stringify(a));
        assert.equal(sameObject(JSON.parse(JSON.stringify(a)), copy), true);
        const isSame = (() => {
          try {
            assert.deepStrictEqual(JSON.parse(JSON.stringify(b)), copy);
            return true;
          } catch {
            return false;
          }
        })();
        assert.equal(sameObject(JSON.parse(JSON.stringify(b)), copy), isSame);
      }),
    );
    assert.equal(sameObject({ a: undefined }, { b: undefined }), false);
    assert.equal(sameObject([], {}), false);
  });
});
