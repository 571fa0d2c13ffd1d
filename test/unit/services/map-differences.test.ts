import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MapDifferences } from '../../../modules/services/map-differences.ts';

const KEY = fc.integer({ min: 0, max: 200 }).map(String);
const VALUE = fc.integer({ min: 0, max: 3 }).map(number => ({ number }));
const CHANGES = fc.array(fc.tuple(KEY, fc.option(VALUE, { nil: undefined })), { maxLength: 40 });

describe('what changed in a map since the last look', () => {
  it('names exactly the keys that were added, removed or got another value', () => {
    fc.assert(
      fc.property(fc.array(CHANGES, { maxLength: 12 }), history => {
        const differences = new MapDifferences<object>();
        let former = new Map<string, object>();
        for (const changes of history) {
          const now = new Map(former);
          for (const [key, value] of changes) {
            if (value === undefined) now.delete(key);
            else now.set(key, value);
          }
          const expected = [...new Set([...former.keys(), ...now.keys()])].filter(key => former.get(key) !== now.get(key));
          assert.deepEqual([...differences.since(now)].sort(), expected.sort());
          assert.equal(differences.since(now).size, 0);
          former = now;
        }
      }),
      { numRuns: 200 },
    );
  });
});
