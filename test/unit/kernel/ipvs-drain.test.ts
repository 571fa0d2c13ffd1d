// Address plan: services 10.96.0.0/16, endpoints 10.244.1.0/24, load balancers' addresses 203.0.113.0/24.
import assert from 'node:assert/strict';
import { DrainingIpvs } from '../../../daemon/kernel/ipvs-drain.ts';
import { type IpAddress, mustParseAddress } from '../../../daemon/net/address.ts';
import { instantOf } from '../../../daemon/net/instant.ts';
import {
  type Destination,
  destinationKey,
  type Listener,
  listenerKey,
  type VirtualServer,
} from '../../../daemon/reconcile/tables.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { FakeIpvs } from '../../fakes/ipvs.ts';
import { reconcile } from '../../fakes/reconcile-servers.ts';

const address = mustParseAddress;
const never = new AbortController().signal;
const LOOK = 5_000;
const GRACE = 30_000;
const to = (last: number, weight = 1, port = 8080): Destination => ({
  address: address(`10.244.1.${last}`),
  port,
  weight,
  forwarding: 'masquerade',
});
const [a, b, c] = [to(1), to(2), to(3)];
const at = (protocol: 'TCP' | 'UDP' | 'SCTP', host: string): Listener & { by: 'address' } => ({
  by: 'address',
  protocol,
  address: address(host),
  port: 80,
});
const serverAt = (listener: Listener, changes: Partial<VirtualServer> = {}): VirtualServer => ({
  listener,
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations: [],
  ...changes,
});
const web = (...destinations: readonly Destination[]): VirtualServer => serverAt(at('TCP', '10.96.0.1'), { destinations });
const WEB = 'TCP 10.96.0.1:80';
const keyed = (...servers: readonly VirtualServer[]): ReadonlyMap<string, VirtualServer> =>
  new Map(servers.map(server => [listenerKey(server.listener), server]));

describe('draining', () => {
  let clock: ManualClock;
  let kernel: FakeIpvs;
  let record: string | undefined;
  let graces: Map<IpAddress, number>;
  let driver: DrainingIpvs;

  const startAnew = (startedAt = instantOf(0)): DrainingIpvs =>
    new DrainingIpvs({
      inner: kernel,
      clock,
      startedAt,
      readLines: kernel.readLines,
      record: {
        read: async () => record,
        write: async text => {
          record = text;
        },
      },
      graceOf: asked => graces.get(asked) ?? GRACE,
      lingerMs: 0,
    });

  /** What the reconciler does in a round; gives the keys that failed. */
  const want = (...servers: readonly VirtualServer[]): Promise<readonly string[]> => reconcile(driver, keyed(...servers));

  /** `10.244.1.1:8080=1` for each destination, sorted. */
  const weights = (key = WEB): readonly string[] | undefined =>
    kernel.state
      .get(key)
      ?.destinations.map(destination => `${destinationKey(destination)}=${destination.weight}`)
      .sort();

  const connect = (destination: Destination, count: number, key = WEB): void => {
    kernel.connections.set(`${key} ${destinationKey(destination)}`, count);
  };

  /** Moves time on in steps shorter than a look, with a round after each: they must not put off what is due. */
  const advanceBusily = async (milliseconds: number, ...servers: readonly VirtualServer[]): Promise<void> => {
    for (let passed = 0; passed < milliseconds; passed += 1_000) {
      await clock.advance(1_000);
      await want(...servers);
    }
  };

  beforeEach(async () => {
    clock = new ManualClock();
    kernel = new FakeIpvs();
    record = undefined;
    graces = new Map();
    driver = startAnew();
    await want(web(a, b));
    connect(a, 1);
    connect(b, 1);
    kernel.asked.length = 0;
  });

  afterEach(() => {
    driver.stop();
  });

  it('keeps a destination that is not wanted any more at weight 0, where nobody who reads sees it', async () => {
    const wanted = web(b);
    await want(wanted);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    const found = await driver.read(keyed(wanted), never);
    assert.equal(found.get(WEB), wanted, 'the very object expected');
    assert.deepEqual(await driver.read(new Map(), never), keyed(wanted));
    kernel.asked.length = 0;
    await want(wanted);
    assert.deepEqual(kernel.asked, [], 'nothing left to do');
    assert.equal(record, `up ${1_000_000 + GRACE} 10.244.1.1 10.244.1.1:8080 ${WEB}\n`);
  });

  it('ends where there are no connections at a look, and not before', async () => {
    assert.equal(driver.count, 0);
    await want(web(b));
    assert.equal(driver.count, 1);
    await clock.advance(2 * LOOK);
    assert.equal(kernel.looks, 2);
    connect(a, 0);
    await clock.advance(LOOK - 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    assert.equal(record, '');
    assert.equal(driver.count, 0);
    await clock.advance(10 * LOOK);
    assert.equal(kernel.looks, 3, 'nothing drains: nothing is looked at');
  });

  it('ends at its deadline, whatever the connections', async () => {
    graces.set(a.address, 12_345);
    await want(web(b));
    await clock.advance(12_344);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    assert.equal(record, '');
  });

  it('goes by the grace of each address', async () => {
    graces.set(a.address, 7_000).set(b.address, 17_000);
    await want(web(c));
    await clock.advance(7_000);
    assert.deepEqual(weights(), ['10.244.1.2:8080=0', '10.244.1.3:8080=1']);
    await clock.advance(10_000);
    assert.deepEqual(weights(), ['10.244.1.3:8080=1']);
  });

  it('gives a destination that is wanted again its weight back, and never deletes it by a timer of before', async () => {
    await want(web(b));
    await clock.advance(LOOK);
    await want(web({ ...a, weight: 3 }, b));
    assert.deepEqual(weights(), ['10.244.1.1:8080=3', '10.244.1.2:8080=1']);
    assert.equal(record, '');
    connect(a, 0);
    await clock.advance(2 * GRACE);
    assert.deepEqual(weights(), ['10.244.1.1:8080=3', '10.244.1.2:8080=1']);
  });

  it('begins anew, with a new deadline, for one that came back and went again', async () => {
    await want(web(b));
    await clock.advance(GRACE - 1_000);
    await want(web(a, b));
    await want(web(b));
    await clock.advance(GRACE - 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('keeps the deadline of what drains while others of its server come and go', async () => {
    await want(web(b));
    await clock.advance(GRACE - 2 * LOOK);
    await want(web(c));
    connect(c, 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=0', '10.244.1.3:8080=1']);
    await clock.advance(2 * LOOK);
    assert.deepEqual(weights(), ['10.244.1.2:8080=0', '10.244.1.3:8080=1']);
    await clock.advance(GRACE - 2 * LOOK);
    assert.deepEqual(weights(), ['10.244.1.3:8080=1']);
  });

  it('goes on where the last destination of a server leaves', async () => {
    await want(web());
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=0']);
    await clock.advance(GRACE);
    assert.deepEqual(weights(), []);
  });

  it('ends at once, and its record with it, where the virtual server goes; a new one of its name has nothing that drains', async () => {
    await want(web(b));
    await want();
    assert.equal(kernel.state.has(WEB), false);
    assert.equal(record, '');
    await want(web(a));
    connect(a, 0);
    await clock.advance(2 * GRACE);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1']);
  });

  it('goes on in the next process with the old deadline', async () => {
    await want(web(b));
    await clock.advance(GRACE - LOOK);
    driver.stop();
    driver = startAnew();
    const wanted = web(b);
    assert.equal((await driver.read(keyed(wanted), never)).get(WEB), wanted, 'the very object expected');
    await want(wanted);
    await clock.advance(LOOK - 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  for (const [title, hours] of [
    ['an hour ahead', 1],
    ['an hour back', -1],
  ] as const) {
    it(`goes on in the next process with the old deadline although the wall clock was set ${title} between the two`, async () => {
      await want(web(b));
      await clock.advance(GRACE - LOOK);
      driver.stop();
      const earlier = clock.now();
      clock = new ManualClock(earlier + hours * 3_600_000);
      driver = startAnew(instantOf(clock.now() - earlier));
      await want(web(b));
      await clock.advance(LOOK - 1);
      assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
      await clock.advance(1);
      assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    });
  }

  it('is left to the next process by one that stops, whose timers do nothing any more', async () => {
    await want(web(b));
    driver.stop();
    connect(a, 0);
    await clock.advance(2 * GRACE);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    driver = startAnew();
    await want(web(b));
    await clock.advance(0);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1'], 'its time is up');
  });

  it('in the next process gives back what is wanted again by then', async () => {
    await want(web(b));
    driver.stop();
    driver = startAnew();
    await want(web(a, b));
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
    connect(a, 0);
    await clock.advance(2 * GRACE);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
  });

  it('without its record is begun anew: a destination of weight 0 that nobody knows of is as unwanted as any', async () => {
    await want(web(b));
    driver.stop();
    for (const lost of [undefined, 'up 1000000 10.244', 'TCP 10.96.0.1:80\n\nup 17 x y TCP z\n']) {
      record = lost;
      driver = startAnew();
      const found = await driver.read(keyed(web(b)), never);
      assert.deepEqual(found, keyed(web({ ...a, weight: 0 }, b)));
      driver.stop();
    }
    driver = startAnew();
    await want(web(b));
    await clock.advance(GRACE);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('takes a record of what is there no more, or has weight, off the file', async () => {
    await want(web(b));
    driver.stop();
    kernel.state.set(WEB, web(a, b));
    driver = startAnew();
    assert.deepEqual(await driver.read(new Map(), never), keyed(web(a, b)));
    assert.equal(record, '');
  });

  it('is for TCP alone, and for schedulers that leave out weight 0', async () => {
    const mark: Listener = { by: 'mark', mark: 4660, family: 'ipv4' };
    const dns = at('UDP', '203.0.113.1');
    const cases: readonly (readonly [string, VirtualServer, boolean])[] = [
      ['UDP', serverAt(at('UDP', '10.96.0.2')), false],
      ['SCTP', serverAt(at('SCTP', '10.96.0.2')), false],
      ['dh', serverAt(at('TCP', '10.96.0.2'), { scheduler: 'dh' }), false],
      ['sh', serverAt(at('TCP', '10.96.0.2'), { scheduler: 'sh', schedulerFlags: ['flag-2'] }), false],
      ['sh with fallback', serverAt(at('TCP', '10.96.0.2'), { scheduler: 'sh', schedulerFlags: ['flag-1'] }), true],
      ['mh', serverAt(at('TCP', '10.96.0.2'), { scheduler: 'mh' }), true],
      ['persistent', serverAt(at('TCP', '10.96.0.2'), { persistenceSeconds: 60 }), true],
      ['mark for TCP', serverAt(mark, { addressedTo: [at('TCP', '203.0.113.1'), at('TCP', '203.0.113.2')] }), true],
      ['mark for both', serverAt(mark, { addressedTo: [at('TCP', '203.0.113.1'), dns] }), false],
      ['mark for UDP', serverAt(mark, { addressedTo: [dns] }), false],
      ['mark for nobody knows what', serverAt(mark), false],
    ];
    for (const [name, server, drains] of cases) {
      const key = listenerKey(server.listener);
      await want({ ...server, destinations: [a, b] });
      for (const each of [a, b]) connect(each, 1, key);
      await want({ ...server, destinations: [b] });
      assert.deepEqual(weights(key), [...(drains ? ['10.244.1.1:8080=0'] : []), '10.244.1.2:8080=1'], name);
      await clock.advance(GRACE);
      assert.deepEqual(weights(key), ['10.244.1.2:8080=1'], name);
      await want();
    }
  });

  it('ends at once where the server turns into one that cannot drain', async () => {
    await want(web(b));
    await want({ ...web(b), scheduler: 'dh' });
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    assert.equal(record, '');
  });

  it('that was refused begins with the change that succeeds, and cuts nothing off before', async () => {
    kernel.refused.add(WEB);
    connect(a, 0);
    assert.deepEqual(await want(web(b)), [WEB]);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
    await clock.advance(2 * LOOK);
    kernel.refused.clear();
    await clock.advance(2 * LOOK);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1'], 'it has its weight still');
    connect(a, 1);
    assert.deepEqual(await want(web(b)), []);
    await clock.advance(GRACE - 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('of a second destination that was refused leaves the first to go its way', async () => {
    await want(web(b, c));
    connect(c, 1);
    connect(b, 0);
    kernel.refused.add(WEB);
    assert.deepEqual(await want(web(c)), [WEB]);
    kernel.refused.clear();
    await clock.advance(LOOK);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1', '10.244.1.3:8080=1']);
    await clock.advance(GRACE);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1', '10.244.1.3:8080=1']);
    await want(web(c));
    assert.deepEqual(weights(), ['10.244.1.2:8080=0', '10.244.1.3:8080=1']);
  });

  it('whose return was refused is told as it is: weight 0, and not deleted', async () => {
    await want(web(b));
    kernel.refused.add(WEB);
    assert.deepEqual(await want(web(a, b)), [WEB]);
    kernel.refused.clear();
    connect(a, 0);
    await clock.advance(2 * GRACE);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    assert.deepEqual(await driver.read(new Map(), never), keyed(web({ ...a, weight: 0 }, b)));
    assert.deepEqual(await want(web(a, b)), []);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
  });

  it('that cannot be deleted is tried again at each look, no more often', async () => {
    await want(web(b));
    for (const hinder of [() => kernel.refused.add(WEB), () => (kernel.broken = 'ipvsadm: not found')]) {
      hinder();
      kernel.looks = 0;
      await clock.advance(10 * GRACE);
      assert.ok(kernel.looks <= (10 * GRACE) / LOOK + 1, `${kernel.looks} looks`);
      assert.ok(kernel.looks >= (9 * GRACE) / LOOK, `${kernel.looks} looks`);
    }
    kernel.refused.clear();
    kernel.broken = undefined;
    await clock.advance(LOOK);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('is not put off by changes and readings that come more often than looks', async () => {
    await want(web(b));
    connect(a, 0);
    await advanceBusily(LOOK, web(b));
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('that somebody else deleted meanwhile is forgotten by reading; wanted again, it is made', async () => {
    await want(web(b));
    kernel.state.set(WEB, web(b));
    await want(web(b));
    assert.equal(record, '');
    await want(web(a, b));
    assert.deepEqual(weights(), ['10.244.1.1:8080=1', '10.244.1.2:8080=1']);
  });

  it('that somebody else deleted with its server starts with nothing', async () => {
    await want(web(b));
    kernel.state.delete(WEB);
    await want(web(b));
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    assert.equal(record, '');
  });

  it('of one that somebody else deleted without our reading it ends at its deadline', async () => {
    await want(web(b));
    kernel.state.set(WEB, web(b));
    await clock.advance(GRACE);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
    assert.equal(record, '');
  });

  it('of one that somebody else gave weight is over: it is read, and drains anew', async () => {
    await want(web(b));
    await clock.advance(LOOK);
    kernel.state.set(WEB, web({ ...a, weight: 7 }, b));
    assert.deepEqual(await driver.read(keyed(web(b)), never), keyed(web({ ...a, weight: 7 }, b)));
    await want(web(b));
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(GRACE - 1);
    assert.deepEqual(weights(), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
    await clock.advance(1);
    assert.deepEqual(weights(), ['10.244.1.2:8080=1']);
  });

  it('leaves what differs otherwise to be seen: a destination of somebody else, another scheduler', async () => {
    await want(web(b));
    kernel.state.set(WEB, { ...web({ ...a, weight: 0 }, b, c), scheduler: 'lc' });
    assert.deepEqual(await driver.read(keyed(web(b)), never), keyed({ ...web(b, c), scheduler: 'lc' }));
  });

  it('tells apart two ports of one address, and one destination of two servers', async () => {
    const other = serverAt(at('TCP', '10.96.0.9'), { destinations: [a, b] });
    const OTHER = listenerKey(other.listener);
    await want(web(a, to(1, 1, 9090)), other);
    connect(a, 1, OTHER);
    connect(to(1, 1, 9090), 1);
    await want(web(a), { ...other, destinations: [b] });
    connect(b, 0);
    connect(to(1, 1, 9090), 0);
    await clock.advance(LOOK);
    assert.deepEqual(weights(), ['10.244.1.1:8080=1']);
    assert.deepEqual(weights(OTHER), ['10.244.1.1:8080=0', '10.244.1.2:8080=1']);
  });

  it('shows the text of a change as it was asked for', () => {
    assert.equal(driver.render([{ op: 'delete', key: WEB, from: web() }]), `delete ${WEB}\n`);
  });
});
