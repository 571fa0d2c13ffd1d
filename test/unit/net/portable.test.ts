import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { fromPortable, toPortable } from '../../../daemon/net/portable.ts';
import { Secret } from '../../../daemon/net/secret.ts';

describe('a value that travels', () => {
  it('comes back with its maps, sets and gaps', () => {
    const value = {
      a: new Map([['x', { list: [1, new Set(['y'])] }]]),
      b: undefined,
      c: null,
      d: new Map([['k', new Map([['l', 2]])]]),
    };
    assert.deepEqual(fromPortable(toPortable(value)), { a: value.a, c: null, d: value.d });
  });

  it('leaves its secrets behind, but for whether there are any', () => {
    const text = toPortable({ peers: new Map([['10.0.0.1', { password: new Secret('tell nobody') }]]), none: new Secret('') });
    assert.ok(!text.includes('tell nobody') && !text.includes(Buffer.from('tell nobody').toString('base64')));
    const back = fromPortable(text) as { peers: Map<string, { password: Secret }>; none: Secret };
    assert.equal(back.peers.get('10.0.0.1')?.password.isEmpty, false);
    assert.equal(back.none.isEmpty, true);
    assert.ok(!inspect(back, { depth: 9 }).includes('tell'));
  });

  it('compares equal to itself: two hidden secrets are one', () => {
    const [one, other] = ['one', 'other'].map(word => fromPortable(toPortable({ word: new Secret(word) })) as { word: Secret });
    assert.equal(one?.word.reveal(), other?.word.reveal());
  });
});
