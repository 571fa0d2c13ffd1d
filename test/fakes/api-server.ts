/**
 * A Kubernetes API server as far as its clients here can tell: list, paging, watch with replay, WatchList, bookmarks, 410 and single
 * objects (`object-requests.ts`) over real TLS, HTTP/2 or HTTP/1.1, and every fault a real one has shown. A relay before it makes the faults of
 * the network.
 */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer as createHttp1Server, type IncomingMessage } from 'node:http';
import { constants, createSecureServer, type Http2ServerRequest, type Http2Session } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server, Socket } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { CertificateAuthority } from './certificates.ts';
import type { ClusterRole } from './cluster-role.ts';
import { ObjectRequests, type Place, placeOf, verbOf } from './object-requests.ts';
import { type ApiObject, type Change, ObjectStore, type ResourceName, type Stored } from './object-store.ts';
import { selectionOf } from './selection.ts';
import { TcpRelay } from './tcp-relay.ts';
import { Watch, type WatchResponse } from './watch.ts';

export interface FakeApiServerOptions {
  /** For keys, certificates and the kubeconfig. Made where it is not there. */
  readonly directory: string;
  /** Address to listen on, also in the certificate and the kubeconfig. Default 127.0.0.1. */
  readonly host?: string;
  /** Further addresses in the certificate: where somebody shows the server elsewhere. */
  readonly alsoAt?: readonly string[];
  /** Default: any free port. */
  readonly port?: number;
  /** What the server offers (ALPN), or no TLS at all. Default `h2`, with HTTP/1.1 for clients that want it. */
  readonly protocol?: 'h2' | 'http/1.1' | 'plain';
  /** Bearer token it knows. */
  readonly token?: string;
}

/** How the server answers from now on; change it while it runs. */
export interface Behaviour {
  /** A number is the status with which a WatchList is refused; `ignored` is a server that does not know the parameter. */
  watchList: 'supported' | 'ignored' | 400 | 403 | 422;
  /** Milliseconds between bookmarks; 0 for none. */
  bookmarkMs: number;
  /** Where a watch from a compacted revision learns of it. */
  gone: 'status' | 'event' | 'event-then-silence';
  /** Milliseconds by which events are late. */
  eventDelayMs: number;
  /** How often each event is sent. */
  eventCopies: number;
  /** True: the next use of a continue token finds it expired. */
  continueExpired: boolean;
  /** Bearer token it knows. */
  token: string;
  /** `VERB RESOURCE` pairs that RBAC denies. */
  forbidden: Set<string>;
  /** What RBAC grants, and nothing else; undefined grants everything that is not forbidden. */
  role: ClusterRole | undefined;
}

/** An answer that a request gets instead of the real one. */
export interface CannedAnswer {
  readonly status: number;
  readonly message?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What befalls one request: it is never answered and nothing comes of it, or all comes of it and the connection breaks before the answer. */
export type Fault = 'hang' | 'lost';

/** One request as it came. */
export interface SeenRequest {
  readonly verb: string;
  /** With the subresource: `services/status`. */
  readonly resource: string;
  /** `NAMESPACE/NAME` of a single object. */
  readonly object: string;
  readonly query: URLSearchParams;
  readonly userAgent: string;
  readonly protocol: string;
  /** performance.now() of its arrival. */
  readonly at: number;
}

type Request = IncomingMessage | Http2ServerRequest;

/** The parts of HTTP/1.1 and HTTP/2 responses that are used here. */
interface Response extends WatchResponse {
  writeHead(status: number, headers: Readonly<Record<string, string>>): unknown;
}

export class FakeApiServer {
  readonly store = new ObjectStore();
  readonly requests: SeenRequest[] = [];
  readonly behaviour: Behaviour;
  readonly relay: TcpRelay;
  readonly authority: CertificateAuthority;
  readonly url: string;
  readonly #server: Server;
  readonly #directory: string;
  readonly #watches = new Set<Watch>();
  readonly #answers: { readonly match: string; readonly answer: CannedAnswer }[] = [];
  readonly #faults: { readonly match: string; readonly fault: Fault }[] = [];
  readonly #objects = new ObjectRequests(this.store, () => Date.now());
  readonly #pages = new Map<string, { readonly rest: readonly Stored[]; readonly revision: number }>();
  readonly #waiting = new Set<() => void>();
  readonly #sessions = new Set<Http2Session>();
  readonly #sockets = new Set<Socket>();

  private constructor(
    options: FakeApiServerOptions,
    parts: { server: Server; relay: TcpRelay; authority: CertificateAuthority },
  ) {
    this.#directory = options.directory;
    this.#server = parts.server;
    this.relay = parts.relay;
    this.authority = parts.authority;
    const host = options.host ?? '127.0.0.1';
    const scheme = options.protocol === 'plain' ? 'http' : 'https';
    this.url = `${scheme}://${host.includes(':') ? `[${host}]` : host}:${parts.relay.port}`;
    this.behaviour = {
      watchList: 'supported',
      bookmarkMs: 0,
      gone: 'status',
      eventDelayMs: 0,
      eventCopies: 1,
      continueExpired: false,
      token: options.token ?? 'token-of-the-test',
      forbidden: new Set(),
      role: undefined,
    };
    this.store.onChange((resource, change) => this.#publish(resource, change));
  }

  static async start(options: FakeApiServerOptions): Promise<FakeApiServer> {
    mkdirSync(options.directory, { recursive: true });
    const host = options.host ?? '127.0.0.1';
    const authority = new CertificateAuthority(options.directory, 'kubernetes-ca');
    const { cert, key } = authority.issue('apiserver', {
      addresses: [...new Set([host, '127.0.0.1', '::1', ...(options.alsoAt ?? [])])],
      names: ['localhost'],
    });
    const tls = { cert, key, ca: authority.own.cert, requestCert: true, rejectUnauthorized: false };
    const server = serverFor(options.protocol ?? 'h2', tls);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const relay = await TcpRelay.open({ host, port: options.port ?? 0 }, port);
    const fake = new FakeApiServer(options, { server, relay, authority });
    server.on('connection', socket => {
      fake.#sockets.add(socket);
      socket.once('close', () => fake.#sockets.delete(socket));
    });
    server.on('session', (session: Http2Session) => {
      fake.#sessions.add(session);
      session.once('close', () => fake.#sessions.delete(session));
    });
    server.on('request', (request: Request, response: Response) => fake.#handle(request, response));
    return fake;
  }

  put(...objects: readonly ApiObject[]): void {
    for (const object of objects) this.store.put(object);
  }

  delete(kind: string, namespace: string, name: string): void {
    this.store.delete(kind, namespace, name);
  }

  /** The next request with this `VERB RESOURCE` gets the answer; call it again for more. */
  answerNext(match: string, answer: CannedAnswer): void {
    this.#answers.push({ match, answer });
  }

  /** The next request with this `VERB RESOURCE` fares like that; call it again for more. */
  faultNext(match: string, fault: Fault): void {
    this.#faults.push({ match, fault });
  }

  /** Text on every open watch of a resource, as it is. */
  sendRaw(resource: ResourceName, text: string): void {
    for (const watch of this.#watchesOf(resource)) watch.write(text);
  }

  /** `clean`: the body ends as after timeoutSeconds. `reset`: RST_STREAM, or a cut body over HTTP/1.1. */
  endWatches(resource: ResourceName, how: 'clean' | 'reset'): void {
    for (const watch of this.#watchesOf(resource)) watch.end(how);
  }

  /** HTTP/2 GOAWAY on every connection, as `--goaway-chance` of the real server: running streams go on, new ones go elsewhere. */
  goAway(): void {
    for (const session of this.#sessions) session.goaway();
  }

  /** Half an event, then FIN on the connection. */
  async cutMidLine(resource: ResourceName): Promise<void> {
    await Promise.all(this.#watchesOf(resource).map(watch => watch.writeFlushed('{"type":"MODIFIED","object":{"kind":"Ser')));
    this.relay.cut('fin');
  }

  openWatches(resource: ResourceName): number {
    return this.#watchesOf(resource).length;
  }

  seen(verb: SeenRequest['verb'], resource: string): readonly SeenRequest[] {
    return this.requests.filter(request => request.verb === verb && request.resource === resource);
  }

  /** Resolves with the requests of this sort once there are so many. */
  async awaitRequests(verb: SeenRequest['verb'], resource: string, count: number): Promise<readonly SeenRequest[]> {
    while (this.seen(verb, resource).length < count) await new Promise<void>(resolve => this.#waiting.add(resolve));
    return this.seen(verb, resource);
  }

  /** Writes a kubeconfig for this server and gives its path. `changes` replace fields of its cluster and user. */
  writeKubeconfig(changes: { readonly name?: string; readonly cluster?: object; readonly user?: object } = {}): string {
    const file = join(this.#directory, changes.name ?? 'kubeconfig');
    const cluster = { server: this.url, 'certificate-authority': 'kubernetes-ca.crt', ...changes.cluster };
    const user = changes.user ?? { token: this.behaviour.token };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'fake',
      clusters: [{ name: 'fake', cluster }],
      users: [{ name: 'daemon', user }],
      contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'daemon' } }],
    };
    writeFileSync(file, JSON.stringify(config, undefined, 2));
    return file;
  }

  /** Closes everything; does not wait for sessions that do not notice. */
  stop(): void {
    for (const watch of this.#watches) watch.close();
    this.relay.close();
    // A session whose streams are just being aborted does not notice the end of its connection.
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    this.#server.unref();
  }

  #watchesOf(resource: ResourceName): readonly Watch[] {
    return [...this.#watches].filter(watch => watch.resource === resource);
  }

  #publish(resource: ResourceName, change: Change): void {
    for (const watch of this.#watchesOf(resource)) watch.publish(change);
  }

  #handle(request: Request, response: Response): void {
    const url = new URL(request.url ?? '/', 'http://fake');
    const method = request.method ?? 'GET';
    const place = placeOf(url.pathname);
    if (this.#isKnown(request) && this.behaviour.role?.allows(method, url) === false) {
      request.resume();
      sendStatus(response, {
        status: 403,
        message: `${url.pathname} is forbidden: User "daemon" cannot do that at the cluster scope`,
      });
      return;
    }
    if (place === undefined) {
      request.resume();
      sendStatus(response, { status: 404, message: 'the server could not find the requested resource' });
      return;
    }
    const verb = verbOf(method, place, url);
    const resource = place.subresource === '' ? place.resource : `${place.resource}/${place.subresource}`;
    this.#note(request, { verb, resource, object: keyOf(place), query: url.searchParams });
    const refusal = this.#refusal(request, verb, resource);
    if (verb !== 'list' && verb !== 'watch') {
      this.#object(place, { verb, resource, url, refusal }, request, response);
      return;
    }
    request.resume();
    if (refusal !== undefined) sendStatus(response, refusal);
    else if (verb === 'list') this.#list(place, url.searchParams, response);
    else this.#watch(place, url.searchParams, response, () => reset(request));
  }

  /** One object, when the body is there. */
  #object(
    place: Place,
    asked: { readonly verb: string; readonly resource: string; readonly url: URL; readonly refusal: CannedAnswer | undefined },
    request: Request,
    response: Response,
  ): void {
    const parts: Buffer[] = [];
    response.on('error', () => undefined);
    request.on('error', () => undefined);
    request.on('data', (part: Buffer) => parts.push(part));
    request.once('end', () => {
      const { verb, resource, url, refusal } = asked;
      const index = this.#faults.findIndex(({ match }) => match === `${verb} ${resource}`);
      const fault = index < 0 ? undefined : this.#faults.splice(index, 1)[0]?.fault;
      if (fault === 'hang') return;
      if (refusal !== undefined) {
        sendStatus(response, refusal);
        return;
      }
      const body = Buffer.concat(parts).toString('utf8');
      const userAgent = request.headers['user-agent'] ?? '';
      const { status, json } = this.#objects.answer(place, { method: request.method ?? 'GET', url, body, userAgent });
      if (fault === 'lost') {
        reset(request);
        return;
      }
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(json);
    });
  }

  #note(request: Request, seen: Pick<SeenRequest, 'verb' | 'resource' | 'object' | 'query'>): void {
    const userAgent = request.headers['user-agent'] ?? '';
    this.requests.push({ ...seen, userAgent, protocol: request.httpVersion, at: performance.now() });
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  #refusal(request: Request, verb: string, resource: string): CannedAnswer | undefined {
    const index = this.#answers.findIndex(({ match }) => match === `${verb} ${resource}`);
    const [canned] = index < 0 ? [] : this.#answers.splice(index, 1);
    if (canned !== undefined) return canned.answer;
    if (!this.#isKnown(request)) return { status: 401, message: 'Unauthorized' };
    if (!this.behaviour.forbidden.has(`${verb} ${resource}`)) return undefined;
    return {
      status: 403,
      message: `${resource} is forbidden: User "daemon" cannot ${verb} resource "${resource}" at the cluster scope`,
    };
  }

  #isKnown(request: Request): boolean {
    if (request.headers.authorization === `Bearer ${this.behaviour.token}`) return true;
    const socket = 'stream' in request ? request.stream.session?.socket : request.socket;
    return socket instanceof TLSSocket && socket.authorized;
  }

  #list(place: Place, query: URLSearchParams, response: Response): void {
    const token = query.get('continue');
    if (token !== null && (this.behaviour.continueExpired || !this.#pages.has(token))) {
      this.behaviour.continueExpired = false;
      sendStatus(response, { status: 410, message: 'The provided continue parameter is too old' });
      return;
    }
    const page = token === null ? undefined : this.#pages.get(token);
    const all = page?.rest ?? this.store.list(place.resource).filter(matchesOf(place, query));
    const revision = page?.revision ?? this.store.revision;
    const limit = Number(query.get('limit') ?? 0) || all.length;
    const next = `${place.resource}-${this.#pages.size}`;
    if (all.length > limit) this.#pages.set(next, { rest: all.slice(limit), revision });
    const metadata = { resourceVersion: String(revision), ...(all.length > limit ? { continue: next } : {}) };
    const items = all.slice(0, limit).map(stored => stored.json);
    const head = JSON.stringify({ kind: `${place.kind}List`, apiVersion: place.apiVersion, metadata }).slice(0, -1);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(`${head},"items":[${items.join(',')}]}\n`);
  }

  #watch(place: Place, query: URLSearchParams, response: Response, reset: () => void): void {
    const { watchList, gone } = this.behaviour;
    const isWatchList = query.get('sendInitialEvents') === 'true';
    if (isWatchList && typeof watchList === 'number') {
      const message =
        'sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled';
      sendStatus(response, { status: watchList, message });
      return;
    }
    const from = query.get('resourceVersion') ?? '';
    const isGone = from !== '' && from !== '0' && Number(from) < this.store.compacted;
    if (isGone && gone === 'status') {
      sendStatus(response, { status: 410, message: `too old resource version: ${from}` });
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch = new Watch({
      ...place,
      response,
      reset,
      query,
      behaviour: this.behaviour,
      store: this.store,
      matches: matchesOf(place, query),
    });
    this.#watches.add(watch);
    response.on('close', () => this.#watches.delete(watch));
    if (isGone) watch.sendGone(gone === 'event');
    else if (from === '') watch.sendAll(isWatchList && watchList === 'supported');
    else for (const change of this.store.changesSince(place.resource, Number(from))) watch.publish(change);
  }
}

/** Of a namespace, where the path names one. */
function matchesOf({ namespace }: Place, query: URLSearchParams): (stored: Stored) => boolean {
  const isSelected = selectionOf(query);
  return stored => (namespace === '' || stored.fields['metadata.namespace'] === namespace) && isSelected(stored);
}

function keyOf({ namespace, name }: Place): string {
  return namespace === '' ? name : `${namespace}/${name}`;
}

/** RST_STREAM, or RST on the connection over HTTP/1.1. */
function reset(request: Request): void {
  if ('stream' in request) request.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else request.socket.resetAndDestroy();
}

type TlsSettings = { cert: Buffer; key: Buffer; ca: Buffer; requestCert: boolean; rejectUnauthorized: boolean };

function serverFor(protocol: 'h2' | 'http/1.1' | 'plain', tls: TlsSettings): Server {
  if (protocol === 'h2') return createSecureServer({ ...tls, allowHTTP1: true });
  if (protocol === 'http/1.1') return createHttpsServer({ ...tls, ALPNProtocols: ['http/1.1'] });
  return createHttp1Server();
}

function sendStatus(response: Response, { status, message = '', headers = {} }: CannedAnswer): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, code: status }));
}
