import assert from 'node:assert/strict';
import { sources } from './sources.ts';

const LONGEST = 400;

describe('files of the daemon and its modules', () => {
  it(`are about one concept: at most ${LONGEST} lines`, () => {
    const long = sources('daemon', 'modules')
      // Generated from GoBGP's protocol files.
      .filter(({ path }) => !path.startsWith('daemon/bgp/proto/'))
      .map(({ path, syntax }) => ({ path, lines: syntax.getLineStarts().length - 1 }))
      .filter(({ lines }) => lines > LONGEST);
    assert.deepEqual(long, []);
  });
});
