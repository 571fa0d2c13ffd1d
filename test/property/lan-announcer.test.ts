/** One planner for each node, all given the same facts as they change, held against a few lines that say who may answer. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type EndpointSlice, keyOf, type Node, type Service } from '../../daemon/cluster/kinds.ts';
import { matchesLabels } from '../../daemon/cluster/selectors.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { familyOf } from '../../daemon/net/address.ts';
import { rangeContains } from '../../daemon/net/address-range.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module } from '../../daemon/reconcile/module.ts';
import { lanAnnouncerModule } from '../../modules/lan-announcer/module.ts';
import { addressPool, addressPools } from '../fixtures/address-pools.ts';
import {
  endpoint,
  ips,
  node,
  nodeView,
  selector,
  slice,
  snapshot,
  terminatingEndpoint,
  unreadyEndpoint,
} from '../fixtures/cluster.ts';
import { balanced, lanOptions } from '../fixtures/lan.ts';
import { propertyRun } from '../fixtures/property-run.ts';

const NUMBERS = [1, 2, 3, 4];
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const ADDRESSES = ['198.51.100.1', '198.51.100.2', '198.51.100.17', '2001:db8:2::1', '2001:db8:2::2'];
const EXCLUSION = 'node.kubernetes.io/exclude-from-external-load-balancers';
const POOLS = addressPools([
  addressPool('edge', ['198.51.100.16/28'], { nodeSelector: selector({ role: 'edge' }) }),
  addressPool('edge6', ['2001:db8:2::2'], { nodeSelector: selector({ role: 'edge' }) }),
]);

/** The facts of the moment. */
interface World {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly silent: ReadonlySet<string>;
  readonly services: ReadonlyMap<string, Service>;
  readonly slices: ReadonlyMap<string, EndpointSlice>;
  readonly hasPools: boolean;
}

type Step = (world: World) => World;

function stepOf(title: string, step: Step): Step {
  return Object.assign(step, { [fc.toStringMethod]: () => title });
}

const arbitraryNode = fc
  .record({
    number: fc.constantFrom(...NUMBERS),
    isReady: fc.boolean(),
    isLeaving: fc.integer({ min: 0, max: 3 }).map(number => number === 0),
    isEdge: fc.boolean(),
    isExcluded: fc.integer({ min: 0, max: 4 }).map(number => number === 0),
    addresses: fc.constantFrom('both', 'ipv4', 'both', 'a vip'),
  })
  .map(({ number, isReady, isLeaving, isEdge, isExcluded, addresses }) => {
    const own = {
      both: node(number).internalIPs,
      ipv4: ips(`192.168.1.${number}`),
      'a vip': ips(`192.168.1.${number}`, '198.51.100.2'),
    };
    const labels = { ...(isEdge ? { role: 'edge' } : {}), ...(isExcluded ? { [EXCLUSION]: '' } : {}) };
    return node(number, { isReady, isLeaving, labels, internalIPs: own[addresses] });
  });

const arbitraryBalanced = fc
  .record({
    name: fc.constantFrom(...NAMES),
    addresses: fc.subarray(ADDRESSES, { minLength: 1, maxLength: 3 }),
    policy: fc.constantFrom('Cluster', 'Local', 'Local'),
    loadBalancerClass: fc.constantFrom('', '', '', 'example.com/other'),
    annotation: fc.constantFrom('fairway.dev/announce-l2', 'kube-router.io/service.dsr', 'none', 'none', 'none', 'none'),
  })
  .map(({ name, addresses, policy, loadBalancerClass, annotation }) => {
    const annotations = { [annotation]: annotation.endsWith('l2') ? 'false' : 'tunnel' };
    return balanced(name, addresses, { externalTrafficPolicy: policy, loadBalancerClass, annotations });
  });

const arbitraryEndpoint = fc
  .record({
    number: fc.constantFrom(...NUMBERS),
    state: fc.constantFrom(endpoint, endpoint, terminatingEndpoint, unreadyEndpoint),
  })
  .chain(({ number, state }) => fc.constantFrom(`10.244.${number}.7`, `fd00:10:${number}::7`).map(address => state(address)));

const arbitrarySlices = fc
  .record({ name: fc.constantFrom(...NAMES), endpoints: fc.array(arbitraryEndpoint, { maxLength: 5 }) })
  .map(({ name, endpoints }) =>
    (['ipv4', 'ipv6'] as const).map(family => {
      const own = endpoints.filter(({ address }) => familyOf(address) === family);
      return slice(name, own, { name: `${name}-${family}`, family });
    }),
  );

function changed<V>(
  map: ReadonlyMap<string, V>,
  ...entries: readonly (readonly [string, V | undefined])[]
): ReadonlyMap<string, V> {
  const next = new Map(map);
  for (const [key, value] of entries) {
    if (value === undefined) next.delete(key);
    else next.set(key, value);
  }
  return next;
}

/** Without any, each planner's host would be alone on bare metal. */
function withoutNode(nodes: World['nodes'], name: string): World['nodes'] {
  return nodes.size === 1 ? nodes : changed(nodes, [name, undefined]);
}

const nodeName = fc.constantFrom(...NUMBERS).map(number => `node-${number}`);

const arbitraryStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: arbitraryBalanced.map(service =>
      stepOf(`Service ${JSON.stringify(service)}`, world => ({
        ...world,
        services: changed(world.services, [keyOf(service.meta), service]),
      })),
    ),
  },
  {
    weight: 4,
    arbitrary: arbitrarySlices.map(slices =>
      stepOf(`slices ${JSON.stringify(slices)}`, world => ({
        ...world,
        slices: changed(world.slices, ...slices.map(each => [each.meta.name, each] as const)),
      })),
    ),
  },
  {
    weight: 3,
    arbitrary: arbitraryNode.map(each =>
      stepOf(`Node ${JSON.stringify(each)}`, world => ({ ...world, nodes: changed(world.nodes, [each.meta.name, each]) })),
    ),
  },
  {
    weight: 3,
    arbitrary: nodeName.map(name =>
      stepOf(`${name} silent or heard`, world => {
        const silent = new Set(world.silent);
        if (!silent.delete(name)) silent.add(name);
        return { ...world, silent };
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: nodeName.map(name => stepOf(`no ${name}`, world => ({ ...world, nodes: withoutNode(world.nodes, name) }))),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(...NAMES)
      .map(name =>
        stepOf(`no Service ${name}`, world => ({ ...world, services: changed(world.services, [`default/${name}`, undefined]) })),
      ),
  },
  { weight: 1, arbitrary: fc.constant(stepOf('pools come or go', world => ({ ...world, hasPools: !world.hasPools }))) },
);

const AT_FIRST: World = {
  nodes: new Map(NUMBERS.map(number => [`node-${number}`, node(number)])),
  silent: new Set(),
  services: new Map(NAMES.map((name, index) => [`default/${name}`, balanced(name, ADDRESSES.slice(index, index + 1))])),
  slices: new Map(),
  hasPools: false,
};

/** A host is the same whatever happens in the cluster, and so are the pools while they are there. */
function pictureOf(world: World, name: string): Snapshot {
  return snapshot({
    nodes: [...world.nodes.values()],
    services: [...world.services.values()],
    slices: [...world.slices.values()],
    silentNodes: [...world.silent],
    node: nodeView({ name, fromCluster: world.nodes.has(name) }),
    ...(world.hasPools ? { addressPools: POOLS } : {}),
  });
}

function answersOf(fragments: ReadonlyMap<OwnerKey, Fragment>): ReadonlySet<string> {
  const entries = [...fragments.values()].flatMap(fragment => fragment.entries);
  return new Set(entries.flatMap(each => (each.table === 'lanAddress' ? [each.value.address] : [])));
}

/** Who may answer for the address. */
function candidatesOf(address: string, world: World): ReadonlySet<string> {
  const [vip] = ips(address);
  const services = [...world.services.values()].filter(
    ({ loadBalancerIPs, loadBalancer, annotations }) =>
      loadBalancerIPs.some(each => each === vip) &&
      loadBalancer?.loadBalancerClass === '' &&
      annotations['fairway.dev/announce-l2'] !== 'false',
  );
  if (vip === undefined || services.length === 0) return new Set();
  const family = familyOf(vip);
  if (services.some(({ annotations }) => annotations['kube-router.io/service.dsr'] === 'tunnel')) return new Set();
  const nodes = [...world.nodes.values()];
  if (nodes.some(({ internalIPs }) => internalIPs.includes(vip))) return new Set();
  const pool = world.hasPools ? POOLS.pools.find(({ ranges }) => ranges.some(range => rangeContains(range, vip))) : undefined;
  const may = nodes.filter(
    ({ internalIPs, labels }) =>
      internalIPs.some(each => familyOf(each) === family) &&
      !(EXCLUSION in labels) &&
      (pool?.nodeSelector === undefined || matchesLabels(pool.nodeSelector, labels)),
  );
  const isHeard = ({ isReady, meta }: Node): boolean => isReady && !world.silent.has(meta.name);
  const groups = [
    may.filter(each => isHeard(each) && !each.isLeaving),
    may.filter(each => isHeard(each) && each.isLeaving),
    may.filter(each => !isHeard(each)),
  ];
  for (const group of groups) {
    const served = new Map(
      group.map(({ meta }) => [meta.name, services.filter(each => serves(each, meta.name, family, world)).length]),
    );
    const most = Math.max(0, ...served.values());
    if (most > 0) return new Set([...served].filter(([, count]) => count === most).map(([name]) => name));
  }
  return new Set();
}

function serves({ meta, externalTrafficPolicy }: Service, name: string, family: string, world: World): boolean {
  if (externalTrafficPolicy === 'Cluster') return true;
  const endpoints = [...world.slices.values()]
    .filter(each => each.serviceKey === keyOf(meta) && each.family === family)
    .flatMap(each => each.endpoints);
  const isAnyReady = endpoints.some(({ ready }) => ready);
  return endpoints.some(
    ({ ready, serving, terminating, nodeName: at }) => at === name && (isAnyReady ? ready : serving && terminating),
  );
}

describe('announcement on the local network, planned by every node for itself', function () {
  this.timeout(60_000);

  it('has one owner for each address that somebody may answer for, and none for others', () => {
    const seen = { owned: 0, unowned: 0, moved: 0 };
    fc.assert(
      fc.property(fc.array(arbitraryStep, { minLength: 1, maxLength: 12 }), steps => {
        const planners = new Map<string, Module>(NUMBERS.map(number => [`node-${number}`, lanAnnouncerModule(lanOptions())]));
        let world = AT_FIRST;
        for (const step of steps) {
          world = step(world);
          const owners = ownersIn(world, planners);
          for (const address of ADDRESSES) {
            const candidates = candidatesOf(address, world);
            const having = owners.get(address) ?? [];
            assert.equal(having.length, candidates.size === 0 ? 0 : 1, `${address} is answered for by ${having.join(', ')}`);
            for (const name of having) assert.ok(candidates.has(name), `${name} may not answer for ${address}`);
            seen[candidates.size === 0 ? 'unowned' : 'owned']++;
          }
        }
        for (const name of world.nodes.keys()) seen.moved += assertOnlyItsAddressesMove(name, world);
      }),
      propertyRun('announcement on the local network', 150),
    );
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 50, `hardly any address is ${what}: ${count}`);
  });

  /** By address. Every planner goes on from what it planned last, and plans the same as one that begins. */
  function ownersIn(world: World, planners: ReadonlyMap<string, Module>): ReadonlyMap<string, readonly string[]> {
    const owners = new Map<string, string[]>();
    for (const [name, planner] of planners) {
      const picture = pictureOf(world, name);
      const { fragments } = planner.plan(picture);
      assert.equal(planner.plan({ ...picture }).fragments, fragments);
      const fresh = lanAnnouncerModule(lanOptions()).plan(picture).fragments;
      assert.deepEqual(sorted(fragments), sorted(fresh));
      for (const address of answersOf(fragments)) owners.set(address, [...(owners.get(address) ?? []), name]);
    }
    return owners;
  }

  function assertOnlyItsAddressesMove(name: string, world: World): number {
    const planners = new Map<string, Module>([...world.nodes.keys()].map(each => [each, lanAnnouncerModule(lanOptions())]));
    const before = ownersIn({ ...world, silent: new Set([...world.silent].filter(each => each !== name)) }, planners);
    const after = ownersIn({ ...world, silent: new Set([...world.silent, name]) }, planners);
    let moved = 0;
    for (const [address, [owner]] of before) {
      if (owner !== name) assert.deepEqual(after.get(address), [owner], `${address} moves although ${name} did not have it`);
      else if (after.get(address)?.[0] !== name) moved++;
    }
    return moved;
  }

  function sorted(fragments: ReadonlyMap<OwnerKey, Fragment>): readonly Fragment[] {
    return [...fragments].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, fragment]) => fragment);
  }
});
