/** HTTP/1.1, plain or over TLS: one kept-alive connection per running request. */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { reasonOf } from '../net/pause.ts';
import type { Connection } from './connection.ts';
import type { Credentials } from './credentials.ts';
import { hostOf, KEEPALIVE_MS, tlsOptions, unreachable } from './tls-socket.ts';
import type { ApiRequest, ApiResponse } from './transport.ts';

/** A pool of connections with one identity; none is opened before the first request. */
export function openHttp1(credentials: Credentials): Connection {
  const isTls = credentials.server.protocol === 'https:';
  const keepAlive = { keepAlive: true, keepAliveMsecs: KEEPALIVE_MS, maxFreeSockets: 2 };
  const agent = isTls ? new HttpsAgent({ ...keepAlive, ...tlsOptions(credentials) }) : new HttpAgent(keepAlive);
  return new Http1Connection(credentials, agent, isTls ? httpsRequest : httpRequest);
}

class Http1Connection implements Connection {
  readonly #credentials: Credentials;
  readonly #agent: HttpAgent;
  readonly #send: (options: RequestOptions) => ClientRequest;

  constructor(credentials: Credentials, agent: HttpAgent, send: (options: RequestOptions) => ClientRequest) {
    this.#credentials = credentials;
    this.#agent = agent;
    this.#send = send;
  }

  isUsable(): boolean {
    return true;
  }

  /** Sockets of running requests are not in the pool; they end with their requests. */
  retire(): void {
    for (const sockets of Object.values(this.#agent.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy();
    }
    this.#agent.maxFreeSockets = 0;
  }

  close(): void {
    this.#agent.destroy();
  }

  request(request: ApiRequest, headers: Readonly<Record<string, string>>): Promise<ApiResponse> {
    const { server } = this.#credentials;
    const place = { host: hostOf(server), ...(server.port === '' ? {} : { port: server.port }) };
    return new Promise((resolve, reject) => {
      const { method, path, signal } = request;
      const outgoing = this.#send({ ...place, method, path, signal, headers, agent: this.#agent });
      outgoing.on('error', error => reject(this.#failure(request, error)));
      outgoing.once('response', response => resolve(this.#response(request, response)));
      outgoing.end(request.body);
    });
  }

  #response(request: ApiRequest, response: IncomingMessage): ApiResponse {
    const retryAfter = response.headers['retry-after'] ?? '';
    const date = response.headers.date ?? '';
    return { status: response.statusCode ?? 0, retryAfter, date, body: this.#body(request, response) };
  }

  async *#body(request: ApiRequest, response: IncomingMessage): AsyncGenerator<Buffer, void> {
    try {
      yield* response;
    } catch {
      throw this.#failure(request, new Error('the connection was lost'));
    }
    if (!response.complete) throw this.#failure(request, new Error('the connection was lost'));
  }

  #failure(request: ApiRequest, error: unknown): Error {
    return request.signal.aborted ? reasonOf(request.signal) : unreachable(error, this.#credentials);
  }
}
