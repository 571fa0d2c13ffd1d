import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../../daemon/observe/log.ts';

describe('the log', () => {
  it('has one line for each thing that it tells, whatever users wrote into their objects', () => {
    const folder = mkdtempSync(join(tmpdir(), 'log-'));
    const file = join(folder, 'log');
    const descriptor = openSync(file, 'w');
    const remembered: string[] = [];
    const log = createLog({ verbosity: 0, format: 'text', descriptor, onLine: line => remembered.push(line) });
    log.warn("annotation 'a\nb\r\u001b[31m\u009b31m\tcéé' is none", { code: 'FW_LB_REQUEST', text: 'x\u001b[0m' });
    closeSync(descriptor);
    const text = readFileSync(file, 'utf8');
    rmSync(folder, { recursive: true });
    assert.match(
      text,
      /^[^\n]* W annotation 'a\\nb\\r\\u001b\[31m\\u009b31m\\tcéé' is none code=FW_LB_REQUEST text=x\\u001b\[0m\n$/,
    );
    assert.deepEqual(remembered, [text.trimEnd()]);
  });
});
