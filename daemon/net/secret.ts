/** A word that must not reach a log, a status page or a bug report. */

const HIDDEN = '[hidden]';

/** Holds a secret so that printing, inspecting or serialising the object around it shows `[hidden]`; only {@link Secret.reveal} gives it. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The word itself; empty for a peer without a password. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  /** What `node:util` inspect and console print. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return HIDDEN;
  }
}
