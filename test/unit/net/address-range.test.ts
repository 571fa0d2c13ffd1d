import assert from 'node:assert/strict';
import fc from 'fast-check';
import { addressOfBytes, type IpAddress, mustParseAddress } from '../../../daemon/net/address.ts';
import {
  type AddressRange,
  addressOfNumber,
  formatAddressRange,
  numberOf,
  parseAddressRange,
  prefixesOfRange,
  rangeContains,
  rangeFamily,
  rangesOverlap,
} from '../../../daemon/net/address-range.ts';
import { mustParsePrefix, prefixAddress, prefixFamily, prefixLength } from '../../../daemon/net/prefix.ts';

function range(text: string): AddressRange {
  const parsed = parseAddressRange(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

const ipv4 = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(addressOfBytes);
const ipv6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(addressOfBytes);

/** Ends near each other as well as anywhere. */
const arbitraryRange: fc.Arbitrary<AddressRange> = fc
  .tuple(fc.constantFrom(ipv4, ipv6), fc.bigInt({ min: 0n, max: 600n }), fc.boolean())
  .chain(([address, span, isNear]) =>
    fc.tuple(address, address).map(([one, other]) => {
      const family = one.includes(':') ? 'ipv6' : 'ipv4';
      const last = family === 'ipv6' ? 2n ** 128n - 1n : 2n ** 32n - 1n;
      const [from, to] = [numberOf(one), numberOf(other)].toSorted((a, b) => (a < b ? -1 : 1)) as [bigint, bigint];
      const end = isNear ? (from + span > last ? last : from + span) : to;
      return { first: addressOfNumber(from, family), last: addressOfNumber(end, family), prefix: undefined };
    }),
  );

describe('a range of addresses', () => {
  it('is a CIDR, an address, or two with a dash', () => {
    assert.deepEqual(range(' 192.0.2.5/28 '), { first: '192.0.2.0', last: '192.0.2.15', prefix: '192.0.2.0/28' });
    assert.deepEqual(range('192.0.2.7'), { first: '192.0.2.7', last: '192.0.2.7', prefix: undefined });
    assert.deepEqual(range('192.0.2.10 - 192.0.2.20'), { first: '192.0.2.10', last: '192.0.2.20', prefix: undefined });
    assert.deepEqual(range('2001:DB8::ff-2001:db8::1:0'), { first: '2001:db8::ff', last: '2001:db8::1:0', prefix: undefined });
    assert.deepEqual(range('192.0.2.7/32'), { first: '192.0.2.7', last: '192.0.2.7', prefix: '192.0.2.7/32' });
    assert.deepEqual(range('0.0.0.0/0'), { first: '0.0.0.0', last: '255.255.255.255', prefix: '0.0.0.0/0' });
    assert.deepEqual(range('::/0').last, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff');
    assert.deepEqual([rangeFamily(range('192.0.2.7')), rangeFamily(range('::1-::2'))], ['ipv4', 'ipv6']);
  });

  it('is nothing that descends, mixes families, or has too much or too little', () => {
    const wrong = ['', '-', '192.0.2.1-', '-192.0.2.1', '192.0.2.2-192.0.2.1', '192.0.2.1-::1', '192.0.2.1-192.0.2.2-192.0.2.3'];
    for (const text of [...wrong, '192.0.2.0/33', '192.0.2.0/24-192.0.3.0', '192.0.2.1-20', 'all', '192.0.2.01']) {
      assert.equal(parseAddressRange(text), undefined, text);
    }
  });

  it('has one number a address, and back', () => {
    assert.equal(numberOf(mustParseAddress('1.2.3.4')), 0x01020304n);
    assert.equal(numberOf(mustParseAddress('ffff::1')), (0xffffn << 112n) + 1n);
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), address => {
        assert.equal(addressOfNumber(numberOf(address), address.includes(':') ? 'ipv6' : 'ipv4'), address);
      }),
    );
  });

  it('holds its ends and what is between, of its family alone', () => {
    const some = range('192.0.2.10-192.0.2.20');
    const isIn = (text: string): boolean => rangeContains(some, mustParseAddress(text));
    assert.deepEqual(['192.0.2.9', '192.0.2.10', '192.0.2.15', '192.0.2.20', '192.0.2.21', '::c000:20f'].map(isIn), [
      false,
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it('overlaps with another where they have an address in common', () => {
    const overlap = (one: string, other: string): boolean => rangesOverlap(range(one), range(other));
    assert.ok(overlap('192.0.2.0/28', '192.0.2.15-192.0.2.20'));
    assert.ok(overlap('192.0.2.0/24', '192.0.2.7'));
    assert.ok(!overlap('192.0.2.0/28', '192.0.2.16-192.0.2.20'));
    assert.ok(!overlap('0.0.0.0/0', '::/0'));
  });

  it('is read back from its own text as it was', () => {
    fc.assert(fc.property(arbitraryRange, of => assert.deepEqual(range(formatAddressRange(of)), of)));
    for (const text of ['192.0.2.0/28', '192.0.2.7/32', '0.0.0.0/0', '2001:db8::/120', '::/0', '2001:db8::1/128']) {
      assert.equal(formatAddressRange(range(text)), text);
    }
  });

  it('is made of prefixes that hold its addresses, each once and no other, and fewer would not do', () => {
    assert.deepEqual(prefixesOfRange(range('192.0.2.10-192.0.2.20')), [
      '192.0.2.10/31',
      '192.0.2.12/30',
      '192.0.2.16/30',
      '192.0.2.20/32',
    ]);
    assert.deepEqual(prefixesOfRange(range('192.0.2.0-192.0.2.255')), ['192.0.2.0/24']);
    assert.deepEqual(prefixesOfRange(range('0.0.0.0-255.255.255.255')), ['0.0.0.0/0']);
    assert.deepEqual(prefixesOfRange(range('::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')), ['::/0']);
    assert.deepEqual(prefixesOfRange(range('255.255.255.255')), ['255.255.255.255/32']);
    assert.deepEqual(prefixesOfRange(range('192.0.2.0/28')), ['192.0.2.0/28']);
    fc.assert(
      fc.property(arbitraryRange, of => {
        const prefixes = prefixesOfRange(of);
        let next = numberOf(of.first);
        const blocks = prefixes.map(prefix => {
          const size = 2n ** BigInt((prefixFamily(prefix) === 'ipv6' ? 128 : 32) - prefixLength(prefix));
          assert.equal(numberOf(prefixAddress(prefix)), next, 'a gap, or an overlap');
          assert.equal(mustParsePrefix(prefix), prefix, 'not aligned');
          next += size;
          return { at: next - size, size };
        });
        assert.equal(next, numberOf(of.last) + 1n);
        for (const [index, { at, size }] of blocks.entries()) {
          const after = blocks[index + 1];
          assert.ok(after?.size !== size || at % (2n * size) !== 0n, 'two that are one');
        }
      }),
    );
  });

  it('is as exact at the end of the numbers', () => {
    const end: IpAddress = mustParseAddress('255.255.255.255');
    assert.deepEqual(prefixesOfRange({ first: mustParseAddress('255.255.255.254'), last: end, prefix: undefined }), [
      '255.255.255.254/31',
    ]);
  });
});
