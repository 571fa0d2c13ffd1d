import assert from 'node:assert/strict';
import fc from 'fast-check';
import { keyOf } from '../../daemon/cluster/kinds.ts';
import { NodeViewer } from '../../daemon/cluster/node-view.ts';
import { patched } from '../../daemon/cluster/patched-map.ts';
import type { HostFacts, Rib, Snapshot } from '../../daemon/cluster/snapshot.ts';
import { Store } from '../../daemon/cluster/store.ts';
import { instantOf } from '../../daemon/net/instant.ts';
import type { Plan } from '../../daemon/reconcile/module.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import { routingModule } from '../../modules/routing/module.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import { arbitraryPools, POOLS_KEY } from '../fixtures/address-pools.ts';
import {
  arbitraryAdvertisedService,
  arbitraryEndpoints,
  arbitraryHost,
  arbitraryNode,
  arbitraryOptions,
  arbitraryRoute,
  NODE_NUMBERS,
  ROUTE_STOCK,
} from '../fixtures/arbitrary-routing.ts';
import { SERVICE_NAMES } from '../fixtures/arbitrary-services.ts';
import { CREATED, hostFacts, node, rib } from '../fixtures/cluster.ts';
import { propertyRun } from '../fixtures/property-run.ts';

type Fragments = Plan['fragments'];

/** A store fed with events, and what the host and BGP tell beside it. */
interface Scene {
  readonly store: Store;
  host: HostFacts;
  rib: Rib;
}

/** One event, and the owner it is about where it is about one. */
interface Event {
  readonly title: string;
  readonly owner: string | undefined;
  happen(scene: Scene): void;
}

function eventOf(title: string, owner: string | undefined, happen: Event['happen']): Event {
  return { title, owner, happen, [fc.toStringMethod]: () => title } as Event;
}

function taken(
  scene: Scene,
  changes: ReadonlyMap<string, Rib['routes'] extends ReadonlyMap<string, infer R> ? R | undefined : never>,
): void {
  scene.rib = { ...scene.rib, routes: patched(scene.rib.routes, changes) };
}

const arbitraryEvent: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: arbitraryNode.map(it => eventOf(`Node ${it.meta.name}`, undefined, ({ store }) => store.upsert(it, []))),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(...NODE_NUMBERS)
      .map(number => eventOf(`no node-${number}`, undefined, ({ store }) => store.remove('Node', `node-${number}`))),
  },
  {
    weight: 4,
    arbitrary: arbitraryAdvertisedService.map(it =>
      eventOf(`Service ${it.meta.name}`, `Service ${keyOf(it.meta)}`, ({ store }) => store.upsert(it, [])),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(...SERVICE_NAMES)
      .map(name =>
        eventOf(`no Service ${name}`, `Service default/${name}`, ({ store }) => store.remove('Service', `default/${name}`)),
      ),
  },
  {
    weight: 4,
    arbitrary: arbitraryEndpoints.map(it =>
      eventOf(`slice ${it.meta.name}`, `Service ${it.serviceKey}`, ({ store }) => store.upsert(it, [])),
    ),
  },
  {
    weight: 1,
    arbitrary: arbitraryEndpoints.map(it =>
      eventOf(`no slice ${it.meta.name}`, `Service ${it.serviceKey}`, ({ store }) =>
        store.remove('EndpointSlice', keyOf(it.meta)),
      ),
    ),
  },
  {
    weight: 6,
    arbitrary: arbitraryPools.map(pools =>
      eventOf(pools === undefined ? 'no pools' : 'pools', undefined, ({ store }) =>
        pools === undefined ? store.remove('ConfigMap', POOLS_KEY) : store.upsert(pools, []),
      ),
    ),
  },
  {
    weight: 5,
    arbitrary: arbitraryRoute.map(it =>
      eventOf(`route ${it.prefix} over ${it.nextHops.map(({ address }) => address).join()}`, `Route ${it.prefix}`, scene =>
        taken(scene, new Map([[it.prefix, it]])),
      ),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom(...ROUTE_STOCK)
      .map(prefix => eventOf(`no route ${prefix}`, `Route ${prefix}`, scene => taken(scene, new Map([[prefix, undefined]])))),
  },
  {
    weight: 1,
    arbitrary: fc.boolean().map(isSettled =>
      eventOf(isSettled ? 'settled' : 'unsettled', 'nobody', scene => {
        scene.rib = { ...scene.rib, isSettled };
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.array(arbitraryRoute, { maxLength: 5 }).map(routes =>
      eventOf('another speaker', undefined, scene => {
        scene.rib = { ...rib(...routes), isSettled: false };
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: arbitraryHost.map(host =>
      eventOf('host', undefined, scene => {
        scene.host = host;
      }),
    ),
  },
);

/** Half of them without the flag, so that pools decide. */
const arbitraryPooledOptions: fc.Arbitrary<RoutingOptions> = fc
  .tuple(arbitraryOptions, fc.boolean())
  .map(([options, hasFlag]) =>
    hasFlag ? options : { ...options, loadBalancerIpRanges: [], advertise: { ...options.advertise, loadBalancerIP: true } },
  );

function snapshotOf({ store, host, rib: routes }: Scene): Snapshot {
  return store.snapshot(instantOf(CREATED), host, routes);
}

/** Text of a fragment with its passwords: these are part of what is wanted and do not show by themselves. */
function textOf(fragments: Fragments): ReadonlyMap<string, string> {
  const lines = [...fragments].map(([owner, { entries, diagnostics }]) => {
    const passwords = entries.flatMap(({ table, value }) => (table === 'bgpPeer' ? [value.password.reveal()] : []));
    return [owner, JSON.stringify([entries, diagnostics, passwords])] as const;
  });
  return new Map(lines.sort(([one], [other]) => (one < other ? -1 : 1)));
}

describe('planning routes event by event', function () {
  this.timeout(120_000);

  it('gives after any history what planning from nothing gives, and leaves untouched owners the objects they were', () => {
    fc.assert(
      fc.property(
        arbitraryPooledOptions,
        fc.array(arbitraryEvent, { minLength: 1, maxLength: 30, size: 'max' }),
        (options, events) => {
          const store = new Store({
            kinds: ['Service', 'EndpointSlice', 'Node', 'ConfigMap'],
            nodeViewer: new NodeViewer('node-1'),
            onChange: () => {},
          });
          for (const number of [1, 2, 3]) store.upsert(node(number), []);
          const scene: Scene = { store, host: hostFacts(), rib: rib() };
          const module = routingModule(options);
          let former = module.plan(snapshotOf(scene)).fragments;
          for (const event of events) {
            event.happen(scene);
            const snapshot = snapshotOf(scene);
            const formerText = textOf(former);
            const { fragments, undecided } = module.plan(snapshot);
            const afresh = routingModule(options).plan(snapshot);
            assert.deepEqual(textOf(fragments), textOf(afresh.fragments), event.title);
            assert.deepEqual(undecided, afresh.undecided);
            assert.deepEqual(textOf(former), formerText, 'a plan that was handed out changed');
            if (event.owner !== undefined) assertOthersUntouched(former, fragments, event);
            assert.equal(module.plan(snapshot).fragments, fragments, 'the same snapshot gives the same plan');
            assertKeysRight(fragments);
            former = fragments;
          }
        },
      ),
      { ...propertyRun('routing.incremental', 60), plugins: [fc.unbiased()] },
    );
  });
});

function assertOthersUntouched(before: Fragments, after: Fragments, { owner, title }: Event): void {
  const touched = new Set([...before.keys(), ...after.keys()].filter(key => before.get(key) !== after.get(key)));
  touched.delete(owner ?? '');
  assert.deepEqual([...touched], [], title);
}

/** Each entry stands under the key of its table, once a fragment, and no element is without its set. */
function assertKeysRight(fragments: Fragments): void {
  const sets = new Set<string>();
  const elements = new Set<string>();
  for (const { entries } of fragments.values()) {
    const keys = new Map<string, string>();
    for (const { table, key, value } of entries) {
      const name = `${table} ${key}`;
      assert.equal(key, TABLES[table].key(value as never));
      assert.equal(keys.get(name) ?? JSON.stringify(value), JSON.stringify(value), `two wishes of one owner for ${name}`);
      keys.set(name, JSON.stringify(value));
      if (table === 'ipset' && value.kind === 'set') sets.add(value.name);
      if (table === 'ipset' && value.kind === 'element') elements.add(value.set);
    }
  }
  assert.deepEqual(
    [...elements].filter(set => !sets.has(set)),
    [],
    'the kernel would refuse them',
  );
}
