import assert from 'node:assert/strict';
import fc from 'fast-check';
import { keyOf, type Node } from '../../daemon/cluster/kinds.ts';
import { NodeViewer } from '../../daemon/cluster/node-view.ts';
import type { Capabilities, HostAddress, HostFacts, Snapshot } from '../../daemon/cluster/snapshot.ts';
import { Store } from '../../daemon/cluster/store.ts';
import { instantOf } from '../../daemon/net/instant.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import { servicesModule } from '../../modules/services/module.ts';
import type { ServicesOptions } from '../../modules/services/options.ts';
import { arbitraryPools, POOLS_KEY } from '../fixtures/address-pools.ts';
import { arbitraryService, arbitrarySlice, SERVICE_NAMES } from '../fixtures/arbitrary-services.ts';
import { ALL_CAPABILITIES, CREATED, cidrs, hostAddress, hostFacts, ips, node, service, slice } from '../fixtures/cluster.ts';
import { servicesOptions } from '../fixtures/services-options.ts';

/** A store fed with events, and the host beside it. */
interface Scene {
  readonly store: Store;
  host: HostFacts;
}

/** One event. `isAboutOneService`: every other Service's fragment must stay the very object it was, unless its content changed. */
interface Event {
  readonly title: string;
  readonly isAboutOneService: boolean;
  happen(scene: Scene): void;
}

function eventOf(title: string, isAboutOneService: boolean, happen: (scene: Scene) => void): Event {
  return { title, isAboutOneService, happen, [fc.toStringMethod]: () => title } as Event;
}

const arbitraryNode: fc.Arbitrary<Node> = fc
  .record({
    number: fc.integer({ min: 1, max: 3 }),
    addresses: fc.constantFrom('plan', 'ipv4', 'extra', 'none'),
    podCIDRs: fc.constantFrom(cidrs('10.244.1.0/24', 'fd00:10:1::/64'), cidrs('10.244.1.0/24'), cidrs()),
  })
  .map(({ number, addresses, podCIDRs }) => {
    const internalIPs = {
      plan: node(number).internalIPs,
      ipv4: ips(`192.168.1.${number}`),
      extra: ips(`192.168.1.${number}`, '203.0.113.1'),
      none: [],
    };
    return node(number, { internalIPs: internalIPs[addresses], podCIDRs });
  });

const arbitraryAddresses: fc.Arbitrary<readonly HostAddress[]> = fc
  .subarray(
    [
      hostAddress('eth1', '203.0.113.1/24'),
      hostAddress('docker0', '172.17.0.1/16'),
      hostAddress('veth1', 'fe80::9/64'),
      hostAddress('kube-dummy-if', '10.96.0.1/32'),
    ],
    { minLength: 0 },
  )
  .map(extra => [...hostFacts().addresses, ...extra]);

const arbitraryCapabilities: fc.Arbitrary<Capabilities> = fc
  .record({ ipset: fc.boolean(), xtIpvs: fc.boolean(), bridgeNetfilter: fc.boolean(), dummyLink: fc.boolean() })
  .map(some => ({ ...ALL_CAPABILITIES, ...some }));

const arbitraryEvent: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: arbitraryService.map(it => eventOf(`Service ${it.meta.name}`, true, ({ store }) => store.upsert(it, []))),
  },
  {
    weight: 6,
    arbitrary: arbitrarySlice.map(it => eventOf(`EndpointSlice ${it.meta.name}`, true, ({ store }) => store.upsert(it, []))),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(...SERVICE_NAMES)
      .map(name => eventOf(`no Service ${name}`, true, ({ store }) => store.remove('Service', `default/${name}`))),
  },
  {
    weight: 1,
    arbitrary: arbitrarySlice.map(it =>
      eventOf(`no slice ${it.meta.name}`, true, ({ store }) => store.remove('EndpointSlice', keyOf(it.meta))),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .array(arbitraryService, { maxLength: 3 })
      .map(services =>
        eventOf('Services listed anew', false, ({ store }) =>
          store.replace('Service', [
            ...new Map(services.map(object => [keyOf(object.meta), { object, complaints: [] }])).values(),
          ]),
        ),
      ),
  },
  { weight: 1, arbitrary: arbitraryNode.map(it => eventOf(`Node ${it.meta.name}`, false, ({ store }) => store.upsert(it, []))) },
  {
    weight: 1,
    arbitrary: fc
      .integer({ min: 1, max: 3 })
      .map(number => eventOf(`no node-${number}`, false, ({ store }) => store.remove('Node', `node-${number}`))),
  },
  {
    weight: 2,
    arbitrary: arbitraryPools.map(pools =>
      eventOf(pools === undefined ? 'no pools' : 'pools', false, ({ store }) =>
        pools === undefined ? store.remove('ConfigMap', POOLS_KEY) : store.upsert(pools, []),
      ),
    ),
  },
  {
    weight: 1,
    arbitrary: arbitraryAddresses.map(addresses =>
      eventOf('host addresses', false, scene => {
        scene.host = { ...scene.host, addresses };
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: arbitraryCapabilities.map(capabilities =>
      eventOf('host capabilities', false, scene => {
        scene.host = { ...scene.host, capabilities };
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('veth1', 'kube-bridge').map(link =>
      eventOf(`link ${link}`, false, scene => {
        scene.host = { ...scene.host, links: new Map([...scene.host.links, [link, { mtu: 1500, master: '' }]]) };
      }),
    ),
  },
);

const arbitraryOptions: fc.Arbitrary<ServicesOptions> = fc
  .record({
    strictExternalIpValidation: fc.boolean(),
    nodeportBindOnAllIp: fc.boolean(),
    masqueradeAll: fc.boolean(),
    loadBalancerIpRanges: fc.constantFrom([], cidrs('198.51.100.0/24', '2001:db8:2::/64')),
    followsPools: fc.constant(true),
  })
  .map(servicesOptions);

function sceneOf(): Scene {
  const store = new Store({
    kinds: ['Service', 'EndpointSlice', 'Node', 'ConfigMap'],
    nodeViewer: new NodeViewer('node-1'),
    onChange: () => {},
  });
  for (const number of [1, 2, 3]) store.upsert(node(number), []);
  return { store, host: hostFacts() };
}

function snapshotOf({ store, host }: Scene): Snapshot {
  return store.snapshot(instantOf(CREATED), host);
}

function byOwner(fragments: ReadonlyMap<OwnerKey, Fragment>): readonly (readonly [OwnerKey, Fragment])[] {
  return [...fragments].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Entries have no order among each other; those of one fragment come in that of its Service's fields, in both ways of planning. */
function assertSamePlan(actual: ReadonlyMap<OwnerKey, Fragment>, expected: ReadonlyMap<OwnerKey, Fragment>): void {
  assert.equal(actual.size, expected.size);
  assert.deepEqual(byOwner(actual), byOwner(expected));
}

function isDeepEqual(a: unknown, b: unknown): boolean {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

describe('planning Services event by event', function () {
  // Hundreds of random cases; a busy machine takes its time.
  this.timeout(60_000);

  it('gives after any history what planning from nothing gives, and leaves untouched Services the objects they were', () => {
    fc.assert(
      fc.property(arbitraryOptions, fc.array(arbitraryEvent, { minLength: 1, maxLength: 30, size: 'max' }), (options, events) => {
        const scene = sceneOf();
        const module = servicesModule(options);
        let former = module.plan(snapshotOf(scene)).fragments;
        for (const event of events) {
          event.happen(scene);
          const snapshot = snapshotOf(scene);
          const formerOwners = byOwner(former);
          const { fragments } = module.plan(snapshot);
          assertSamePlan(fragments, servicesModule(options).plan(snapshot).fragments);
          assert.deepEqual(byOwner(former), formerOwners, 'a plan that was handed out changed');
          if (event.isAboutOneService) assertOthersUntouched(former, fragments, event.title);
          assert.equal(module.plan(snapshot).fragments, fragments, 'the same snapshot gives the same plan');
          former = fragments;
        }
      }),
      { numRuns: 60, plugins: [fc.unbiased()] },
    );
  });

  it('a Service that drops is left alone when the older one on the address begins to drop as well', () => {
    const scene = sceneOf();
    const local = (name: string, address: string, age: number) =>
      service(name, { clusterIPs: ips(address), externalIPs: ips('203.0.113.7'), externalTrafficPolicy: 'Local', age });
    scene.store.upsert(local('old', '10.96.0.11', 1), []);
    scene.store.upsert(local('young', '10.96.0.12', 2), []);
    scene.store.upsert(slice('young', ['10.244.2.6']), []);
    const module = servicesModule(servicesOptions());
    const youngWhile = (endpointOfOld: string): Fragment | undefined => {
      scene.store.upsert(slice('old', [endpointOfOld]), []);
      return module.plan(snapshotOf(scene)).fragments.get('Service default/young');
    };
    const before = youngWhile('10.244.1.5');
    assert.equal(youngWhile('10.244.2.5'), before);
  });

  it('a pod that comes with its link and link-local address, another pod CIDR elsewhere, and nodes that are about to leave change nothing but the mode of that link', () => {
    fc.assert(
      fc.property(
        fc.array(arbitraryService, { maxLength: 5 }),
        fc.array(arbitrarySlice, { maxLength: 8 }),
        (services, slices) => {
          const scene = sceneOf();
          for (const object of [...services, ...slices]) scene.store.upsert(object, []);
          const module = servicesModule(servicesOptions({ nodeportBindOnAllIp: true }));
          const before = module.plan(snapshotOf(scene)).fragments;
          scene.host = {
            ...scene.host,
            hostname: 'node-1.example',
            links: new Map([...scene.host.links, ['veth7', { mtu: 1500, master: 'kube-bridge' }]]),
            addresses: [...scene.host.addresses, hostAddress('veth7', 'fe80::77/64')],
          };
          scene.store.upsert(node(1, { isLeaving: true }), []);
          scene.store.upsert(node(2, { podCIDRs: cidrs('10.250.0.0/24'), labels: { a: 'b' }, isLeaving: true }), []);
          const after = new Map(module.plan(snapshotOf(scene)).fragments);
          const entries = after.get('Module services/hairpin')?.entries.map(({ table, key }) => `${table} ${key}`);
          assert.deepEqual(entries, ['bridgePort veth7']);
          after.delete('Module services/hairpin');
          assert.deepEqual([...after.keys()], [...before.keys()]);
          for (const [owner, fragment] of after) assert.equal(fragment, before.get(owner));
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** At most one Service was touched; a second one may change in content (two that want one address), but none only in identity. */
function assertOthersUntouched(
  before: ReadonlyMap<OwnerKey, Fragment>,
  after: ReadonlyMap<OwnerKey, Fragment>,
  title: string,
): void {
  const rebuilt = [...after].filter(([owner, fragment]) => {
    const former = before.get(owner);
    return former !== undefined && former !== fragment && isDeepEqual(former, fragment);
  });
  const touched = title.split(' ').at(-1)?.split('-')[0];
  assert.deepEqual(
    rebuilt.map(([owner]) => owner).filter(owner => owner !== `Service default/${touched}`),
    [],
  );
}
