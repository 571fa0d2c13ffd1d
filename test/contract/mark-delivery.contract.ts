// Runs as root: in the lab's guest, or in a network namespace of a machine whose lo is up.
// Marks: ours 0x1000 and 0x2000, kube-router's 0x123.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { markDeliveryDriver } from '../../daemon/kernel/mark-delivery.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import type { Family } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { MARK_DELIVERY_TABLE, type MarkDelivery, SERVICE_TABLES } from '../../daemon/reconcile/service-tables.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock() });
const deliveries = markDeliveryDriver({ runner });
const keyOf = SERVICE_TABLES.markDelivery.key;
const delivery = (family: Family, mark = 0x1000): MarkDelivery => ({ family, mark, table: MARK_DELIVERY_TABLE });
const create = (to: MarkDelivery): Change<MarkDelivery> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: MarkDelivery): Change<MarkDelivery> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (...entries: readonly MarkDelivery[]): ReadonlyMap<string, MarkDelivery> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));
const wanted = [delivery('ipv4'), delivery('ipv6')];
const [v4, v6] = wanted as [MarkDelivery, MarkDelivery];
const NONE_FAILED = { failed: new Map() };
const OPTIONS = ['-4', '-6'] as const;

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

const rules = (): string => OPTIONS.map(option => ip(`${option} -N rule show`)).join('');
/** A table that was never used is an error to ip. */
const routes = (): string =>
  OPTIONS.map(option => spawnSync('ip', [option, 'route', 'show', 'table', '78'], { encoding: 'utf8' }).stdout).join('');
const rulesOf = (family: Family): number =>
  ip(`${family === 'ipv6' ? '-6' : '-4'} -N rule show`).match(/0x1000\/0x1000/g)?.length ?? 0;

describe('delivery by mark', () => {
  let pristine = '';

  before(() => {
    pristine = rules();
  });

  afterEach(() => {
    for (const option of OPTIONS) {
      while (spawnSync('ip', [option, 'rule', 'del', 'lookup', '78']).status === 0);
      spawnSync('ip', [option, 'route', 'flush', 'table', '78']);
    }
    assert.equal(rules(), pristine);
  });

  it('in both families is made, read back as the very objects and deleted, with nothing left', async () => {
    assert.deepEqual(await deliveries.read(keyed(...wanted), never), new Map());
    assert.deepEqual(await deliveries.apply(wanted.map(create), never), NONE_FAILED);
    assert.equal(rules().match(/^32764:\s+from all fwmark 0x1000\/0x1000 lookup 78/gm)?.length, 2);
    for (const option of OPTIONS) assert.match(ip(`${option} route show table 78`), /^local default dev lo /);
    const found = await deliveries.read(keyed(...wanted), never);
    assert.equal(found.size, 2);
    for (const entry of wanted) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    assert.deepEqual(await deliveries.read(new Map(), never), keyed(...wanted));
    assert.deepEqual(await deliveries.apply(wanted.map(remove), never), NONE_FAILED);
    assert.deepEqual([rules(), routes()], [pristine, '']);
    assert.deepEqual(await deliveries.apply(wanted.map(remove), never), NONE_FAILED, 'gone already');
  });

  it('hands packets with the mark to this host, whatever their address, and no others', async () => {
    assert.deepEqual(await deliveries.apply(wanted.map(create), never), NONE_FAILED);
    for (const [option, address] of [
      ['-4', '203.0.113.9'],
      ['-6', '2001:db8::9'],
    ] as const) {
      assert.match(ip(`${option} route get ${address} mark 0x1000`), /^local /);
      assert.match(ip(`${option} route get ${address} mark 0x1005`), /^local /, 'beside other bits');
      const { status, stdout } = spawnSync('ip', [option, 'route', 'get', address, 'mark', '0x5'], { encoding: 'utf8' });
      assert.ok(status !== 0 || !stdout.startsWith('local '), stdout);
    }
  });

  it('that is there already is not made twice; one that is there twice is missing, and one is left', async () => {
    for (const attempt of [1, 2]) {
      assert.deepEqual(await deliveries.apply(wanted.map(create), never), NONE_FAILED);
      assert.deepEqual([rulesOf('ipv4'), rulesOf('ipv6')], [1, 1], `attempt ${attempt}`);
    }
    for (const option of OPTIONS) ip(`${option} rule add fwmark 0x1000/0x1000 lookup 78 priority 100`);
    assert.deepEqual(await deliveries.read(keyed(...wanted), never), new Map());
    assert.deepEqual(await deliveries.apply(wanted.map(create), never), NONE_FAILED);
    assert.deepEqual([rulesOf('ipv4'), rulesOf('ipv6')], [1, 1]);
    assert.deepEqual(await deliveries.read(keyed(...wanted), never), keyed(...wanted));
  });

  it('goes at whatever priority and however often it is there', async () => {
    for (const priority of [100, 200, 32764]) ip(`rule add fwmark 0x1000/0x1000 lookup 78 priority ${priority}`);
    assert.deepEqual(await deliveries.read(new Map(), never), keyed(v4));
    assert.deepEqual(await deliveries.apply([remove(v4)], never), NONE_FAILED);
    assert.deepEqual([rules(), routes()], [pristine, '']);
  });

  it('whose route is missing, or is another, counts as missing and is mended', async () => {
    await deliveries.apply(wanted.map(create), never);
    for (const option of OPTIONS) {
      const entry = option === '-4' ? v4 : v6;
      ip(`${option} route del local default dev lo table 78`);
      assert.equal((await deliveries.read(keyed(...wanted), never)).has(keyOf(entry)), false, option);
      assert.deepEqual(await deliveries.apply([create(entry)], never), NONE_FAILED, option);
      assert.equal((await deliveries.read(keyed(...wanted), never)).get(keyOf(entry)), entry, option);
    }
    assert.deepEqual([rulesOf('ipv4'), rulesOf('ipv6')], [1, 1]);
  });

  it('by one mark leaves the route to another', async () => {
    const others = [delivery('ipv4', 0x2000), delivery('ipv6', 0x2000)];
    await deliveries.apply([...wanted, ...others].map(create), never);
    assert.deepEqual(await deliveries.apply(wanted.map(remove), never), NONE_FAILED);
    assert.deepEqual(await deliveries.read(keyed(...others), never), keyed(...others));
    assert.deepEqual(await deliveries.apply([...wanted.map(create), ...others.map(remove)], never), NONE_FAILED);
    assert.deepEqual(await deliveries.read(keyed(...wanted, ...others), never), keyed(...wanted));
    assert.deepEqual(await deliveries.apply(wanted.map(remove), never), NONE_FAILED);
    assert.deepEqual([rules(), routes()], [pristine, '']);
  });

  it('by kube-router, whose marks have no mask, is foreign: it stays, and keeps the route that it shares', async () => {
    for (const option of OPTIONS) ip(`${option} rule add fwmark 0x123 lookup 78`);
    const foreign = rules();
    assert.deepEqual(await deliveries.read(new Map(), never), new Map());
    await deliveries.apply(wanted.map(create), never);
    assert.deepEqual(await deliveries.read(keyed(...wanted), never), keyed(...wanted));
    assert.deepEqual(await deliveries.apply(wanted.map(remove), never), NONE_FAILED);
    assert.equal(rules(), foreign);
    assert.equal(routes().match(/local default dev lo/g)?.length, 2);
  });

  it('by rules that ask more, or with another mask or table, is foreign', async () => {
    const foreign = [
      'fwmark 0x1000/0x1000 iif lo lookup 78 priority 7',
      'fwmark 0x1000/0xf000 lookup 78',
      'fwmark 0x1000/0x1000 lookup 77',
    ];
    for (const text of foreign) ip(`rule add ${text}`);
    const before = rules();
    assert.deepEqual(await deliveries.read(new Map(), never), new Map());
    await deliveries.apply([create(v4)], never);
    assert.deepEqual(await deliveries.apply([remove(v4)], never), NONE_FAILED);
    assert.equal(rules(), before);
    ip('rule del fwmark 0x1000/0x1000 lookup 77');
  });
});
