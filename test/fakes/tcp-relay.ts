/** A relay before a server, for faults of the network that a server cannot make itself: half-open and reset connections. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpRelay {
  readonly #server: Server;
  readonly #pairs = new Set<{ readonly client: Socket; readonly upstream: Socket }>();
  #isFrozen = false;
  #accepted = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens and passes everything on to a port of this machine. */
  static async open(listen: { readonly host: string; readonly port: number }, upstreamPort: number): Promise<TcpRelay> {
    const server = createServer({ noDelay: true });
    const relay = new TcpRelay(server);
    server.on('connection', client => relay.#accept(client, upstreamPort));
    server.listen(listen.port, listen.host);
    await once(server, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Connections open now. */
  get open(): number {
    return this.#pairs.size;
  }

  /** From now on nothing passes in either direction, while every connection stays open: the peer of a dead router. */
  freeze(): void {
    this.#isFrozen = true;
    for (const { client, upstream } of this.#pairs) {
      client.unpipe(upstream).pause();
      upstream.unpipe(client).pause();
    }
  }

  /** What came meanwhile passes now. */
  thaw(): void {
    this.#isFrozen = false;
    for (const pair of this.#pairs) join(pair);
  }

  /** Ends every connection with RST, or with FIN after what is on its way. */
  cut(how: 'reset' | 'fin'): void {
    for (const { client, upstream } of this.#pairs) {
      if (how === 'reset') client.resetAndDestroy();
      else client.end();
      upstream.destroy();
    }
    this.#pairs.clear();
  }

  close(): void {
    this.cut('reset');
    this.#server.close();
  }

  #accept(client: Socket, upstreamPort: number): void {
    this.#accepted++;
    const pair = { client, upstream: connect({ port: upstreamPort, host: '127.0.0.1', noDelay: true }) };
    this.#pairs.add(pair);
    for (const [one, other] of [
      [pair.client, pair.upstream],
      [pair.upstream, pair.client],
    ] as const) {
      one.on('error', () => undefined);
      one.once('close', () => {
        this.#pairs.delete(pair);
        other.destroySoon();
      });
    }
    if (!this.#isFrozen) join(pair);
  }
}

function join({ client, upstream }: { readonly client: Socket; readonly upstream: Socket }): void {
  client.pipe(upstream);
  upstream.pipe(client);
}
