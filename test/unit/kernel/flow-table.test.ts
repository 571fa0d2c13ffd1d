import assert from 'node:assert/strict';
import { watchFlowTable } from '../../../daemon/kernel/flow-table.ts';
import { ManualClock } from '../../fakes/clock.ts';

describe("the kernel's table of flows", () => {
  it('is told once when it is nearly full, and once when there is room again', async () => {
    const clock = new ManualClock();
    const told: (string | undefined)[] = [];
    let count: number | undefined;
    const stop = watchFlowTable({
      clock,
      readFile: path => {
        if (count === undefined) return Promise.reject(new Error('ENOENT'));
        return Promise.resolve(`${path.endsWith('max') ? 1000 : count}\n`);
      },
      onChange: shown => told.push(shown),
    });
    for (const now of [undefined, 500, 899, 900, 1000, 800, 950, 749, 100]) {
      count = now;
      await clock.advance(30_000);
    }
    assert.deepEqual(told, ['900 of 1000 flows', undefined]);
    stop();
    count = 1000;
    await clock.advance(120_000);
    assert.equal(told.length, 2);
  });
});
