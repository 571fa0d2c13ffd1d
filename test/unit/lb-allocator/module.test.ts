import assert from 'node:assert/strict';
import type { Service } from '../../../daemon/cluster/kinds.ts';
import { patched } from '../../../daemon/cluster/patched-map.ts';
import type { Snapshot } from '../../../daemon/cluster/snapshot.ts';
import { lbAllocatorModule } from '../../../modules/lb-allocator/module.ts';
import { lbAllocatorOptionsOf } from '../../../modules/lb-allocator/options.ts';
import { addressPool, addressPools, mustParseRange } from '../../fixtures/address-pools.ts';
import { balancer, ips, node, snapshot } from '../../fixtures/cluster.ts';
import { allottedBy, handedOver, lbAllocatorOptions, leading } from '../../fixtures/lb-allocation.ts';

const FOLLOWING = { leadership: { isLeader: false, reason: 'node-2 leads' }, handedOver: new Map() } as const;

function withService(former: Snapshot, key: string, service: Service | undefined): Snapshot {
  return { ...former, services: patched(former.services, new Map([[key, service]])) };
}

describe('the allocator of load-balancer addresses', () => {
  it('reads its options off the configuration', () => {
    const loadbalancerIpRange = [mustParseRange('198.51.100.0/24')];
    const config = { loadbalancerIpRange, loadbalancerPools: 'kube-system/pools', loadbalancerDefaultClass: false };
    assert.deepEqual(lbAllocatorOptionsOf(config), {
      flagRanges: loadbalancerIpRange,
      hasNamedPools: true,
      servesDefaultClass: false,
    });
    assert.equal(lbAllocatorOptionsOf({ ...config, loadbalancerPools: '' }).hasNamedPools, false);
  });

  it('watches Namespaces and ConfigMaps only where there may be named pools', () => {
    assert.deepEqual(lbAllocatorModule(lbAllocatorOptions()).reads, ['Service', 'Node']);
    const { reads } = lbAllocatorModule(lbAllocatorOptions({ hasNamedPools: true }));
    assert.deepEqual(reads, ['Service', 'Node', 'Namespace', 'ConfigMap']);
  });

  it('that follows wants nothing, takes nothing back, and says nothing of the pools', () => {
    const module = lbAllocatorModule(lbAllocatorOptions());
    const services = [balancer('web', { loadBalancer: { ingressIPs: ips('198.51.100.1') } }), balancer('new')];
    const plan = module.plan(snapshot({ services, allocation: FOLLOWING }));
    assert.deepEqual([plan.fragments.size, plan.undecided, module.summary()], [0, ['serviceStatus'], undefined]);
  });

  it('that comes to lead, follows and leads again goes by what it sees then', () => {
    const module = lbAllocatorModule(lbAllocatorOptions());
    const services = [balancer('web')];
    assert.equal(module.plan(snapshot({ services, allocation: leading() })).undecided, undefined);
    module.plan(snapshot({ services, allocation: FOLLOWING }));
    const later = [balancer('web', { loadBalancer: { ingressIPs: ips('198.51.100.4') } }), balancer('new')];
    const plan = module.plan(snapshot({ services: later, allocation: leading() }));
    assert.deepEqual(allottedBy(plan).has, { web: ['198.51.100.4'], new: ['198.51.100.1'] });
  });

  it('tells how far the pools are used up, and how many wait', () => {
    const module = lbAllocatorModule(
      lbAllocatorOptions({ hasNamedPools: true, flagRanges: [mustParseRange('198.51.100.0/30')] }),
    );
    const services = [1, 2, 3].map(age => balancer(`s${age}`, { age }));
    const pools = addressPools([addressPool('shop', ['192.0.2.0/29', '2001:db8::/126'], { namespaces: ['shop'] })]);
    module.plan(snapshot({ services: [...services, balancer('shop/a')], addressPools: pools, allocation: leading() }));
    assert.deepEqual(module.summary(), {
      pools: [
        { name: 'shop', addresses: 8, inUse: 1 },
        { name: 'default', addresses: 2, inUse: 2 },
      ],
      waiting: 1,
    });
  });

  it('believes what was handed over to be found, so that it is not written twice', () => {
    const module = lbAllocatorModule(lbAllocatorOptions());
    const [fragment] = module
      .plan(snapshot({ services: [balancer('web')], allocation: leading(handedOver('web', ['198.51.100.1'])) }))
      .fragments.values();
    assert.deepEqual(
      fragment?.entries.map(({ value }) => value),
      [{ namespace: 'default', name: 'web', uid: 'uid-default-web', addresses: ips('198.51.100.1'), found: ips('198.51.100.1') }],
    );
  });
});

describe('a plan that nobody carried out', () => {
  it('binds nobody: an older Service that comes has the last address', () => {
    const module = lbAllocatorModule(lbAllocatorOptions({ flagRanges: [mustParseRange('198.51.100.1')] }));
    const before = snapshot({ services: [balancer('a', { age: 5 }), balancer('b', { age: 6 })], allocation: leading() });
    assert.deepEqual(allottedBy(module.plan(before)).has, { a: ['198.51.100.1'] });
    const after = withService(before, 'default/c', balancer('c', { age: 1 }));
    assert.deepEqual(allottedBy(module.plan(after)).has, { c: ['198.51.100.1'] });
  });
});

describe('one event among ten thousand load balancers', () => {
  const COUNT = 10_000;
  const has = (number: number): Service =>
    balancer(`s${number}`, {
      age: number,
      loadBalancer: {
        ingressIPs: ips(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`),
        resourceVersion: `${number}`,
      },
    });
  const waits = (number: number, version: string): Service =>
    balancer(`w${number}`, { age: number, loadBalancer: { resourceVersion: version } });

  /** The owners whose fragments an event makes anew. */
  function changedBy(module: ReturnType<typeof lbAllocatorModule>, before: Snapshot, after: Snapshot): readonly string[] {
    const former = module.plan(before).fragments;
    const now = module.plan(after).fragments;
    return [...new Set([...former.keys(), ...now.keys()])].filter(owner => former.get(owner) !== now.get(owner));
  }

  /** Counts the Services that are looked at. */
  function watched(whole: Snapshot): { readonly snapshot: Snapshot; readonly looks: () => number } {
    let looks = 0;
    const services = new Map(
      [...whole.services].map(([key, service]) => [
        key,
        new Proxy(service, {
          get: (it, name: keyof Service) => {
            looks++;
            return it[name];
          },
        }),
      ]),
    );
    return { snapshot: { ...whole, services }, looks: () => looks };
  }

  it('costs the one Service', () => {
    const options = lbAllocatorOptions({ flagRanges: [mustParseRange('10.0.0.0/8')] });
    const module = lbAllocatorModule(options);
    const { snapshot: whole, looks } = watched(
      snapshot({ services: Array.from({ length: COUNT }, (_, number) => has(number + 1)), allocation: leading() }),
    );
    module.plan(whole);
    const before = looks();
    assert.deepEqual(changedBy(module, whole, withService(whole, 'default/s77', undefined)), ['Service default/s77']);
    const gone = withService(whole, 'default/s77', undefined);
    assert.deepEqual(changedBy(module, gone, withService(gone, 'default/new', balancer('new'))), ['Service default/new']);
    assert.equal(looks() - before, 0, 'other Services were looked at again');
  });

  it('with as many waiting costs the one, and one that is freed goes to the first of them', () => {
    const options = lbAllocatorOptions({ flagRanges: [mustParseRange('10.0.0.0-10.0.0.9')] });
    const module = lbAllocatorModule(options);
    const services = [
      ...Array.from({ length: 10 }, (_, number) => has(number)),
      ...Array.from({ length: COUNT }, (_, number) => waits(number, '5')),
    ];
    const { snapshot: whole, looks } = watched(snapshot({ services, allocation: leading() }));
    module.plan(whole);
    assert.equal(module.summary()?.waiting, COUNT);
    const before = looks();
    const newcomer = withService(whole, 'default/late', waits(COUNT, '5'));
    assert.deepEqual(changedBy(module, whole, withService(whole, 'default/late', balancer('late', { age: COUNT }))), [
      'Service default/late',
    ]);
    assert.deepEqual(changedBy(module, newcomer, withService(newcomer, 'default/w5', waits(5, '6'))), []);
    const freed = withService(whole, 'default/s3', undefined);
    assert.deepEqual(changedBy(module, whole, freed), ['Service default/s3', 'Service default/w0']);
    assert.equal(module.summary()?.waiting, COUNT - 1);
    // The fragment of the one that is served names it.
    assert.ok(looks() - before < 50, `${looks() - before} looks at other Services`);
  });

  it('another heartbeat of a Node changes nothing', () => {
    const module = lbAllocatorModule(lbAllocatorOptions());
    const before = snapshot({ services: [balancer('web')], allocation: leading() });
    const after = { ...before, nodes: new Map([...before.nodes, ['node-3', node(3, { isReady: false })]]) };
    assert.equal(module.plan(before).fragments, module.plan(after).fragments);
  });
});
