/** A word that must not reach a log, a status page or a bug report. */

const HIDDEN = '[hidden]';

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Holds a secret so that printing, inspecting or serialising the object around it shows `[hidden]`; only {@link Secret.reveal} gives it. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** Whether a text is base64 (RFC 4648, section 4, with padding). */
  static isBase64(text: string): boolean {
    return BASE64.test(text);
  }

  /** Of a text in base64 that holds UTF-8; undefined where it is not that. */
  static ofBase64(text: string): Secret | undefined {
    if (!Secret.isBase64(text)) return undefined;
    try {
      return new Secret(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, 'base64')));
    } catch {
      return undefined;
    }
  }

  get isEmpty(): boolean {
    return this.#text === '';
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
