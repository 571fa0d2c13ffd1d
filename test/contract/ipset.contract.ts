// Runs in a network namespace without sets: in the lab's guest, or in a fresh namespace (`unshare -n`) of a machine with ipset.
// Address plan: elements 10.244.0.0/16 and fd00:244::/64.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { ipsetDriver } from '../../daemon/kernel/ipset.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import type { Family } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { type IpSetEntry, type IpSetType, TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const driver = ipsetDriver({ runner, owns: name => !name.startsWith('foreign') });

function tool(argv: string, stdin = ''): string {
  const [program = '', ...args] = argv.split(' ');
  const { stdout, stderr, status } = spawnSync(program, args, { input: stdin, encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0, stderr);
  return stdout;
}

const setOf = (name: string, type: IpSetType = 'hash:ip', family: Family = 'ipv4', maxElements = 65536): IpSetEntry => ({
  kind: 'set',
  name,
  type,
  family,
  maxElements,
});
/** Whose elements carry marks. */
const markingSet = (name: string, family: Family = 'ipv4', maxElements = 65536): IpSetEntry => ({
  kind: 'set',
  name,
  type: 'hash:ip,port',
  family,
  maxElements,
  carriesMarks: true,
});
const element = (set: string, value: string): IpSetEntry => ({ kind: 'element', set, value });
const create = (to: IpSetEntry): Change<IpSetEntry> => ({ op: 'create', key: TABLES.ipset.key(to), to });
const remove = (from: IpSetEntry): Change<IpSetEntry> => ({ op: 'delete', key: TABLES.ipset.key(from), from });
const update = (from: IpSetEntry, to: IpSetEntry): Change<IpSetEntry> => ({ op: 'update', key: TABLES.ipset.key(to), from, to });

async function applied(changes: readonly Change<IpSetEntry>[]): Promise<Record<string, string>> {
  const { failed } = await driver.apply(changes, never);
  return Object.fromEntries(Array.from(failed, ([key, error]) => [key, `${error.code} ${error.message}`]));
}

async function assertThere(entries: readonly IpSetEntry[]): Promise<void> {
  const expected = new Map(entries.map(entry => [TABLES.ipset.key(entry), entry]));
  const found = await driver.read(new Map(), never);
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
  for (const [key, there] of await driver.read(expected, never)) assert.equal(there, expected.get(key), key);
}

describe('sets through ipset', function () {
  this.timeout(60_000);

  afterEach(() => {
    tool('iptables-legacy -F');
    tool('ipset destroy');
    spawned.length = 0;
  });

  const everyKind: readonly IpSetEntry[] = [
    setOf('kube-router-local-ips'),
    element('kube-router-local-ips', '10.244.0.1'),
    element('kube-router-local-ips', '10.244.0.2'),
    setOf('kube-router-svip-prt', 'hash:ip,port'),
    element('kube-router-svip-prt', '10.244.0.1,tcp:80'),
    element('kube-router-svip-prt', '10.244.0.1,udp:53'),
    element('kube-router-svip-prt', '10.244.0.1,sctp:132'),
    setOf('hairpin', 'hash:ip,port,ip'),
    element('hairpin', '10.244.0.1,tcp:80,10.244.0.1'),
    setOf('fairway-open', 'hash:ip,port,net'),
    ...[
      '10.244.0.1,tcp:80,0.0.0.0/1',
      '10.244.0.1,tcp:80,128.0.0.0/1',
      '10.244.0.1,udp:53,10.0.0.0/8',
      '10.244.0.1,sctp:132,10.0.0.9',
    ].map(value => element('fairway-open', value)),
    markingSet('fairway-inside'),
    ...['10.244.0.1,tcp:80 skbmark 0x1/0x1fff', '10.244.0.1,udp:80 skbmark 0xfff/0x1fff', '10.244.0.1,sctp:80'].map(value =>
      element('fairway-inside', value),
    ),
    setOf('kube-router-pod-subnets', 'hash:net'),
    element('kube-router-pod-subnets', '10.244.0.0/24'),
    element('kube-router-pod-subnets', '10.244.1.1'),
    setOf('fairway-b-1', 'hash:net'),
    ...['0.0.0.0/1', '128.0.0.0/1', '10.244.0.0/16 nomatch', '10.244.0.9 nomatch'].map(value => element('fairway-b-1', value)),
    setOf('inet6:kube-router-svip', 'hash:ip', 'ipv6'),
    ...['fd00:244::1', '2001:db8::1:0:0:1', '1:0:0:2::3', '1:2:3:4:5:6:0:8', '::1:2', '::ffff:a00:1', '64:ff9b::a00:1'].map(
      value => element('inet6:kube-router-svip', value),
    ),
    setOf('inet6:kube-router-svip-prt', 'hash:ip,port', 'ipv6'),
    element('inet6:kube-router-svip-prt', '::ffff:a00:1,sctp:132'),
    setOf('inet6:hairpin', 'hash:ip,port,ip', 'ipv6'),
    element('inet6:hairpin', 'fd00:244::1,tcp:80,::a00:1'),
    setOf('inet6:fairway-open', 'hash:ip,port,net', 'ipv6'),
    ...[
      'fd00:244::1,tcp:80,::/1',
      'fd00:244::1,tcp:80,8000::/1',
      'fd00:244::1,udp:53,::ffff:a00:0/104',
      '::a00:1,tcp:80,::a00:1',
    ].map(value => element('inet6:fairway-open', value)),
    markingSet('inet6:fairway-inside', 'ipv6'),
    ...['fd00:244::1,tcp:80 skbmark 0x5/0x1fff', '::ffff:a00:1,udp:80 skbmark 0x6/0x1fff'].map(value =>
      element('inet6:fairway-inside', value),
    ),
    setOf('inet6:kube-router-pod-subnets', 'hash:net', 'ipv6'),
    element('inet6:kube-router-pod-subnets', 'fd00:244::/64'),
    setOf('inet6:fairway-b-1', 'hash:net', 'ipv6'),
    ...['::/1', '8000::/1', 'fd00:244::/64 nomatch', 'fd00:244::9 nomatch', '::ffff:a00:0/104 nomatch'].map(value =>
      element('inet6:fairway-b-1', value),
    ),
  ];

  it('are written in one process and read back, whatever their kind', async () => {
    assert.deepEqual(await applied(everyKind.map(create)), {});
    assert.equal(spawned.length, 1);
    await assertThere(everyKind);
    assert.deepEqual(await applied(everyKind.map(remove)), {});
    assert.equal(tool('ipset save'), '');
  });

  it('gain and lose single elements', async () => {
    const svip = setOf('svip');
    await applied([svip, element('svip', '10.244.0.1')].map(create));
    spawned.length = 0;
    assert.deepEqual(await applied([create(element('svip', '10.244.0.2')), remove(element('svip', '10.244.0.1'))]), {});
    assert.equal(spawned.length, 1);
    await assertThere([svip, element('svip', '10.244.0.2')]);
  });

  it('of prefixes leave out parts, whoever turned that round by hand', async () => {
    const isIn = (address: string): boolean => spawnSync('ipset', ['test', 'blocks', address]).status === 0;
    const set = setOf('blocks', 'hash:net');
    const whole = element('blocks', '10.244.0.0/16');
    const exempt = element('blocks', '10.244.1.0/24 nomatch');
    assert.deepEqual(await applied([set, whole, exempt].map(create)), {});
    assert.deepEqual([isIn('10.244.0.1'), isIn('10.244.1.1')], [true, false]);
    tool('ipset -exist add blocks 10.244.1.0/24');
    tool('ipset -exist add blocks 10.244.0.0/16 nomatch');
    assert.deepEqual([isIn('10.244.0.1'), isIn('10.244.1.1')], [false, true]);
    const found = await driver.read(new Map(), never);
    const changes = [whole, exempt].map(wanted => {
      const there = found.get(TABLES.ipset.key(wanted));
      assert.ok(there !== undefined && !TABLES.ipset.same(there, wanted), wanted.kind);
      return update(there, wanted);
    });
    assert.deepEqual(await applied(changes), {});
    await assertThere([set, whole, exempt]);
    assert.deepEqual([isIn('10.244.0.1'), isIn('10.244.1.1')], [true, false]);
    assert.deepEqual(await applied([remove(exempt)]), {});
    assert.deepEqual([isIn('10.244.0.1'), isIn('10.244.1.1')], [true, true]);
    await assertThere([set, whole]);
  });

  it('of prefixes keep what is left out when they are made anew', async () => {
    const small = setOf('blocks', 'hash:net', 'ipv4', 2);
    const large = setOf('blocks', 'hash:net', 'ipv4', 100);
    const values = ['10.244.0.0/16', '10.244.1.0/24 nomatch'].map(value => element('blocks', value));
    await applied([small, ...values].map(create));
    assert.deepEqual(await applied([update(small, large)]), {});
    await assertThere([large, ...values]);
  });

  for (const { family, address, prefix, within, outside } of [
    { family: 'ipv4', address: '10.244.0.1', prefix: '10.1.0.0/16', within: '10.1.0.9', outside: '10.2.0.9' },
    { family: 'ipv6', address: 'fd00:244::1', prefix: 'fd00:1::/64', within: 'fd00:1::9', outside: 'fd00:2::9' },
  ] as const) {
    it(`of ports that are open to prefixes of sources hold single ones and whole families: ${family}`, async () => {
      const isIn = (value: string): boolean => spawnSync('ipset', ['test', 'open', value]).status === 0;
      const set = setOf('open', 'hash:ip,port,net', family);
      const some = element('open', `${address},tcp:80,${prefix}`);
      const single = element('open', `${address},tcp:81,${outside}`);
      assert.deepEqual(await applied([set, some, single].map(create)), {});
      await assertThere([set, some, single]);
      const asked = [
        `${address},tcp:80,${within}`,
        `${address},tcp:80,${outside}`,
        `${address},udp:80,${within}`,
        `${address},tcp:81,${outside}`,
      ];
      assert.deepEqual(asked.map(isIn), [true, false, false, true]);
      const halves = (family === 'ipv4' ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1']).map(half =>
        element('open', `${address},tcp:80,${half}`),
      );
      assert.deepEqual(await applied([remove(some), ...halves.map(create)]), {});
      await assertThere([set, single, ...halves]);
      assert.deepEqual(asked.map(isIn), [true, true, false, true]);
      assert.deepEqual(await applied([single, ...halves].map(remove)), {});
      await assertThere([set]);
    });

    it(`of elements with marks: a mark is changed in place, and the element is there all the time: ${family}`, async () => {
      const set = markingSet('inside', family);
      const former = element('inside', `${address},tcp:80 skbmark 0x5/0x1fff`);
      const wanted = element('inside', `${address},tcp:80 skbmark 0xabc/0x1fff`);
      const other = element('inside', `${address},tcp:81 skbmark 0x5/0x1fff`);
      assert.deepEqual(await applied([set, former, other].map(create)), {});
      await assertThere([set, former, other]);
      assert.equal(TABLES.ipset.key(former), TABLES.ipset.key(wanted));
      // One line, and it deletes nothing: the kernel writes the new mark over the old one.
      assert.equal(driver.render([update(former, wanted)]).trim(), `add inside ${address},tcp:80 skbmark 0xabc/0x1fff`);
      spawned.length = 0;
      assert.deepEqual(await applied([update(former, wanted)]), {});
      assert.equal(spawned.length, 1);
      await assertThere([set, wanted, other]);
      assert.match(tool('ipset list inside'), /Number of entries: 2\n/);
      assert.deepEqual(await applied([remove(wanted)]), {});
      await assertThere([set, other]);
    });

    it(`of elements with marks are made anew with their marks: ${family}`, async () => {
      const small = markingSet('inside', family, 2);
      const large = markingSet('inside', family, 100);
      const values = [80, 81].map(port => element('inside', `${address},tcp:${port} skbmark 0x${port}/0x1fff`));
      await applied([small, ...values].map(create));
      assert.deepEqual(await applied([update(small, large)]), {});
      await assertThere([large, ...values]);
    });

    it(`that somebody made without marks are made anew with room for them: ${family}`, async () => {
      const without = setOf('inside', 'hash:ip,port', family);
      const bare = element('inside', `${address},tcp:80`);
      await applied([without, bare].map(create));
      const set = markingSet('inside', family);
      const wanted = element('inside', `${address},tcp:80 skbmark 0x5/0x1fff`);
      assert.equal(TABLES.ipset.same(without, set), false);
      assert.deepEqual(await applied([update(without, set), update(bare, wanted)]), {});
      await assertThere([set, wanted]);
    });
  }

  it('take what is done already for done', async () => {
    const entries = [setOf('svip'), element('svip', '10.244.0.1')];
    await applied(entries.map(create));
    assert.deepEqual(await applied(entries.map(create)), {});
    assert.deepEqual(await applied([remove(element('svip', '10.244.0.9'))]), {});
    await assertThere(entries);
  });

  it('of kube-router, with timeouts, are adopted as they are', async () => {
    tool(
      'ipset restore',
      'create svip hash:ip family inet hashsize 1024 maxelem 65536 timeout 0\nadd svip 10.244.0.1 timeout 0\n',
    );
    await assertThere([setOf('svip'), element('svip', '10.244.0.1')]);
    assert.deepEqual(await applied([create(element('svip', '10.244.0.2'))]), {});
    await assertThere([setOf('svip'), element('svip', '10.244.0.1'), element('svip', '10.244.0.2')]);
  });

  it('that are too small are made anew under the rules that match on them', async () => {
    const small = setOf('svip', 'hash:ip', 'ipv4', 2);
    const large = setOf('svip', 'hash:ip', 'ipv4', 100);
    const values = ['10.244.0.1', '10.244.0.2'].map(value => element('svip', value));
    await applied([small, ...values].map(create));
    tool('iptables-legacy -A INPUT -m set --match-set svip src -j ACCEPT');
    tool('ipset create fairway-swap hash:net');
    const third = element('svip', '10.244.0.3');
    assert.deepEqual(await applied([update(small, large), create(third)]), {});
    await assertThere([large, ...values, third]);
    assert.match(tool('ipset list svip'), /maxelem 100\b[\s\S]*References: 1\n/);
  });

  it('of another type are refused with what to do about it, and their elements with them', async () => {
    const there = setOf('svip');
    const wanted = setOf('svip', 'hash:ip,port');
    await applied([create(there)]);
    const other = [setOf('other'), element('other', '10.244.0.1')];
    const failed = await applied([update(there, wanted), create(element('svip', '10.244.0.1,tcp:80')), ...other.map(create)]);
    assert.deepEqual(Object.keys(failed).sort(), ['svip', 'svip 10.244.0.1,tcp:80']);
    assert.match(failed['svip'] ?? '', /FW_COMMAND_REFUSED .*hash:ip of ipv4, .*hash:ip,port of ipv4.*ipset destroy svip/);
    await assertThere([there, ...other]);
  });

  it('that somebody else made with another type fail, with their elements, and nothing else does', async () => {
    tool('ipset create svip hash:net');
    const wanted = [setOf('svip'), ...Array.from({ length: 100 }, (_, last) => element('svip', `10.244.0.${last}`))];
    const other = [setOf('other'), element('other', '10.244.0.1')];
    const failed = await applied([...wanted, ...other].map(create));
    assert.equal(Object.keys(failed).length, 101);
    assert.match(failed['svip'] ?? '', /FW_COMMAND_REFUSED .*set with the same name already exists/);
    await assertThere([setOf('svip', 'hash:net'), ...other]);
    assert.equal(spawned.filter(argv => argv[1] === 'restore').length, 2);
  });

  it('that are full refuse what is too much, and nothing else', async () => {
    const small = setOf('small', 'hash:ip', 'ipv4', 2);
    const values = Array.from({ length: 50 }, (_, last) => element('small', `10.244.0.${last}`));
    const other = [setOf('other'), element('other', '10.244.0.1')];
    const failed = await applied([small, ...values, ...other].map(create));
    assert.equal(Object.keys(failed).length, 48);
    assert.match(failed['small 10.244.0.49'] ?? '', /FW_COMMAND_REFUSED .*Hash is full/);
    await assertThere([small, ...values.slice(0, 2), ...other]);
  });

  it('refuse single elements by name', async () => {
    const good = [setOf('svip'), element('svip', '10.244.0.1'), element('svip', '10.244.0.2')];
    const bad = [
      element('svip', '10.244.0.3,tcp:80'),
      element('svip', 'fd00::1'),
      element('gone', '10.244.0.1'),
      element('svip', 'localhost'),
    ];
    const failed = await applied([...good.slice(0, 2), ...bad, ...good.slice(2)].map(create));
    assert.deepEqual(Object.keys(failed).sort(), bad.map(entry => TABLES.ipset.key(entry)).sort());
    assert.match(
      failed['gone 10.244.0.1'] ?? '',
      /ipset gone 10\.244\.0\.1: ipset said to 'add gone 10\.244\.0\.1': The set with the given name does not exist/,
    );
    await assertThere(good);
  });

  it('given nonsense keep what came before it, and others get all of theirs', async () => {
    const bad = Array.from({ length: 60 }, (_, last) => element('svip', `10.244.0.${last},tcp:80`));
    const other = [setOf('other'), element('other', '10.244.0.1')];
    const good = [setOf('svip'), element('svip', '10.244.0.1')];
    const failed = await applied([...good, ...bad, ...other].map(create));
    assert.deepEqual(Object.keys(failed).sort(), bad.map(entry => TABLES.ipset.key(entry)).sort());
    await assertThere([...good, ...other]);
  });

  it('are judged by what is there where too much is refused', async () => {
    const bad = Array.from({ length: 40 }, (_, last) => element(`gone-${last}`, '10.244.0.1'));
    const good = [setOf('svip'), element('svip', '10.244.0.1')];
    const failed = await applied([...good, ...bad].map(create));
    assert.equal(Object.keys(failed).length, 40);
    await assertThere(good);
  });

  it('in use by a rule are emptied but stay, and are named', async () => {
    const entries = [setOf('svip'), element('svip', '10.244.0.1')];
    await applied(entries.map(create));
    tool('iptables-legacy -A INPUT -m set --match-set svip src -j ACCEPT');
    const failed = await applied(entries.map(remove));
    assert.match(failed['svip'] ?? '', /FW_COMMAND_REFUSED .*in use by a kernel component/);
    assert.equal((await driver.read(new Map(), never)).size, 1);
  });

  it('that are foreign are neither read nor changed', async () => {
    tool(
      'ipset restore',
      'create foreign-1 hash:net\nadd foreign-1 10.0.0.0/8\ncreate foreign-2 hash:ip,port\nadd foreign-2 10.0.0.1,tcp:1\n',
    );
    const before = tool('ipset save');
    await applied(everyKind.map(create));
    await assertThere(everyKind);
    await applied(everyKind.map(remove));
    assert.equal(tool('ipset save'), before);
  });
});
