// Runs as root: in the lab's guest, or in a network namespace of a machine.
// Address plan: pods of this node 10.244.1.0/24 and fd00:244:1::/64.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { ruleDriver } from '../../daemon/kernel/rule.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { POD_SOURCE_TABLE, type SourceRule } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: () => undefined });
const rules = ruleDriver({ runner });
const keyOf = TABLES.rule.key;
const rule = (from: string): SourceRule => ({ from: mustParsePrefix(from), table: POD_SOURCE_TABLE });
const create = (to: SourceRule): Change<SourceRule> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: SourceRule): Change<SourceRule> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (entries: readonly SourceRule[]): ReadonlyMap<string, SourceRule> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));
const wanted = ['10.244.1.0/24', '10.244.9.9/32', 'fd00:244:1::/64', 'fd00:244:9::9/128'].map(rule);
const NONE_FAILED = { failed: new Map() };

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

const shown = (): string => ip('-4 rule show') + ip('-6 rule show');

describe('rules', () => {
  let pristine = '';

  before(() => {
    pristine = shown();
  });

  afterEach(() => {
    for (const family of ['-4', '-6']) while (spawnSync('ip', [family, 'rule', 'del', 'lookup', '77']).status === 0);
    assert.equal(shown(), pristine);
  });

  it('of both families are made, read back and deleted', async () => {
    assert.deepEqual(await rules.read(new Map(), never), new Map());
    assert.deepEqual(await rules.apply(wanted.map(create), never), NONE_FAILED);
    const found = await rules.read(keyed(wanted), never);
    assert.equal(found.size, wanted.length);
    for (const entry of wanted) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    assert.deepEqual(await rules.apply(wanted.map(remove), never), NONE_FAILED);
    assert.equal(shown(), pristine);
  });

  it('by kube-router, at any priority and with its name of the table, are ours', async () => {
    ip('rule add from 10.244.1.0/24 lookup 77 priority 100');
    spawnSync('sh', ['-c', 'echo "77 kube-router" >> /etc/iproute2/rt_tables']);
    assert.match(shown(), /100:\s+from 10\.244\.1\.0\/24 lookup kube-router/);
    assert.deepEqual(await rules.read(new Map(), never), keyed([rule('10.244.1.0/24')]));
    spawnSync('sed', ['-i', '/^77 kube-router$/d', '/etc/iproute2/rt_tables']);
    assert.deepEqual(await rules.apply([remove(rule('10.244.1.0/24'))], never), NONE_FAILED);
    assert.equal(shown(), pristine);
  });

  it('that are there already are not made twice; of several one is left, and all go', async () => {
    for (const priority of [100, 200, 300]) ip(`rule add from 10.244.1.0/24 lookup 77 priority ${priority}`);
    assert.deepEqual(await rules.apply(wanted.map(create), never), NONE_FAILED);
    assert.equal(ip('rule show').match(/from 10\.244\.1\.0\/24/g)?.length, 1);
    assert.deepEqual(await rules.apply(wanted.map(create), never), NONE_FAILED);
    assert.equal(ip('rule show').match(/from 10\.244\.1\.0\/24/g)?.length, 1);
    ip('rule add from 10.244.1.0/24 lookup 77 priority 100');
    assert.deepEqual(await rules.apply([...wanted, rule('10.77.0.0/16')].map(remove), never), NONE_FAILED);
    assert.equal(shown(), pristine);
  });

  it('of others stay: to another table, or that ask more', async () => {
    const foreign = ['from 10.244.1.0/24 lookup 78', 'from 10.244.1.0/24 iif lo lookup 77', 'fwmark 0x7 lookup 77'];
    for (const text of foreign) ip(`rule add ${text}`);
    assert.deepEqual(await rules.read(new Map(), never), new Map());
    await rules.apply([create(rule('10.244.1.0/24'))], never);
    assert.deepEqual(await rules.apply([remove(rule('10.244.1.0/24'))], never), NONE_FAILED);
    for (const text of foreign) ip(`rule del ${text}`);
  });
});
