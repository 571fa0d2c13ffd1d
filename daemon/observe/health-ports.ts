/** The driver of health ports: one HTTP listener a port, at which load balancers ask for the endpoints that a Service has on this node. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { FairwayError, messageOf } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type HealthPort, SERVICE_TABLES } from '../reconcile/service-tables.ts';

export interface HealthPortOptions {
  /** Whether the daemon keeps the Services of this node up to date. Asked at each request; while it is not so, every port answers 503. */
  readonly isHealthy: () => boolean;
}

export interface HealthPortDriver extends TableDriver<HealthPort> {
  /** Closes all ports, and the connections to them. */
  close(): Promise<void>;
}

/** Milliseconds for a whole request. Anyone who reaches the node can open connections here. */
const REQUEST_LIMIT_MS = 10_000;

/**
 * Answers as kube-proxy does (pkg/proxy/healthcheck), whatever the path and the method. The ports are this process' own, so that what it
 * remembers of them is what is there: {@link TableDriver.read} asks nobody. A change of the Service or of its endpoints is in the next answer, and
 * the listener stays: load balancers keep their connections. One that was closed by an error counts as missing.
 */
export function healthPortDriver({ isHealthy }: HealthPortOptions): HealthPortDriver {
  const listeners = new Map<string, Listener>();

  const serve = async (entry: HealthPort): Promise<FairwayError | undefined> => {
    const key = SERVICE_TABLES.healthPort.key(entry);
    const known = listeners.get(key);
    if (known?.server.listening === true) {
      known.entry = entry;
      return undefined;
    }
    try {
      listeners.set(key, await listen(entry, isHealthy));
      return undefined;
    } catch (thrown) {
      listeners.delete(key);
      return refused(entry, thrown);
    }
  };

  const stop = async (key: string): Promise<void> => {
    const server = listeners.get(key)?.server;
    listeners.delete(key);
    if (server !== undefined) await closed(server);
  };

  return {
    read(expected) {
      const found = new Map<string, HealthPort>();
      for (const [key, { entry, server }] of listeners) {
        if (!server.listening) continue;
        const wanted = expected.get(key);
        found.set(key, wanted !== undefined && SERVICE_TABLES.healthPort.same(entry, wanted) ? wanted : entry);
      }
      return Promise.resolve(found);
    },
    async apply(changes, signal) {
      const failed = new Map<string, FairwayError>();
      for (const change of changes) {
        signal.throwIfAborted();
        if (change.op === 'delete') {
          await stop(change.key);
          continue;
        }
        const error = await serve(change.to);
        if (error !== undefined) failed.set(change.key, error);
      }
      return { failed };
    },
    render: changes => changes.map(rendered).join(''),
    async close() {
      await Promise.all([...listeners.keys()].map(stop));
    },
  };
}

interface Listener {
  readonly server: Server;
  /** What it answers with. */
  entry: HealthPort;
}

function listen(entry: HealthPort, isHealthy: () => boolean): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const server = createServer({ headersTimeout: REQUEST_LIMIT_MS, requestTimeout: REQUEST_LIMIT_MS }, (_, response) => {
      answer(response, listener.entry, isHealthy());
    });
    const listener: Listener = { server, entry };
    // Stays after the start: an error of one connection must not end the process. Whether it still listens is asked of the server.
    server.on('error', reject);
    // Without an address: on `::` for both families, or 0.0.0.0 where the kernel has no IPv6.
    server.listen(entry.port, () => {
      resolve(listener);
    });
  });
}

/** Text, order and white space of kube-proxy's answer; the weight is for load balancers that send by the number of endpoints. */
function answer(response: ServerResponse, { namespace, name, localEndpoints }: HealthPort, serviceProxyHealthy: boolean): void {
  response.statusCode = localEndpoints > 0 && serviceProxyHealthy ? 200 : 503;
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('X-Load-Balancing-Endpoint-Weight', localEndpoints);
  response.end(JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy }, undefined, '\t'));
}

function closed(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}

function refused({ port, namespace, name }: HealthPort, thrown: unknown): FairwayError {
  const remedies: Readonly<Record<string, string>> = {
    EADDRINUSE: `another program has the port, perhaps a kube-proxy that still runs here: see 'ss -ltnp sport = :${port}' and stop it`,
    EACCES: 'it needs CAP_NET_BIND_SERVICE',
  };
  const remedy = remedies[thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''];
  const message = `health port ${port} of Service ${namespace}/${name} cannot be listened on: ${remedy ?? messageOf(thrown)}`;
  return new FairwayError('FW_COMMAND_REFUSED', message, { cause: thrown });
}

function rendered(change: Change<HealthPort>): string {
  if (change.op === 'delete') return `close ${change.from.port}\n`;
  const { port, namespace, name, localEndpoints } = change.to;
  return `${change.op === 'create' ? 'listen on' : 'answer at'} ${port} for ${namespace}/${name}: ${localEndpoints} local endpoints\n`;
}
