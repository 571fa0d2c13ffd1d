import assert from 'node:assert/strict';
import { ProgrammingLatency, type RoundEnd } from '../../../daemon/observe/latency.ts';
import { ManualClock } from '../../fakes/clock.ts';

describe('the latency from an event to all that it changed in force', () => {
  let clock: ManualClock;
  let latency: ProgrammingLatency;
  let observed: number[];

  beforeEach(() => {
    clock = new ManualClock();
    observed = [];
    latency = new ProgrammingLatency({ clock, onInForce: milliseconds => observed.push(milliseconds) });
  });

  const failed = (key: string, count = 1): RoundEnd['failing'][number] => ({ table: 'ipset', key, count });

  const round = async (milliseconds: number, failing: RoundEnd['failing'] = [], isComplete = true): Promise<void> => {
    latency.begin();
    await clock.advance(milliseconds);
    latency.end({ isComplete, failing });
  };

  it('counts from the first event of a round to its end; events that come meanwhile are the next one’s', async () => {
    latency.changed();
    await clock.advance(10);
    latency.changed();
    latency.begin();
    await clock.advance(5);
    latency.changed();
    await clock.advance(15);
    latency.end({ isComplete: true, failing: [] });
    await round(100);
    assert.deepEqual(observed, [30, 115]);
    assert.equal(latency.lag(), 0);
  });

  it('is none of a round without an event: an audit programs nothing anew', async () => {
    await round(100);
    assert.deepEqual(observed, []);
  });

  it('of changes that fail lasts until they are in, however fast their round was', async () => {
    latency.changed();
    await round(10, [failed('a')]);
    assert.deepEqual(observed, []);
    await clock.advance(990);
    assert.equal(latency.lag(), 1000);
    await round(10);
    assert.deepEqual(observed, [1010]);
    assert.equal(latency.lag(), 0);
  });

  it('of other events goes on being observed beside an entry that fails for ever', async () => {
    const first = failed('a');
    latency.changed();
    await round(10, [first]);
    latency.changed();
    await round(20, [first]);
    latency.changed();
    await round(30, [failed('a', 2)]);
    assert.deepEqual(observed, [20, 30]);
    assert.equal(latency.lag(), 60);
  });

  it('of an event that changes a failing entry, which fails anew, is none yet', async () => {
    latency.changed();
    await round(10, [failed('a')]);
    latency.changed();
    await round(20, [failed('a')]);
    assert.deepEqual(observed, []);
    await round(30);
    assert.deepEqual(observed, [60]);
  });

  it('is one observation for a tool that was away, however many entries came in with it', async () => {
    latency.changed();
    const all = Array.from({ length: 50_000 }, (_, index) => failed(String(index)));
    await round(10, all);
    assert.equal(latency.lag(), 10);
    await round(10);
    assert.deepEqual(observed, [20]);
  });

  it('counts on where a module could not plan or a table is unknown', async () => {
    latency.changed();
    await round(10, [], false);
    assert.deepEqual(observed, []);
    await clock.advance(90);
    latency.changed();
    await round(10);
    assert.deepEqual(observed, [110]);
  });

  it('does not count the wait for the first lists', async () => {
    latency.changed();
    await clock.advance(30_000);
    latency.forget();
    latency.changed();
    await round(10);
    assert.deepEqual(observed, [10]);
  });
});
