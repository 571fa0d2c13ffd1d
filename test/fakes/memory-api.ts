/** An API server in memory, on a clock moved by hand: for what takes hours. What it says of HTTP is `api-server.ts`' business. */
import { type ApiRequest, type ApiResponse, type ApiTransport, RequestWithheld } from '../../daemon/cluster/transport.ts';
import { FairwayError } from '../../daemon/errors.ts';
import type { Clock } from '../../daemon/net/clock.ts';
import { type Answer, ObjectRequests, type Place, placeOf, refusal, verbOf } from './object-requests.ts';
import { type ApiObject, ObjectStore } from './object-store.ts';

/** Milliseconds between two bookmarks of a watch, as the real one's. */
const BOOKMARK_MS = 60_000;

interface Watch {
  readonly kind: string;
  push(line: string): void;
  /** The connection breaks. */
  cut(): void;
}

/** What befalls one request: see `api-server.ts`. `held`: it reaches the server only when `release` is called. */
export type MemoryFault =
  | 'hang'
  | 'lost'
  | 'held'
  | { readonly status: number; readonly message?: string; readonly retryAfter?: string };

export class MemoryApi implements ApiTransport {
  isUp = true;
  /** When each request came, by the clock. */
  readonly requests: number[] = [];
  /** `VERB RESOURCE NAMESPACE/NAME` of each. */
  readonly seen: string[] = [];
  /** Path and query of each. */
  readonly paths: string[] = [];
  readonly store = new ObjectStore();
  /** `VERB RESOURCE` that RBAC denies. */
  readonly forbidden = new Set<string>();
  readonly #clock: Clock;
  readonly #objects: ObjectRequests;
  readonly #watches = new Set<Watch>();
  readonly #faults: { readonly match: string; readonly fault: MemoryFault }[] = [];
  #held: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#objects = new ObjectRequests(this.store, () => clock.now());
    this.store.onChange((_, { type, stored }) => {
      const object = JSON.parse(stored.json) as ApiObject;
      for (const watch of this.#watches) if (watch.kind === object.kind) watch.push(lineOf(type, object));
    });
  }

  put(...objects: readonly ApiObject[]): void {
    for (const object of objects) this.store.put(object);
  }

  delete({ kind = '', metadata }: ApiObject): void {
    this.store.delete(kind, metadata?.namespace ?? '', metadata?.name ?? '');
  }

  /** The next request for a single object with this `VERB RESOURCE` fares like that; call it again for more. */
  faultNext(match: string, fault: MemoryFault): void {
    this.#faults.push({ match, fault });
  }

  /** What was held reaches the server. */
  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const go of held) go();
  }

  /** No answers from now on, and no word on any connection; what changes meanwhile is compacted away. */
  goDown(): void {
    this.isUp = false;
    for (const watch of this.#watches) watch.cut();
  }

  comeUp(): void {
    this.isUp = true;
    this.store.compact();
  }

  close(): void {
    this.goDown();
  }

  request(request: ApiRequest): Promise<ApiResponse> {
    if (request.mayBeSent?.() === false) return Promise.reject(new RequestWithheld());
    const { method, path, signal } = request;
    this.requests.push(this.#clock.now());
    this.paths.push(path);
    if (!this.isUp) return Promise.reject(unreachable());
    const url = new URL(path, 'https://api');
    const place = placeOf(url.pathname);
    if (place === undefined) throw new Error(`no such resource: ${path}`);
    const verb = verbOf(method, place, url);
    const resource = place.subresource === '' ? place.resource : `${place.resource}/${place.subresource}`;
    this.seen.push(`${verb} ${resource} ${place.namespace}/${place.name}`);
    if (this.forbidden.has(`${verb} ${resource}`)) return Promise.resolve(responseOf(denial(verb, resource)));
    if (verb !== 'list' && verb !== 'watch') return this.#object(`${verb} ${resource}`, place, request);
    if (verb === 'list') throw new Error('lists are paged by api-server.ts only');
    const isWhole = url.searchParams.get('sendInitialEvents') === 'true';
    if (!isWhole && Number(url.searchParams.get('resourceVersion')) < this.store.compacted)
      return Promise.resolve(responseOf(refusal(410, 'too old resource version', 'Expired')));
    const seconds = Number(url.searchParams.get('timeoutSeconds'));
    const first = isWhole ? this.#whole(place) : [];
    const body = this.#watch(place.kind, first, seconds, signal);
    return Promise.resolve({ status: 200, retryAfter: '', date: '', body });
  }

  async #object(match: string, place: Place, { method, path, body = '', signal }: ApiRequest): Promise<ApiResponse> {
    const index = this.#faults.findIndex(each => each.match === match);
    const fault = index < 0 ? undefined : this.#faults.splice(index, 1)[0]?.fault;
    const url = new URL(path, 'https://api');
    const process = (): Answer => this.#objects.answer(place, { method, url, body, userAgent: 'memory/1' });
    if (fault === 'hang') return await ended(signal);
    if (fault === 'held') {
      const answer = new Promise<Answer>(resolve => this.#held.push(() => resolve(process())));
      return responseOf(await Promise.race([answer, ended(signal)]));
    }
    if (fault === 'lost') {
      process();
      throw unreachable();
    }
    if (fault === undefined) return responseOf(process());
    return { ...responseOf(refusal(fault.status, fault.message ?? '', '')), retryAfter: fault.retryAfter ?? '' };
  }

  #whole({ kind, resource }: Place): readonly string[] {
    const objects = this.store.list(resource).map(({ json }) => JSON.parse(json) as ApiObject);
    return [...objects.map(object => lineOf('ADDED', object)), this.#bookmark(kind, { 'k8s.io/initial-events-end': 'true' })];
  }

  #bookmark(kind: string, annotations: object = {}): string {
    return lineOf('BOOKMARK', { kind, metadata: { resourceVersion: String(this.store.revision), annotations } });
  }

  /** From now on, whenever the body is read. */
  #watch(kind: string, first: readonly string[], seconds: number, signal: AbortSignal): AsyncGenerator<Buffer, void> {
    const lines = [...first];
    let state: 'open' | 'over' | 'cut' = 'open';
    let wake = (): void => undefined;
    const end = (how: 'over' | 'cut'): void => {
      if (state === 'open') state = how;
      wake();
    };
    const watch: Watch = {
      kind,
      push: line => {
        lines.push(line);
        wake();
      },
      cut: () => {
        end('cut');
      },
    };
    const remind = (): (() => void) =>
      this.#clock.after(BOOKMARK_MS, () => {
        watch.push(this.#bookmark(kind));
        cancelReminder = remind();
      });
    let cancelReminder = remind();
    const cancelEnd = this.#clock.after(seconds * 1000, () => {
      end('over');
    });
    signal.addEventListener('abort', watch.cut, { once: true });
    this.#watches.add(watch);
    const forget = (): void => {
      cancelReminder();
      cancelEnd();
      this.#watches.delete(watch);
    };
    const next = async (): Promise<string | undefined> => {
      while (lines.length === 0 && state === 'open')
        await new Promise<void>(resolve => {
          wake = resolve;
        });
      if (state === 'cut') throw unreachable();
      return lines.shift();
    };
    return bodyOf(next, forget);
  }
}

async function* bodyOf(next: () => Promise<string | undefined>, forget: () => void): AsyncGenerator<Buffer, void> {
  try {
    for (let line = await next(); line !== undefined; line = await next()) yield Buffer.from(line);
  } finally {
    forget();
  }
}

function responseOf({ status, json }: Answer): ApiResponse {
  return { status, retryAfter: '', date: '', body: textOf(json) };
}

function denial(verb: string, resource: string): Answer {
  return refusal(403, `${resource} is forbidden: User "daemon" cannot ${verb} resource "${resource}"`, 'Forbidden');
}

/** Rejects when the signal aborts. */
function ended(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    if (signal.aborted) fail();
    signal.addEventListener('abort', fail, { once: true });
  });
}

function unreachable(): FairwayError {
  return new FairwayError('FW_API_UNREACHABLE', 'the API server does not answer: connect ECONNREFUSED 192.0.2.1:6443');
}

function lineOf(type: string, object: object): string {
  return `${JSON.stringify({ type, object })}\n`;
}

async function* textOf(text: string): AsyncGenerator<Buffer, void> {
  await Promise.resolve();
  yield Buffer.from(text);
}
