import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastingFile } from '../../../daemon/kernel/state-file.ts';

describe('a file that outlives a reboot', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-state-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is made with its folder, for root alone, and leaves nothing beside it', async () => {
    const file = lastingFile(join(folder, 'node-1', 'load-balancer.json'));
    assert.equal(await file.read(), undefined);
    await file.write('one');
    await file.write('two');
    assert.equal(await file.read(), 'two');
    assert.deepEqual(readdirSync(join(folder, 'node-1')), ['load-balancer.json']);
    assert.equal(statSync(file.path).mode & 0o777, 0o600);
    assert.equal(statSync(join(folder, 'node-1')).mode & 0o777, 0o700);
  });

  it('is kept under another name where it is set aside, and may be absent', async () => {
    const file = lastingFile(join(folder, 'load-balancer.json'));
    await file.setAside();
    writeFileSync(file.path, 'torn');
    await file.setAside();
    await file.write('anew');
    assert.equal(readFileSync(file.asidePath, 'utf8'), 'torn');
    assert.equal(readFileSync(file.path, 'utf8'), 'anew');
  });

  it('rejects where it cannot be read or written', async () => {
    const file = lastingFile(join(folder, 'taken'));
    mkdirSync(file.path);
    await assert.rejects(file.read(), /EISDIR/);
    await assert.rejects(file.write('one'), /EISDIR/);
  });
});
