import assert from 'node:assert/strict';
import { appendFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GobgpdLine, GobgpdLineTeller, GobgpdLogFile, parseGobgpdLine } from '../../../daemon/bgp/gobgpd-log.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { LogLines } from '../../fakes/daemon.ts';
import { withFolder } from '../../fakes/supervised.ts';

// As gobgpd 3.10 writes them.
const BUSY =
  '{"Error":"listen tcp 127.0.0.1:50991: bind: address already in use","Key":"127.0.0.1:50991","Topic":"grpc","level":"warning","msg":"listen failed","time":"2026-11-25T14:27:12Z"}';
const STARTED = '{"level":"info","msg":"gobgpd started","time":"2026-11-25T14:27:12Z"}';

function warning(message: string): GobgpdLine {
  return { level: 'warning', message, topic: 'Peer', key: '192.0.2.2', error: '' };
}

describe('the log of gobgpd', () => {
  it('has what matters from warn on, of a crash its first line, and nothing of what is no line of its', () => {
    assert.deepEqual(parseGobgpdLine(BUSY), {
      level: 'warning',
      message: 'listen failed',
      topic: 'grpc',
      key: '127.0.0.1:50991',
      error: 'listen tcp 127.0.0.1:50991: bind: address already in use',
    });
    assert.equal(parseGobgpdLine(STARTED), undefined);
    assert.equal(parseGobgpdLine('panic: runtime error: index out of range [3]')?.level, 'panic');
    for (const line of ['goroutine 1 [running]:', '{"level":"warn', '[]', '', '{"level":7}'])
      assert.equal(parseGobgpdLine(line), undefined, line);
  });

  it('is read from where it ended at first, each line once and whole, and begins anew when it is long', () =>
    withFolder(async folder => {
      const path = join(folder, 'gobgp.log');
      const told: string[] = [];
      const file = new GobgpdLogFile(path, ({ message }) => told.push(message));
      writeFileSync(path, `${BUSY}\n`);
      await file.read();
      assert.deepEqual(told, [], 'what an earlier run was told');
      const line = BUSY.replace('listen failed', 'cannot reach Zürich');
      const bytes = Buffer.from(`${line}\n`);
      const middle = bytes.indexOf(0xbc);
      appendFileSync(path, bytes.subarray(0, middle));
      await file.read();
      appendFileSync(path, bytes.subarray(middle));
      await file.read();
      assert.deepEqual(told, ['cannot reach Zürich']);
      appendFileSync(path, `${STARTED}\n`.repeat(20_000));
      await file.read();
      assert.equal(statSync(path).size, 0);
      appendFileSync(path, `${BUSY}\n`);
      await file.read();
      assert.deepEqual(told, ['cannot reach Zürich', 'listen failed']);
    }));

  it('that is not there yet, or is there anew, is read from its beginning', () =>
    withFolder(async folder => {
      const path = join(folder, 'gobgp.log');
      const told: string[] = [];
      const file = new GobgpdLogFile(path, ({ message }) => told.push(message));
      await file.read();
      writeFileSync(path, `${BUSY}\n${BUSY}\n`);
      await file.read();
      writeFileSync(path, `${BUSY}\n`);
      await file.read();
      assert.equal(told.length, 3);
    }));

  it('says the same once a minute, with how often it was said meanwhile', async () => {
    const log = new LogLines();
    const clock = new ManualClock();
    const teller = new GobgpdLineTeller(log, clock);
    for (let second = 0; second < 60; second++) {
      teller.tell(warning('hold timer expired'));
      if (second === 30) teller.tell(warning('another'));
      await clock.advance(1_000);
    }
    teller.tell(warning('hold timer expired'));
    assert.deepEqual(log.lines, [
      'warn gobgpd: hold timer expired topic=Peer key=192.0.2.2',
      'warn gobgpd: another topic=Peer key=192.0.2.2',
      'warn gobgpd: hold timer expired topic=Peer key=192.0.2.2 repeated=59',
    ]);
  });
});
