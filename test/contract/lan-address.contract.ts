// Runs as root in the lab's guest. Address plan: 192.0.2.0/24 and 2001:db8::/64 on the switch: node1 .1, node2 .2, ext .3; virtual addresses of the same
// subnets from .100, and 198.51.100.9, which is in none.
import assert from 'node:assert/strict';
import { lanAddressDriver } from '../../daemon/kernel/lan-address.ts';
import { LanAddressRecord } from '../../daemon/kernel/lan-address-record.ts';
import { type Duplicate, LanSecondLook } from '../../daemon/kernel/lan-second-look.ts';
import { routeDriver } from '../../daemon/kernel/route.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { type Clock, systemClock } from '../../daemon/net/clock.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import type { Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { type LanAddress, lanAddressKey } from '../../daemon/reconcile/service-tables.ts';
import { LOCAL_TABLE, type Route, TABLES } from '../../daemon/reconcile/tables.ts';
import { addVip, inside, knownBy, Listener, MACS, makeLan, type Place, reaches, run, runnerIn, unmakeLan, until } from './lan.ts';

const never = new AbortController().signal;
const NONE_FAILED = { failed: new Map() };
/** So many times as fast. Where the kernel does something meanwhile, twice: it takes no longer than half. */
const clockAt = (pace: number): Pick<Clock, 'after'> => ({
  after: (milliseconds, fire) => systemClock().after(milliseconds / pace, fire),
});
const at = (text: string, link = 'eth0'): LanAddress => ({ link, address: mustParseAddress(text) });
const add = (to: LanAddress): Change<LanAddress> => ({ op: 'create', key: lanAddressKey(to), to });
const remove = (from: LanAddress): Change<LanAddress> => ({ op: 'delete', key: lanAddressKey(from), from });
const keyed = (...entries: readonly LanAddress[]): ReadonlyMap<string, LanAddress> =>
  new Map(entries.map(entry => [lanAddressKey(entry), entry]));
const shown = (place: Place): string => run(`ip -n ${place} -o addr show dev eth0`);
const messages = (failed: ReadonlyMap<string, Error>): Record<string, string> =>
  Object.fromEntries([...failed].map(([key, error]) => [key, error.message]));

/** By another hand than ours. */
function hold(place: Place, vip: string): void {
  run(
    `ip -n ${place} addr add ${hostPrefix(mustParseAddress(vip))} dev eth0${vip.includes(':') ? ' nodad preferred_lft 0' : ''}`,
  );
}

function letGo(place: Place, vip: string): void {
  run(`ip -n ${place} addr del ${hostPrefix(mustParseAddress(vip))} dev eth0`);
}

/** The driver on a node, and what it keeps. */
class NodeDriver {
  readonly place: Place;
  readonly spawned: string[] = [];
  readonly duplicates: Duplicate[] = [];
  readonly alone: string[] = [];
  moves = 0;
  record: LanAddressRecord;
  driver: TableDriver<LanAddress>;
  secondLook: LanSecondLook;
  text: string | undefined;

  readonly #pace: number;

  constructor(place: Place, pace = 2) {
    this.place = place;
    this.#pace = pace;
    [this.record, this.driver, this.secondLook] = this.#start();
  }

  #start(): [LanAddressRecord, TableDriver<LanAddress>, LanSecondLook] {
    const runner = runnerIn(this.place, this.spawned);
    const record = new LanAddressRecord({
      read: async () => this.text,
      write: async text => {
        this.text = text;
      },
    });
    const rivals = { left: new Map<string, string>(), duplicates: new Set<string>() };
    const secondLook = new LanSecondLook({
      runner,
      record,
      ...rivals,
      onMoved: () => this.moves++,
      clock: clockAt(this.#pace),
      onDuplicate: duplicate => this.duplicates.push(duplicate),
      onAlone: ({ address }) => this.alone.push(address),
      onTrouble: error => assert.fail(error),
    });
    return [record, lanAddressDriver({ runner, record, ...rivals, onAdded: entries => secondLook.add(entries) }), secondLook];
  }

  /** Nothing is known but the record. */
  async startAnew(): Promise<void> {
    await this.secondLook.stop();
    [this.record, this.driver, this.secondLook] = this.#start();
  }

  apply(...changes: readonly Change<LanAddress>[]): ReturnType<TableDriver<LanAddress>['apply']> {
    return this.driver.apply(changes, never);
  }

  read(...expected: readonly LanAddress[]): Promise<ReadonlyMap<string, LanAddress>> {
    return this.driver.read(keyed(...expected), never);
  }
}

describe('an address announced on the local network', function () {
  this.timeout(30_000);
  let node1: NodeDriver;
  let node2: NodeDriver;
  let listener: Listener;

  before(async () => {
    makeLan();
    for (const vip of ['192.0.2.100', '198.51.100.9', '2001:db8::100'])
      for (const place of ['node1', 'node2'] as const) addVip(place, vip);
    listener = await Listener.start();
    await until(() => reaches('ext', '192.0.2.1') && reaches('ext', '192.0.2.2'), 'the switch forwards');
  });

  after(() => {
    listener.stop();
    unmakeLan();
  });

  beforeEach(async () => {
    await listener.forget();
    node1 = new NodeDriver('node1');
    node2 = new NodeDriver('node2');
  });

  afterEach(async () => {
    for (const node of [node1, node2]) {
      await node.secondLook.stop();
      await node.apply(...[...node.record.entries.values()].map(remove));
      assert.equal(node.text ?? '', '', 'nothing is recorded that is not there');
    }
    run('ip -n ext neigh flush dev eth0');
  });

  it('is silent on every node before, and a proxy neighbour does not change that', async () => {
    for (const vip of ['192.0.2.100', '2001:db8::100']) {
      run(`ip -n node1 neigh add proxy ${vip} dev eth0`);
      assert.equal(reaches('ext', vip), false, vip);
      await listener.caughtUp();
      assert.deepEqual(listener.about(vip), []);
      run(`ip -n node1 neigh del proxy ${vip} dev eth0`);
    }
  });

  it('is answered for by its owner alone, whether or not it is in a subnet of the link', async () => {
    await node1.secondLook.stop();
    for (const vip of ['192.0.2.100', '198.51.100.9']) {
      assert.deepEqual(await node1.apply(add(at(vip))), NONE_FAILED);
      await listener.forget();
      assert.equal(reaches('ext', vip), true);
      await listener.caughtUp();
      assert.deepEqual(
        listener.about(vip).map(({ from, what }) => [from, what]),
        [[MACS.node1, `reply 192.0.2.3 tell ${vip} (${MACS.node1})`]],
      );
    }
  });

  it('moves at once in IPv4: a neighbour who knew the former owner sends to the new one', async () => {
    const vips = ['192.0.2.100', '198.51.100.9'];
    for (const vip of vips) hold('node1', vip);
    for (const vip of vips) assert.equal(reaches('ext', vip), true);
    for (const vip of vips) assert.equal(knownBy('ext', vip), MACS.node1);
    for (const vip of vips) letGo('node1', vip);
    await listener.forget();
    assert.deepEqual(await node2.apply(...vips.map(vip => add(at(vip)))), NONE_FAILED);
    for (const vip of vips) assert.equal(knownBy('ext', vip), MACS.node2);
    for (const vip of vips) assert.equal(reaches('ext', vip), true);
    const announcement = (vip: string): readonly string[] => [
      MACS.node2,
      'ff:ff:ff:ff:ff:ff',
      `who-has ${vip} tell ${vip} (${MACS.node2})`,
    ];
    const announcements = (): readonly (readonly string[])[] =>
      listener.heard.filter(({ what }) => / (\S+) tell \1 /.test(what)).map(({ from, to, what }) => [from, to, what]);
    await listener.caughtUp();
    assert.deepEqual(announcements().slice(0, 2), vips.map(announcement));
    // The question for the second, which is in no subnet of the host, is an announcement as well.
    await until(() => announcements().length >= 4, 'the second announcement of each');
    assert.deepEqual(announcements()[2], announcement('192.0.2.100'));
    assert.deepEqual(announcements()[3], announcement('198.51.100.9'));
  });

  it('moves in IPv6 when the kernel has found it to be unique', async () => {
    const vip = '2001:db8::100';
    hold('node1', vip);
    assert.equal(reaches('ext', vip), true);
    assert.equal(knownBy('ext', vip), MACS.node1);
    letGo('node1', vip);
    await listener.forget();
    const before = performance.now();
    assert.deepEqual(await node2.apply(add(at(vip))), NONE_FAILED);
    assert.deepEqual(await node2.read(at(vip)), keyed(at(vip)), 'one that is being tested counts as there');
    await until(() => knownBy('ext', vip) === MACS.node2, 'the neighbour knows the new owner');
    console.log(`      after ${Math.round(performance.now() - before)} ms`);
    await listener.caughtUp();
    const told = listener.about(vip).at(-1);
    assert.deepEqual([told?.from, told?.to, told?.what], [MACS.node2, '33:33:00:00:00:01', `advertisement ${vip} override`]);
    assert.equal(reaches('ext', vip), true);
    assert.match(shown('node2'), /inet6 2001:db8::100\/128 scope global deprecated noprefixroute/);
  });

  it('in IPv6 waits for a former owner who is still there, and is put on the link again until he is gone', async () => {
    const vip = '2001:db8::100';
    hold('node1', vip);
    assert.equal(reaches('ext', vip), true);
    await node2.apply(add(at(vip)));
    await until(() => node2.duplicates.length > 0, 'the duplicate is told');
    assert.deepEqual(node2.duplicates, [{ ...at(vip), mac: undefined }]);
    await until(() => shown('node2').includes('dadfailed'), 'the next test fails');
    assert.deepEqual(await node2.read(at(vip)), keyed(at(vip)), 'who looks again is not disturbed');
    letGo('node1', vip);
    await until(() => node2.alone.length > 0, 'it is alone', 15_000);
    assert.equal(reaches('ext', vip), true);
    assert.equal(knownBy('ext', vip), MACS.node2);
    assert.deepEqual(node2.duplicates.length, 1, 'told once');
  });

  it('whose test failed counts as not there, and is made anew', async () => {
    const vip = '2001:db8::100';
    hold('node1', vip);
    assert.equal(reaches('ext', vip), true);
    await node2.apply(add(at(vip)));
    await node2.secondLook.stop();
    await until(() => shown('node2').includes('dadfailed'), 'the test fails');
    assert.deepEqual(await node2.read(at(vip)), new Map());
    letGo('node1', vip);
    assert.deepEqual(await node2.apply(add(at(vip))), NONE_FAILED);
    await until(() => shown('node2').includes(' 2001:db8::100/128 scope global deprecated noprefixroute'), 'it is in use');
  });

  it('that another host answers for is told with his hardware address, and nothing stays in the table of neighbours', async () => {
    hold('node1', '192.0.2.100');
    await node2.apply(add(at('192.0.2.100')), add(at('198.51.100.9')));
    await until(() => node2.duplicates.length > 0, 'the duplicate is told');
    assert.deepEqual(node2.duplicates, [{ ...at('192.0.2.100'), mac: MACS.node1 }]);
    assert.doesNotMatch(run('ip -n node2 neigh show'), /192\.0\.2\.100|198\.51\.100\.9/);
    assert.equal(reaches('node2', '192.0.2.100'), true, 'the node reaches its own');
    letGo('node1', '192.0.2.100');
    await until(() => node2.alone.length > 0, 'it is alone');
  });

  it('is left to a successor by an owner who learns nothing more, and is to be had again when he is gone', async () => {
    const vip = at('192.0.2.100');
    node1 = new NodeDriver('node1', 10);
    await node1.apply(add(vip));
    await node1.startAnew();
    await node1.read(vip);
    node1.secondLook.blind(true);
    await node2.apply(add(vip));
    await until(() => node1.moves > 0, 'it is left', 15_000);
    assert.doesNotMatch(shown('node1'), /\.100/);
    assert.equal(node1.text, '');
    const { failed } = await node1.apply(add(vip));
    assert.match(messages(failed)['192.0.2.100 eth0'] ?? '', /is left to another host \(02:00:00:00:00:02\)/);
    await node2.secondLook.stop();
    await node2.apply(remove(vip));
    await until(() => node1.moves > 1, 'it is to be had again', 15_000);
    assert.deepEqual(await node1.apply(add(vip)), NONE_FAILED);
    assert.equal(reaches('ext', vip.address), true);
  });

  it('in IPv6 is taken beside a living owner by a link that does not test addresses: hence accept_dad', async () => {
    const vip = '2001:db8::100';
    hold('node1', vip);
    const taken = async (acceptDad: number): Promise<boolean> => {
      inside('node2', `sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=${acceptDad}`);
      await node2.apply(add(at(vip)));
      await node2.secondLook.stop();
      await until(() => !shown('node2').includes(' tentative') || shown('node2').includes('dadfailed'), 'it is decided');
      const isTaken = !shown('node2').includes('dadfailed');
      await node2.apply(remove(at(vip)));
      return isTaken;
    };
    assert.equal(await taken(0), true);
    assert.equal(await taken(1), false);
    letGo('node1', vip);
  });

  it('is no source of connections, and stands behind the addresses of the host', async () => {
    await node1.apply(add(at('192.0.2.100')), add(at('2001:db8::100')));
    await until(() => !shown('node1').includes('tentative'), 'it is in use');
    run('ip -n node1 route add 203.0.113.0/24 dev eth0');
    const source = (to: string): string | undefined => / src (\S+)/.exec(run(`ip -n node1 route get ${to}`))?.[1];
    assert.deepEqual(['192.0.2.77', '203.0.113.9', '8.8.8.8', '2001:db8::77'].map(source), [
      '192.0.2.1',
      '192.0.2.1',
      '192.0.2.1',
      '2001:db8::1',
    ]);
    assert.match(shown('node1'), /inet 192\.0\.2\.1\/24.*inet 192\.0\.2\.100\/32 scope global eth0\\/s);
    run('ip -n node1 route del 203.0.113.0/24 dev eth0');
  });

  it('leaves delivery and the local route of kube-dummy-if as they are, when it comes and when it goes', async () => {
    const routes = (): readonly string[] =>
      run('ip -n node1 route show table local 192.0.2.100')
        .trim()
        .split(/ *\n/)
        .filter(line => line.includes('kube-dummy-if'));
    const before = routes();
    await node1.apply(add(at('192.0.2.100')));
    assert.deepEqual(routes(), before);
    assert.equal(reaches('node1', '192.0.2.100'), true);
    await node1.apply(remove(at('192.0.2.100')));
    assert.deepEqual(routes(), before);
    assert.equal(reaches('node1', '192.0.2.100'), true);
    assert.match(shown('node1'), /192\.0\.2\.1\/24/, 'the address of the same subnet stays');
    assert.equal(reaches('ext', '192.0.2.100'), false);
  });

  it('may come before the one on kube-dummy-if: our local route is in force, and as wanted after the next reading', async () => {
    const vip = mustParseAddress('192.0.2.101');
    const routes = routeDriver({ runner: runnerIn('node1'), ownLinks: new Set(['kube-dummy-if']) });
    const to: Route = {
      type: 'local',
      table: LOCAL_TABLE,
      destination: hostPrefix(vip),
      link: 'kube-dummy-if',
      source: mustParseAddress('192.0.2.1'),
      standsFor: 'address',
    };
    const key = TABLES.route.key(to);
    const sourceHere = (): string | undefined => / src (\S+)/.exec(run(`ip -n node1 route get ${vip}`))?.[1];
    await node1.apply(add(at(vip)));
    run(`ip -n node1 addr add ${vip}/32 dev kube-dummy-if scope link`);
    assert.deepEqual(await routes.apply([{ op: 'create', key, to }], never), NONE_FAILED);
    assert.equal(sourceHere(), '192.0.2.1');
    const found = (await routes.read(new Map(), never)).get(key);
    if (found !== undefined && !TABLES.route.same(found, to)) await routes.apply([{ op: 'update', key, from: found, to }], never);
    assert.deepEqual((await routes.read(new Map(), never)).get(key), to);
    await node1.apply(remove(at(vip)));
    assert.deepEqual((await routes.read(new Map(), never)).get(key), to);
    assert.equal(sourceHere(), '192.0.2.1');
    assert.equal(reaches('node1', vip), true);
    await routes.apply([{ op: 'delete', key, from: to }], never);
    run(`ip -n node1 addr del ${vip}/32 dev kube-dummy-if`);
    assert.doesNotMatch(run('ip -n node1 route show table local'), /192\.0\.2\.101/);
  });

  it('is found and taken away by a later run; what a run that was killed left undone is put right', async () => {
    await node1.apply(add(at('192.0.2.100')), add(at('2001:db8::100')));
    await node1.startAnew();
    assert.deepEqual(await node1.read(), keyed(at('192.0.2.100'), at('2001:db8::100')));
    run('ip -n node1 addr add 192.0.2.100/31 dev eth0 scope link noprefixroute');
    assert.deepEqual(await node1.read(at('192.0.2.100')), keyed(at('2001:db8::100')), 'the middle of an announcement');
    assert.deepEqual(await node1.apply(add(at('192.0.2.100'))), NONE_FAILED);
    assert.doesNotMatch(shown('node1'), /\/31/);
    letGo('node1', '192.0.2.100');
    assert.deepEqual(await node1.read(at('192.0.2.100')), keyed(at('2001:db8::100')));
    assert.deepEqual(await node1.apply(remove(at('192.0.2.100')), remove(at('2001:db8::100'))), NONE_FAILED);
    assert.equal(node1.text, '');
    assert.doesNotMatch(shown('node1'), /::100|\.100/);
  });

  it('that stands there already and is not ours is left alone and named; a link that is not there names the flag; no other stops', async () => {
    hold('node1', '192.0.2.100');
    const { failed } = await node1.apply(add(at('192.0.2.100')), add(at('198.51.100.9')), add(at('192.0.2.101', 'eth9')));
    assert.deepEqual(messages(failed), {
      '192.0.2.100 eth0':
        "192.0.2.100 is on 'eth0' already and not by us (keepalived, the administrator): it is left alone; take it away there, or out of the pool",
      '192.0.2.101 eth9':
        'create of announced address 192.0.2.101 on \'eth9\' was refused: Cannot find device "eth9" (name links of this node with --announce-interfaces)',
    });
    assert.deepEqual(await node1.read(), keyed(at('198.51.100.9')));
    assert.deepEqual(await node1.apply(remove(at('192.0.2.101', 'eth9')), remove(at('198.51.100.9'))), NONE_FAILED);
    assert.match(shown('node1'), /192\.0\.2\.100\/32/);
    letGo('node1', '192.0.2.100');
  });

  it('by the thousand', async () => {
    const many = Array.from({ length: 1000 }, (_, index) => at(`203.0.${index >> 8}.${index & 255}`));
    const neighbours = (): number =>
      run('ip -n node1 neigh show')
        .split('\n')
        .filter(line => line.startsWith('203.0.')).length;
    const before = performance.now();
    assert.deepEqual(await node1.apply(...many.map(add)), NONE_FAILED);
    const written = performance.now();
    assert.equal(neighbours(), 0);
    await node1.secondLook.stop();
    assert.equal((await node1.read(...many)).size, many.length);
    const read = performance.now();
    assert.deepEqual(await node1.apply(...many.map(remove)), NONE_FAILED);
    await listener.caughtUp();
    const heard = new Set(listener.heard.filter(({ what }) => what.startsWith('who-has 203.0.')).map(({ what }) => what));
    console.log(
      `      1,000 addresses: put and announced in ${Math.round(written - before)} ms, read in ${Math.round(read - written)} ms; ${heard.size} announcements heard`,
    );
    assert.ok(heard.size > 900, `${heard.size}`);
  });
});
