/** Calls to gobgpd: promises with a limit of time each, and its refusals in our words. */
import {
  type CallOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { GobgpApiClient } from './proto/gobgp.ts';

/** Milliseconds that one answer may take: gobgpd answers in less than one, and in hundreds while it takes in a full table. */
const LIMIT_MS = { unary: 10_000, list: 60_000 };
/** What gobgpd says of most calls before StartBgp. */
const NOT_STARTED = "server hasn't started yet";
const SILENCE: readonly status[] = [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED];

export type GobgpApi = InstanceType<typeof GobgpApiClient>;
type Callback<R> = (error: ServiceError | null, response: R) => void;
/** The last arguments of a call, to be handed on as they are. */
type UnaryRest<R> = [metadata: Metadata, options: Partial<CallOptions>, callback: Callback<R>];

export interface CallsOptions {
  /** `unix:///PATH`, `unix:PATH` or `HOST:PORT`. */
  readonly endpoint: string;
  /** Limits run by it: gRPC's own deadlines are points of the wall clock, which may be set. */
  readonly clock: Clock;
}

export class GobgpCalls {
  /** One for good: channels leak where they are made again and again. */
  readonly #api: GobgpApi;
  readonly #options: CallsOptions;

  constructor(options: CallsOptions) {
    this.#options = options;
    this.#api = new GobgpApiClient(options.endpoint, credentials.createInsecure(), {
      // A list of peers or paths is one message an item: no limit is near.
      'grpc.max_receive_message_length': -1,
      // A socket that is not there yet is tried again at once, not in two minutes.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
    });
  }

  /** `what` names the entry in an error: `peer 10.0.0.1`. */
  unary<R>(what: string, start: (api: GobgpApi, ...rest: UnaryRest<R>) => ClientUnaryCall, signal: AbortSignal): Promise<R> {
    return this.#answer(what, callback => start(this.#api, new Metadata(), {}, callback), signal);
  }

  /** All items of an answer that comes as a stream. */
  async list<R>(
    what: string,
    start: (api: GobgpApi, options: Partial<CallOptions>) => ClientReadableStream<R>,
    signal: AbortSignal,
  ): Promise<readonly R[]> {
    const items: R[] = [];
    await this.#follow(what, start, item => items.push(item), signal, LIMIT_MS.list);
    signal.throwIfAborted();
    return items;
  }

  /** Resolves at the end of the stream, or where the signal is aborted. */
  stream<R>(
    what: string,
    start: (api: GobgpApi, options: Partial<CallOptions>) => ClientReadableStream<R>,
    onItem: (item: R) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#follow(what, start, onItem, signal, undefined);
  }

  /** Sends many requests in one call. */
  async send<Q>(
    what: string,
    start: (api: GobgpApi, ...rest: UnaryRest<unknown>) => ClientWritableStream<Q>,
    requests: readonly Q[],
    signal: AbortSignal,
  ): Promise<void> {
    const open = (callback: Callback<unknown>): ClientWritableStream<Q> => {
      const call = start(this.#api, new Metadata(), {}, callback);
      for (const request of requests) call.write(request);
      call.end();
      return call;
    };
    await this.#answer(what, open, signal);
  }

  close(): void {
    this.#api.close();
  }

  #answer<R>(what: string, open: (callback: Callback<R>) => { cancel(): void }, signal: AbortSignal): Promise<R> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const end = this.#limited(() => call.cancel(), signal, LIMIT_MS.unary);
      const call = open((error, response) => {
        end();
        if (error === null) resolve(response);
        else reject(signal.aborted ? reasonOf(signal) : this.#refused(what, error));
      });
    });
  }

  #follow<R>(
    what: string,
    start: (api: GobgpApi, options: Partial<CallOptions>) => ClientReadableStream<R>,
    onItem: (item: R) => void,
    signal: AbortSignal,
    limitMs: number | undefined,
  ): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const call = start(this.#api, {});
      const end = this.#limited(() => call.cancel(), signal, limitMs);
      call.on('data', onItem);
      call.on('error', (error: ServiceError) => {
        end();
        if (signal.aborted) resolve();
        else reject(this.#refused(what, error));
      });
      call.on('end', () => {
        end();
        resolve();
      });
    });
  }

  /** Cancels when the signal aborts or the time is over; the returned function ends that. */
  #limited(cancel: () => void, signal: AbortSignal, limitMs: number | undefined): () => void {
    const stop = limitMs === undefined ? undefined : this.#options.clock.after(limitMs, cancel);
    signal.addEventListener('abort', cancel, { once: true });
    return () => {
      stop?.();
      signal.removeEventListener('abort', cancel);
    };
  }

  #refused(what: string, error: ServiceError): FairwayError {
    const { endpoint } = this.#options;
    // Cancelled where the signal was not: by our limit of time.
    const why = error.code === status.CANCELLED ? 'no answer in time' : error.details;
    if (SILENCE.includes(error.code))
      return new FairwayError('FW_BGP_UNREACHABLE', `gobgpd at ${endpoint} does not answer (${why})`);
    const said =
      error.code === status.UNIMPLEMENTED
        ? 'it does not speak the API of GoBGP 3: use the Debian package gobgpd 3.x'
        : error.details;
    return new FairwayError('FW_BGP_REFUSED', `gobgpd refused ${what}: ${said}${remedyOf(said)}`);
  }
}

/** Whether a call was refused because there is no server yet. */
export function isNotStarted(thrown: unknown): boolean {
  return thrown instanceof FairwayError && thrown.code === 'FW_BGP_REFUSED' && thrown.message.includes(NOT_STARTED);
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(messageOf(signal.reason));
}

function remedyOf(details: string): string {
  if (!details.includes('bind: address already in use')) return '';
  return ' (another program speaks BGP there: give one of them another port, --bgp-port, or other addresses, the annotation kube-router.io/bgp-local-addresses)';
}
