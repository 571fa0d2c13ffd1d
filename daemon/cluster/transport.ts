/**
 * Requests to the API server over one TLS connection: HTTP/2, so that all watches are streams of one session. Where the server (or
 * a proxy before it) does not offer HTTP/2, HTTP/1.1 with kept-alive connections, one per running watch.
 */
import { FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { reasonOf } from '../net/pause.ts';
import { statusOf } from './api-status.ts';
import type { Connection } from './connection.ts';
import { type CredentialSource, type Credentials, connectionFingerprint } from './credentials.ts';
import { openHttp1 } from './http1-connection.ts';
import { Http2Connection, type PingTimings } from './http2-connection.ts';
import { connectTls } from './tls-socket.ts';

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path and query. */
  readonly path: string;
  readonly body?: string;
  readonly contentType?: string;
  /** Ends the request and its body at any time. */
  readonly signal: AbortSignal;
  /** Asked at the last moment before it goes out: where not, the request rejects with RequestWithheld. */
  readonly mayBeSent?: () => boolean;
}

/** Nothing of the request was sent. */
export class RequestWithheld extends Error {
  override readonly name = 'RequestWithheld';
}

export interface ApiResponse {
  readonly status: number;
  /** The `Retry-After` header; '' where absent. */
  readonly retryAfter: string;
  /** The `Date` header, by the server's clock; '' where absent. */
  readonly date: string;
  /** Iterating rejects where the connection is lost before the end of the body. */
  readonly body: AsyncIterable<Buffer>;
}

/**
 * Who carries requests to the API server. `request` rejects with FairwayError (FW_API_DENIED for a 401: everything else the server
 * says is a response), or with the signal's reason once it aborted.
 */
export interface ApiTransport {
  request(request: ApiRequest): Promise<ApiResponse>;
  /** Ends all requests and connections. */
  close(): void;
}

export interface TransportOptions {
  readonly credentials: CredentialSource;
  readonly clock: Clock;
  /** `fairway/VERSION`. */
  readonly userAgent: string;
  readonly timings?: PingTimings;
  /** Milliseconds for TCP and TLS to come up. Default 10,000. */
  readonly connectMs?: number;
}

const PINGS: PingTimings = { quietMs: 30_000, answerMs: 15_000 };
const CONNECT_MS = 10_000;

export class Transport implements ApiTransport {
  readonly #options: TransportOptions;
  readonly #closed = new AbortController();
  #current: { readonly fingerprint: string; readonly connection: Promise<Connection> } | undefined;
  #known: { readonly credentials: Credentials; readonly fingerprint: string } | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  async request(request: ApiRequest): Promise<ApiResponse> {
    const signal = AbortSignal.any([request.signal, this.#closed.signal]);
    const credentials = await unlessAborted(this.#options.credentials.current(), signal);
    const connection = await unlessAborted(this.#connectionFor(credentials), signal);
    const headers = {
      'user-agent': this.#options.userAgent,
      accept: 'application/json',
      ...(request.body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
      ...credentials.headers,
    };
    // Credentials and connection may have taken a while.
    if (request.mayBeSent?.() === false) throw new RequestWithheld(`${request.method} ${request.path}: withheld`);
    const response = await connection.request({ ...request, signal }, headers);
    if (response.status === 401) throw await this.#unauthorized(response, credentials);
    return response;
  }

  close(): void {
    this.#closed.abort(new Error('the transport is closed'));
    const last = this.#current?.connection;
    this.#current = undefined;
    last?.then(
      connection => connection.close(),
      () => undefined,
    );
  }

  /** Plugins log in again and files are read again at the next try: a token that expired is no reason to give up. */
  async #unauthorized(response: ApiResponse, credentials: Credentials): Promise<FairwayError> {
    this.#options.credentials.forget();
    const said = await statusOf(response);
    const remedy = 'its credential is expired, revoked or for another cluster; renew it there (it is read again at the next try)';
    const message = `API server ${credentials.server.origin} does not know us (401 ${said.message}): ${credentials.origin}: ${remedy}`;
    return new FairwayError('FW_API_DENIED', message);
  }

  /** The connection there is, unless it is spent or was made with other certificates; then a new one, shared by all who ask meanwhile. */
  async #connectionFor(credentials: Credentials): Promise<Connection> {
    const fingerprint = this.#fingerprintOf(credentials);
    while (this.#current?.fingerprint === fingerprint) {
      const current = this.#current;
      const connection = await current.connection;
      if (connection.isUsable()) return connection;
      if (this.#current === current) this.#retire();
    }
    this.#retire();
    const current = { fingerprint, connection: this.#connect(credentials) };
    this.#current = current;
    try {
      return await current.connection;
    } catch (error) {
      if (this.#current === current) this.#current = undefined;
      throw error;
    }
  }

  #fingerprintOf(credentials: Credentials): string {
    if (this.#known?.credentials !== credentials) this.#known = { credentials, fingerprint: connectionFingerprint(credentials) };
    return this.#known.fingerprint;
  }

  /** Running requests of the old connection end by themselves. */
  #retire(): void {
    const former = this.#current?.connection;
    this.#current = undefined;
    former?.then(
      connection => connection.retire(),
      () => undefined,
    );
  }

  async #connect(credentials: Credentials): Promise<Connection> {
    if (credentials.server.protocol === 'http:') return openHttp1(credentials);
    const { clock, connectMs = CONNECT_MS, timings = PINGS } = this.#options;
    const socket = await connectTls(credentials, { clock, connectMs, signal: this.#closed.signal });
    if (socket.alpnProtocol === 'h2') return new Http2Connection(socket, credentials, clock, timings);
    socket.destroy();
    return openHttp1(credentials);
  }
}

/** Rejects with the signal's reason as soon as it aborts; what was awaited goes on for whoever else wants it. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(reasonOf(signal));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
