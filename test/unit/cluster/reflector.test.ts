import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'mocha';
import type { ApiObject } from '../../fakes/object-store.ts';
import { apiHarness, type Harness, type HarnessOptions, pod, service, slice } from './api-harness.ts';

describe('watching the API server', () => {
  let harness: Harness;
  const open = async (options?: HarnessOptions): Promise<Harness> => {
    harness = await apiHarness(options);
    return harness;
  };
  afterEach(() => harness.stop());

  for (const protocol of ['h2', 'http/1.1', 'plain'] as const) {
    it(`shows objects that are there, come, change and go, over ${protocol}`, async () => {
      const { fake, told, start } = await open({ server: { protocol } });
      fake.put(service('a'), service('b'));
      await start();
      await told.until(() => told.objects.size === 2);
      fake.put(service('c'), service('a', { externalIPs: ['192.0.2.1'] }));
      fake.delete('Service', 'shop', 'b');
      await told.until(() => told.get('Service', 'shop/b') === undefined);
      assert.deepEqual([...told.keys('Service')].sort(), ['shop/a', 'shop/c']);
      assert.deepEqual(told.get('Service', 'shop/a'), { ...told.get('Service', 'shop/a'), externalIPs: ['192.0.2.1'] });
      const seen = fake.requests.map(({ protocol, userAgent }) => [protocol, userAgent]);
      assert.deepEqual(seen, [[protocol === 'h2' ? '2.0' : '1.1', 'fairway/0.0.0-test']]);
    });
  }

  it('uses one TLS connection for all kinds', async () => {
    const { fake, told, start } = await open({ kinds: ['Service', 'EndpointSlice', 'Node'] });
    await start();
    await told.until(() => told.replaced.length === 3);
    assert.equal(fake.relay.accepted, 1);
  });

  it('asks for nothing but the kinds it was told to read', async () => {
    const { fake, told, start } = await open({ kinds: ['Node'] });
    await start();
    await told.until(() => told.replaced.length === 1);
    assert.deepEqual([...new Set(fake.requests.map(request => request.resource))], ['nodes']);
  });

  it('gets the first list as one stream (WatchList) and goes on watching in it', async () => {
    const { fake, told, start } = await open();
    fake.put(service('a'));
    await start();
    await told.until(() => told.lists.length === 1);
    fake.put(service('b'));
    await told.until(() => told.objects.size === 2);
    assert.deepEqual(told.lists, [{ kind: 'Service', way: 'watch-list', objects: 1 }]);
    assert.equal(fake.requests.length, 1);
    const seconds = Number(fake.requests[0]?.query.get('timeoutSeconds'));
    assert.ok(seconds >= 240 && seconds <= 480, `timeoutSeconds ${seconds}`);
  });

  for (const watchList of ['supported', 422] as const) {
    it(`lists anew when asked, whatever the watch has not told yet (WatchList: ${watchList})`, async () => {
      const { fake, told, start, relist } = await open();
      fake.behaviour.watchList = watchList;
      fake.put(service('a'), service('b'));
      await start();
      await told.until(() => told.objects.size === 2 && fake.openWatches('services') === 1);
      fake.behaviour.eventDelayMs = 60_000;
      fake.put(service('c'));
      fake.delete('Service', 'shop', 'a');
      const count = fake.requests.length;
      const listed = relist('Service');
      assert.deepEqual([...told.keys('Service')].sort(), ['shop/a', 'shop/b'], 'until it is there, what was known stays');
      await listed;
      assert.deepEqual([...told.keys('Service')].sort(), ['shop/b', 'shop/c']);
      assert.equal(fake.requests[count]?.query.get('resourceVersion'), null, 'the newest state, not what the server has cached');
      assert.equal(told.relists.at(-1), 'asked-for');
      assert.deepEqual(told.failures, []);
      fake.behaviour.eventDelayMs = 0;
      await told.until(() => fake.openWatches('services') > 0);
      fake.put(service('d'));
      await told.until(() => told.keys('Service').includes('shop/d'));
    });
  }

  it('lists anew at once when asked, however long the server was to be left alone', async () => {
    const { fake, told, start, relist } = await open({ timings: { firstRetryMs: 60_000, longestRetryMs: 60_000 } });
    fake.put(service('a'));
    fake.answerNext('watch services', { status: 500, message: 'broken' });
    await start();
    await told.until(() => told.failures.length === 1);
    const first = relist('Service');
    const second = relist('Service');
    await Promise.all([first, second]);
    assert.deepEqual(told.keys('Service'), ['shop/a']);
  });

  it('says to who waits for a list that it has ended, or that the kind is not read', async () => {
    const { fake, told, start, relist } = await open();
    await start();
    await told.until(() => told.lists.length === 1);
    fake.answerNext('watch services', { status: 500, message: 'broken' });
    const listed = assert.rejects(relist('Service'), /stopped/);
    await told.until(() => told.failures.length === 1);
    await harness.stopSource();
    await listed;
    await assert.rejects(relist('Service'), /stopped/);
    await assert.rejects(relist('Pod'), /Pod is not read/);
  });

  for (const watchList of [400, 403, 422, 'ignored'] as const) {
    it(`pages through the list where the server answers WatchList with ${watchList}`, async () => {
      const { fake, told, start } = await open();
      fake.behaviour.watchList = watchList;
      for (let index = 0; index < 1200; index++) fake.put(service(`s${index}`));
      await start();
      await told.until(() => told.lists.length === 1);
      assert.deepEqual(told.lists, [{ kind: 'Service', way: 'pages', objects: 1200 }]);
      assert.deepEqual(
        fake
          .seen('list', 'services')
          .map(({ query }) => [query.get('limit'), query.get('resourceVersion'), query.has('continue')]),
        [
          ['500', '0', false],
          ['500', null, true],
          ['500', null, true],
        ],
      );
      fake.put(service('later'));
      await told.until(() => told.objects.size === 1201);
      assert.deepEqual(told.relists, ['watch-list-unsupported']);
      assert.deepEqual(told.reasons, []);
    });
  }

  it('publishes nothing of a list before all of it is there', async () => {
    const { fake, told, start } = await open();
    fake.behaviour.watchList = 'ignored';
    fake.put(service('a'));
    await start();
    await fake.awaitRequests('watch', 'services', 1);
    assert.equal(told.objects.size, 0);
    await told.until(() => told.replaced.length === 1);
    assert.equal(told.objects.size, 1);
  });

  it('lists once more in one go when the continue token expires half-way', async () => {
    const { fake, told, start } = await open();
    Object.assign(fake.behaviour, { watchList: 400, continueExpired: true });
    for (let index = 0; index < 600; index++) fake.put(service(`s${index}`));
    await start();
    await told.until(() => told.objects.size === 600);
    assert.deepEqual(
      fake.seen('list', 'services').map(({ query }) => query.get('limit')),
      ['500', '500', null],
    );
  });

  for (const gone of ['status', 'event', 'event-then-silence'] as const) {
    it(`lists again when its version is too old (410 as ${gone}), the old state readable meanwhile`, async () => {
      const { fake, told, start } = await open();
      fake.behaviour.gone = gone;
      fake.put(service('a'), service('b'));
      await start();
      await told.until(() => told.objects.size === 2);
      // Missed by the daemon: it is cut off, b goes and c comes, and the log is compacted.
      fake.relay.freeze();
      fake.delete('Service', 'shop', 'b');
      fake.put(service('c'));
      fake.store.compact();
      fake.relay.cut('reset');
      fake.relay.thaw();
      await told.until(() => told.relists.length === 1);
      assert.deepEqual([...told.keys('Service')].sort(), ['shop/a', 'shop/b']);
      await told.until(() => told.replaced.length === 2);
      assert.deepEqual([...told.keys('Service')].sort(), ['shop/a', 'shop/c']);
      assert.deepEqual(told.relists, ['gone']);
    });
  }

  it('lists the newest state after a 410 where it has to page', async () => {
    const { fake, told, start } = await open();
    fake.behaviour.watchList = 422;
    fake.put(service('a'));
    await start();
    await told.until(() => fake.openWatches('services') === 1 && told.objects.size === 1);
    fake.sendRaw('services', '{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n');
    await told.until(() => told.replaced.length === 2);
    assert.deepEqual(
      fake.seen('list', 'services').map(({ query }) => query.get('resourceVersion')),
      ['0', null],
    );
  });

  for (const how of ['reset', 'fin'] as const) {
    it(`goes on where it was after the connection ends with ${how.toUpperCase()}`, async () => {
      const { fake, told, start } = await open();
      fake.put(service('a'));
      await start();
      await told.until(() => told.objects.size === 1);
      fake.relay.cut(how);
      fake.put(service('b'));
      await told.until(() => told.objects.size === 2);
      assert.equal(told.replaced.length, 1);
      await told.until(() => told.degradations.size === 0);
      assert.match(told.reasons[0] ?? '', /API server https:\/\/127\.0\.0\.1:\d+: .*(connection was lost|ECONNRESET)/);
    });
  }

  it('goes on where it was after the connection ends in the middle of an event', async () => {
    for (const protocol of ['h2', 'http/1.1'] as const) {
      const { fake, told, start, stop } = await open({ server: { protocol } });
      fake.put(service('a'));
      await start();
      await told.until(() => told.objects.size === 1);
      await fake.cutMidLine('services');
      fake.put(service('a', { externalIPs: ['192.0.2.7'] }), service('b'));
      await told.until(() => told.objects.size === 2);
      assert.equal(told.replaced.length, 1);
      if (protocol === 'h2') await stop();
    }
  });

  it('goes on where it was after the server resets one stream', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    fake.endWatches('services', 'reset');
    fake.put(service('b'));
    await told.until(() => told.objects.size === 1);
    assert.equal(fake.relay.accepted, 1);
  });

  it('goes on with a running watch after GOAWAY, and makes the next request on a new connection', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    fake.goAway();
    fake.put(service('a'));
    await told.until(() => told.objects.size === 1);
    fake.endWatches('services', 'clean');
    fake.put(service('b'));
    await told.until(() => told.objects.size === 2);
    assert.deepEqual([fake.relay.accepted, told.reasons, told.relists], [2, [], []]);
  });

  it('reaches a server by its IPv6 address', async function () {
    const { fake, told, start } = await open({ server: { host: '::1' } }).catch(() => this.skip());
    fake.put(service('a'));
    await start();
    await told.until(() => told.objects.size === 1);
    assert.match(fake.url, /^https:\/\/\[::1\]:/);
  });

  it('lists again when the server never comes to the version it is asked for, as after a restored backup', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    const message = 'Timeout: Too large resource version: 9000, current: 10';
    for (let time = 0; time < 5; time++)
      fake.answerNext('watch services', { status: 504, message, headers: { 'retry-after': '1' } });
    fake.endWatches('services', 'clean');
    await told.until(() => told.replaced.length === 2);
    assert.deepEqual(told.relists, ['stuck']);
  });

  it('finds a half-open connection by PING and makes a new one', async () => {
    const { fake, told, start } = await open({ transport: { timings: { quietMs: 40, answerMs: 60 } } });
    fake.put(service('a'));
    await start();
    await told.until(() => told.objects.size === 1);
    fake.relay.freeze();
    fake.put(service('b'));
    await told.until(() => told.degradations.size === 1);
    assert.match(told.reasons[0] ?? '', /no answer to a PING within 0\.06 s/);
    fake.relay.thaw();
    await told.until(() => told.objects.size === 2);
    assert.ok(fake.relay.accepted >= 2);
  });

  it('leaves a quiet but living connection alone', async () => {
    const { fake, told, start } = await open({ transport: { timings: { quietMs: 20, answerMs: 500 } } });
    await start();
    await told.until(() => told.replaced.length === 1);
    await new Promise(resolve => setTimeout(resolve, 150));
    assert.equal(fake.relay.accepted, 1);
    assert.equal(fake.requests.length, 1);
  });

  it('finds a half-open connection by silence over HTTP/1.1, where there is no PING', async () => {
    const { fake, told, start } = await open({ server: { protocol: 'http/1.1' }, timings: { idleMs: 100 } });
    fake.behaviour.bookmarkMs = 30;
    fake.put(service('a'));
    await start();
    await told.until(() => told.objects.size === 1 && told.bookmarks > 5);
    assert.deepEqual(told.reasons, []);
    fake.relay.freeze();
    await told.until(() => told.degradations.size === 1);
    assert.match(told.reasons.join(), /watch services: nothing came from the API server for 0\.1 s/);
    fake.relay.thaw();
    fake.put(service('b'));
    await told.until(() => told.objects.size === 2);
  });

  it('comes back at once after the server ends a watch, and slower while that goes on', async () => {
    const { fake, told, start } = await open({ timings: { firstRetryMs: 60, longestRetryMs: 10_000 } });
    await start();
    await told.until(() => told.replaced.length === 1);
    for (let ends = 2; ends <= 5; ends++) {
      fake.endWatches('services', 'clean');
      await fake.awaitRequests('watch', 'services', ends);
      await told.until(() => told.watches === ends);
    }
    const times = fake.seen('watch', 'services').map(request => request.at);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    assert.ok((gaps[0] ?? 99) < 50, `first gap ${gaps[0]} ms`);
    assert.ok((gaps[2] ?? 0) >= 55 && (gaps[3] ?? 0) >= 110, `gaps ${gaps.map(Math.round).join(', ')} ms`);
    assert.deepEqual(told.reasons, []);
  });

  for (const status of [429, 503]) {
    it(`waits as long as the server asks with ${status} and Retry-After`, async () => {
      const { fake, told, start } = await open();
      await start();
      await told.until(() => told.replaced.length === 1);
      fake.answerNext('watch services', { status, message: 'too many requests', headers: { 'retry-after': '1' } });
      const since = performance.now();
      fake.endWatches('services', 'clean');
      await fake.awaitRequests('watch', 'services', 3);
      const waited = performance.now() - since;
      assert.ok(waited >= 1000 && waited < 1500, `${waited} ms`);
      assert.match(told.reasons[0] ?? '', new RegExp(`watch services: ${status} too many requests .asked to come back in 1 s`));
      await told.until(() => told.degradations.size === 0);
    });
  }

  it('reports an error 500, in the stream or as the answer, and tries again', async () => {
    const { fake, told, start } = await open();
    fake.answerNext('watch services', { status: 500, message: 'etcdserver: leader changed' });
    await start();
    await told.until(() => told.replaced.length === 1);
    assert.match(told.reasons[0] ?? '', /watch services: 500 etcdserver: leader changed/);
    fake.sendRaw('services', '{"type":"ERROR","object":{"kind":"Status","code":500,"message":"unable to decode"}}\n');
    await told.until(() => told.watches === 2);
    assert.match(told.reasons[1] ?? '', /500 unable to decode/);
    fake.put(service('a'));
    await told.until(() => told.objects.size === 1);
    assert.equal(told.replaced.length, 1);
  });

  it('reports a line that is no event, and goes on with a new watch', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    for (const garbage of ['<html>proxy</html>\n', '{"type":"HELLO"}\n', '[1,2]\n', 'null\n']) {
      const watches = told.watches;
      fake.sendRaw('services', garbage);
      await told.until(() => told.watches > watches);
    }
    assert.match(told.reasons[0] ?? '', /sent "<html>proxy<\/html>" where a watch event was due/);
    fake.put(service('a'));
    await told.until(() => told.objects.size === 1);
    assert.deepEqual([...told.degradations], []);
  });

  it('puts events together that arrive in pieces, between any two bytes', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    const object = {
      ...service('ü€😀'),
      metadata: { namespace: 'shop', name: 'a', resourceVersion: '5000', annotations: { 'fairway.dev/x': 'ü€😀' } },
    };
    for (const byte of Buffer.from(`${JSON.stringify({ type: 'ADDED', object })}\n`).toString('latin1')) {
      fake.sendRaw('services', byte);
    }
    await told.until(() => told.objects.size === 1);
  });

  it('is not misled by events that come twice, late or out of order', async () => {
    const { fake, told, start } = await open();
    Object.assign(fake.behaviour, { eventCopies: 3, eventDelayMs: 20 });
    await start();
    await told.until(() => told.replaced.length === 1);
    fake.put(service('a'));
    fake.put(service('a', { externalIPs: ['192.0.2.2'] }));
    await told.until(() => told.changes.length === 2);
    const old = { ...service('a'), metadata: { ...service('a').metadata, resourceVersion: '1001' } };
    fake.sendRaw(
      'services',
      `${JSON.stringify({ type: 'MODIFIED', object: old })}\n${JSON.stringify({ type: 'DELETED', object: old })}\n`,
    );
    fake.put(service('b'));
    await told.until(() => told.objects.size === 2);
    assert.deepEqual(told.changes, ['upsert Service shop/a', 'upsert Service shop/a', 'upsert Service shop/b']);
    assert.deepEqual(told.get('Service', 'shop/a'), { ...told.get('Service', 'shop/a'), externalIPs: ['192.0.2.2'] });
  });

  it('follows bookmarks, so that a quiet kind does not fall out of the log', async () => {
    const { fake, told, start } = await open();
    fake.behaviour.bookmarkMs = 20;
    await start();
    await told.until(() => told.replaced.length === 1);
    for (let other = 0; other < 100; other++) fake.store.advance();
    const bookmarks = told.bookmarks;
    await told.until(() => told.bookmarks > bookmarks);
    fake.store.compact();
    fake.endWatches('services', 'clean');
    await told.until(() => told.watches === 2);
    assert.equal(fake.seen('watch', 'services')[1]?.query.get('resourceVersion'), '1100');
    assert.deepEqual(told.relists, []);
  });

  it('says which verb on which resource RBAC refuses, and goes on with the other kinds', async () => {
    const { fake, told, start } = await open({ kinds: ['Service', 'Node'] });
    fake.behaviour.forbidden.add('watch nodes');
    fake.put(service('a'));
    await start();
    await told.until(() => told.objects.size === 1 && told.degradations.size === 1);
    const reason = told.degradations.get('Node') ?? '';
    assert.match(reason, /lacks the verb "watch" on "nodes"/);
    assert.match(reason, /apiGroups: \[""\], resources: \["nodes"\], verbs: \["list", "watch"\]/);
    fake.behaviour.forbidden.clear();
    fake.put({ kind: 'Node', apiVersion: 'v1', metadata: { name: 'n1' } });
    await told.until(() => told.get('Node', 'n1') !== undefined);
    await told.until(() => told.degradations.size === 0);
  });

  it('goes on when a listener throws', async () => {
    const { fake, told, start } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    told.onUpsert = ({ meta }) => {
      if (meta.name === 'bad') throw new Error('no such thing');
    };
    fake.put(service('bad'), service('good'));
    await told.until(() => told.objects.size === 1);
    assert.deepEqual(told.keys('Service'), ['shop/good']);
    assert.deepEqual(told.failures, ['a listener for services failed: no such thing']);
    assert.equal(told.watches, 1);
  });

  it('takes a new credential after the token expired (401), without a restart', async () => {
    const { fake, told, start } = await open();
    fake.put(service('a'));
    await start();
    await told.until(() => told.objects.size === 1);
    fake.behaviour.token = 'renewed';
    fake.endWatches('services', 'clean');
    await told.until(() => told.degradations.size === 1);
    assert.match(
      told.reasons[0] ?? '',
      /does not know us \(401 Unauthorized\): kubeconfig .*\/kubeconfig: its credential is expired/,
    );
    fake.writeKubeconfig();
    fake.put(service('b'));
    await told.until(() => told.objects.size === 2);
    assert.deepEqual(told.relists, []);
  });

  it('gives up no kind when one object is malformed', async () => {
    const { fake, told, start } = await open({ kinds: ['Service', 'EndpointSlice'] });
    fake.put(
      service('a'),
      { kind: 'Service', apiVersion: 'v1' },
      { kind: 'EndpointSlice', metadata: { name: 'x' }, addressType: 'FQDN' },
    );
    await start();
    await told.until(() => told.replaced.length === 2);
    fake.put(service('b', { ports: [{ port: 0 }, { port: 81 }] }));
    await told.until(() => told.objects.size === 2);
    assert.deepEqual([...told.complaints.keys()].sort(), ['EndpointSlice default/x', 'Service default/?', 'Service shop/b']);
  });

  it('sees slices of headless Services only when they stop being headless', async () => {
    const { fake, told, start } = await open({ kinds: ['EndpointSlice'] });
    const headless = { 'service.kubernetes.io/headless': '' };
    fake.put(slice('db', 2, { labels: headless }), slice('web', 1));
    await start();
    await told.until(() => told.replaced.length === 1);
    assert.deepEqual(told.keys('EndpointSlice'), ['shop/web-0']);
    fake.put(slice('db', 2));
    await told.until(() => told.objects.size === 2);
    fake.put(slice('db', 2, { labels: headless }));
    await told.until(() => told.objects.size === 1);
  });

  for (const protocol of ['h2', 'http/1.1'] as const) {
    it(`shows pods, namespaces and policies as they come, change and go, over ${protocol}`, async () => {
      const { fake, told, start } = await open({ server: { protocol }, kinds: ['Pod', 'Namespace', 'NetworkPolicy'] });
      const policy = (spec: object): ApiObject => ({
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'shop', name: 'web' },
        spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'], ...spec },
      });
      const shop = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } };
      fake.put(pod('a', '10.244.1.2'), pod('b', '10.244.1.3'), shop, policy({}));
      await start();
      await told.until(() => told.replaced.length === 3);
      assert.deepEqual([...told.objects.keys()].sort(), ['Namespace shop', 'NetworkPolicy shop/web', 'Pod shop/a', 'Pod shop/b']);
      fake.put(pod('a', '10.244.1.2', { labels: { app: 'api' } }), policy({ ingress: [{ ports: [{ port: 'http' }] }] }));
      fake.put({ ...shop, metadata: { name: 'shop', labels: { team: 'blue' } } });
      fake.delete('Pod', 'shop', 'b');
      await told.until(() => told.changes.length === 4);
      assert.deepEqual(told.changes.toSorted(), [
        'remove Pod shop/b',
        'upsert Namespace shop',
        'upsert NetworkPolicy shop/web',
        'upsert Pod shop/a',
      ]);
      assert.deepEqual(told.get('Pod', 'shop/a'), {
        kind: 'Pod',
        meta: { namespace: 'shop', name: 'a', uid: '', creationTimestamp: 0 },
        labels: { app: 'api' },
        nodeName: 'node-1',
        hostIPs: ['192.168.1.1'],
        hostNetwork: false,
        finished: false,
        addresses: ['10.244.1.2'],
        terminationGracePeriodSeconds: 30,
        namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      });
      assert.deepEqual(told.get('Namespace', 'shop'), {
        kind: 'Namespace',
        meta: { namespace: '', name: 'shop', uid: '', creationTimestamp: 0 },
        labels: { team: 'blue', 'kubernetes.io/metadata.name': 'shop' },
      });
      assert.deepEqual(told.get('NetworkPolicy', 'shop/web'), {
        kind: 'NetworkPolicy',
        meta: { namespace: 'shop', name: 'web', uid: '', creationTimestamp: 0 },
        podSelector: { requirements: [{ key: 'app', operator: 'In', values: ['web'] }] },
        ingress: { rules: [{ peers: [], ports: [{ match: 'name', protocol: 'TCP', name: 'http' }] }], unusable: undefined },
        egress: undefined,
      });
      assert.deepEqual([told.reasons, [...told.complaints]], [[], []]);
    });
  }

  for (const watchList of ['supported', 'ignored'] as const) {
    it(`loses a pod as soon as it has finished, with WatchList ${watchList}`, async () => {
      const { fake, told, start } = await open({ kinds: ['Pod'] });
      fake.behaviour.watchList = watchList;
      fake.put(pod('job', '10.244.1.2'), pod('done', '10.244.1.3', { phase: 'Succeeded' }), pod('web', '10.244.1.4'));
      await start();
      await told.until(() => told.replaced.length === 1);
      assert.deepEqual([...told.keys('Pod')].sort(), ['shop/job', 'shop/web']);
      await fake.awaitRequests('watch', 'pods', watchList === 'supported' ? 1 : 2);
      fake.put(
        pod('done', '10.244.1.3', { phase: 'Succeeded', labels: { seen: 'yes' } }),
        pod('job', '10.244.1.2', { phase: 'Failed' }),
      );
      fake.delete('Pod', 'shop', 'job');
      fake.put(pod('next', '10.244.1.2', { phase: 'Pending' }));
      await told.until(() => told.get('Pod', 'shop/next') !== undefined);
      assert.deepEqual(told.changes, ['remove Pod shop/job', 'upsert Pod shop/next']);
      const asked = new Set(fake.requests.map(({ query }) => query.get('fieldSelector')));
      assert.deepEqual([...asked], ['status.phase!=Succeeded,status.phase!=Failed']);
    });
  }

  it('stops at once and stays stopped', async () => {
    const { fake, told, start, stop } = await open();
    await start();
    await told.until(() => told.replaced.length === 1);
    const since = performance.now();
    await stop();
    assert.ok(performance.now() - since < 500);
    assert.deepEqual(told.reasons, []);
    assert.equal(fake.requests.length, 1);
    harness = await apiHarness();
  });
});
