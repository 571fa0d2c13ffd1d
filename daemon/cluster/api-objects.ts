/** Single objects of the API server, read and written whole, each request under a limit of time. */
import { type ErrorCode, FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { statusOf } from './api-status.ts';
import { Deadline } from './deadline.ts';
import { isRawObject, type RawObject } from './raw-object.ts';
import type { ApiRequest, ApiResponse, ApiTransport } from './transport.ts';

/** Where an object is; all that are asked for here are namespaced and of version v1. */
export interface ObjectPlace {
  /** API group; '' for core. */
  readonly group: string;
  /** Plural name, as in RBAC rules and paths. */
  readonly resource: string;
  /** '' for the object itself. */
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
}

/** The API server's answer is no. The message holds its own words, after what was asked of it. */
export class ApiRefusal extends FairwayError {
  /** HTTP status code. */
  readonly status: number;
  /** 0 where the server named no time. */
  readonly retryAfterMs: number;

  constructor(code: ErrorCode, message: string, answer: { readonly status: number; readonly retryAfterMs: number }) {
    super(code, message);
    this.status = answer.status;
    this.retryAfterMs = answer.retryAfterMs;
  }

  /** Whether it is sure that nothing was done: a server in trouble may say so of what it has stored. */
  get isCertain(): boolean {
    return this.status < 500;
  }
}

/** Which answer this is, of all that can be thrown; undefined where the server did not answer. */
export function refusedWith(thrown: unknown): number | undefined {
  return thrown instanceof ApiRefusal ? thrown.status : undefined;
}

export interface WriteOptions {
  readonly signal: AbortSignal;
  /** See {@link ApiRequest.mayBeSent}. */
  readonly mayBeSent?: () => boolean;
  /** Milliseconds, where it is not that of all requests. */
  readonly deadlineMs?: number;
  /** Query parameter: who writes (server-side apply's books, `metadata.managedFields`). */
  readonly fieldManager?: string;
}

export interface ApiObjectsOptions {
  readonly transport: ApiTransport;
  readonly clock: Clock;
  /** Milliseconds until an answer is there as a whole. Default 5,000. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 5000;
/** Longest Retry-After that is believed (milliseconds). */
const RETRY_AFTER_LIMIT_MS = 300_000;

type Verb = 'get' | 'create' | 'update' | 'patch';
const METHODS = { get: 'GET', create: 'POST', update: 'PUT', patch: 'PATCH' } as const;

/**
 * Each call rejects with ApiRefusal where the server says no, with another FairwayError where it does not answer, with RequestWithheld where nothing was
 * sent, or with the signal's reason.
 */
export class ApiObjects {
  readonly #options: ApiObjectsOptions;

  constructor(options: ApiObjectsOptions) {
    this.#options = options;
  }

  /** The newest state, as the server's storage has it. */
  get(place: ObjectPlace, options: WriteOptions): Promise<RawObject> {
    return this.#ask('get', place, undefined, options);
  }

  create(place: ObjectPlace, object: object, options: WriteOptions): Promise<RawObject> {
    return this.#ask('create', place, object, options);
  }

  /** Refused with 409 where the object's `resourceVersion` is not the current one any more. */
  replace(place: ObjectPlace, object: object, options: WriteOptions): Promise<RawObject> {
    return this.#ask('update', place, object, options);
  }

  /** JSON Merge Patch (RFC 7386). */
  patch(place: ObjectPlace, changes: object, options: WriteOptions): Promise<RawObject> {
    return this.#ask('patch', place, changes, options);
  }

  async #ask(verb: Verb, place: ObjectPlace, body: object | undefined, options: WriteOptions): Promise<RawObject> {
    const { transport, clock, deadlineMs = DEADLINE_MS } = this.#options;
    const limitMs = options.deadlineMs ?? deadlineMs;
    const attempt = new AbortController();
    const silence = `${asked(verb, place)}: the API server did not answer within ${limitMs / 1000} s`;
    const deadline = new Deadline(clock, limitMs, () => attempt.abort(new FairwayError('FW_API_UNREACHABLE', silence)));
    try {
      const request: ApiRequest = {
        method: METHODS[verb],
        path: pathOf(verb, place, options.fieldManager),
        signal: AbortSignal.any([options.signal, attempt.signal]),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(verb === 'patch' ? { contentType: 'application/merge-patch+json' } : {}),
        ...(options.mayBeSent === undefined ? {} : { mayBeSent: options.mayBeSent }),
      };
      const response = await transport.request(request);
      if (response.status < 200 || response.status > 299) throw await refusalOf(response, verb, place);
      return await objectOf(response, verb, place);
    } finally {
      deadline.cancel();
    }
  }
}

async function objectOf(response: ApiResponse, verb: Verb, place: ObjectPlace): Promise<RawObject> {
  const parts: Buffer[] = [];
  for await (const part of response.body) parts.push(part);
  const object = parsed(Buffer.concat(parts).toString('utf8'));
  if (isRawObject(object)) return object;
  throw new FairwayError('FW_API_PROTOCOL', `${asked(verb, place)}: what the API server sent is no object`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function refusalOf(response: ApiResponse, verb: Verb, place: ObjectPlace): Promise<ApiRefusal> {
  const { code: status, message, retryAfterSeconds = 0 } = await statusOf(response);
  const retryAfterMs = Math.min(retryAfterSeconds * 1000, RETRY_AFTER_LIMIT_MS);
  const said = `${asked(verb, place)}: ${status}`;
  const answer = { status, retryAfterMs };
  if (status === 403) return new ApiRefusal('FW_API_DENIED', `${said}: ${remedyOf(verb, place)} (${message})`, answer);
  const isForNow = status === 429 || status >= 500;
  return new ApiRefusal(isForNow ? 'FW_API_UNREACHABLE' : 'FW_API_PROTOCOL', `${said} ${message}`.trim(), answer);
}

/** 403 is also what quotas and admission say: then the server's own words tell. */
function remedyOf(verb: Verb, place: ObjectPlace): string {
  const name = resourceName(place);
  const rule = `apiGroups: ["${place.group}"], resources: ["${name}"], verbs: ["${verb}"]`;
  return `our identity lacks the verb "${verb}" on "${name}"; add to its ClusterRole the rule ${rule}`;
}

function resourceName({ resource, subresource }: ObjectPlace): string {
  return subresource === '' ? resource : `${resource}/${subresource}`;
}

function asked(verb: Verb, place: ObjectPlace): string {
  return `${verb} ${resourceName(place)} ${place.namespace}/${place.name}`;
}

function pathOf(verb: Verb, place: ObjectPlace, fieldManager: string | undefined): string {
  const { group, resource, subresource, namespace, name } = place;
  const root = group === '' ? '/api/v1' : `/apis/${group}/v1`;
  const collection = `${root}/namespaces/${encodeURIComponent(namespace)}/${resource}`;
  const object = `${collection}/${encodeURIComponent(name)}${subresource === '' ? '' : `/${subresource}`}`;
  const query = fieldManager === undefined ? '' : `?fieldManager=${encodeURIComponent(fieldManager)}`;
  return (verb === 'create' ? collection : object) + query;
}
