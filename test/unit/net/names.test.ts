import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { hashedName, identifierOf, tunnelName } from '../../../daemon/net/names.ts';
import { ip } from '../../fixtures/cluster.ts';

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

describe('the name of a tunnel', () => {
  it('is made of the bytes of the address, whose digits may be another address when cut elsewhere', () => {
    // Written out: a change would make every tunnel anew on an upgrade. The hash of c0 a8 02 04.
    const digest = createHash('sha256').update(Buffer.from('c0a80204', 'hex')).digest('hex');
    assert.equal(tunnelName(ip('192.168.2.4')), `tun-${digest.slice(0, 11)}`);
    assert.notEqual(tunnelName(ip('21.3.0.4')), tunnelName(ip('2.13.0.4')));
    assert.notEqual(tunnelName(ip('fd00:1::2')), tunnelName(ip('fd00::12')));
  });

  it('has the length of a link name, 15 characters, for either family', () => {
    for (const address of ['10.0.0.1', 'fd00:1::2']) assert.match(tunnelName(ip(address)), /^tun-[0-9a-f]{11}$/);
  });
});

describe('a BGP identifier made of an address', () => {
  it('is FNV-1a of 32 bits as a dotted quad', () => {
    // A test vector of the draft: the text "foob" hashes to 3f5076ef.
    assert.equal(identifierOf(ip('102.111.111.98')), '63.80.118.239');
    assert.notEqual(identifierOf(ip('10.0.0.1')), identifierOf(ip('10.0.0.2')));
  });

  it('an IPv6 address has one too', () => {
    let hash = 0x811c9dc5n;
    for (const byte of Buffer.from('fd000001000000000000000000000001', 'hex'))
      hash = ((hash ^ BigInt(byte)) * 0x01000193n) % 2n ** 32n;
    const quad = [24n, 16n, 8n, 0n].map(shift => (hash >> shift) & 255n).join('.');
    assert.equal(identifierOf(ip('fd00:1::1')), quad);
  });
});
