/** One open watch of the fake API server. */
import type { Behaviour } from './api-server.ts';
import type { Change, ObjectStore, ResourceName, Stored } from './object-store.ts';

/** The parts of HTTP/1.1 and HTTP/2 responses that a watch uses. */
export interface WatchResponse {
  readonly writableEnded: boolean;
  flushHeaders(): void;
  write(text: string, done?: () => void): boolean;
  end(text?: string): unknown;
  on(event: 'error' | 'close', listener: () => void): unknown;
}

export interface WatchOptions {
  readonly resource: ResourceName;
  readonly apiVersion: string;
  readonly kind: string;
  /** Its head has been sent. */
  readonly response: WatchResponse;
  /** Breaks the stream off. */
  readonly reset: () => void;
  readonly query: URLSearchParams;
  readonly behaviour: Behaviour;
  readonly store: ObjectStore;
  readonly matches: (stored: Stored) => boolean;
}

/** Characters per write of the initial events. */
const BLOCK = 1 << 18;

export class Watch {
  readonly resource: ResourceName;
  readonly #options: WatchOptions;
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(options: WatchOptions) {
    this.resource = options.resource;
    this.#options = options;
    const { response, query, behaviour } = options;
    response.on('error', () => undefined);
    response.on('close', () => this.close());
    const seconds = Number(query.get('timeoutSeconds') ?? 0);
    if (seconds > 0) this.#timers.push(setTimeout(() => this.end('clean'), seconds * 1000));
    if (behaviour.bookmarkMs > 0 && query.get('allowWatchBookmarks') === 'true') {
      this.#timers.push(setInterval(() => this.#bookmark({}), behaviour.bookmarkMs));
    }
  }

  /** Everything there is as ADDED events, and where the server knows WatchList the bookmark that ends them. */
  sendAll(isEndMarked: boolean): void {
    let block = '';
    for (const stored of this.#options.store.list(this.resource)) {
      if (!this.#options.matches(stored)) continue;
      block += line('ADDED', stored.json);
      if (block.length < BLOCK) continue;
      this.write(block);
      block = '';
    }
    if (block !== '') this.write(block);
    if (isEndMarked) this.#bookmark({ 'k8s.io/initial-events-end': 'true' });
  }

  /** An object that begins or ceases to match the selectors is added or deleted as far as this watch can tell. */
  publish(change: Change): void {
    const type = this.#typeOf(change);
    if (type === undefined) return;
    const text = line(type, change.stored.json).repeat(this.#options.behaviour.eventCopies);
    const { eventDelayMs } = this.#options.behaviour;
    if (eventDelayMs === 0) this.write(text);
    else this.#timers.push(setTimeout(() => this.write(text), eventDelayMs));
  }

  #typeOf({ type, stored, former }: Change): Change['type'] | undefined {
    const [was, is] = [former !== undefined && this.#options.matches(former), this.#options.matches(stored)];
    if (type === 'DELETED' || !is) return was ? 'DELETED' : undefined;
    return was ? 'MODIFIED' : 'ADDED';
  }

  sendGone(isEnded: boolean): void {
    const status = {
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      message: 'too old resource version',
      reason: 'Expired',
      code: 410,
    };
    this.write(line('ERROR', JSON.stringify(status)));
    if (isEnded) this.end('clean');
  }

  write(text: string): void {
    if (!this.#options.response.writableEnded) this.#options.response.write(text);
  }

  /** Resolves when the text has left this process. */
  writeFlushed(text: string): Promise<void> {
    return new Promise(resolve => this.#options.response.write(text, () => setTimeout(resolve, 20)));
  }

  end(how: 'clean' | 'reset'): void {
    if (how === 'clean') this.#options.response.end();
    else this.#options.reset();
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #bookmark(annotations: Readonly<Record<string, string>>): void {
    const { apiVersion, kind, store } = this.#options;
    const metadata = { resourceVersion: String(store.revision), annotations };
    this.write(line('BOOKMARK', JSON.stringify({ kind, apiVersion, metadata })));
  }
}

function line(type: string, json: string): string {
  return `{"type":"${type}","object":${json}}\n`;
}
