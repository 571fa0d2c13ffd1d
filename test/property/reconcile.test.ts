import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { instantOf } from '../../daemon/net/instant.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Entry, entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module } from '../../daemon/reconcile/module.ts';
import { type ReconcileObserver, Reconciler } from '../../daemon/reconcile/reconciler.ts';
import { LOCAL_TABLE, STAGES, TABLES } from '../../daemon/reconcile/tables.ts';
import { ManualClock } from '../fakes/clock.ts';
import { type FakeTables, fakeTables, stateOf } from '../fakes/tables.ts';

/** What the daemon is asked for: services by number, each with a scheduler; service n wants a link, an address, a route, a set element and a server. */
type Wish = ReadonlyMap<number, 'rr' | 'lc'>;

const SET = 'kube-router-svip';

function entriesOf(service: number, scheduler: string): readonly Entry[] {
  const address = mustParseAddress(`10.96.0.${service}`);
  return [
    entry('link', { name: 'kube-dummy-if', type: 'dummy' }),
    entry('address', { link: 'kube-dummy-if', address }),
    entry('route', {
      type: 'local',
      table: LOCAL_TABLE,
      destination: hostPrefix(address),
      link: 'kube-dummy-if',
      source: mustParseAddress('192.168.1.1'),
      standsFor: 'address',
    }),
    entry('ipset', { kind: 'set', name: SET, type: 'hash:ip', family: 'ipv4', maxElements: 65536 }),
    entry('ipset', { kind: 'element', set: SET, value: address }),
    entry('iptables', {
      kind: 'chain',
      family: 'ipv4',
      table: 'filter',
      name: 'FAIRWAY-INPUT',
      rules: [`-m set --match-set ${SET} dst -j DROP`],
    }),
    entry('virtualServer', {
      listener: { by: 'address', protocol: 'TCP', address, port: 80 },
      scheduler,
      schedulerFlags: [],
      persistenceSeconds: 0,
      destinations: [{ address: mustParseAddress('10.244.0.1'), port: service, weight: 1, forwarding: 'masquerade' }],
    }),
  ];
}

class WishModule implements Module {
  readonly name = 'wish';
  readonly reads = [];
  readonly writes = STAGES;
  wish: Wish = new Map();

  plan(): { fragments: ReadonlyMap<string, Fragment> } {
    const fragments = [...this.wish].map(([service, scheduler]): [string, Fragment] => {
      const owner = { kind: 'Service', key: `default/${service}`, since: service };
      return [ownerKey(owner), { owner, entries: entriesOf(service, scheduler), diagnostics: [] }];
    });
    return { fragments: new Map(fragments) };
  }
}

const SILENT: ReconcileObserver = {
  planned: () => undefined,
  planFailed: (_module, error) => {
    throw error;
  },
  applied: () => undefined,
  drifted: () => undefined,
  unreadable: () => undefined,
};

// The wish module reads nothing of it.
const NO_SNAPSHOT = { revision: 0, now: instantOf(0) } as Snapshot;

type Step =
  | { readonly do: 'wish'; readonly service: number; readonly scheduler: 'rr' | 'lc' | 'none' }
  | { readonly do: 'refuse'; readonly table: keyof FakeTables; readonly nth: number }
  | { readonly do: 'break'; readonly table: keyof FakeTables }
  | { readonly do: 'heal' }
  | { readonly do: 'tamper'; readonly table: keyof FakeTables; readonly nth: number }
  | { readonly do: 'flush'; readonly table: keyof FakeTables }
  | { readonly do: 'wait'; readonly seconds: number };

const table = fc.constantFrom<keyof FakeTables>('link', 'address', 'route', 'ipset', 'iptables', 'virtualServer');
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wish' as const),
      service: fc.integer({ min: 1, max: 6 }),
      scheduler: fc.constantFrom('rr' as const, 'lc' as const, 'none' as const),
    }),
  },
  fc.record({ do: fc.constant('refuse' as const), table, nth: fc.nat(6) }),
  fc.record({ do: fc.constant('break' as const), table }),
  fc.record({ do: fc.constant('heal' as const) }),
  fc.record({ do: fc.constant('tamper' as const), table, nth: fc.nat(6) }),
  fc.record({ do: fc.constant('flush' as const), table }),
  fc.record({ do: fc.constant('wait' as const), seconds: fc.integer({ min: 1, max: 70 }) }),
);

/** Keys a fake refuses or a tamperer deletes: whatever could be there. */
function keysOf(name: keyof FakeTables): readonly string[] {
  const keys = [1, 2, 3, 4, 5, 6].flatMap(service =>
    entriesOf(service, 'rr')
      .filter(({ table }) => table === name)
      .map(({ key }) => key),
  );
  return [...new Set(keys)];
}

function disturb(tables: FakeTables, action: Step): void {
  if (action.do === 'heal') {
    for (const name of Object.keys(tables) as (keyof FakeTables)[]) {
      tables[name].refused.clear();
      tables[name].broken = undefined;
    }
  } else if (action.do === 'break') tables[action.table].broken = 'the tool is gone';
  else if (action.do === 'flush') tables[action.table].state.clear();
  else if (action.do === 'refuse' || action.do === 'tamper') {
    const keys = keysOf(action.table);
    const key = keys[action.nth % keys.length] ?? '';
    if (action.do === 'refuse') tables[action.table].refused.set(key, 'no');
    else tables[action.table].state.delete(key);
  }
}

describe('whatever fails on the way', () => {
  it('the tables come to be as planned once tools work again, and what fails holds up nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async steps => {
        const clock = new ManualClock();
        const tables = fakeTables();
        tables.virtualServer.state.set('TCP 10.96.0.99:80', {
          ...(entriesOf(99, 'rr').at(-1)?.value as never as object),
        } as never);
        const module = new WishModule();
        const wish = new Map<number, 'rr' | 'lc'>();
        module.wish = wish;
        const reconciler = new Reconciler({
          modules: [module],
          drivers: tables,
          clock,
          backoff: { delay: failures => 500 * 2 ** Math.min(failures, 7) },
          breathe: () => Promise.resolve(),
          observer: SILENT,
        });
        const signal = new AbortController().signal;
        for (const action of steps) {
          if (action.do === 'wish') {
            if (action.scheduler === 'none') wish.delete(action.service);
            else wish.set(action.service, action.scheduler);
          } else if (action.do === 'wait') await clock.advance(action.seconds * 1000);
          else disturb(tables, action);
          await reconciler.round(NO_SNAPSHOT, signal);
        }
        disturb(tables, { do: 'heal' });
        for (const { table: name } of reconciler.status()) reconciler.audit(name);
        for (let round = 0; round < 4; round++) {
          await clock.advance(130_000);
          await reconciler.round(NO_SNAPSHOT, signal);
        }
        const wanted = new Map(
          [...wish]
            .flatMap(([service, scheduler]) => entriesOf(service, scheduler))
            .map(each => [`${each.table} ${each.key}`, each]),
        );
        assert.deepEqual(stateOf(tables), [...wanted.keys()].sort());
        for (const each of wanted.values()) {
          if (each.table !== 'virtualServer') continue;
          const actual = tables.virtualServer.state.get(each.key);
          assert.ok(actual !== undefined && TABLES.virtualServer.same(actual, each.value));
        }
      }),
      { numRuns: 300 },
    );
  });
});
