// Runs as root in a kernel with dummy links and lwtunnel: in the lab's guest, or in a network namespace of a machine that has them.
// Address plan: the node 192.168.1.1 and fd00:192::1 on fw-a, 192.168.2.1 and fd00:193::1 on fw-b; routes to 10.0.0.0/8 and fd00:1::/32.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { unicastRouteDriver } from '../../daemon/kernel/unicast-route.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { MAIN_TABLE, type NextHop, POD_SOURCE_TABLE, type UnicastRoute } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const routes = unicastRouteDriver({ runner });
const keyOf = TABLES.unicastRoute.key;
const create = (to: UnicastRoute): Change<UnicastRoute> => ({ op: 'create', key: keyOf(to), to });
const update = (from: UnicastRoute, to: UnicastRoute): Change<UnicastRoute> => ({ op: 'update', key: keyOf(to), from, to });
const remove = (from: UnicastRoute): Change<UnicastRoute> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (entries: readonly UnicastRoute[]): ReadonlyMap<string, UnicastRoute> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));
const readAll = (): Promise<ReadonlyMap<string, UnicastRoute>> => routes.read(new Map(), never);
const NONE_FAILED = { failed: new Map() };

const TUNNEL = 'tun-0000000000a';
const via = (gateway: string, link = 'fw-a'): NextHop => ({ link, gateway: mustParseAddress(gateway), vxlanRemote: undefined });
const by = (link: string): NextHop => ({ link, gateway: undefined, vxlanRemote: undefined });
const vxlan = (remote: string): NextHop => ({ link: 'fairway-vxlan', gateway: undefined, vxlanRemote: mustParseAddress(remote) });
const route = (destination: string, nextHops: readonly NextHop[], source?: string): UnicastRoute => ({
  table: MAIN_TABLE,
  destination: mustParsePrefix(destination),
  nextHops,
  source: source === undefined ? undefined : mustParseAddress(source),
});
const fromPods = (destination: string, hop: NextHop): UnicastRoute => ({ ...route(destination, [hop]), table: POD_SOURCE_TABLE });
const left = (of: UnicastRoute): UnicastRoute => ({ ...of, nextHops: [], source: undefined });

/** Every form there is. */
const forms: readonly UnicastRoute[] = [
  route('10.1.0.0/24', [via('192.168.1.2')], '192.168.1.1'),
  route('10.2.0.0/24', [via('192.168.1.2'), via('192.168.1.3'), via('192.168.2.2', 'fw-b')]),
  route('10.3.0.0/24', [by(TUNNEL)], '192.168.1.1'),
  route('10.4.0.0/24', [vxlan('192.168.1.2')]),
  route('10.5.0.0/24', [vxlan('192.168.1.2'), vxlan('192.168.1.3')], '192.168.1.1'),
  route(
    '10.6.0.0/24',
    [by(TUNNEL), via('192.168.1.2')].sort((one, other) => (one.gateway === undefined && other.gateway ? -1 : 1)),
  ),
  route('10.7.0.7/32', [via('192.168.1.2')]),
  fromPods('192.168.1.2/32', by(TUNNEL)),
  fromPods('192.168.1.3/32', vxlan('192.168.1.3')),
  route('fd00:1:1::/64', [via('fd00:192::2')], 'fd00:192::1'),
  route('fd00:1:2::/64', [via('fd00:192::2'), via('fd00:192::3'), via('fd00:193::2', 'fw-b')], 'fd00:192::1'),
  route('fd00:1:3::/64', [by(TUNNEL)]),
  route('fd00:1:4::/64', [vxlan('fd00:192::2')], 'fd00:192::1'),
  route('fd00:1:5::/64', [vxlan('fd00:192::2'), vxlan('fd00:192::3')]),
  route('fd00:1:7::7/128', [via('fd00:192::2')]),
  fromPods('fd00:192::2/128', by(TUNNEL)),
  fromPods('fd00:192::3/128', vxlan('fd00:192::3')),
];

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

/** Notes every route that is deleted while `work` goes on. */
async function deletedDuring(work: () => Promise<void>): Promise<readonly string[]> {
  const monitor = spawn('ip', ['-o', 'monitor', 'route'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  monitor.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await sleep(300);
  await work();
  ip('route add 10.99.99.99/32 dev fw-a');
  while (!text.includes('10.99.99.99')) await sleep(20);
  monitor.kill();
  return text.split('\n').filter(line => line.startsWith('Deleted'));
}

describe('routes that lead elsewhere', () => {
  let pristine = '';
  const shown = (): string => ip('-4 route show table all') + ip('-6 route show table all');

  beforeEach(() => {
    for (const [link, v4, v6] of [
      ['fw-a', '192.168.1.1/24', 'fd00:192::1/64'],
      ['fw-b', '192.168.2.1/24', 'fd00:193::1/64'],
    ]) {
      ip(`link add dev ${link} type dummy`);
      ip(`link set dev ${link} addrgenmode none`);
      ip(`link set dev ${link} up`);
      ip(`addr add ${v4} dev ${link}`);
      ip(`addr add ${v6} dev ${link} nodad`);
    }
    ip(`link add dev ${TUNNEL} type dummy`);
    ip('link add dev fairway-vxlan type vxlan external gpe dstport 4790');
    for (const link of [TUNNEL, 'fairway-vxlan']) {
      ip(`link set dev ${link} addrgenmode none`);
      ip(`link set dev ${link} up`);
    }
    pristine = shown();
    spawned.length = 0;
  });

  afterEach(() => {
    for (const link of ['fw-a', 'fw-b', TUNNEL, 'fairway-vxlan']) spawnSync('ip', ['link', 'delete', link]);
  });

  it('of every form and both families are written in one process, read as they were wanted, and deleted in one', async () => {
    assert.deepEqual(await readAll(), new Map());
    spawned.length = 0;
    assert.deepEqual(await routes.apply(forms.map(create), never), NONE_FAILED);
    assert.equal(spawned.length, 1);
    assert.deepEqual(await readAll(), keyed(forms));
    const found = await routes.read(keyed(forms), never);
    for (const entry of forms) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    spawned.length = 0;
    assert.deepEqual(await routes.apply(forms.map(remove), never), NONE_FAILED);
    assert.equal(spawned.length, 1);
    assert.equal(shown(), pristine);
  });

  it('become any other form without a moment without them', async function () {
    this.timeout(60_000);
    const ofFamily = (sign: string): readonly UnicastRoute[] =>
      forms.filter(({ destination, table }) => destination.includes(sign) && table === MAIN_TABLE);
    for (const family of [ofFamily('.'), ofFamily(':')]) {
      const [first] = family;
      assert.ok(first !== undefined);
      const steps = family.flatMap(form => [form, first]).map(form => ({ ...form, destination: first.destination }));
      await routes.apply([create(first)], never);
      const deleted = await deletedDuring(async () => {
        let from = first;
        for (const to of steps) {
          assert.deepEqual(await routes.apply([update(from, to)], never), NONE_FAILED);
          assert.deepEqual([...(await readAll()).values()], [to]);
          from = to;
        }
      });
      assert.deepEqual(deleted, []);
      await routes.apply([remove(first)], never);
      ip('route del 10.99.99.99/32');
    }
    assert.equal(shown(), pristine);
  });

  it("stand behind others' to the same prefix, which they neither replace nor delete", async () => {
    for (const [text, wanted] of [
      ['10.1.0.0/24 via 192.168.2.9 dev fw-b metric 20100 proto 186', forms[0]],
      ['fd00:1:1::/64 via fd00:193::9 dev fw-b metric 20100 proto 186', forms[9]],
    ] as const) {
      assert.ok(wanted !== undefined);
      ip(`route add ${text}`);
      const foreign = shown();
      assert.deepEqual(await routes.apply([create(wanted)], never), NONE_FAILED);
      const host = wanted.destination.includes(':') ? 'fd00:1:1::5' : '10.1.0.5';
      assert.match(ip(`route get ${host}`), /dev fw-b/);
      const other = { ...wanted, source: undefined };
      assert.deepEqual(await routes.apply([update(wanted, other)], never), NONE_FAILED);
      assert.deepEqual(await readAll(), keyed([other]));
      assert.deepEqual(await routes.apply([remove(other)], never), NONE_FAILED);
      assert.equal(shown(), foreign);
      await routes.apply([create(wanted)], never);
      ip(`route del ${text}`);
      assert.match(ip(`route get ${host}`), /dev fw-a/);
      await routes.apply([remove(wanted)], never);
      assert.equal(shown(), pristine);
    }
  });

  it("are refused where somebody else's has our metric, and leave it", async () => {
    const wanted = forms.filter(({ destination }) => destination === '10.1.0.0/24' || destination === 'fd00:1:1::/64');
    for (const { destination } of wanted) ip(`route add ${destination} dev fw-b metric 32070 proto 186`);
    const foreign = shown();
    const { failed } = await routes.apply(wanted.map(create), never);
    assert.deepEqual([...failed.keys()], wanted.map(keyOf));
    assert.match(
      failed.get('254 10.1.0.0/24')?.message ?? '',
      /^create of route to 10\.1\.0\.0\/24 in table 254 was refused: .*File exists \(192\.168\.1\.2: somebody else's has metric 32070\)$/,
    );
    assert.equal(shown(), foreign);
  });

  it("of kube-router's are found as not ours yet, and replaced without a gap: ours first", async () => {
    const wanted = [
      route('10.1.0.0/24', [via('192.168.1.2')]),
      route('10.3.0.0/24', [by(TUNNEL)], '192.168.1.1'),
      route('fd00:1:1::/64', [via('fd00:192::2')]),
      route('fd00:1:3::/64', [by(TUNNEL)]),
      fromPods('192.168.1.2/32', by(TUNNEL)),
      fromPods('fd00:192::2/128', by(TUNNEL)),
    ];
    ip('route add 10.1.0.0/24 via 192.168.1.2 dev fw-a proto 17');
    ip(`route add 10.3.0.0/24 dev ${TUNNEL} src 192.168.1.1 proto 17`);
    ip('route add fd00:1:1::/64 via fd00:192::2 dev fw-a proto 17');
    ip(`route add fd00:1:3::/64 dev ${TUNNEL} proto 17`);
    ip(`route add 192.168.1.2 dev ${TUNNEL} table 77`);
    ip(`-6 route add fd00:192::2 dev ${TUNNEL} table 77 proto 17`);
    const found = await routes.read(keyed(wanted), never);
    assert.deepEqual(found, keyed(wanted.map(left)));
    const changes = wanted.map(to => update(found.get(keyOf(to)) ?? assert.fail(), to));
    const deleted = await deletedDuring(async () => {
      const batches = spawned.length;
      assert.deepEqual(await routes.apply(changes, never), NONE_FAILED);
      assert.equal(spawned.slice(batches).filter(argv => !argv.includes('-o')).length, 2);
    });
    // Each after ours was in force behind it; those of table 77 were replaced.
    assert.equal(deleted.length, 4, deleted.join('\n'));
    for (const line of deleted) assert.match(line, /proto (17|mrouted)/);
    assert.deepEqual(await readAll(), keyed(wanted));
    assert.deepEqual(await routes.apply(wanted.map(remove), never), NONE_FAILED);
    ip('route del 10.99.99.99/32');
    assert.equal(shown(), pristine);
  });

  it("of kube-router's stay where ours is refused, and go where nobody wants them", async () => {
    ip('route add 10.1.0.0/24 via 192.168.1.2 dev fw-a proto 17');
    ip('route add 10.8.0.0/24 via 192.168.1.2 dev fw-a proto 17');
    ip('route add fd00:1:8::/64 via fd00:192::2 dev fw-a proto 17');
    ip(`route add 192.168.1.8 dev ${TUNNEL} table 77`);
    ip(`-6 route add fd00:192::8 dev ${TUNNEL} table 77 proto 17`);
    const found = await readAll();
    assert.equal(found.size, 5);
    const refused = route('10.1.0.0/24', [via('192.168.77.1')]);
    const { failed } = await routes.apply(
      [...found].map(([key, from]) => (key === keyOf(refused) ? update(from, refused) : remove(from))),
      never,
    );
    assert.deepEqual([...failed.keys()], [keyOf(refused)]);
    assert.match(
      failed.get(keyOf(refused))?.message ?? '',
      /invalid gateway.* \(192\.168\.77\.1: the next hop is on no network of that link\)$/,
    );
    assert.match(ip('route get 10.1.0.5'), /via 192\.168\.1\.2/);
    assert.deepEqual([...(await readAll()).keys()], [keyOf(refused)]);
  });

  it("of others are not ours: other protocols, other types, another's in table 77", async () => {
    for (const protocol of [4, 11, 12, 186]) ip(`route add 10.20.${protocol}.0/24 dev fw-a proto ${protocol}`);
    ip('route add blackhole 10.21.0.0/24 proto 70');
    ip('route add 10.22.0.0/24 dev fw-a table 100 proto 70');
    ip('route add 10.23.0.0/24 dev fw-a table 77 proto 186');
    ip('route add unreachable fd00:1:21::/64 proto 17');
    assert.deepEqual(await readAll(), new Map());
    ip('route flush table 77');
    ip('route flush table 100');
    ip('route flush root 10.21.0.0/24 type blackhole');
    ip('-6 route flush root fd00:1:21::/64 type unreachable');
  });

  it('by a link that is gone are gone; one that is refused stops no other, not even where ip ends at its line', async () => {
    await routes.apply(forms.map(create), never);
    ip('link delete fw-b');
    ip(`link set dev ${TUNNEL} down`);
    const found = await readAll();
    for (const entry of [by(TUNNEL)].flatMap(hop =>
      forms.filter(({ nextHops: [first, ...more] }) => more.length === 0 && first?.link === hop.link),
    )) {
      assert.ok(!found.has(keyOf(entry)), keyOf(entry));
    }
    await routes.apply(forms.map(remove), never);
    const { failed } = await routes.apply(forms.map(create), never);
    const dead = forms.filter(({ nextHops }) => nextHops.some(({ link }) => link === 'fw-b' || link === TUNNEL));
    assert.deepEqual([...failed.keys()].sort(), dead.map(keyOf).sort());
    assert.match(
      failed.get('254 10.2.0.0/24')?.message ?? '',
      /refused: Cannot find device "fw-b"; Error: cannot parse nexthop$/,
    );
    assert.match(failed.get('254 10.3.0.0/24')?.message ?? '', /refused: .*(down|not up)/);
    assert.deepEqual(await readAll(), keyed(forms.filter(form => !dead.includes(form))));
  });

  it('with a name that is no link are refused before ip sees them', async () => {
    const bad = route('10.1.0.0/24', [by('a b')]);
    const good = route('10.2.0.0/24', [via('192.168.1.2')]);
    const { failed } = await routes.apply([create(bad), create(good)], never);
    assert.deepEqual(
      [...failed].map(([key, { message }]) => [key, message]),
      [[keyOf(bad), '"a b" cannot name a link: 1 to 15 characters, no space and no slash']],
    );
    assert.deepEqual(await readAll(), keyed([good]));
  });

  it('by the ten thousand are written, read and deleted in one process each', async function () {
    this.timeout(120_000);
    const many = Array.from(
      { length: 10_000 },
      (_, index): UnicastRoute =>
        index % 2 === 0
          ? route(`10.${100 + (index >> 12)}.${(index >> 4) & 255}.${(index & 15) << 4}/28`, [via('192.168.1.2')], '192.168.1.1')
          : route(`fd00:1:${index.toString(16)}::/64`, [via('fd00:192::2')], 'fd00:192::1'),
    );
    assert.equal(keyed(many).size, many.length);
    const times: number[] = [];
    const timed = async <T>(work: () => Promise<T>): Promise<T> => {
      const start = performance.now();
      const result = await work();
      times.push(Math.round(performance.now() - start));
      return result;
    };
    assert.deepEqual(await timed(() => routes.apply(many.map(create), never)), NONE_FAILED);
    assert.equal(spawned.length, 1);
    const found = await timed(() => routes.read(keyed(many), never));
    for (const entry of many) assert.equal(found.get(keyOf(entry)), entry);
    assert.deepEqual(await timed(() => routes.apply(many.map(remove), never)), NONE_FAILED);
    console.log(`      10,000 routes: written in ${times[0]} ms, read in ${times[1]} ms, deleted in ${times[2]} ms`);
    assert.equal(shown(), pristine);
  });
});
