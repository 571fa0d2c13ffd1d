// Address plan: services 10.96.0.0/16, endpoints 10.244.1.0/24.
import assert from 'node:assert/strict';
import { DrainingIpvs } from '../../../daemon/kernel/ipvs-drain.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import type { Protocol } from '../../../daemon/net/port.ts';
import { type Destination, destinationKey, listenerKey, type VirtualServer } from '../../../daemon/reconcile/tables.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { FakeIpvs } from '../../fakes/ipvs.ts';
import { reconcile } from '../../fakes/reconcile-servers.ts';

const LINGER = 300;
const BATCH = 250;

function endpoint(last: number): Destination {
  return { address: mustParseAddress(`10.244.1.${last}`), port: 8080, weight: 1, forwarding: 'masquerade' };
}

function server(protocol: Protocol, host: number, destinations: readonly Destination[], scheduler = 'rr'): VirtualServer {
  const listener = { by: 'address', protocol, address: mustParseAddress(`10.96.0.${host}`), port: 80 } as const;
  return { listener, scheduler, schedulerFlags: [], persistenceSeconds: 0, destinations };
}

describe('an endpoint that is removed', () => {
  const clock = new ManualClock();
  let kernel: FakeIpvs;
  let written: string[];
  let driver: DrainingIpvs;

  const start = (graceOf?: () => number): void => {
    kernel = new FakeIpvs();
    written = [];
    const record = {
      read: () => Promise.resolve(undefined),
      write: (text: string) => {
        written.push(text);
        return Promise.resolve();
      },
    };
    driver = new DrainingIpvs({ inner: kernel, clock, readLines: kernel.readLines, record, graceOf, lingerMs: LINGER });
  };
  const want = (...servers: readonly VirtualServer[]): Promise<readonly string[]> =>
    reconcile(driver, new Map(servers.map(each => [listenerKey(each.listener), each])));
  const weights = (key: string): readonly string[] | undefined =>
    kernel.state
      .get(key)
      ?.destinations.map(each => `${destinationKey(each)}=${each.weight}`)
      .sort();

  afterEach(() => {
    driver.stop();
  });

  for (const protocol of ['TCP', 'UDP', 'SCTP'] as const) {
    it(`gets no new ${protocol} clients, and answers for a moment those that just asked`, async () => {
      start();
      await want(server(protocol, 1, [endpoint(1), endpoint(2)]));
      await want(server(protocol, 1, [endpoint(2)]));
      const key = `${protocol} 10.96.0.1:80`;
      assert.deepEqual(weights(key), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
      await clock.advance(LINGER - 1);
      assert.deepEqual(weights(key), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
      await clock.advance(1);
      assert.deepEqual(weights(key), ['10.244.1.2:8080=1']);
      assert.deepEqual([kernel.looks, written], [0, []], 'connections are no matter, and no file is written');
    });
  }

  it('goes after a moment in UDP although TCP drains for long', async () => {
    start(() => 60_000);
    await want(server('TCP', 1, [endpoint(1), endpoint(2)]), server('UDP', 1, [endpoint(1), endpoint(2)]));
    kernel.connections.set('TCP 10.96.0.1:80 10.244.1.1:8080', 1);
    await want(server('TCP', 1, [endpoint(2)]), server('UDP', 1, [endpoint(2)]));
    await clock.advance(LINGER);
    assert.deepEqual(weights('UDP 10.96.0.1:80'), ['10.244.1.2:8080=1']);
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(59_000);
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1000);
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.2:8080=1']);
  });

  it('that returns within the moment stays', async () => {
    start();
    const both = server('TCP', 1, [endpoint(1), endpoint(2)]);
    await want(both);
    await want(server('TCP', 1, [endpoint(2)]));
    await clock.advance(LINGER - 1);
    await want(both);
    await clock.advance(10 * LINGER);
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
  });

  it('goes together with others: a storm of changes makes few batches', async () => {
    start();
    const servers = (last: number): readonly VirtualServer[] =>
      Array.from({ length: 100 }, (_, host) => server('TCP', host + 1, [endpoint(host < last ? 2 : 1)]));
    await want(...servers(0));
    const applied = kernel.applies;
    for (let changed = 1; changed <= 100; changed++) {
      await want(...servers(changed));
      await clock.advance(10);
    }
    await clock.advance(LINGER + BATCH);
    assert.ok([...kernel.state.values()].every(({ destinations }) => destinations.length === 1));
    const batches = kernel.applies - applied - 100;
    assert.ok(batches <= 1 + 1000 / BATCH, `${batches} batches of deletions in a second`);
  });

  it('waits its turn where very many go at once, unless its clients would stay with it', async () => {
    start();
    const both = [endpoint(1), endpoint(2)];
    const servers = (destinations: readonly Destination[]): readonly VirtualServer[] =>
      Array.from({ length: 120 }, (_, host) => server(host < 100 ? 'TCP' : 'UDP', host + 1, destinations));
    await want(...servers(both));
    await want(...servers([endpoint(2)]));
    const left = (protocol: Protocol): number =>
      [...kernel.state].filter(([key, { destinations }]) => key.startsWith(protocol) && destinations.length === 2).length;
    await clock.advance(LINGER);
    assert.deepEqual([left('TCP'), left('UDP')], [50, 0]);
    // One comes back meanwhile.
    await want(...servers([endpoint(2)]).slice(1), server('TCP', 1, both));
    await clock.advance(999);
    assert.equal(left('TCP'), 51);
    await clock.advance(1);
    assert.equal(left('TCP'), 1, 'the one that came back');
    await clock.advance(10_000);
    assert.equal(left('TCP'), 1);
  });

  it('goes at once where the scheduler would go on choosing it', async () => {
    start();
    await want(server('TCP', 1, [endpoint(1), endpoint(2)], 'sh'));
    await want(server('TCP', 1, [endpoint(2)], 'sh'));
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.2:8080=1']);
  });

  it('goes with its Service', async () => {
    start();
    await want(server('TCP', 1, [endpoint(1), endpoint(2)]));
    await want(server('TCP', 1, [endpoint(2)]));
    await want();
    assert.equal(kernel.state.size, 0);
    await clock.advance(10 * LINGER);
  });

  it('holds up no change while its connections are looked at, and one that came back meanwhile stays', async () => {
    start(() => 60_000);
    let release = (): void => undefined;
    const released = new Promise<void>(resolve => {
      release = resolve;
    });
    const slow = new DrainingIpvs({
      inner: kernel,
      clock,
      readLines: async (path, onLine, signal) => {
        await released;
        await kernel.readLines(path, onLine, signal);
      },
      record: { read: () => Promise.resolve(undefined), write: () => Promise.resolve() },
      graceOf: () => 60_000,
      lingerMs: LINGER,
    });
    const wish = (...destinations: readonly Destination[]): Promise<readonly string[]> => {
      const each = server('TCP', 1, destinations);
      return reconcile(slow, new Map([[listenerKey(each.listener), each]]));
    };
    await wish(endpoint(1), endpoint(2), endpoint(3));
    await wish(endpoint(3));
    await clock.advance(5000);
    await wish(endpoint(2), endpoint(3));
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.1:8080=0', '10.244.1.2:8080=1', '10.244.1.3:8080=1']);
    release();
    await clock.advance(1000);
    assert.deepEqual(weights('TCP 10.96.0.1:80'), ['10.244.1.2:8080=1', '10.244.1.3:8080=1']);
    slow.stop();
  });
});
