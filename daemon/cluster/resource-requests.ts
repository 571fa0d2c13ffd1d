/** Lists and watches of one resource, each under limits of time, with refusals as troubles. */
import type { Clock } from '../net/clock.ts';
import { statusOf } from './api-status.ts';
import { Deadline } from './deadline.ts';
import type { Resource } from './resources.ts';
import type { ApiResponse, ApiTransport } from './transport.ts';
import { protocolTrouble, Trouble, troubleOfStatus, type Verb, watchListUnsupported } from './trouble.ts';

export type Query = Readonly<Record<string, string>>;

/** Reads a body. `abort` ends the reading at any time: what was read then rejects with that trouble. */
export type BodyReader<T> = (body: AsyncIterable<Buffer>, abort: (trouble: Trouble) => void) => Promise<T>;

export interface ResourceRequestsOptions {
  readonly resource: Resource;
  readonly transport: ApiTransport;
  readonly clock: Clock;
  /** Milliseconds until the head of a response is there, and without a byte of its body. */
  readonly timings: { readonly headersMs: number; readonly idleMs: number };
}

export class ResourceRequests {
  readonly #options: ResourceRequestsOptions;

  constructor(options: ResourceRequestsOptions) {
    this.#options = options;
  }

  /** Hands the body of a response with status 200 to `read`. Rejects with Trouble, or with what the transport or `read` throws. */
  async open<T>(verb: Verb, query: Query, signal: AbortSignal, read: BodyReader<T>): Promise<T> {
    const { clock, timings, transport, resource } = this.#options;
    const attempt = new AbortController();
    const abort = (trouble: Trouble): void => attempt.abort(trouble);
    const limit = (ms: number): Deadline => new Deadline(clock, ms, () => abort(silence(verb, resource, ms)));
    const head = limit(timings.headersMs);
    const idle = limit(timings.idleMs);
    try {
      const both = AbortSignal.any([signal, attempt.signal]);
      const response = await transport.request({ method: 'GET', path: this.#path(query), signal: both });
      if (response.status !== 200) throw await this.#refusal(verb, query, response);
      head.cancel();
      return await read(extending(response.body, idle), abort);
    } finally {
      head.cancel();
      idle.cancel();
      attempt.abort(protocolTrouble(`${verb} ${resource.name}: ended`));
    }
  }

  #path(query: Query): string {
    const { path, labelSelector, fieldSelector } = this.#options.resource;
    const parameters = new URLSearchParams(query);
    if (labelSelector !== '') parameters.set('labelSelector', labelSelector);
    if (fieldSelector !== '') parameters.set('fieldSelector', fieldSelector);
    return `${path}?${parameters.toString()}`;
  }

  /** Servers before 1.27 refuse the parameters of WatchList as invalid (400, 422), some as forbidden. */
  async #refusal(verb: Verb, query: Query, response: ApiResponse): Promise<Trouble> {
    const status = await statusOf(response);
    const isNamed = status.code === 403 && status.message.includes('sendInitialEvents');
    const isParameter = status.code === 400 || status.code === 422 || isNamed;
    if (query['sendInitialEvents'] === 'true' && isParameter) return watchListUnsupported(status.message);
    return troubleOfStatus(status, verb, this.#options.resource);
  }
}

function silence(verb: Verb, resource: Resource, ms: number): Trouble {
  const message = `${verb} ${resource.name}: nothing came from the API server for ${ms / 1000} s`;
  return new Trouble('broken', 'FW_API_UNREACHABLE', message);
}

async function* extending(body: AsyncIterable<Buffer>, deadline: Deadline): AsyncGenerator<Buffer, void> {
  for await (const piece of body) {
    deadline.extend();
    yield piece;
  }
}
