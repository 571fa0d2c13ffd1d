import assert from 'node:assert/strict';
import fc from 'fast-check';
import { encodeFrame, type Frame, FrameReader } from '../../lab/frames.ts';

describe('frames between a test and the lab', () => {
  it('arrive whole and in order, however the bytes are cut', () => {
    const frames = fc.array(fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 5 }), { maxLength: 8 });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map(encodeFrame));
        const reader = new FrameReader();
        const got: Frame[] = [];
        for (let at = 0, turn = 0; at < bytes.byteLength; turn++) {
          const length = cuts[turn % cuts.length] ?? 1;
          got.push(...reader.push(bytes.subarray(at, at + length)));
          at += length;
        }
        assert.deepEqual(
          got.map(fields => fields.map(field => field.toString('hex'))),
          sent.map(fields => fields.map(field => Buffer.from(field).toString('hex'))),
        );
      }),
    );
  });
});
