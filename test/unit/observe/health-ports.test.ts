import assert from 'node:assert/strict';
import { Agent, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type HealthPortDriver, healthPortDriver } from '../../../daemon/observe/health-ports.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import type { HealthPort } from '../../../daemon/reconcile/service-tables.ts';

const never = new AbortController().signal;
const NONE_FAILED = { failed: new Map() };

const web = (port: number, localEndpoints: number): HealthPort => ({ port, namespace: 'default', name: 'web', localEndpoints });
const create = (to: HealthPort): Change<HealthPort> => ({ op: 'create', key: `${to.port}`, to });
const update = (from: HealthPort, to: HealthPort): Change<HealthPort> => ({ op: 'update', key: `${to.port}`, from, to });
const remove = (from: HealthPort): Change<HealthPort> => ({ op: 'delete', key: `${from.port}`, from });

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

function ask(port: number, { host = '127.0.0.1', path = '/healthz', method = 'GET', agent = new Agent() } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request({ host, port, path, method, agent }, response => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    })
      .on('error', reject)
      .end();
  });
}

function bodyOf({ text }: Answer): { readonly service: unknown; readonly serviceProxyHealthy: unknown } {
  return JSON.parse(text) as ReturnType<typeof bodyOf>;
}

/** A server of somebody else, on a port that was free. */
function listenAnywhere(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, () => resolve(server));
  });
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function closing(server: Server): Promise<void> {
  return new Promise(resolve => server.close(() => resolve()));
}

async function freePort(): Promise<number> {
  const server = await listenAnywhere();
  const port = portOf(server);
  await closing(server);
  return port;
}

describe('health ports', () => {
  let driver: HealthPortDriver;
  let isHealthy = true;

  beforeEach(() => {
    isHealthy = true;
    driver = healthPortDriver({ isHealthy: () => isHealthy });
  });

  afterEach(() => driver.close());

  it('answer to the letter as kube-proxy does', async () => {
    const port = await freePort();
    assert.deepEqual(await driver.apply([create(web(port, 2))], never), NONE_FAILED);
    const { status, headers, text } = await ask(port);
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['x-load-balancing-endpoint-weight'], '2');
    assert.equal(
      text,
      '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
    );
  });

  it('answer whatever the path and method', async () => {
    const port = await freePort();
    await driver.apply([create(web(port, 1))], never);
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS'])
      for (const path of ['/', '/healthz', '/a/b?c=d']) {
        const { status, text } = await ask(port, { method, path });
        assert.equal(status, 200, `${method} ${path}`);
        assert.equal(text === '', method === 'HEAD');
      }
  });

  it('turn load balancers away without an endpoint here, or while the daemon is not well', async () => {
    const [empty, full] = [await freePort(), await freePort()];
    await driver.apply([create(web(empty, 0)), create(web(full, 200))], never);
    const { status, headers } = await ask(empty);
    assert.deepEqual([status, headers['x-load-balancing-endpoint-weight']], [503, '0']);
    isHealthy = false;
    const unwell = await ask(full);
    assert.deepEqual([unwell.status, bodyOf(unwell).serviceProxyHealthy], [503, false]);
    isHealthy = true;
    assert.equal((await ask(full)).status, 200);
  });

  it('answer anew after a change of endpoints or Service, on the connections there are', async () => {
    const port = await freePort();
    const first = web(port, 1);
    const next: HealthPort = { port, namespace: 'shop', name: 'api', localEndpoints: 0 };
    await driver.apply([create(first)], never);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const sockets = new Set<unknown>();
    agent.on('free', socket => sockets.add(socket));
    assert.equal((await ask(port, { agent })).status, 200);
    assert.deepEqual(await driver.apply([update(first, next)], never), NONE_FAILED);
    const answer = await ask(port, { agent });
    assert.equal(answer.status, 503);
    assert.deepEqual(bodyOf(answer).service, { namespace: 'shop', name: 'api' });
    assert.equal(sockets.size, 1, 'one connection all the time');
    agent.destroy();
  });

  it('are on every address of both families', async () => {
    const port = await freePort();
    await driver.apply([create(web(port, 1))], never);
    const addresses = Object.values(networkInterfaces()).flatMap(list => list ?? []);
    for (const { address } of addresses.filter(({ address: text }) => !text.startsWith('fe80:')))
      assert.equal((await ask(port, { host: address })).status, 200, address);
  });

  it('are read back as they are served, the very object expected where it is equal', async () => {
    const [one, other] = [web(await freePort(), 1), web(await freePort(), 2)];
    assert.deepEqual(await driver.read(new Map(), never), new Map());
    await driver.apply([create(one), create(other)], never);
    const wanted = new Map([
      [`${one.port}`, { ...one }],
      [`${other.port}`, { ...other, localEndpoints: 3 }],
    ]);
    const found = await driver.read(wanted, never);
    assert.equal(found.get(`${one.port}`), wanted.get(`${one.port}`));
    assert.deepEqual(found.get(`${other.port}`), other);
    await driver.apply([remove(one)], never);
    assert.deepEqual([...(await driver.read(wanted, never)).keys()], [`${other.port}`]);
    await assert.rejects(ask(one.port), { code: 'ECONNREFUSED' });
    assert.deepEqual(await driver.apply([remove(one), create(one)], never), NONE_FAILED, 'gone already, and back');
    assert.equal((await ask(one.port)).status, 200);
  });

  it('that somebody else has are told with Service and remedy, and hold up no other', async () => {
    const foreign = await listenAnywhere();
    const taken = web(portOf(foreign), 1);
    const free = web(await freePort(), 1);
    const { failed } = await driver.apply([create(taken), create(free)], never);
    assert.deepEqual([...failed.keys()], [`${taken.port}`]);
    const error = failed.get(`${taken.port}`);
    assert.ok(error !== undefined);
    assert.equal(error.code, 'FW_COMMAND_REFUSED');
    assert.equal(
      error.message,
      `health port ${taken.port} of Service default/web cannot be listened on: another program has the port, perhaps a kube-proxy that still runs here: see 'ss -ltnp sport = :${taken.port}' and stop it`,
    );
    assert.equal((await ask(free.port)).status, 200);
    assert.deepEqual([...(await driver.read(new Map(), never)).keys()], [`${free.port}`]);
    await closing(foreign);
    assert.deepEqual(await driver.apply([create(taken)], never), NONE_FAILED);
  });

  it('are all closed when the daemon stops, with the connections to them', async () => {
    const ports = [await freePort(), await freePort()];
    await driver.apply(
      ports.map(port => create(web(port, 1))),
      never,
    );
    const agent = new Agent({ keepAlive: true });
    await Promise.all(ports.map(port => ask(port, { agent })));
    await driver.close();
    assert.deepEqual(await driver.read(new Map(), never), new Map());
    for (const port of ports) await assert.rejects(ask(port), { code: 'ECONNREFUSED' });
    agent.destroy();
  });

  it('are shown one line a change', () => {
    const [one, two] = [web(30001, 1), web(30001, 2)];
    assert.equal(
      driver.render([create(one), update(one, two), remove(two)]),
      'listen on 30001 for default/web: 1 local endpoints\nanswer at 30001 for default/web: 2 local endpoints\nclose 30001\n',
    );
  });
});
