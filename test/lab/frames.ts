/**
 * The framing between a test and the lab's agent: a 32-bit big-endian length, then fields, each a 32-bit length and its bytes.
 * It is what perl's `pack 'N/a*'` and `unpack '(N/a*)*'` speak.
 */

/** One message: the number of the exchange, the verb, and what belongs to it. */
export type Frame = readonly Buffer[];

/** Strings are sent as UTF-8. */
export function encodeFrame(fields: readonly (string | Uint8Array)[]): Buffer {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const field of fields) {
    const bytes = typeof field === 'string' ? Buffer.from(field) : field;
    parts.push(uint32(bytes.byteLength), bytes);
    length += 4 + bytes.byteLength;
  }
  return Buffer.concat([uint32(length), ...parts]);
}

/** Cuts a byte stream into frames, however the stream was chunked. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #buffered = 0;

  /** Returns the frames that this chunk completes. */
  push(chunk: Buffer): readonly Frame[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.byteLength;
    const frames: Frame[] = [];
    while (this.#buffered >= 4) {
      const first = this.#joined(4);
      const length = 4 + first.readUInt32BE(0);
      if (this.#buffered < length) break;
      const bytes = this.#joined(length);
      frames.push(fieldsOf(bytes.subarray(4, length)));
      this.#chunks[0] = bytes.subarray(length);
      this.#buffered -= length;
    }
    return frames;
  }

  /** The first chunk, made at least this long. Joined only when a frame is complete, so that a large one costs one copy. */
  #joined(length: number): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.byteLength >= length) return first;
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all];
    return all;
  }
}

function fieldsOf(payload: Buffer): Frame {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < payload.byteLength) {
    const end = at + 4 + payload.readUInt32BE(at);
    fields.push(payload.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
