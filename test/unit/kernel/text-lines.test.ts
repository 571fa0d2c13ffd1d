import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { procLines } from '../../../daemon/kernel/text-lines.ts';

describe('reading a file of the kernel', () => {
  const text = Array.from({ length: 100_000 }, (_, index) => `line ${index}`);
  let folder = '';
  let file = '';

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lines-'));
    file = join(folder, 'ip_vs');
    await writeFile(file, text.join('\n'));
  });
  after(() => rm(folder, { recursive: true }));

  /** A clock on which every look is 10 ms after the one before. */
  function slowClock(): () => number {
    let time = 0;
    return () => {
      time += 10;
      return time;
    };
  }

  it('gives every line once, in order', async () => {
    const seen: string[] = [];
    await procLines(slowClock())(file, line => seen.push(line), new AbortController().signal);
    assert.deepEqual(seen, text);
  });

  it('lets the loop turn every few milliseconds', async () => {
    let turns = 0;
    const turn = (): void => {
      turns++;
      pending = setImmediate(turn);
    };
    let pending = setImmediate(turn);
    await procLines(slowClock())(file, () => undefined, new AbortController().signal);
    clearImmediate(pending);
    assert.ok(turns >= 10, `${turns} turns`);
  });

  it('stops for an aborted signal', async () => {
    const controller = new AbortController();
    const reading = procLines(slowClock())(file, () => undefined, controller.signal);
    controller.abort(new Error('stopping'));
    await assert.rejects(reading, /stopping/);
  });

  it('rejects with ENOENT where there is no such file', async () => {
    await assert.rejects(
      procLines(slowClock())(join(folder, 'none'), () => undefined, new AbortController().signal),
      { code: 'ENOENT' },
    );
  });
});
