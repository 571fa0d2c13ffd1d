/** The daemon's HTTP pages: health for probes, metrics for scrapers. Plain text, no state. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { ListenOptions } from 'node:net';
import { messageOf } from '../errors.ts';
import { describeHealth, type Health, isReady } from './health.ts';
import type { Metrics } from './metrics.ts';

const LEAVING = 'This node is about to be deleted: load balancers are to send it nothing new. The daemon works.\n';

/** Answers a request for one path, given what stands behind the question mark. */
export type Page = (query: URLSearchParams, response: ServerResponse) => void | Promise<void>;

/**
 * `/livez` as kube-router's users expect `/healthz` (200 `OK`, 500 `Unhealthy`: the loop is alive). `/healthz` the same, but for a node that is
 * about to leave the cluster: 503 then, as kube-proxy answers (KEP-3836), so that load balancers that ask here send it no new connections while
 * those it has go on. `/readyz` 200 once every enabled module has converged, 503 before.
 */
export function healthPages(health: () => Health): ReadonlyMap<string, Page> {
  const live: Page = (_query, response) => {
    const { isLive } = health();
    respond(response, isLive ? 200 : 500, isLive ? 'OK\n' : 'Unhealthy\n');
  };
  const eligible: Page = (query, response) => {
    const { isLive, isNodeLeaving } = health();
    if (isLive && isNodeLeaving) respond(response, 503, LEAVING);
    else void live(query, response);
  };
  const ready: Page = (_query, response) => {
    const now = health();
    respond(response, isReady(now) ? 200 : 503, describeHealth(now));
  };
  return new Map([
    ['/healthz', eligible],
    ['/livez', live],
    ['/readyz', ready],
  ]);
}

export function metricsPages(path: string, metrics: Metrics): ReadonlyMap<string, Page> {
  const page: Page = async (_query, response) => {
    response.setHeader('Content-Type', metrics.registry.contentType);
    await writeAll(response, metrics.pieces());
  };
  return new Map([[path, page]]);
}

/** As fast as the reader takes it: the metrics of ten thousand Services are tens of megabytes, which are never in memory as a whole. */
async function writeAll(response: ServerResponse, pieces: AsyncIterable<string>): Promise<void> {
  for await (const piece of pieces) {
    if (response.destroyed) return;
    if (!response.write(piece)) await ready(response);
  }
  response.end();
}

/** Resolves when the reader took what was written, or is gone. */
function ready(response: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.once('drain', done).once('close', done);
  });
}

export interface HttpListener {
  close(): Promise<void>;
}

/** Listens on an address ('' for all) and port; rejects with the system's error where it cannot. */
export function listenHttp(address: string, port: number, pages: ReadonlyMap<string, Page>): Promise<HttpListener> {
  return listenAt(pages, address === '' ? { port } : { port, host: address });
}

/** Listens on a unix socket, whose file must not be there; rejects with the system's error where it cannot. */
export function listenSocket(path: string, pages: ReadonlyMap<string, Page>): Promise<HttpListener> {
  return listenAt(pages, { path });
}

async function listenAt(pages: ReadonlyMap<string, Page>, where: ListenOptions): Promise<HttpListener> {
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    const page = pages.get(pathname);
    if (page === undefined) {
      respond(response, 404, `no such page; there are ${[...pages.keys()].join(' ')}\n`);
      return;
    }
    Promise.resolve()
      .then(() => page(searchParams, response))
      .catch((thrown: unknown) => {
        if (response.headersSent) response.destroy();
        else respond(response, 500, `${messageOf(thrown)}\n`);
      });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      resolve();
    });
  });
  return { close: () => closeServer(server) };
}

export function respond(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  if (!response.hasHeader('Content-Type')) response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(text);
}

function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}
