import assert from 'node:assert/strict';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { type Entry, entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module } from '../../daemon/reconcile/module.ts';
import { Reconciler } from '../../daemon/reconcile/reconciler.ts';
import { STAGES, type TableName } from '../../daemon/reconcile/tables.ts';
import { type RecordedApply, recordApplies, takeApplies } from '../fakes/applies.ts';
import { ManualClock } from '../fakes/clock.ts';
import { fakeTables } from '../fakes/tables.ts';

const LINGER_MS = 1000;
const RETRY_MS = 500;
const OWNER = { kind: 'Test', key: 'x', since: 0 };
const { signal } = new AbortController();

function set(name: string, ...elements: readonly string[]): readonly Entry[] {
  return [
    entry('ipset', { kind: 'set', name, type: 'hash:ip', family: 'ipv4', maxElements: 65_536 }),
    ...elements.map(value => entry('ipset', { kind: 'element', set: name, value })),
  ];
}

function chain(name: string, ...rules: readonly string[]): Entry {
  return entry('iptables', { kind: 'chain', family: 'ipv4', table: 'filter', name, rules });
}

function match(name: string): string {
  return `-m set --match-set ${name} src -j ACCEPT`;
}

const HOOK = entry('iptables', {
  kind: 'hook',
  family: 'ipv4',
  table: 'filter',
  from: 'FORWARD',
  to: 'FAIRWAY-X',
  order: 10,
  match: '',
});
const CHAIN = 'ipv4 filter FAIRWAY-X';

/** A module that wants what the test says, and a reconciler on tables in memory. */
class Scene {
  readonly clock = new ManualClock();
  readonly tables = fakeTables();
  readonly applies: RecordedApply[] = recordApplies(this.tables);
  readonly #reconciler: Reconciler;
  #wanted: readonly Entry[] = [];

  constructor(deviations: { readonly writes?: readonly TableName[]; readonly tables?: readonly TableName[] } = {}) {
    const module: Module = {
      name: 'test',
      reads: [],
      writes: deviations.writes ?? ['ipset', 'iptables'],
      plan: () => {
        const fragment: Fragment = { owner: OWNER, entries: this.#wanted, diagnostics: [] };
        return { fragments: new Map([[ownerKey(OWNER), fragment]]) };
      },
    };
    this.#reconciler = new Reconciler({
      modules: [module],
      drivers: this.tables,
      clock: this.clock,
      backoff: { delay: () => RETRY_MS },
      breathe: () => Promise.resolve(),
      observer: { planned() {}, planFailed() {}, applied() {}, drifted() {}, unreadable() {} },
      lingerMs: LINGER_MS,
      ...(deviations.tables === undefined ? {} : { tables: deviations.tables }),
    });
  }

  /** One round with this wanted; returns the batches it wrote, and when the next round is due. */
  async want(...wanted: readonly (Entry | readonly Entry[])[]): Promise<readonly RecordedApply[]> {
    this.#wanted = wanted.flat();
    return (await this.again()).applies;
  }

  /** Another round with the same wish. */
  async again(): Promise<{ readonly applies: readonly RecordedApply[]; readonly dueIn: number | undefined }> {
    // Nothing here looks at the cluster.
    const dueAt = await this.#reconciler.round({} as Snapshot, signal);
    return { applies: takeApplies(this.applies), dueIn: dueAt === undefined ? undefined : dueAt - this.clock.now() };
  }
}

describe('sets and the chains that use them', () => {
  it('a new set is complete before the chain that uses it comes: one batch of each, the elements in the first', async () => {
    const scene = new Scene();
    assert.deepEqual(await scene.want(set('a', '10.0.0.1', '10.0.0.2'), chain('FAIRWAY-X', match('a')), HOOK), [
      { table: 'ipset', changes: ['create a', 'create a 10.0.0.1', 'create a 10.0.0.2'] },
      { table: 'iptables', changes: [`create ${CHAIN}`, 'create ipv4 filter FORWARD -> FAIRWAY-X'] },
    ]);
  });

  it('a set in use changes after its chain did, in one batch with what goes', async () => {
    const scene = new Scene();
    await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    assert.deepEqual(await scene.want(set('a', '10.0.0.2'), chain('FAIRWAY-X', match('a'), '-j DROP'), HOOK), [
      { table: 'iptables', changes: [`update ${CHAIN}`] },
      { table: 'ipset', changes: ['delete a 10.0.0.1', 'create a 10.0.0.2'] },
    ]);
  });

  it('of a set in use and a new one, what nothing uses yet comes before the chain, and the rest behind it', async () => {
    const scene = new Scene();
    await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    assert.deepEqual(
      await scene.want(set('a', '10.0.0.1', '10.0.0.9'), set('b', '10.0.0.5'), chain('FAIRWAY-X', match('a'), match('b')), HOOK),
      [
        { table: 'ipset', changes: ['create b', 'create b 10.0.0.5'] },
        { table: 'iptables', changes: [`update ${CHAIN}`] },
        { table: 'ipset', changes: ['create a 10.0.0.9'] },
      ],
    );
  });

  it('an element that says more about one in use comes late, although its own set is new', async () => {
    const scene = new Scene();
    await scene.want(set('all', '10.0.0.1'), chain('FAIRWAY-X', match('all')), HOOK);
    const finer = (value: string): Entry => entry('ipset', { kind: 'element', set: 'finer', value, refines: 'all' });
    assert.deepEqual(
      await scene.want(
        set('all', '10.0.0.1', '10.0.0.2'),
        [...set('finer'), finer('10.0.0.1'), finer('10.0.0.2')],
        chain('FAIRWAY-X', match('finer'), match('all')),
        HOOK,
      ),
      [
        // What is not in use may be complete before it is.
        { table: 'ipset', changes: ['create finer', 'create finer 10.0.0.2'] },
        { table: 'iptables', changes: [`update ${CHAIN}`] },
        { table: 'ipset', changes: ['create all 10.0.0.2', 'create finer 10.0.0.1'] },
      ],
    );
  });

  it('where no chain changes, elements that come and go are one batch', async () => {
    const scene = new Scene();
    await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    const applies = await scene.want(set('a', '10.0.0.2'), chain('FAIRWAY-X', match('a')), HOOK);
    assert.equal(applies.length, 1);
    assert.deepEqual([...(applies[0]?.changes ?? [])].sort(), ['create a 10.0.0.2', 'delete a 10.0.0.1']);
  });

  it('where only a chain changes, sets are not written', async () => {
    const scene = new Scene();
    await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    assert.deepEqual(await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', '-j DROP', match('a')), HOOK), [
      { table: 'iptables', changes: [`update ${CHAIN}`] },
    ]);
  });

  it('elements of a set in use wait for a chain that is refused no longer than the round', async () => {
    const scene = new Scene();
    await scene.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    scene.tables.iptables.refused.set(CHAIN, 'no memory');
    const applies = await scene.want(set('a', '10.0.0.2'), chain('FAIRWAY-X', match('a'), '-j DROP'), HOOK);
    assert.deepEqual(
      applies.map(({ table }) => table),
      ['iptables', 'ipset'],
    );
    assert.ok(scene.tables.ipset.state.has('a 10.0.0.2'));
  });
});

describe('sets that nothing uses any more', () => {
  /** A chain that no longer uses the set `old`. */
  async function abandoned(): Promise<Scene> {
    const scene = new Scene();
    await scene.want(set('old', '10.0.0.1', '10.0.0.2'), set('kept'), chain('FAIRWAY-X', match('old'), match('kept')), HOOK);
    assert.deepEqual(await scene.want(set('kept'), chain('FAIRWAY-X', match('kept')), HOOK), [
      { table: 'iptables', changes: [`update ${CHAIN}`] },
    ]);
    return scene;
  }

  it('linger a while, and go when it is over with all that is in them', async () => {
    const scene = await abandoned();
    const { applies, dueIn } = await scene.again();
    assert.deepEqual(applies, []);
    assert.equal(dueIn, LINGER_MS);
    await scene.clock.advance(LINGER_MS - 1);
    assert.deepEqual((await scene.again()).applies, []);
    await scene.clock.advance(1);
    const later = await scene.again();
    assert.deepEqual(later.applies, [{ table: 'ipset', changes: ['delete old', 'delete old 10.0.0.1', 'delete old 10.0.0.2'] }]);
    assert.equal(later.dueIn, undefined);
  });

  it('go along with the next change of sets', async () => {
    const scene = await abandoned();
    const applies = await scene.want(set('kept', '10.0.0.7'), chain('FAIRWAY-X', match('kept')), HOOK);
    assert.equal(applies.length, 1);
    assert.deepEqual([...(applies[0]?.changes ?? [])].sort(), [
      'create kept 10.0.0.7',
      'delete old',
      'delete old 10.0.0.1',
      'delete old 10.0.0.2',
    ]);
    assert.equal((await scene.again()).dueIn, undefined);
  });

  it('lose what is stale before a chain uses them again', async () => {
    const scene = await abandoned();
    assert.deepEqual(
      await scene.want(set('old', '10.0.0.2'), set('kept'), chain('FAIRWAY-X', match('old'), match('kept')), HOOK),
      [
        { table: 'ipset', changes: ['delete old 10.0.0.1'] },
        { table: 'iptables', changes: [`update ${CHAIN}`] },
      ],
    );
    assert.ok(scene.tables.ipset.state.has('old 10.0.0.2'));
  });

  it('are due no more once they are used again: nothing is left to sweep, no round comes without an event', async () => {
    const scene = await abandoned();
    await scene.want(set('old', '10.0.0.1', '10.0.0.2'), set('kept'), chain('FAIRWAY-X', match('old'), match('kept')), HOOK);
    assert.equal((await scene.again()).dueIn, undefined);
    await scene.clock.advance(LINGER_MS);
    assert.deepEqual(await scene.again(), { applies: [], dueIn: undefined });
  });

  it('linger anew, and as long, when they are abandoned again later', async () => {
    const scene = await abandoned();
    await scene.want(set('old', '10.0.0.1', '10.0.0.2'), set('kept'), chain('FAIRWAY-X', match('old'), match('kept')), HOOK);
    await scene.clock.advance(10 * LINGER_MS);
    await scene.again();
    await scene.want(set('kept'), chain('FAIRWAY-X', match('kept')), HOOK);
    assert.deepEqual(await scene.again(), { applies: [], dueIn: LINGER_MS });
  });

  it('are found by a daemon that starts anew, and go within the same while', async () => {
    const scene = await abandoned();
    const next = new Scene();
    for (const name of ['ipset', 'iptables'] as const) {
      for (const [key, value] of scene.tables[name].state) next.tables[name].state.set(key, value as never);
    }
    await next.want(set('kept'), chain('FAIRWAY-X', match('kept')), HOOK);
    await next.clock.advance(LINGER_MS);
    await next.again();
    assert.deepEqual([...next.tables.ipset.state.keys()], ['kept']);
  });

  it('stay as long as a chain that cannot be changed uses them', async () => {
    const scene = new Scene();
    await scene.want(set('old', '10.0.0.1'), chain('FAIRWAY-X', match('old')), HOOK);
    scene.tables.iptables.refused.set(CHAIN, 'no memory');
    await scene.want(chain('FAIRWAY-X', '-j DROP'), HOOK);
    await scene.clock.advance(LINGER_MS);
    await scene.again();
    assert.ok(scene.tables.ipset.state.has('old'), 'the kernel would refuse to destroy it');
    assert.ok(
      !scene.tables.ipset.state.has('old 10.0.0.1'),
      'the old rule allows nobody any more, rather than who was there once',
    );
    scene.tables.iptables.refused.clear();
    await scene.clock.advance(LINGER_MS);
    await scene.again();
    await scene.clock.advance(LINGER_MS);
    await scene.again();
    assert.deepEqual([...scene.tables.ipset.state.keys()], []);
  });

  it('are tried again after a refusal in time, not round after round', async () => {
    const scene = await abandoned();
    scene.tables.ipset.refused.set('old', 'in use by a kernel component');
    await scene.clock.advance(LINGER_MS);
    assert.equal((await scene.again()).dueIn, RETRY_MS);
    await scene.clock.advance(RETRY_MS);
    // They linger again; that the time of the next try has come makes nothing due before.
    assert.deepEqual(await scene.again(), { applies: [], dueIn: LINGER_MS });
    scene.tables.ipset.refused.clear();
    await scene.clock.advance(LINGER_MS);
    assert.equal((await scene.again()).dueIn, undefined);
    assert.deepEqual([...scene.tables.ipset.state.keys()], ['kept']);
  });

  it('go whole where their chain goes with them: no element is taken out while the chain still asks', async () => {
    const scene = new Scene();
    await scene.want(set('old', '10.0.0.1'), chain('FAIRWAY-X', '-j FAIRWAY-Y'), chain('FAIRWAY-Y', match('old')), HOOK);
    const applies = [...(await scene.want(chain('FAIRWAY-X'), HOOK))];
    for (let round = 0; round < 4; round++) {
      await scene.clock.advance(LINGER_MS);
      applies.push(...(await scene.again()).applies);
    }
    assert.deepEqual([...scene.tables.ipset.state.keys()], []);
    const order = applies.map(({ table, changes }) => `${table}: ${changes.join(', ')}`);
    assert.deepEqual(order, [
      `iptables: update ${CHAIN}`,
      'iptables: delete ipv4 filter FAIRWAY-Y',
      'ipset: delete old, delete old 10.0.0.1',
    ]);
  });
});

describe('tables', () => {
  it('that no module writes are neither read nor changed', async () => {
    const scene = new Scene({ writes: ['ipset'] });
    scene.tables.iptables.state.set(CHAIN, { kind: 'chain', family: 'ipv4', table: 'filter', name: 'FAIRWAY-X', rules: [] });
    await scene.want(set('a', '10.0.0.1'));
    await scene.clock.advance(LINGER_MS);
    await scene.again();
    assert.deepEqual(
      STAGES.map(name => scene.tables[name].reads),
      STAGES.map(name => (name === 'ipset' ? 1 : 0)),
    );
    assert.ok(scene.tables.iptables.state.has(CHAIN));
    assert.deepEqual(scene.tables.iptables.written, []);
  });

  it('all are emptied by a cleanup, the users before what they use', async () => {
    const before = new Scene();
    await before.want(set('a', '10.0.0.1'), chain('FAIRWAY-X', match('a')), HOOK);
    const cleanup = new Scene({ writes: [], tables: STAGES });
    for (const name of ['ipset', 'iptables'] as const) {
      for (const [key, value] of before.tables[name].state) cleanup.tables[name].state.set(key, value as never);
    }
    cleanup.tables.address.state.set('10.96.0.1 kube-dummy-if', { address: '10.96.0.1', link: 'kube-dummy-if' } as never);
    cleanup.tables.link.state.set('kube-dummy-if', { name: 'kube-dummy-if', type: 'dummy' } as never);
    const applies = [...(await cleanup.want())];
    for (let round = 0; round < 4; round++) {
      await cleanup.clock.advance(LINGER_MS);
      applies.push(...(await cleanup.again()).applies);
    }
    for (const name of STAGES) assert.deepEqual([...cleanup.tables[name].state.keys()], [], name);
    const tables = applies.map(({ table }) => table);
    assert.ok(tables.lastIndexOf('iptables') < tables.indexOf('ipset'), tables.join());
    assert.ok(tables.lastIndexOf('address') < tables.indexOf('link'), tables.join());
  });
});
