import assert from 'node:assert/strict';
import type { Snapshot } from '../../../daemon/cluster/snapshot.ts';
import { entry, type Fragment, ownerKey } from '../../../daemon/reconcile/fragment.ts';
import type { Module } from '../../../daemon/reconcile/module.ts';
import { Reconciler } from '../../../daemon/reconcile/reconciler.ts';
import { chainKey, type IptablesEntry } from '../../../daemon/reconcile/tables.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { fakeTables } from '../../fakes/tables.ts';

const OWNER = { kind: 'Test', key: 'x', since: 0 };

function chain(name: string, rules: readonly string[], lacking?: 'rule by rule'): IptablesEntry {
  return { kind: 'chain', family: 'ipv4', table: 'filter', name, rules, ...(lacking === undefined ? {} : { lacking }) };
}

describe('a set that the kernel refuses', () => {
  const wanted: Fragment = {
    owner: OWNER,
    diagnostics: [],
    entries: [
      ...['good', 'bad'].map(name => entry('ipset', { kind: 'set', name, type: 'hash:ip', family: 'ipv4', maxElements: 65_536 })),
      entry('iptables', chain('FAIRWAY-WHOLE', ['-m set --match-set bad src -j DROP'])),
      entry(
        'iptables',
        chain(
          'FAIRWAY-DISPATCH',
          ['-m set --match-set good src -g FAIRWAY-GOOD', '-m set --match-set bad src -g FAIRWAY-BAD', '-j DROP'],
          'rule by rule',
        ),
      ),
      entry('iptables', chain('FAIRWAY-GOOD', ['-j ACCEPT'])),
      entry('iptables', chain('FAIRWAY-BAD', ['-m set --match-set bad dst -j ACCEPT', '-j DROP'], 'rule by rule')),
    ],
  };
  const module: Module = {
    name: 'test',
    reads: [],
    writes: ['ipset', 'iptables'],
    plan: () => ({ fragments: new Map([[ownerKey(OWNER), wanted]]) }),
  };

  it('costs the rules that need it where each stands for itself, holds up a chain that does not, and both come when it does', async () => {
    const tables = fakeTables();
    const clock = new ManualClock();
    const reconciler = new Reconciler({
      modules: [module],
      drivers: tables,
      clock,
      backoff: { delay: () => 500 },
      breathe: () => Promise.resolve(),
      observer: { planned() {}, planFailed() {}, applied() {}, drifted() {}, unreadable() {} },
    });
    const rulesOf = (name: string): readonly string[] | undefined => {
      const found = tables.iptables.state.get(chainKey('ipv4', 'filter', name));
      return found?.kind === 'chain' ? found.rules : undefined;
    };
    const { signal } = new AbortController();
    tables.ipset.refused.set('bad', 'no memory');
    // Planners look at nothing here.
    await reconciler.round({} as Snapshot, signal);
    assert.deepEqual(rulesOf('FAIRWAY-DISPATCH'), ['-m set --match-set good src -g FAIRWAY-GOOD', '-j DROP']);
    assert.deepEqual(rulesOf('FAIRWAY-BAD'), ['-j DROP']);
    assert.equal(rulesOf('FAIRWAY-WHOLE'), undefined);

    const writes = tables.iptables.written.length;
    await reconciler.round({} as Snapshot, signal);
    assert.equal(tables.iptables.written.length, writes, 'what is as good as it can be is not written again');

    tables.ipset.refused.clear();
    await clock.advance(1000);
    await reconciler.round({} as Snapshot, signal);
    assert.deepEqual(rulesOf('FAIRWAY-DISPATCH')?.length, 3);
    assert.deepEqual(rulesOf('FAIRWAY-BAD')?.length, 2);
    assert.deepEqual(rulesOf('FAIRWAY-WHOLE'), ['-m set --match-set bad src -j DROP']);
  });
});

describe('a table that could never be read', () => {
  it('costs a chain none of its rules: what cannot be seen may well be there', async () => {
    const tables = fakeTables();
    const clock = new ManualClock();
    const rules = ['-m set --match-set good src -j ACCEPT', '-j DROP'];
    const module: Module = {
      name: 'test',
      reads: [],
      writes: ['ipset', 'iptables'],
      plan: () => ({
        fragments: new Map([
          [
            ownerKey(OWNER),
            {
              owner: OWNER,
              diagnostics: [],
              entries: [
                entry('ipset', { kind: 'set', name: 'good', type: 'hash:ip', family: 'ipv4', maxElements: 65_536 }),
                entry('iptables', chain('FAIRWAY-A', rules, 'rule by rule')),
              ],
            },
          ],
        ]),
      }),
    };
    const key = chainKey('ipv4', 'filter', 'FAIRWAY-A');
    const former = chain('FAIRWAY-A', ['-m set --match-set good src -p tcp -j ACCEPT', '-j DROP']);
    tables.iptables.state.set(key, former);
    tables.ipset.broken = 'ipset save fails';
    const reconciler = new Reconciler({
      modules: [module],
      drivers: tables,
      clock,
      backoff: { delay: () => 500 },
      breathe: () => Promise.resolve(),
      observer: { planned() {}, planFailed() {}, applied() {}, drifted() {}, unreadable() {} },
    });
    const { signal } = new AbortController();
    await reconciler.round({} as Snapshot, signal);
    assert.equal(tables.iptables.state.get(key), former);

    tables.ipset.broken = undefined;
    await clock.advance(1000);
    await reconciler.round({} as Snapshot, signal);
    const found = tables.iptables.state.get(key);
    assert.deepEqual(found?.kind === 'chain' ? found.rules : undefined, rules);
  });
});
