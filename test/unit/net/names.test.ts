import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { hashedName } from '../../../daemon/net/names.ts';

describe('a name that stands for something longer', () => {
  it('is the same on every node and after every restart', () => {
    // Written out: a change would rename every chain and set in the kernel on an upgrade.
    assert.equal(hashedName('x-', ['a', 'bc'], 16), hashedName('x-', ['a', 'bc'], 16));
    const first = createHash('sha256').update('1:a2:bc').digest()[0] ?? 0;
    assert.equal(hashedName('', ['a', 'bc'], 1), '0123456789abcdefghjkmnpqrstvwxyz'[first >> 3]);
  });

  it('tells apart the same letters cut at another place, and one part from two', () => {
    const names = [['a', 'bc'], ['ab', 'c'], ['abc'], ['abc', ''], ['', 'abc']].map(parts => hashedName('x-', parts, 16));
    assert.equal(new Set(names).size, names.length);
  });

  it('counts bytes, so that no text beyond ASCII passes for another split', () => {
    assert.notEqual(hashedName('x-', ['é', 'a'], 16), hashedName('x-', ['éa', ''], 16));
  });

  it('has the prefix and as many digits as asked for, and a longer one begins with the shorter', () => {
    for (const digits of [0, 1, 15, 16, 51]) {
      const name = hashedName('x-', ['policy', 'default/web'], digits);
      assert.equal(name.length, 2 + digits);
      assert.match(name, /^x-[0-9a-hjkmnp-tv-z]*$/);
      assert.ok(hashedName('x-', ['policy', 'default/web'], 51).startsWith(name));
    }
  });
});
