/** Calls to gobgpd: promises with a deadline each, and its refusals in our words. */
import { type CallOptions, type ClientReadableStream, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { FairwayError, messageOf } from '../errors.ts';
import { GobgpApiClient } from './proto/gobgp.ts';

/** Milliseconds that one answer may take: gobgpd answers in less than one, and in hundreds while it takes in a full table. */
const DEADLINE_MS = { unary: 10_000, list: 60_000 };

type Callback<R> = (error: ServiceError | null, response: R) => void;
type UnaryMethod<Q, R> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: Callback<R>,
) => { cancel(): void };
type StreamMethod<Q, R> = (request: Q, options: Partial<CallOptions>) => ClientReadableStream<R>;

export interface CallsOptions {
  /** `unix:///PATH`, `unix:PATH` or `HOST:PORT`. */
  readonly endpoint: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export class GobgpCalls {
  /** One for good: channels leak where they are made again and again. */
  readonly api: InstanceType<typeof GobgpApiClient>;
  readonly #options: CallsOptions;

  constructor(options: CallsOptions) {
    this.#options = options;
    this.api = new GobgpApiClient(options.endpoint, credentials.createInsecure(), {
      // A full table is one message a prefix, a list of peers one a peer: no limit is near.
      'grpc.max_receive_message_length': -1,
      // A socket that is not there yet is tried again at once, not in two minutes.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
    });
  }

  get now(): number {
    return this.#options.now();
  }

  /** `what` names the entry in an error: `peer 10.0.0.1`. */
  unary<Q, R>(what: string, method: UnaryMethod<Q, R>, request: Q, signal: AbortSignal): Promise<R> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const deadline = this.now + DEADLINE_MS.unary;
      const call = method.call(this.api, request, new Metadata(), { deadline }, (error, response) => {
        signal.removeEventListener('abort', abort);
        if (error === null) resolve(response);
        else reject(signal.aborted ? reasonOf(signal) : this.#refused(what, error));
      });
      const abort = (): void => call.cancel();
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  /** All items of an answer that comes as a stream. */
  async list<Q, R>(what: string, method: StreamMethod<Q, R>, request: Q, signal: AbortSignal): Promise<readonly R[]> {
    const items: R[] = [];
    const onItem = (item: R): void => {
      items.push(item);
    };
    await this.stream(what, method, request, onItem, signal, { deadline: this.now + DEADLINE_MS.list });
    if (signal.aborted) throw reasonOf(signal);
    return items;
  }

  /** Resolves at the end of the stream, or where the signal is aborted. */
  stream<Q, R>(
    what: string,
    method: StreamMethod<Q, R>,
    request: Q,
    onItem: (item: R) => void,
    signal: AbortSignal,
    options: Partial<CallOptions> = {},
  ): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const call = method.call(this.api, request, options);
      const abort = (): void => call.cancel();
      signal.addEventListener('abort', abort, { once: true });
      const end = (error: ServiceError | undefined): void => {
        signal.removeEventListener('abort', abort);
        if (error === undefined || signal.aborted) resolve();
        else reject(this.#refused(what, error));
      };
      call.on('data', onItem);
      call.on('error', (error: ServiceError) => {
        end(error);
      });
      call.on('end', () => {
        end(undefined);
      });
    });
  }

  /** Sends many requests in one call. */
  send<Q>(
    what: string,
    open: (callback: Callback<unknown>) => { write(request: Q): unknown; end(): unknown; cancel(): void },
    requests: readonly Q[],
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const call = open(error => {
        signal.removeEventListener('abort', abort);
        if (error === null) resolve();
        else reject(signal.aborted ? reasonOf(signal) : this.#refused(what, error));
      });
      const abort = (): void => call.cancel();
      signal.addEventListener('abort', abort, { once: true });
      for (const request of requests) call.write(request);
      call.end();
    });
  }

  close(): void {
    this.api.close();
  }

  #refused(what: string, error: ServiceError): FairwayError {
    const { endpoint } = this.#options;
    switch (error.code) {
      case status.UNAVAILABLE:
      case status.DEADLINE_EXCEEDED:
      case status.CANCELLED:
        return new FairwayError('FW_BGP_UNREACHABLE', `gobgpd at ${endpoint} does not answer (${error.details})`);
      case status.UNIMPLEMENTED:
        return new FairwayError(
          'FW_BGP_REFUSED',
          `gobgpd at ${endpoint} does not speak the API of GoBGP 3: use the Debian package gobgpd 3.x`,
        );
      default:
        return new FairwayError('FW_BGP_REFUSED', `gobgpd refused ${what}: ${error.details}`);
    }
  }
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(messageOf(signal.reason));
}
