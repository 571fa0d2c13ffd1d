import assert from 'node:assert/strict';
import type { Health } from '../../../daemon/observe/health.ts';
import { type HttpListener, healthPages, listenHttp, metricsPages } from '../../../daemon/observe/http.ts';
import { Metrics } from '../../../daemon/observe/metrics.ts';
import type { MetricsStatus } from '../../../daemon/observe/state-metrics.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { freePort } from '../../fakes/free-port.ts';

const WELL: Health = { isLive: true, isNodeLeaving: false, modules: new Map([['services', { state: 'ok' }]]) };

describe('the health pages', () => {
  let listener: HttpListener | undefined;
  let health = WELL;
  let port = 0;

  before(async () => {
    port = await freePort();
    listener = await listenHttp(
      '127.0.0.1',
      port,
      healthPages(() => health),
    );
  });

  after(() => listener?.close());

  /** Status and text of /healthz, /livez, /readyz. */
  const answers = async (of: Partial<Health>): Promise<readonly (readonly [number, string])[]> => {
    health = { ...WELL, ...of };
    const pages = ['healthz', 'livez', 'readyz'];
    const responses = await Promise.all(pages.map(page => fetch(`http://127.0.0.1:${port}/${page}`)));
    return Promise.all(responses.map(async response => [response.status, await response.text()] as const));
  };

  it('say OK, and which module is how', async () => {
    assert.deepEqual(await answers({}), [
      [200, 'OK\n'],
      [200, 'OK\n'],
      [200, 'loop: ok\nservices: ok\n'],
    ]);
    const starting = await answers({ modules: new Map([['services', { state: 'starting' }]]) });
    assert.deepEqual(
      starting.map(([status]) => status),
      [200, 200, 503],
    );
  });

  it('of a node that is about to leave the cluster turn load balancers away, and no probe of the pod', async () => {
    assert.deepEqual(await answers({ isNodeLeaving: true }), [
      [503, 'This node is about to be deleted: load balancers are to send it nothing new. The daemon works.\n'],
      [200, 'OK\n'],
      [200, 'loop: ok\nservices: ok\n'],
    ]);
  });

  it('of a loop that is wedged say so, whether the node leaves or not', async () => {
    for (const isNodeLeaving of [false, true]) {
      const wedged = await answers({ isLive: false, isNodeLeaving });
      assert.deepEqual(wedged.slice(0, 2), [
        [500, 'Unhealthy\n'],
        [500, 'Unhealthy\n'],
      ]);
    }
  });
});

describe('the page of metrics', () => {
  const clock = new ManualClock();
  let metrics: Metrics;
  let listener: HttpListener | undefined;
  let base = '';

  beforeEach(async () => {
    const status = (): MetricsStatus => ({
      tables: [],
      diagnostics: new Map(),
      modules: new Map(),
      policyChains: 0,
      policySets: 0,
      servicesWithoutEndpoints: 0,
      drainingEndpoints: 0,
    });
    metrics = new Metrics({ version: 'test', clock, wallNow: () => clock.now(), status });
    const port = await freePort();
    listener = await listenHttp('127.0.0.1', port, metricsPages('/metrics', metrics));
    base = `http://127.0.0.1:${port}/metrics`;
  });

  afterEach(() => listener?.close());

  it('is what Prometheus reads, with the many behind the few', async () => {
    metrics.add({
      async *pieces() {
        yield* await Promise.resolve(['# TYPE many counter\n', 'many 1\n']);
      },
    });
    const response = await fetch(base);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    const text = await response.text();
    assert.match(text, /^process_cpu_user_seconds_total /m);
    assert.match(text, /^kube_router_build_info\{goversion="v[0-9.]+",version="test"\} 1$/m);
    assert.ok(text.endsWith('# TYPE many counter\nmany 1\n'));
    assert.deepEqual(
      text.split('\n').filter(line => line !== '' && !/^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? \S+)$/.test(line)),
      [],
    );
  });

  it('is made no faster than it is read, and no further when its reader has gone', async () => {
    const MEGABYTE = `${'x'.repeat(1_000_000)}\n`;
    let made = 0;
    const ended = Promise.withResolvers<void>();
    metrics.add({
      async *pieces() {
        try {
          for (; made < 10_000; made++) yield await Promise.resolve(MEGABYTE);
        } finally {
          ended.resolve();
        }
      },
    });
    const reading = new AbortController();
    const response = await fetch(base, { signal: reading.signal });
    const reader = response.body!.getReader();
    for (let read = 0; read < 2_000_000; ) {
      const { value } = (await reader.read()) as { readonly value?: Uint8Array };
      read += value?.length ?? 0;
    }
    reading.abort();
    await ended.promise;
    assert.ok(made < 100, `${made} MB were made for one who read 2`);
  });
});
