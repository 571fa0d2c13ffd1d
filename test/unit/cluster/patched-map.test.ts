import assert from 'node:assert/strict';
import fc from 'fast-check';
import { differingKeys, patched } from '../../../daemon/cluster/patched-map.ts';

const KEY = fc.integer({ min: 0, max: 200 }).map(String);
const VALUE = fc.integer({ min: 0, max: 3 }).map(number => ({ number }));
const CHANGES = fc.array(fc.tuple(KEY, fc.option(VALUE, { nil: undefined })), { maxLength: 40 });

describe('maps that share what they have in common', () => {
  it('read like a map that was changed in place, and the earlier versions stay', () => {
    fc.assert(
      fc.property(fc.array(CHANGES, { maxLength: 12 }), history => {
        const plain = new Map<string, object>();
        let map: ReadonlyMap<string, object> = new Map();
        for (const changes of history) {
          const former = map;
          const formerContent = new Map(former);
          for (const [key, value] of changes) {
            if (value === undefined) plain.delete(key);
            else plain.set(key, value);
          }
          map = patched(map, new Map(changes));
          assert.deepEqual(new Map(former), formerContent);
          const allKeys = [...new Set([...formerContent.keys(), ...plain.keys()])];
          const expected = allKeys.filter(key => formerContent.get(key) !== plain.get(key)).sort();
          assert.deepEqual([...differingKeys(former, map)].sort(), expected);
          assert.deepEqual([...differingKeys(formerContent, map)].sort(), expected);
          assert.deepEqual(new Map(map), plain);
          assert.equal(map.size, plain.size);
          assert.deepEqual(new Set(map.keys()), new Set(plain.keys()));
          assert.deepEqual(new Set(map.values()), new Set(plain.values()));
          for (let key = 0; key <= 200; key++) {
            assert.equal(map.get(String(key)), plain.get(String(key)));
            assert.equal(map.has(String(key)), plain.has(String(key)));
          }
          const each = new Map<string, object>();
          map.forEach((value, key) => {
            each.set(key, value);
          });
          assert.deepEqual(each, plain);
        }
      }),
      { numRuns: 100 },
    );
  });
});
