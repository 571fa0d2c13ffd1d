/** An API server in memory, on a clock moved by hand: for what takes hours. What it says of HTTP is `api-server.ts`' business. */
import { RESOURCES } from '../../daemon/cluster/resources.ts';
import type { ApiRequest, ApiResponse, ApiTransport } from '../../daemon/cluster/transport.ts';
import { FairwayError } from '../../daemon/errors.ts';
import type { Clock } from '../../daemon/net/clock.ts';
import type { ApiObject } from './object-store.ts';

/** Milliseconds between two bookmarks of a watch, as the real one's. */
const BOOKMARK_MS = 60_000;

interface Watch {
  readonly kind: string;
  push(line: string): void;
  /** The connection breaks. */
  cut(): void;
}

export class MemoryApi implements ApiTransport {
  isUp = true;
  /** When each request came, by the clock. */
  readonly requests: number[] = [];
  readonly #clock: Clock;
  readonly #objects = new Map<string, ApiObject>();
  readonly #watches = new Set<Watch>();
  #version = 1;
  /** Watches from before this version are refused: their history is gone. */
  #oldest = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(...objects: readonly ApiObject[]): void {
    for (const object of objects) this.#change('ADDED', object);
  }

  delete(object: ApiObject): void {
    this.#change('DELETED', object);
  }

  /** No answers from now on, and no word on any connection; what changes meanwhile is compacted away. */
  goDown(): void {
    this.isUp = false;
    for (const watch of this.#watches) watch.cut();
  }

  comeUp(): void {
    this.isUp = true;
    this.#oldest = this.#version;
  }

  close(): void {
    this.goDown();
  }

  request({ path, signal }: ApiRequest): Promise<ApiResponse> {
    this.requests.push(this.#clock.now());
    if (!this.isUp) return Promise.reject(unreachable());
    const url = new URL(path, 'https://api');
    const [kind] = Object.entries(RESOURCES).find(([, resource]) => resource.path === url.pathname) ?? [];
    if (kind === undefined) throw new Error(`no such resource: ${path}`);
    const isWhole = url.searchParams.get('sendInitialEvents') === 'true';
    if (!isWhole && Number(url.searchParams.get('resourceVersion')) < this.#oldest) {
      const gone = JSON.stringify({ kind: 'Status', code: 410, message: 'too old resource version' });
      return Promise.resolve({ status: 410, retryAfter: '', date: '', body: textOf(gone) });
    }
    const seconds = Number(url.searchParams.get('timeoutSeconds'));
    const first = isWhole ? this.#whole(kind) : [];
    return Promise.resolve({ status: 200, retryAfter: '', date: '', body: this.#watch(kind, first, seconds, signal) });
  }

  #whole(kind: string): readonly string[] {
    const objects = [...this.#objects.values()].filter(object => object.kind === kind);
    return [...objects.map(object => lineOf('ADDED', object)), this.#bookmark(kind, { 'k8s.io/initial-events-end': 'true' })];
  }

  #bookmark(kind: string, annotations: object = {}): string {
    return lineOf('BOOKMARK', { kind, metadata: { resourceVersion: String(this.#version), annotations } });
  }

  #change(type: 'ADDED' | 'DELETED', object: ApiObject): void {
    this.#version++;
    const key = `${object.kind} ${object.metadata?.namespace} ${object.metadata?.name}`;
    const current = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } };
    if (type === 'DELETED') this.#objects.delete(key);
    else this.#objects.set(key, current);
    for (const watch of this.#watches) if (watch.kind === object.kind) watch.push(lineOf(type, current));
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
