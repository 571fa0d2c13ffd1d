import assert from 'node:assert/strict';
import { instantOf } from '../../../daemon/net/instant.ts';
import { History } from '../../../daemon/observe/history.ts';

const drift = (key: string) => ({ table: 'link', key, found: 'missing' }) as const;

describe('what is remembered of the past', () => {
  it('is what the last round changed, in all tables', () => {
    const history = new History();
    const applied = { creates: 1, updates: 2, deletes: 0, failures: [], retries: 0, milliseconds: 1 };
    history.applied({ table: 'link', ...applied });
    history.applied({ table: 'ipset', ...applied, deletes: 4 });
    history.round(instantOf(1000), instantOf(1012.4));
    assert.deepEqual(history.rounds.last, {
      at: '1970-01-01T00:00:01.012Z',
      milliseconds: 12,
      created: 2,
      updated: 4,
      deleted: 4,
    });
    history.round(instantOf(2000), instantOf(2001));
    assert.deepEqual(history.rounds.last, {
      at: '1970-01-01T00:00:02.001Z',
      milliseconds: 1,
      created: 0,
      updated: 0,
      deleted: 0,
    });
    assert.equal(history.rounds.count, 2);
  });

  it('is the latest of many drifts, and how many there were', () => {
    const history = new History();
    history.drifted([drift('a')], instantOf(0));
    history.drifted(
      Array.from({ length: 30 }, (_, index) => drift(`b${index}`)),
      instantOf(1000),
    );
    history.drifted([drift('c')], instantOf(2000));
    assert.equal(history.drift.count, 32);
    assert.equal(history.drift.latest.length, 20);
    assert.deepEqual(
      history.drift.latest.slice(0, 2).map(({ key, at }) => [key, at]),
      [
        ['c', '1970-01-01T00:00:02.000Z'],
        ['b0', '1970-01-01T00:00:01.000Z'],
      ],
    );
  });
});
