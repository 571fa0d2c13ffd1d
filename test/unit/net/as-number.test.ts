import assert from 'node:assert/strict';
import { isPeerAsn, PEER_ASNS, parseUint32 } from '../../../daemon/net/as-number.ts';

describe('the AS number of a peer', () => {
  it('is one of those that messages name, at both ends of each range', () => {
    for (const range of PEER_ASNS.split(', ')) {
      const [first, last] = range.split('-').map(Number);
      assert.ok(first !== undefined && last !== undefined);
      assert.ok(isPeerAsn(first) && isPeerAsn(last), range);
      assert.ok(!isPeerAsn(first - 1) && !isPeerAsn(last + 1), range);
    }
  });

  it('is neither reserved, nor for documentation, nor a fraction', () => {
    for (const asn of [
      0,
      -1,
      23_456,
      64_000,
      64_511,
      65_535,
      65_536,
      65_551,
      131_071,
      4_294_967_295,
      2 ** 32,
      65_000.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
    ]) {
      assert.equal(isPeerAsn(asn), false, String(asn));
    }
  });
});

describe('a number of 32 bits as Go reads it', () => {
  for (const [text, number] of [
    ['0', 0],
    ['65000', 65_000],
    [' 65000 ', 65_000],
    ['4294967295', 4_294_967_295],
    ['0xFFFFFFFF', 4_294_967_295],
    ['0X1f', 31],
    ['0b101', 5],
    ['0o17', 15],
    ['017', 15],
    ['00', 0],
  ] as const) {
    it(`${JSON.stringify(text)} is ${number}`, () => assert.equal(parseUint32(text), number));
  }

  for (const text of [
    '',
    ' ',
    '-1',
    '+1',
    '1.0',
    '1e3',
    '4294967296',
    '0x100000000',
    '08',
    '0x',
    '0b2',
    '1_000',
    'x',
    '1 2',
    'Infinity',
  ]) {
    it(`${JSON.stringify(text)} is none`, () => assert.equal(parseUint32(text), undefined));
  }
});
