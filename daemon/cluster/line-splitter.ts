/** Lines of a stream that arrives in pieces of any size. */

const NEWLINE = 0x0a;

/** A watch event of the API is at most a few MB (etcd's object limit is 1.5 MB); more is not the API. */
const LINE_LIMIT = 64 << 20;

export class LineSplitter {
  #partial: Buffer[] = [];
  #length = 0;

  /** The lines that end in this piece, without their newline. Throws RangeError where a line exceeds 64 MiB. */
  *push(piece: Buffer): Generator<string, void> {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, from)) {
      yield this.#line(piece, from, end);
      from = end + 1;
    }
    if (from === piece.length) return;
    this.#partial.push(from === 0 ? piece : piece.subarray(from));
    this.#length += piece.length - from;
    if (this.#length > LINE_LIMIT) throw new RangeError(`a line of more than ${LINE_LIMIT} bytes`);
  }

  /** Bytes of a line that has not ended. */
  get pending(): number {
    return this.#length;
  }

  #line(piece: Buffer, from: number, end: number): string {
    if (this.#length === 0) return piece.toString('utf8', from, end);
    this.#partial.push(piece.subarray(from, end));
    const line = Buffer.concat(this.#partial).toString('utf8');
    this.#partial = [];
    this.#length = 0;
    return line;
  }
}
