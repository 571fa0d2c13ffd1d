import assert from 'node:assert/strict';
import fc from 'fast-check';
import { poolsInForce } from '../../daemon/cluster/address-pools.ts';
import { type AddressPools, keyOf, type ObjectKey, type Service } from '../../daemon/cluster/kinds.ts';
import { familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import type { ServiceStatus } from '../../daemon/reconcile/service-tables.ts';
import { lbAllocatorModule } from '../../modules/lb-allocator/module.ts';
import { addressPools, mustParseRange } from '../fixtures/address-pools.ts';
import { arbitraryBalancer, arbitraryPools, BALANCER_NAMES, CONTESTED } from '../fixtures/arbitrary-balancers.ts';
import { namespace, node } from '../fixtures/cluster.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import {
  type AllocationWorld,
  isFreeFor,
  isServedClass,
  mayHave,
  mayShareAddress,
  missedAddress,
  neededFamilies,
  requestedAddresses,
  requestedPool,
  statusOf,
} from '../models/allocation-reference.ts';
import { Allocator, type Luck, ServiceApi, type Surroundings } from '../models/allocation-world.ts';

const OPTIONS = {
  flagRanges: ['198.51.100.0/29', '2001:db8:2::/126'].map(mustParseRange),
  hasNamedPools: true,
  servesDefaultClass: true,
};

/** Two nodes with their allocators, and what there is around them. */
class World {
  readonly api = new ServiceApi();
  readonly allocators = [new Allocator(this.api, OPTIONS), new Allocator(this.api, OPTIONS)] as const;
  surroundings: Surroundings = {
    nodes: [node(1)],
    namespaces: [namespace('default'), namespace('shop')],
    pools: addressPools([]),
  };
  leader: Allocator = this.allocators[0];
  /** False while a plan is not carried out before the next one. */
  isApplying = true;

  constructor() {
    this.leader.lead(true);
  }

  takeOver(): void {
    this.leader.lead(false);
    this.leader = this.leader === this.allocators[0] ? this.allocators[1] : this.allocators[0];
    this.leader.lead(true);
  }

  /** Both plan and apply; what the leader's plan is told of is checked. */
  round(): ReadonlyMap<OwnerKey, Fragment> {
    for (const allocator of this.allocators) {
      const snapshot = allocator.snapshot(this.surroundings);
      const plan = allocator.module.plan(snapshot);
      const fresh = lbAllocatorModule(OPTIONS);
      assert.deepEqual(
        sorted(plan.fragments),
        sorted(fresh.plan(snapshot).fragments),
        'planning from nothing gives another plan',
      );
      assert.deepEqual(allocator.module.summary(), fresh.summary());
      assert.equal(allocator.module.plan(snapshot).fragments, plan.fragments, 'the same snapshot gives the same plan');
      if (allocator === this.leader) this.check(plan.fragments);
      else assert.deepEqual([plan.fragments.size, plan.undecided], [0, ['serviceStatus']]);
      if (this.isApplying) allocator.apply(plan);
    }
    return this.leader.module.plan(this.leader.snapshot(this.surroundings)).fragments;
  }

  seen(services: Iterable<Service>): AllocationWorld {
    const { nodes, namespaces, pools } = this.surroundings;
    return {
      services: [...services],
      nodes,
      namespaces: new Map(namespaces.map(each => [each.meta.name, each])),
      pools: poolsInForce(OPTIONS.flagRanges, pools),
      servesDefaultClass: true,
    };
  }

  check(fragments: ReadonlyMap<OwnerKey, Fragment>): void {
    const { services } = this.leader;
    const world = this.seen(services.values());
    const statuses = statusesOf(fragments);
    for (const [key, { addresses, found }] of statuses) {
      const service = services.get(key);
      assert.ok(service !== undefined, `${key} is not there and has an entry`);
      for (const address of addresses) {
        assert.ok(mayHave(service, address, world), `${key} has ${address}, which no pool for it holds`);
        for (const [other, { addresses: others }] of statuses) {
          const otherService = services.get(other);
          if (other === key || otherService === undefined || !others.includes(address)) continue;
          assert.ok(mayShareAddress(service, otherService), `${address} is handed out to ${key} and ${other}`);
        }
        if (!found.includes(address)) this.checkNew(service, address, world);
      }
      assert.equal(new Set(addresses.map(familyOf)).size, addresses.length, `${key} has two of one family`);
    }
    for (const service of services.values()) this.checkStays(service, statuses, world);
    for (const service of services.values()) this.checkReason(service, statuses, fragments, world);
  }

  /** What is handed out newly is nobody's, as far as the leader can know. */
  checkNew(service: Service, address: IpAddress, world: AllocationWorld): void {
    const key = keyOf(service.meta);
    const known = { ...world, services: world.services.map(each => this.known(each)) };
    assert.ok(isFreeFor(service, address, known), `${address} is given to ${key} and is taken`);
    for (const [other, status] of this.leader.handedOver) {
      const otherService = this.leader.services.get(other);
      if (other === key || otherService?.meta.uid !== status.uid || !status.addresses.includes(address)) continue;
      const isKnown =
        status.version !== undefined && Number(status.version) <= Number(otherService.loadBalancer?.resourceVersion);
      assert.ok(isKnown || mayShareAddress(service, otherService), `${address} is given to ${key} and on its way to ${other}`);
    }
  }

  /** As it is known to be by now: a write that was answered is done, whatever the watch shows yet. */
  known(service: Service): Service {
    const status = this.leader.handedOver.get(keyOf(service.meta));
    const { loadBalancer } = service;
    if (status?.version === undefined || status.uid !== service.meta.uid || loadBalancer === undefined) return service;
    if (Number(status.version) <= Number(loadBalancer.resourceVersion)) return service;
    return { ...service, loadBalancer: { ...loadBalancer, ingressIPs: status.addresses } };
  }

  /** A Service that asks for nothing in particular keeps what a pool for it holds and nobody else has. */
  checkStays(service: Service, statuses: ReadonlyMap<ObjectKey, ServiceStatus>, world: AllocationWorld): void {
    const key = keyOf(service.meta);
    if (!isServedClass(service, world) || this.leader.handedOver.has(key)) return;
    const isAsking = requestedAddresses(service).length > 0 || requestedPool(service) !== '';
    const ofFamilies = statusOf(service).filter(address => neededFamilies(service).includes(familyOf(address)));
    const isOdd = new Set(ofFamilies.map(familyOf)).size < ofFamilies.length;
    if (isAsking || isOdd) return;
    for (const address of ofFamilies) {
      const isAlone = world.services.every(other => other === service || !this.has(other, address));
      if (!isAlone || !mayHave(service, address, world)) continue;
      assert.ok(statuses.get(key)?.addresses.includes(address), `${key} must leave ${address} without need`);
    }
  }

  has(service: Service, address: IpAddress): boolean {
    return (
      statusOf(service).includes(address) ||
      (this.leader.handedOver.get(keyOf(service.meta))?.addresses.includes(address) ?? false)
    );
  }

  checkReason(
    service: Service,
    statuses: ReadonlyMap<ObjectKey, ServiceStatus>,
    fragments: ReadonlyMap<OwnerKey, Fragment>,
    world: AllocationWorld,
  ): void {
    const key = keyOf(service.meta);
    if (!isServedClass(service, world)) return;
    const has = statuses.get(key)?.addresses.length ?? 0;
    const asked = requestedAddresses(service).every(text => statuses.get(key)?.addresses.some(each => each === text));
    const isHalf =
      has === 1 && statuses.get(key)?.found.length === 0 && service.loadBalancer?.ipFamilyPolicy === 'RequireDualStack';
    assert.ok(!isHalf, `${key} requires both families and is given one`);
    const mustSay = has === 0 || !asked || (has < 2 && service.loadBalancer?.ipFamilyPolicy === 'RequireDualStack');
    const told = fragments.get(`Service ${key}`)?.diagnostics ?? [];
    if (mustSay)
      assert.ok(
        told.some(({ code }) => code.startsWith('FW_LB_')),
        `${key} waits and nobody says why`,
      );
  }

  /** Everything is written and seen, until nothing changes any more. */
  rest(): void {
    this.isApplying = true;
    for (let turn = 0; turn < 12; turn++) {
      for (const allocator of this.allocators) for (const key of allocator.unseen) allocator.see(key);
      const fragments = this.round();
      if (this.leader.ordered.length === 0 && this.allocators.every(({ unseen }) => unseen.length === 0)) {
        this.checkRest(fragments);
        return;
      }
      for (const key of this.leader.ordered) this.leader.write(key, 'written');
    }
    assert.fail(`it does not come to rest: ${this.leader.ordered.join(', ')}`);
  }

  checkRest(fragments: ReadonlyMap<OwnerKey, Fragment>): void {
    const world = this.seen(this.api.services.values());
    const served = world.services.filter(service => isServedClass(service, world));
    for (const service of served) {
      const key = keyOf(service.meta);
      const status = statusesOf(fragments).get(key)?.addresses ?? [];
      for (const address of status) {
        assert.ok(statusOf(service).includes(address), `${key} was given ${address} and does not have it`);
        for (const other of served) {
          if (other === service || !statusesOf(fragments).get(keyOf(other.meta))?.addresses.includes(address)) continue;
          assert.ok(mayShareAddress(service, other), `${key} and ${keyOf(other.meta)} have ${address}`);
        }
      }
      assert.equal(missedAddress(service, world), undefined, `${key} lacks an address that is free`);
    }
  }
}

function statusesOf(fragments: ReadonlyMap<OwnerKey, Fragment>): ReadonlyMap<ObjectKey, ServiceStatus> {
  const statuses = new Map<ObjectKey, ServiceStatus>();
  for (const { entries } of fragments.values())
    for (const item of entries) if (item.table === 'serviceStatus') statuses.set(item.key, item.value);
  return statuses;
}

function sorted(fragments: ReadonlyMap<OwnerKey, Fragment>): readonly (readonly [OwnerKey, Fragment])[] {
  return [...fragments].sort(([a], [b]) => (a < b ? -1 : 1));
}

interface Step {
  readonly title: string;
  happen(world: World): void;
}

function step(title: string, happen: (world: World) => void): Step {
  return { title, happen, [fc.toStringMethod]: () => title } as Step;
}

const luck: fc.Arbitrary<Luck> = fc.constantFrom('written', 'written', 'written', 'refused', 'lost reply', 'lost request');
const anyKey: fc.Arbitrary<ObjectKey> = fc
  .constantFrom(...BALANCER_NAMES)
  .map(name => (name.includes('/') ? name : `default/${name}`));

/** The one of a list that is at this place, counted around. */
function pick<T>(list: readonly T[], place: number): T | undefined {
  return list[place % Math.max(list.length, 1)];
}

const comes = (services: fc.Arbitrary<Service>): fc.Arbitrary<Step> =>
  services.map(it => {
    const { loadBalancer: asks } = it;
    const text = [
      it.type,
      it.ipFamilies,
      asks?.ipFamilyPolicy,
      asks?.loadBalancerClass,
      asks?.loadBalancerIP,
      JSON.stringify(it.annotations),
    ];
    return step(`Service ${keyOf(it.meta)}: ${text.join(' ')} external ${it.externalIPs.join()}`, ({ api }) => api.apply(it));
  });
const goes = anyKey.map(key => step(`no Service ${key}`, ({ api }) => api.remove(key)));
const isSeen = fc.nat(8).map(place =>
  step(`seen #${place}`, ({ leader }) => {
    const key = pick(leader.unseen, place);
    if (key !== undefined) leader.see(key);
  }),
);
const isWritten = fc.tuple(fc.nat(8), luck).map(([place, how]) =>
  step(`write #${place}: ${how}`, ({ leader }) => {
    const key = pick(leader.ordered, place);
    if (key !== undefined) leader.write(key, how);
  }),
);
const allSeen = fc.constant(
  step('all seen', ({ leader }) => {
    for (const key of leader.unseen) leader.see(key);
  }),
);
const leads = fc.constant(step('another leads', world => world.takeOver()));
const restarts = fc.constant(step('the leader starts anew', ({ leader }) => leader.restart()));
const holds = fc.boolean().map(isApplying =>
  step(isApplying ? 'plans are carried out' : 'plans are not carried out', world => {
    world.isApplying = isApplying;
  }),
);
const pools = arbitraryPools.map((it: AddressPools) =>
  step(`pools ${JSON.stringify(it.pools)}`, world => {
    world.surroundings = { ...world.surroundings, pools: it };
  }),
);
const edits = fc
  .tuple(anyKey, fc.subarray([...CONTESTED], { maxLength: 2 }), fc.constantFrom('kubectl', 'fairway', 'kube-router'))
  .map(([key, addresses, by]) =>
    step(`${by} writes ${addresses.join()} into ${key}`, ({ api }) => api.writeStatus(key, addresses, by)),
  );
const labels = fc.constantFrom({}, { team: 'shop' }).map(it =>
  step(`namespace shop ${JSON.stringify(it)}`, world => {
    world.surroundings = { ...world.surroundings, namespaces: [namespace('default'), namespace('shop', it)] };
  }),
);
const nodes = fc.subarray([...CONTESTED], { maxLength: 2 }).map(externalIPs =>
  step(`node-1 has ${externalIPs.join()}`, world => {
    world.surroundings = { ...world.surroundings, nodes: [node(1, { externalIPs })] };
  }),
);

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: comes(arbitraryBalancer) },
  { weight: 2, arbitrary: goes },
  { weight: 5, arbitrary: isSeen },
  { weight: 6, arbitrary: isWritten },
  { weight: 2, arbitrary: allSeen },
  { weight: 1, arbitrary: leads },
  { weight: 1, arbitrary: restarts },
  { weight: 2, arbitrary: holds },
  { weight: 2, arbitrary: pools },
  { weight: 2, arbitrary: edits },
  { weight: 1, arbitrary: labels },
  { weight: 1, arbitrary: nodes },
);

/** What never makes two Services want one address: then it is on two at no moment, whatever gets lost or comes late. */
const honestStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: comes(
      arbitraryBalancer.map(it => ({
        ...it,
        annotations: Object.fromEntries(Object.entries(it.annotations).filter(([name]) => !name.includes('share'))),
        externalIPs: [],
      })),
    ),
  },
  { weight: 3, arbitrary: goes },
  { weight: 6, arbitrary: isSeen },
  { weight: 8, arbitrary: isWritten },
  { weight: 1, arbitrary: leads },
  { weight: 1, arbitrary: restarts },
  { weight: 2, arbitrary: holds },
  { weight: 1, arbitrary: pools },
);

describe('load-balancer addresses, whatever happens', function () {
  this.timeout(120_000);

  it('are in a pool, on one Service unless shared, and stay; who waits has a reason, and nothing free is left that it could have', () => {
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 12, maxLength: 40, size: 'max' }), steps => {
        const world = new World();
        for (const { happen } of steps) {
          happen(world);
          world.round();
        }
        world.rest();
      }),
      { ...propertyRun('load-balancer addresses', 250), plugins: [fc.unbiased()] },
    );
  });

  it('are never on two Services at the API server, through lost replies, late events, restarts and changes of the leader', () => {
    fc.assert(
      fc.property(fc.array(honestStep, { minLength: 12, maxLength: 40, size: 'max' }), steps => {
        const world = new World();
        for (const { happen } of steps) {
          happen(world);
          assertOnce(world.api.services.values());
          world.round();
        }
        world.rest();
        assertOnce(world.api.services.values());
      }),
      { ...propertyRun('one address, one Service', 150), plugins: [fc.unbiased()] },
    );
  });
});

function assertOnce(services: Iterable<Service>): void {
  const holders = new Map<IpAddress, ObjectKey>();
  for (const service of services) {
    for (const address of statusOf(service)) {
      assert.equal(holders.get(address), undefined, `${address} is at ${holders.get(address)} and ${keyOf(service.meta)}`);
      holders.set(address, keyOf(service.meta));
    }
  }
}
