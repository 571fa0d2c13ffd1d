/** One HTTP/2 session: all requests are its streams. PINGs tell a quiet server from a dead one. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../net/clock.ts';
import { reasonOf } from '../net/pause.ts';
import type { Connection } from './connection.ts';
import type { Credentials } from './credentials.ts';
import { unreachable } from './tls-socket.ts';
import type { ApiRequest, ApiResponse } from './transport.ts';

export interface PingTimings {
  /** Milliseconds without a byte from the server before it is asked whether it is there. client-go: 30,000. */
  readonly quietMs: number;
  /** Milliseconds it has to answer. client-go: 15,000. */
  readonly answerMs: number;
}

/** Flow control windows (bytes). The defaults of 64 KiB would make a list of 40 MB wait for 600 round trips. */
const STREAM_WINDOW = 1 << 20;
const SESSION_WINDOW = 4 << 20;

export class Http2Connection implements Connection {
  readonly #session: ClientHttp2Session;
  readonly #socket: TLSSocket;
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #timings: PingTimings;
  #cancelPing: () => void = () => undefined;
  #bytesSeen = 0;
  #isRetired = false;
  #streams = 0;
  /** Why the session ended: says more than the "stream was cancelled" of each of its streams. */
  #loss: unknown;

  constructor(socket: TLSSocket, credentials: Credentials, clock: Clock, timings: PingTimings) {
    this.#socket = socket;
    this.#credentials = credentials;
    this.#clock = clock;
    this.#timings = timings;
    const settings = { enablePush: false, initialWindowSize: STREAM_WINDOW };
    this.#session = connect(credentials.server, { createConnection: () => socket, settings });
    this.#session.once('connect', () => this.#session.setLocalWindowSize(SESSION_WINDOW));
    this.#session.once('goaway', () => this.retire());
    this.#session.on('error', error => {
      this.#loss ??= error;
    });
    this.#session.once('close', () => this.#cancelPing());
    this.#schedulePing();
  }

  isUsable(): boolean {
    return !(this.#isRetired || this.#session.closed || this.#session.destroyed);
  }

  /** Not `session.close()`: after streams were aborted that may never come to its end. */
  retire(): void {
    this.#isRetired = true;
    if (this.#streams === 0) this.close();
  }

  close(): void {
    this.#isRetired = true;
    this.#cancelPing();
    this.#session.destroy();
    this.#socket.destroy();
  }

  request(request: ApiRequest, headers: Readonly<Record<string, string>>): Promise<ApiResponse> {
    const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH } = constants;
    const pseudo = { [HTTP2_HEADER_METHOD]: request.method, [HTTP2_HEADER_PATH]: request.path };
    const endStream = request.body === undefined;
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({ ...pseudo, ...headers }, { endStream, signal: request.signal });
      let isAnswered = false;
      const fail = (error: unknown): void => {
        if (!isAnswered) reject(this.#failure(request, error));
      };
      this.#streams++;
      stream.on('error', fail);
      stream.once('close', () => {
        fail(new Error('the connection was closed before the response'));
        this.#streams--;
        if (this.#isRetired && this.#streams === 0) this.close();
      });
      stream.once('response', response => {
        isAnswered = true;
        resolve(this.#response(request, stream, response));
      });
      if (request.body !== undefined) stream.end(request.body);
    });
  }

  #response(request: ApiRequest, stream: ClientHttp2Stream, headers: IncomingHttpHeaders): ApiResponse {
    const retryAfter = headers['retry-after'] ?? '';
    const date = headers.date ?? '';
    return { status: Number(headers[constants.HTTP2_HEADER_STATUS]), retryAfter, date, body: this.#body(request, stream) };
  }

  async *#body(request: ApiRequest, stream: ClientHttp2Stream): AsyncGenerator<Buffer, void> {
    try {
      yield* stream;
    } catch (error) {
      if (!this.#hasEnded(stream, error)) throw this.#failure(request, error);
    }
    // A session that is destroyed ends its streams as if they had come to their end.
    if (this.#loss !== undefined || stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR) {
      throw this.#failure(request, new Error('the connection was lost'));
    }
  }

  /**
   * Node.js 24.20 and later call it a premature close where the stream was at its end before anybody read it, although all of it is read then
   * (https://github.com/nodejs/node/issues/65677).
   */
  #hasEnded(stream: ClientHttp2Stream, error: unknown): boolean {
    const isCalledPremature = error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
    return isCalledPremature && stream.rstCode === constants.NGHTTP2_NO_ERROR && !this.#session.destroyed;
  }

  #failure(request: ApiRequest, error: unknown): Error {
    return request.signal.aborted ? reasonOf(request.signal) : unreachable(this.#loss ?? error, this.#credentials);
  }

  /** One timer per connection: bytes that came meanwhile are answer enough. */
  #schedulePing(): void {
    this.#cancelPing = this.#clock.after(this.#timings.quietMs, () => {
      if (this.#session.destroyed) return;
      const isQuiet = this.#socket.bytesRead === this.#bytesSeen;
      this.#bytesSeen = this.#socket.bytesRead;
      if (isQuiet) this.#ping();
      else this.#schedulePing();
    });
  }

  #ping(): void {
    this.#cancelPing = this.#clock.after(this.#timings.answerMs, () => {
      this.#loss = new Error(`no answer to a PING within ${this.#timings.answerMs / 1000} s: the connection is dead`);
      this.#session.destroy();
      this.#socket.destroy();
    });
    const isSent = this.#session.ping(error => {
      this.#cancelPing();
      if (error === null && !this.#session.destroyed) this.#schedulePing();
    });
    if (!isSent) this.#session.destroy();
  }
}
