import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatDuration, parseDuration } from '../../../daemon/config/duration.ts';

const CASES: readonly (readonly [text: string, milliseconds: number, canonical: string])[] = [
  ['0', 0, '0s'],
  ['-0', 0, '0s'],
  ['0s', 0, '0s'],
  ['5m0s', 300_000, '5m0s'],
  ['5m', 300_000, '5m0s'],
  ['90s', 90_000, '1m30s'],
  ['1h', 3_600_000, '1h0m0s'],
  ['2h22m', 8_520_000, '2h22m0s'],
  ['300ms', 300, '300ms'],
  ['1.5s', 1500, '1.5s'],
  ['.5m', 30_000, '30s'],
  ['1.s', 1000, '1s'],
  ['1m1ms', 60_001, '1m0.001s'],
  ['1500us', 1.5, '1.5ms'],
  ['15µs', 0.015, '15µs'],
  ['15μs', 0.015, '15µs'],
  ['7ns', 0.000007, '7ns'],
  ['-1h', -3_600_000, '-1h0m0s'],
  ['+10s', 10_000, '10s'],
  ['4095s', 4_095_000, '1h8m15s'],
];

describe('durations in the notation of Go', () => {
  for (const [text, milliseconds, canonical] of CASES) {
    it(`reads ${text} and prints it as ${canonical}`, () => {
      assert.equal(parseDuration(text), milliseconds);
      assert.equal(formatDuration(milliseconds), canonical);
    });
  }

  for (const text of [
    '',
    '5',
    '1.5',
    's',
    '.s',
    '5 s',
    '5s ',
    '5d',
    '1h-5m',
    '--5s',
    '5S',
    '1e3s',
    '9223372036854775808ns',
    '3000000h',
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.equal(parseDuration(text), undefined);
    });
  }

  it('reads back every duration it prints', () => {
    fc.assert(
      fc.property(fc.integer({ min: -(10 ** 8), max: 10 ** 8 }), fc.constantFrom(1, 1000, 60_000, 0.001), (count, unit) => {
        const milliseconds = count * unit;
        assert.equal(parseDuration(formatDuration(milliseconds))?.toFixed(6), (milliseconds === 0 ? 0 : milliseconds).toFixed(6));
      }),
    );
  });
});
