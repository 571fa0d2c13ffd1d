import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { skipBecause } from '../../skip.ts';

const MAIN = join(import.meta.dirname, '../../../daemon/main.ts');
const NOBODY = 65_534;

describe('a daemon that is not root', () => {
  it('says so with the remedy, at once and in one line, and changes nothing', function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'becoming somebody else takes root');
    const { status, stderr } = spawnSync(process.execPath, [MAIN, '--manifests=/nonexistent'], {
      encoding: 'utf8',
      uid: NOBODY,
      gid: NOBODY,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    assert.equal(status, 1);
    assert.match(stderr, /^fairway: FW_CAPABILITY_PRIVILEGE: .*run it as root, or the pod as privileged\n$/);
  });
});
