// Runs inside a kernel with IPVS that holds no virtual services of its own: in the lab's guest, or in a fresh network namespace.
// Address plan: services 10.96.0.0/16 and fd00:96::/64, destinations 10.244.0.0/16 and fd00:244::/64, foreign 192.0.2.0/24.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type IpvsOptions, ipvsDriver, setTimeouts } from '../../daemon/kernel/ipvsadm.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { procLines } from '../../daemon/kernel/text-lines.ts';
import { type IpAddress, mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { type Destination, type Listener, listenerKey, TABLES, type VirtualServer } from '../../daemon/reconcile/tables.ts';

const address = mustParseAddress;
const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const options: IpvsOptions = {
  runner,
  readLines: procLines(() => performance.now()),
  excludedCidrs: [mustParsePrefix('192.0.2.0/24')],
};

function ipvsadm(args: string, stdin = ''): string {
  const { stdout, stderr, status } = spawnSync('ipvsadm', args.split(' '), {
    input: stdin,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

const at = (protocol: 'TCP' | 'UDP' | 'SCTP', host: string, port: number): Listener => ({
  by: 'address',
  protocol,
  address: address(host),
  port,
});
const to = (host: string, port: number, weight = 1): Destination => ({
  address: address(host),
  port,
  weight,
  forwarding: 'masquerade',
});

function serverAt(listener: Listener, changes: Partial<VirtualServer> = {}): VirtualServer {
  return { listener, scheduler: 'rr', schedulerFlags: [], persistenceSeconds: 0, destinations: [], ...changes };
}

const create = (entry: VirtualServer): Change<VirtualServer> => ({ op: 'create', key: listenerKey(entry.listener), to: entry });
const update = (from: VirtualServer, entry: VirtualServer): Change<VirtualServer> => ({
  op: 'update',
  key: listenerKey(entry.listener),
  from,
  to: entry,
});
const remove = (from: VirtualServer): Change<VirtualServer> => ({ op: 'delete', key: listenerKey(from.listener), from });
const keyed = (entries: readonly VirtualServer[]): ReadonlyMap<string, VirtualServer> =>
  new Map(entries.map(entry => [listenerKey(entry.listener), entry]));

async function applied(
  driver: TableDriver<VirtualServer>,
  changes: readonly Change<VirtualServer>[],
): Promise<Record<string, string>> {
  const { failed } = await driver.apply(changes, never);
  return Object.fromEntries(Array.from(failed, ([key, error]) => [key, `${error.code} ${error.message}`]));
}

/** All are there, by both ways of reading, and nothing else of ours is. */
async function assertThere(entries: readonly VirtualServer[]): Promise<void> {
  const expected = keyed(entries);
  const driver = ipvsDriver(options);
  for (const found of [
    await driver.read(new Map(), never),
    await driver.read(expected, never),
    await driver.read(expected, never),
  ]) {
    assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
    for (const [key, entry] of expected) {
      const there = found.get(key);
      assert.ok(there !== undefined && TABLES.virtualServer.same(there, entry), `${key}: ${JSON.stringify(there)}`);
    }
  }
  for (const [key, there] of await driver.read(expected, never))
    assert.equal(there, expected.get(key), `${key} is the expected object`);
}

const everyKind: readonly VirtualServer[] = [
  serverAt(at('TCP', '10.96.0.1', 80), {
    destinations: [to('10.244.0.1', 8080), to('10.244.0.2', 8080, 0), to('10.244.0.2', 8081, 65535)],
  }),
  serverAt(at('UDP', '10.96.0.1', 53), { scheduler: 'wrr', persistenceSeconds: 10800, destinations: [to('10.244.0.1', 53)] }),
  serverAt(at('SCTP', '10.96.0.1', 132), { scheduler: 'lc', destinations: [to('10.244.0.1', 132)] }),
  serverAt(at('TCP', 'fd00:96::1', 80), {
    persistenceSeconds: 7,
    destinations: [to('fd00:244::1', 8080), to('fd00:244::1:0:0:2', 8080)],
  }),
  serverAt(at('UDP', '2001:db8::1:0:0:1', 53), { destinations: [to('::10.0.0.1', 53), to('64:ff9b::10.0.0.1', 53)] }),
  serverAt(at('SCTP', 'fd00:96::1', 132)),
  serverAt({ by: 'mark', mark: 4660, family: 'ipv4' }, { destinations: [{ ...to('10.244.0.1', 0), forwarding: 'tunnel' }] }),
  serverAt({ by: 'mark', mark: 4660, family: 'ipv6' }, { destinations: [{ ...to('fd00:244::1', 0), forwarding: 'tunnel' }] }),
  serverAt({ by: 'mark', mark: 0xffff_ffff, family: 'ipv4' }, { destinations: [to('10.244.0.1', 80)] }),
  serverAt(at('TCP', '10.96.0.2', 80), {
    destinations: [
      { ...to('127.0.0.1', 80), forwarding: 'route' },
      { ...to('10.244.0.9', 80), forwarding: 'tunnel' },
    ],
  }),
];

const withFlags: readonly VirtualServer[] = [
  serverAt(at('TCP', '10.96.1.1', 80), { scheduler: 'sh', schedulerFlags: ['flag-1', 'flag-2'] }),
  serverAt(at('TCP', '10.96.1.2', 80), { scheduler: 'mh', schedulerFlags: ['flag-2'] }),
  serverAt(at('TCP', '10.96.1.3', 80), { scheduler: 'wrr', schedulerFlags: ['flag-1', 'flag-3'], persistenceSeconds: 60 }),
];

describe('virtual services through ipvsadm', function () {
  this.timeout(60_000);
  const driver = ipvsDriver(options);

  afterEach(() => {
    ipvsadm('-C');
    spawned.length = 0;
  });

  it('are written as one batch and read back, whatever their kind', async () => {
    assert.deepEqual(await applied(driver, everyKind.map(create)), {});
    assert.deepEqual(spawned, [['ipvsadm', '-R']]);
    await assertThere(everyKind);
    assert.deepEqual(await applied(driver, everyKind.map(remove)), {});
    assert.equal(ipvsadm('-Sn'), '');
  });

  it('are written and read with scheduler flags', async () => {
    assert.deepEqual(await applied(driver, [...withFlags, ...everyKind].map(create)), {});
    await assertThere([...withFlags, ...everyKind]);
  });

  it('with flag-3, which the tool never prints for mh, are not taken for changed', async () => {
    const entry = serverAt(at('TCP', '10.96.1.4', 80), { scheduler: 'mh', schedulerFlags: ['flag-1', 'flag-3'] });
    assert.deepEqual(await applied(driver, [create(entry)]), {});
    assert.equal((await driver.read(keyed([entry]), never)).get('TCP 10.96.1.4:80'), entry);
  });

  it('lose persistence and flags in place, and get them in place', async () => {
    const listener = at('TCP', '10.96.2.1', 80);
    const destinations = [to('10.244.0.1', 8080)];
    const steps: readonly Partial<VirtualServer>[] = [
      { scheduler: 'sh', schedulerFlags: ['flag-1', 'flag-2'], persistenceSeconds: 300 },
      { scheduler: 'sh', schedulerFlags: ['flag-2'], persistenceSeconds: 300 },
      { scheduler: 'sh', persistenceSeconds: 30 },
      { scheduler: 'sh' },
      { scheduler: 'rr' },
      { scheduler: 'mh', schedulerFlags: ['flag-1'], persistenceSeconds: 5 },
      { scheduler: 'wlc' },
    ];
    let before = serverAt(listener, { destinations });
    assert.deepEqual(await applied(driver, [create(before)]), {});
    for (const step of steps) {
      const next = serverAt(listener, { destinations, ...step });
      assert.deepEqual(await applied(driver, [update(before, next)]), {});
      await assertThere([next]);
      before = next;
    }
  });

  it('change their destinations one by one, with one line and one process each', async () => {
    const of = (...destinations: readonly Destination[]): VirtualServer => serverAt(at('TCP', '10.96.3.1', 80), { destinations });
    const [a, b, c] = [to('10.244.0.1', 80), to('10.244.0.2', 80), to('10.244.0.3', 80)];
    const history = [
      of(),
      of(a, b),
      of(a, b, c),
      of({ ...a, weight: 0 }, b, c),
      of({ ...b, forwarding: 'route' }, c),
      of(c),
      of(),
    ];
    await driver.apply([create(of())], never);
    for (const [index, next] of history.entries()) {
      const before = history[index - 1];
      if (before === undefined) continue;
      spawned.length = 0;
      assert.deepEqual(await applied(driver, [update(before, next)]), {});
      assert.equal(spawned.length, 1);
      await assertThere([next]);
    }
  });

  it('are judged by what is there: an unknown scheduler in the middle stops no other', async () => {
    const good = everyKind.slice(0, 4);
    const bad = serverAt(at('TCP', '10.96.4.1', 80), { scheduler: 'nonesuch', destinations: [to('10.244.0.1', 80)] });
    const failed = await applied(driver, [...good.slice(0, 2), bad, ...good.slice(2)].map(create));
    assert.deepEqual(Object.keys(failed), ['TCP 10.96.4.1:80']);
    assert.match(
      failed['TCP 10.96.4.1:80'] ?? '',
      /^FW_COMMAND_REFUSED virtual service TCP 10\.96\.4\.1:80: it is not there; ipvsadm said: Scheduler or/,
    );
    await assertThere(good);
  });

  it('that somebody else made before us count as made if they are the same, and fail if not', async () => {
    const [same, other, third] = [1, 2, 3].map(last =>
      serverAt(at('TCP', `10.96.5.${last}`, 80), { destinations: [to('10.244.0.1', 80)] }),
    );
    assert.ok(same && other && third);
    ipvsadm('-R', '-A -t 10.96.5.1:80 -s rr\n-a -t 10.96.5.1:80 -r 10.244.0.1:80 -m -w 1\n-A -t 10.96.5.2:80 -s lc -p 60\n');
    const failed = await applied(driver, [same, other, third].map(create));
    assert.deepEqual(Object.keys(failed), ['TCP 10.96.5.2:80']);
    assert.match(
      failed['TCP 10.96.5.2:80'] ?? '',
      /scheduler lc, persistence 60 s, not rr, persistence 0 s; ipvsadm said: Service already exists/,
    );
  });

  it('that somebody else deleted need no deletion, and an update of one fails until it is read again', async () => {
    const gone = serverAt(at('TCP', '10.96.6.1', 80), { destinations: [to('10.244.0.1', 80)] });
    assert.deepEqual(await applied(driver, [remove(gone)]), {});
    const failed = await applied(driver, [update(gone, { ...gone, destinations: [to('10.244.0.2', 80)] })]);
    assert.match(failed['TCP 10.96.6.1:80'] ?? '', /it is not there; ipvsadm said: Service not defined/);
    assert.equal((await driver.read(keyed([gone]), never)).size, 0);
  });

  it('that the tool itself would not take are refused by name, without a process', async () => {
    const bad = serverAt(at('TCP', '10.96.7.1', 80), { destinations: [{ ...to('10.244.0.1', 8080), forwarding: 'tunnel' }] });
    const failed = await applied(driver, [create(bad)]);
    assert.match(failed['TCP 10.96.7.1:80'] ?? '', /destination 10\.244\.0\.1:8080: only masquerading can change the port/);
    assert.deepEqual(spawned, []);
  });

  it('on excluded addresses are never seen', async () => {
    const foreign = '-A -t 192.0.2.7:80 -s sh -b sh-port\n-a -t 192.0.2.7:80 -r 192.0.2.8:80 -m -w 1\n';
    ipvsadm('-R', foreign);
    const [ours] = everyKind;
    assert.ok(ours);
    await driver.apply([create(ours)], never);
    await assertThere([ours]);
    await driver.apply([remove(ours)], never);
    assert.equal(ipvsadm('-Sn'), foreign);
  });

  it('changed behind our back are found', async () => {
    const entries = everyKind.slice(0, 4);
    await driver.apply(entries.map(create), never);
    const drifts: readonly string[] = [
      '-E -t 10.96.0.1:80 -s wlc',
      '-E -t 10.96.0.1:80 -s rr -p 50',
      '-E -t 10.96.0.1:80 -s sh -b sh-port',
      '-E -u 10.96.0.1:53 -s wrr -p 10801',
      '-E -u 10.96.0.1:53 -s wrr',
      '-E -u 10.96.0.1:53 -s wrr -p 10800 -o',
      '-E -u 10.96.0.1:53 -s wrr -p 10800 -M 255.255.0.0',
      '-e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 5',
      '-d -t 10.96.0.1:80 -r 10.244.0.1:8080',
      '-a -t 10.96.0.1:80 -r 10.244.0.77:8080 -m -w 1',
    ];
    const expected = keyed(entries);
    await driver.read(expected, never);
    for (const drift of drifts) {
      ipvsadm('-R', `${drift}\n`);
      const found = await driver.read(expected, never);
      const changed = [...expected].filter(([key, entry]) => {
        const there = found.get(key);
        return there === undefined || !TABLES.virtualServer.same(there, entry);
      });
      assert.deepEqual(
        changed.map(([key]) => key),
        [drift.includes('53') ? 'UDP 10.96.0.1:53' : 'TCP 10.96.0.1:80'],
        drift,
      );
      const repairs = changed.flatMap(([key, entry]) => {
        const from = found.get(key);
        return from === undefined ? [] : [update(from, entry)];
      });
      assert.deepEqual(await applied(driver, repairs), {}, drift);
      await assertThere(entries);
    }
  });

  it('are audited without a process once the length of a tick is known', async () => {
    const entries = everyKind.slice(0, 6);
    await driver.apply(entries.map(create), never);
    const own = ipvsDriver(options);
    await own.read(keyed(entries), never);
    spawned.length = 0;
    await own.read(keyed(entries), never);
    assert.deepEqual(spawned, []);
  });

  it('time out as asked, and keep the timeouts that are not named', async () => {
    await setTimeouts(runner, { tcp: 900, tcpFin: 120, udp: 300 }, never);
    await setTimeouts(runner, { tcp: 0, tcpFin: 60, udp: 0 }, never);
    assert.match(ipvsadm('-L --timeout'), /900 60 300/);
    spawned.length = 0;
    await setTimeouts(runner, { tcp: 0, tcpFin: 0, udp: 0 }, never);
    assert.deepEqual(spawned, []);
  });

  it('are all seen where other network namespaces of the kernel have theirs', async () => {
    const others = ['other-1', 'other-2', 'other-3'];
    const lines = (start: string): string =>
      Array.from({ length: 300 }, (_, index) => `-A -t ${start}.${index >> 8}.${index & 255}:80 -s rr\n`).join('');
    try {
      for (const name of others) {
        assert.equal(spawnSync('ip', ['netns', 'add', name]).status, 0);
        const { status } = spawnSync('ip', ['netns', 'exec', name, 'ipvsadm', '-R'], { input: lines('10.97') });
        assert.equal(status, 0);
      }
      const ours = Array.from({ length: 300 }, (_, index) => serverAt(at('TCP', `10.96.${index >> 8}.${index & 255}`, 80)));
      const driver = ipvsDriver(options);
      assert.deepEqual((await driver.apply(ours.map(create), never)).failed, new Map());
      const found = await driver.read(keyed(ours), never);
      assert.deepEqual([...found.keys()].sort(), [...keyed(ours).keys()].sort());
      assert.deepEqual((await driver.apply(ours.map(remove), never)).failed, new Map());
    } finally {
      for (const name of others) spawnSync('ip', ['netns', 'delete', name]);
    }
  });

  it('are read 2,000 at a time while the loop goes on turning', async () => {
    const host = (index: number): IpAddress => address(`10.96.${10 + (index >> 8)}.${index & 255}`);
    const entries = Array.from({ length: 2000 }, (_, index) =>
      serverAt(at('TCP', host(index), 80), {
        destinations: Array.from({ length: 5 }, (_, last) => to(`10.244.${index & 255}.${last + 1}`, 8080)),
      }),
    );
    const expected = keyed(entries);
    assert.deepEqual(await applied(driver, entries.map(create)), {});
    assert.deepEqual(spawned, [
      ['ipvsadm', '-R'],
      ['ipvsadm', '-R'],
    ]);
    // How often the loop turned, and not how long it stood still: the guest has one processor, which the tool wants too.
    for (const known of [new Map<string, VirtualServer>(), expected]) {
      let turns = 0;
      const turn = (): void => {
        turns++;
        pending = setImmediate(turn);
      };
      let pending = setImmediate(turn);
      const found = await driver.read(known, never);
      clearImmediate(pending);
      assert.equal(found.size, 2000);
      assert.ok(turns >= 5, `${turns} turns of the loop`);
    }
  });
});
