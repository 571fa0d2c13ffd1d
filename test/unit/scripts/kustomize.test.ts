import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { build } from '../../../scripts/kustomize.ts';

const OBJECT = 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: one }\ndata: { list: [a, b], a/b: old }\n';

describe('the part of kustomize that manifests/ is written in', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-kustomize-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  /** Builds a folder with these files, in which `object.yaml` is {@link OBJECT}; gives the data of its one object. */
  function dataOf(files: Readonly<Record<string, string>>): unknown {
    for (const [path, text] of Object.entries({ 'object.yaml': OBJECT, ...files })) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const [object, ...others] = build(folder);
    assert.equal(others.length, 0);
    return object?.['data'];
  }

  const patchedBy = (...operations: readonly string[]): string =>
    JSON.stringify({
      resources: ['object.yaml'],
      patches: [{ target: { kind: 'ConfigMap' }, patch: operations.map(operation => `- { ${operation} }\n`).join('') }],
    });

  it('adds, replaces and removes', () => {
    const file = patchedBy(
      'op: add, path: /data/list/-, value: c',
      'op: replace, path: /data/list/0, value: A',
      'op: remove, path: /data/list/1',
      'op: replace, path: /data/a~1b, value: new',
      'op: add, path: /data/more, value: { x: 1 }',
      'op: add, path: /data/more/y, value: 2',
      'op: remove, path: /data/more/x',
    );
    assert.deepEqual(dataOf({ 'kustomization.yaml': file }), { list: ['A', 'c'], 'a/b': 'new', more: { y: 2 } });
  });

  it('lets a component patch what is there before it, in the order in which they are named', () => {
    const component = (value: string): string =>
      JSON.stringify({
        kind: 'Component',
        patches: [{ target: { kind: 'ConfigMap', name: 'one' }, patch: `- { op: add, path: /data/list/-, value: ${value} }` }],
      });
    const files = {
      'top/kustomization.yaml': JSON.stringify({ resources: ['../object.yaml'] }),
      'c/kustomization.yaml': component('c'),
      'd/kustomization.yaml': component('d'),
      'kustomization.yaml': JSON.stringify({ resources: ['top'], components: ['d', 'c'] }),
    };
    assert.deepEqual(dataOf(files), { list: ['a', 'b', 'd', 'c'], 'a/b': 'old' });
  });

  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['a field that it does not know', JSON.stringify({ resources: ['object.yaml'], images: [] }), /images is not among/],
    ['an operation that it does not know', patchedBy('op: move, from: /data, path: /other'), /move is not among/],
    ['a path that leads to nothing', patchedBy('op: replace, path: /data/lost, value: 1'), /no field lost/],
    ['an item that is not there', patchedBy('op: replace, path: /data/list/2, value: 1'), /no item 2/],
    [
      'a target that is not there',
      JSON.stringify({ resources: ['object.yaml'], patches: [{ target: { kind: 'Pod' }, patch: '[]' }] }),
      /nothing is a Pod/,
    ],
  ];
  for (const [what, file, complaint] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(() => dataOf({ 'kustomization.yaml': file }), complaint);
    });
  }
});
