/**
 * The objects of a JSON list one by one while it arrives, so that a page of 20 MB never has to be parsed in one go (which would stop
 * the event loop for a tenth of a second).
 */

const [QUOTE, BACKSLASH, OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST] = [0x22, 0x5c, 0x7b, 0x7d, 0x5b, 0x5d];
/** Nesting of the members of the outer object, and of its lists' members. */
const [MEMBERS, ITEMS] = [1, 2];

export class ListSplitter {
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #isInItems = false;
  #item: Buffer[] = [];
  #envelope: Buffer[] = [];

  /** JSON texts of the members of `items` that end in this piece. */
  *push(piece: Buffer): Generator<string, void> {
    let from = 0;
    for (let index = 0; index < piece.length; index++) {
      const byte = piece[index];
      if (this.#isInString) this.#string(byte);
      else if (byte === QUOTE) this.#isInString = true;
      else if (byte === OPEN_OBJECT || byte === OPEN_LIST) {
        if (this.#isBetweenItems()) from = index;
        else if (byte === OPEN_LIST && this.#depth === MEMBERS) this.#openList(piece.subarray(from, index));
        this.#depth++;
      } else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) {
        if (this.#isInItems && this.#depth === ITEMS) from = index;
        this.#depth--;
        if (this.#isBetweenItems()) {
          yield this.#itemUpTo(piece.subarray(from, index + 1));
          from = index + 1;
        } else if (this.#depth === MEMBERS) this.#isInItems = false;
      }
    }
    this.#keep(piece.subarray(from));
  }

  /** What surrounds the items, once all has arrived: the list with `items` empty. Throws SyntaxError where it is not whole. */
  envelope(): unknown {
    return JSON.parse(Buffer.concat(this.#envelope).toString('utf8'));
  }

  #string(byte: number | undefined): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) this.#isInString = false;
  }

  /** Commas there belong to nobody. */
  #isBetweenItems(): boolean {
    return this.#isInItems && this.#depth === ITEMS;
  }

  #openList(before: Buffer): void {
    const text = Buffer.concat([...this.#envelope, before]).toString('latin1');
    this.#isInItems = /"items"\s*:\s*$/.test(text);
    if (this.#isInItems) this.#envelope.push(Buffer.from(before), Buffer.from('['));
  }

  #itemUpTo(end: Buffer): string {
    if (this.#item.length === 0) return end.toString('utf8');
    const text = Buffer.concat([...this.#item, end]).toString('utf8');
    this.#item = [];
    return text;
  }

  /** The rest of a piece: of an item, or of the envelope. Copied where it is kept for long. */
  #keep(rest: Buffer): void {
    if (rest.length === 0 || this.#isBetweenItems()) return;
    if (this.#isInItems) this.#item.push(rest);
    else this.#envelope.push(Buffer.from(rest));
  }
}
