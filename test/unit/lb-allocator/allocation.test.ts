import assert from 'node:assert/strict';
import type { Node, Service } from '../../../daemon/cluster/kinds.ts';
import { lbAllocatorModule } from '../../../modules/lb-allocator/module.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import { balancer, ips, namespace, node, selector, service, servicePort, snapshot } from '../../fixtures/cluster.ts';
import { type Allotted, allotted, allottedBy, handedOver, lbAllocatorOptions, leading } from '../../fixtures/lb-allocation.ts';

/** In every family. */
const dual = (ipFamilyPolicy: 'PreferDualStack' | 'RequireDualStack'): Parameters<typeof balancer>[1] => ({
  ipFamilies: ['ipv4', 'ipv6'],
  loadBalancer: { ipFamilyPolicy },
});

const asking = (addresses: string): Parameters<typeof balancer>[1] => ({ annotations: { 'fairway.dev/lb-ips': addresses } });

/** Six Services that have all addresses which are handed out unasked. */
const SIX = [1, 2, 3, 4, 5, 6].map(number =>
  balancer(`old-${number}`, { loadBalancer: { ingressIPs: ips(`198.51.100.${number}`) } }),
);

function told(result: Allotted, name: string): string {
  return result.messages.filter(message => message.startsWith(`Service default/${name}:`)).join('\n');
}

describe('the address of a load balancer', () => {
  it('is the lowest that is free, without the first and the last of the subnet, to the older Service first', () => {
    const { has, told: all } = allotted({
      services: [balancer('b', { age: 1 }), balancer('c', { age: 1 }), balancer('a', { age: 2 })],
    });
    assert.deepEqual(has, { b: ['198.51.100.1'], c: ['198.51.100.2'], a: ['198.51.100.3'] });
    assert.deepEqual(all, []);
  });

  it('is one that nobody has: no external IP, no Node, no Service of another class', () => {
    const services = [
      service('x', { externalIPs: ips('198.51.100.1') }),
      balancer('cloud', { loadBalancer: { loadBalancerClass: 'cloud', ingressIPs: ips('198.51.100.2'), writtenBy: 'ccm' } }),
      balancer('web'),
    ];
    const { has } = allotted({ services, nodes: [node(1, { externalIPs: ips('198.51.100.3') })] });
    assert.deepEqual(has, { web: ['198.51.100.4'] });
  });

  it('stays with who has it, whoever wrote it, and is written again where the order is another', () => {
    const services = [
      balancer('web', { loadBalancer: { ingressIPs: ips('198.51.100.5'), writtenBy: 'kubectl' } }),
      balancer('two', {
        ...dual('PreferDualStack'),
        loadBalancer: { ingressIPs: ips('2001:db8:2::3', '198.51.100.3'), ipFamilyPolicy: 'PreferDualStack' },
      }),
    ];
    assert.deepEqual(allotted({ services }).has, { web: ['198.51.100.5'], two: ['198.51.100.3', '2001:db8:2::3'] });
  });

  it('is taken while it is on its way to another Service, and while nobody knows whether that was written', () => {
    const services = [balancer('web', { loadBalancer: { resourceVersion: '7' } }), balancer('new', { age: 9 })];
    for (const version of [undefined, '8']) {
      const allocation = leading(handedOver('web', ['198.51.100.1'], { version }));
      assert.deepEqual(allotted({ services, allocation }).has, { web: ['198.51.100.1'], new: ['198.51.100.2'] });
    }
  });

  it('is free again when the Service is seen without it, or is another of the same name', () => {
    const services = [balancer('web', { age: 9, loadBalancer: { resourceVersion: '8' } }), balancer('new')];
    const seen = leading(handedOver('web', ['198.51.100.1'], { version: '8' }));
    const another = leading(handedOver('web', ['198.51.100.1'], { uid: 'other' }));
    for (const allocation of [seen, another])
      assert.deepEqual(allotted({ services, allocation }).has, { new: ['198.51.100.1'], web: ['198.51.100.2'] });
  });

  it('is not free before the Service that moves is known to be without it', () => {
    const moving = balancer('web', {
      ...asking('198.51.100.4'),
      loadBalancer: { ingressIPs: ips('198.51.100.1'), resourceVersion: '7' },
    });
    const services = [moving, balancer('new', { age: 9 })];
    const onItsWay = allotted({ services, allocation: leading(handedOver('web', ['198.51.100.4'])) });
    assert.deepEqual(onItsWay.has, { web: ['198.51.100.4'], new: ['198.51.100.2'] });
    const written = allotted({ services, allocation: leading(handedOver('web', ['198.51.100.4'], { version: '8' })) });
    assert.deepEqual(written.has, { web: ['198.51.100.4'], new: ['198.51.100.1'] });
  });

  it('is not free before the Service is known to be without what was handed over to it earlier', () => {
    const services = [balancer('web', asking('198.51.100.4')), balancer('new', { age: 9 })];
    const allocation = leading(handedOver('web', ['198.51.100.4'], { inPlaceOf: ips('198.51.100.1') }));
    assert.deepEqual(allotted({ services, allocation }).has, { web: ['198.51.100.4'], new: ['198.51.100.2'] });
  });

  it('is none where all are in use: told with the pool, its size and the remedy', () => {
    const result = allotted({ services: [...SIX, balancer('late', { age: 1 }), balancer('later', { age: 2 })] });
    assert.equal(result.has['late'], undefined);
    assert.deepEqual(result.told, ['Service default/late FW_LB_EXHAUSTED', 'Service default/later FW_LB_EXHAUSTED']);
    assert.equal(
      told(result, 'late'),
      'Service default/late: no IPv4 address is free in pool default (6 of 6 in use). Add a range to one of the pools, or delete Services that need no address. Until then it has no address.',
    );
  });

  it('is taken back from a Service that is no load balancer any more: ours, or of a pool', () => {
    const was = (name: string, address: string, writtenBy: string): Service =>
      balancer(name, { type: 'ClusterIP', loadBalancer: { ingressIPs: ips(address), writtenBy } });
    const services = [was('a', '192.0.2.1', 'fairway'), was('b', '198.51.100.1', 'kubectl'), was('c', '192.0.2.3', 'ccm')];
    assert.deepEqual(allotted({ services }).has, { a: [], b: [] });
  });

  it('stays with a Service when a Node comes that has it too, and that is told as long as it is so', () => {
    const module = lbAllocatorModule(lbAllocatorOptions());
    const web = balancer('web', { loadBalancer: { ingressIPs: ips('198.51.100.3') } });
    const cluster = (...nodes: readonly Node[]): Allotted =>
      allottedBy(module.plan({ ...snapshot({ services: [web], nodes, allocation: leading() }) }));
    assert.deepEqual(cluster(node(1)).told, []);
    const both = cluster(node(1), node(2, { internalIPs: ips('198.51.100.3') }));
    assert.deepEqual([both.has, both.told], [{ web: ['198.51.100.3'] }, ['Service default/web FW_LB_CONFLICT']]);
    assert.match(both.messages[0] ?? '', /198\.51\.100\.3 is an address of Node node-2 as well/);
    assert.deepEqual(cluster(node(1)).told, []);
  });

  it('of two who have one without sharing it stays with the one that we wrote, then the earlier written, the older, the lesser name', () => {
    const at = (name: string, deviations: NonNullable<Parameters<typeof balancer>[1]>): Service =>
      balancer(name, { ...deviations, loadBalancer: { ingressIPs: ips('198.51.100.2'), ...deviations.loadBalancer } });
    const contests: readonly (readonly [stays: Service, goes: Service])[] = [
      [at('b', { age: 5, loadBalancer: { writtenAt: 9 } }), at('a', { loadBalancer: { writtenBy: 'kubectl', writtenAt: 1 } })],
      [at('b', { age: 5, loadBalancer: { writtenAt: 1 } }), at('a', { loadBalancer: { writtenAt: 2 } })],
      [at('b', { age: 1 }), at('a', { age: 2 })],
      [at('a', {}), at('b', {})],
    ];
    for (const [stays, goes] of contests) {
      const result = allotted({ services: [goes, stays] });
      assert.deepEqual(result.has, { [stays.meta.name]: ['198.51.100.2'], [goes.meta.name]: ['198.51.100.1'] });
      assert.deepEqual(result.told, [`Service default/${goes.meta.name} FW_LB_CONFLICT`]);
      assert.match(
        told(result, goes.meta.name),
        new RegExp(`198\\.51\\.100\\.2 is Service default/${stays.meta.name}'s as well`),
      );
    }
  });
});

describe('address families', () => {
  const flagRanges = allRanges('198.51.100.0/29');

  it('one where one is wanted, in the order of ipFamilies where two are', () => {
    const services = [balancer('six', { ipFamilies: ['ipv6'] }), balancer('both', { ...dual('RequireDualStack'), age: 1 })];
    assert.deepEqual(allotted({ services }).has, { six: ['2001:db8:2::1'], both: ['198.51.100.1', '2001:db8:2::2'] });
  });

  it('RequireDualStack gets all or none, and says which family no pool has', () => {
    const result = allotted({ services: [balancer('both', dual('RequireDualStack'))] }, { flagRanges });
    assert.deepEqual([result.has, result.told], [{}, ['Service default/both FW_LB_FAMILY']]);
    assert.match(
      result.messages[0] ?? '',
      /no pool gives it IPv6 addresses \(ipFamilyPolicy: RequireDualStack needs both\); it is served by default\./,
    );
  });

  it('RequireDualStack gets none where one family is used up', () => {
    const result = allotted({ services: [...SIX, balancer('both', { ...dual('RequireDualStack'), age: 1 })] });
    assert.deepEqual([result.has['both'], result.told], [undefined, ['Service default/both FW_LB_EXHAUSTED']]);
  });

  it('PreferDualStack gets what pools have, and waits for a family that is used up', () => {
    const services = [balancer('both', { ...dual('PreferDualStack'), age: 1 })];
    assert.deepEqual(allotted({ services }, { flagRanges }), { has: { both: ['198.51.100.1'] }, told: [], messages: [] });
    const usedUp = allotted({ services: [...SIX, ...services] });
    assert.deepEqual([usedUp.has['both'], usedUp.told], [['2001:db8:2::1'], ['Service default/both FW_LB_EXHAUSTED']]);
  });

  it('PreferDualStack says so where no pool has any', () => {
    const result = allotted({ services: [balancer('both', dual('PreferDualStack'))] }, { flagRanges: [] });
    assert.deepEqual(
      [result.has, result.told],
      [{}, ['Service default/both FW_LB_FAMILY', 'Module lb-allocator/pools FW_LB_POOL']],
    );
  });

  it('an address of a family that the Service gave up is taken back', () => {
    const web = balancer('web', { ipFamilies: ['ipv6'], loadBalancer: { ingressIPs: ips('198.51.100.1', '2001:db8:2::1') } });
    assert.deepEqual(allotted({ services: [web] }).has, { web: ['2001:db8:2::1'] });
  });

  it('a Service that names no family and has no ClusterIP is of those that its pools have', () => {
    const web = balancer('web', { clusterIPs: [] });
    assert.deepEqual(allotted({ services: [web] }, { flagRanges: allRanges('2001:db8:2::/64') }).has, { web: ['2001:db8:2::1'] });
  });
});

describe('asking for an address', () => {
  it("by our annotation, by MetalLB's, by spec.loadBalancerIP: the first that is there counts", () => {
    const annotations = { 'metallb.universe.tf/loadBalancerIPs': '198.51.100.6', 'metallb.io/loadBalancerIPs': '198.51.100.5' };
    const loadBalancer = { loadBalancerIP: '198.51.100.3' };
    const services = [
      balancer('all', { annotations: { ...annotations, 'fairway.dev/lb-ips': '198.51.100.4' }, loadBalancer }),
      balancer('newer', { annotations, loadBalancer }),
      balancer('older', { annotations: { 'metallb.universe.tf/loadBalancerIPs': '198.51.100.6' }, loadBalancer }),
      balancer('field', { loadBalancer }),
    ];
    assert.deepEqual(allotted({ services }).has, {
      all: ['198.51.100.4'],
      newer: ['198.51.100.5'],
      older: ['198.51.100.6'],
      field: ['198.51.100.3'],
    });
  });

  it('the first and the last of a subnet, and one of each family, may be had by who asks', () => {
    const services = [
      balancer('first', asking('198.51.100.0')),
      balancer('both', { ...dual('PreferDualStack'), ...asking('2001:db8:2::7, 198.51.100.7') }),
    ];
    assert.deepEqual(allotted({ services }).has, { first: ['198.51.100.0'], both: ['198.51.100.7', '2001:db8:2::7'] });
  });

  it('comes before those who take any, however old they are', () => {
    const services = [balancer('any'), balancer('asks', { ...asking('198.51.100.1'), age: 9 })];
    assert.deepEqual(allotted({ services }).has, { any: ['198.51.100.2'], asks: ['198.51.100.1'] });
  });

  it('moves a Service that has another', () => {
    const web = balancer('web', { ...asking('198.51.100.4'), loadBalancer: { ingressIPs: ips('198.51.100.1') } });
    assert.deepEqual(allotted({ services: [web] }).has, { web: ['198.51.100.4'] });
  });

  const refused: readonly (readonly [title: string, addresses: string, code: string, text: RegExp])[] = [
    ['what is no address', 'blue', 'FW_LB_REQUEST', /fairway\.dev\/lb-ips is "blue": "blue" is not an IP address/],
    ['two of one family', '198.51.100.1,198.51.100.2', 'FW_LB_REQUEST', /are of one family; name one of each at most/],
    ['one of a family that it is not of', '2001:db8:2::4', 'FW_LB_REQUEST', /the Service is of family IPv4 only/],
    ['one in no pool', '192.0.2.1', 'FW_LB_OUTSIDE', /asks for 192\.0\.2\.1, which is in no pool; it is served by default\./],
    [
      'one that another has',
      '198.51.100.2',
      'FW_LB_TAKEN',
      /asks for 198\.51\.100\.2, which Service default\/old-2 has\..*fairway\.dev\/lb-share/,
    ],
  ];
  for (const [title, addresses, code, text] of refused) {
    it(`${title}: told, and nothing is given instead`, () => {
      const result = allotted({ services: [SIX[1] ?? balancer('x'), balancer('web', asking(addresses))] });
      assert.deepEqual([result.has['web'], result.told], [undefined, [`Service default/web ${code}`]]);
      assert.match(told(result, 'web'), text);
      assert.match(told(result, 'web'), /Until then it has no address\.$/);
    });

    it(`${title}: what the Service has it keeps`, () => {
      const web = balancer('web', { ...asking(addresses), loadBalancer: { ingressIPs: ips('198.51.100.5') } });
      const result = allotted({ services: [SIX[1] ?? web, web] });
      assert.deepEqual([result.has['web'], result.told], [['198.51.100.5'], [`Service default/web ${code}`]]);
      assert.match(told(result, 'web'), /Until then it has 198\.51\.100\.5\.$/);
    });
  }

  it('by a text as long as annotations may be, and by one that would end the line: told in one line that can be read', () => {
    const many = Array.from({ length: 1000 }, (_, index) => `192.0.${index >> 8}.${index & 255}`).join(',');
    for (const text of [many, '198.51.100.4\nE a line of its own\u001b[31m', many.replaceAll('.', 'x')]) {
      const services = [balancer('web', asking(text)), balancer('pool', { annotations: { 'fairway.dev/lb-pool': text } })];
      const { messages } = allotted({ services });
      assert.deepEqual([messages.length, messages.filter(message => message.length > 500 || /\p{Cc}/u.test(message))], [2, []]);
    }
  });

  it('one that a Node or an external IP has is taken', () => {
    const services = [
      service('x', { externalIPs: ips('198.51.100.4') }),
      balancer('a', asking('198.51.100.4')),
      balancer('b', asking('198.51.100.5')),
    ];
    const { has, messages } = allotted({ services, nodes: [node(1, { externalIPs: ips('198.51.100.5') })] });
    assert.deepEqual(has, {});
    assert.match(messages[0] ?? '', /which Service default\/x \(spec\.externalIPs\) has/);
    assert.match(messages[1] ?? '', /which Node node-1 has\. Ask for another address\. Until then/);
  });
});

describe('sharing an address', () => {
  const sharing = (name: string, port: number, deviations: NonNullable<Parameters<typeof balancer>[1]> = {}): Service =>
    balancer(name, { annotations: { 'fairway.dev/lb-share': 'k' }, ports: [servicePort({ port })], ...deviations });

  it("with the same key and different ports, in any namespace and by MetalLB's words, goes by itself", () => {
    const services = [
      sharing('a', 80),
      sharing('shop/b', 443, { age: 1, annotations: { 'metallb.io/allow-shared-ip': 'k' } }),
      balancer('c'),
    ];
    assert.deepEqual(allotted({ services }).has, { a: ['198.51.100.1'], 'shop/b': ['198.51.100.1'], c: ['198.51.100.2'] });
  });

  it('one and the same port of two protocols is no hindrance', () => {
    const services = [sharing('a', 53), sharing('b', 0, { ports: [servicePort({ port: 53, protocol: 'UDP' })], age: 1 })];
    assert.deepEqual(allotted({ services }).has, { a: ['198.51.100.1'], b: ['198.51.100.1'] });
  });

  const apart: readonly (readonly [title: string, other: Service])[] = [
    ['another key', sharing('b', 443, { annotations: { 'fairway.dev/lb-share': 'other' } })],
    ['no key', sharing('b', 443, { annotations: {} })],
    ['the same port', sharing('b', 80)],
    ['another traffic policy', sharing('b', 443, { externalTrafficPolicy: 'Local', loadBalancer: { selector: 'app=a' } })],
  ];
  for (const [title, other] of apart)
    it(`not with ${title}`, () => {
      assert.deepEqual(allotted({ services: [sharing('a', 80), other] }).has, { a: ['198.51.100.1'], b: ['198.51.100.2'] });
    });

  it('under policy Local only with the same selector, which must be there', () => {
    const local = (name: string, port: number, text: string): Service =>
      sharing(name, port, { externalTrafficPolicy: 'Local', loadBalancer: { selector: text } });
    const shared = { a: ['198.51.100.1'], b: ['198.51.100.1'] };
    const separate = { a: ['198.51.100.1'], b: ['198.51.100.2'] };
    assert.deepEqual(allotted({ services: [local('a', 80, 'app=a'), local('b', 81, 'app=a')] }).has, shared);
    assert.deepEqual(allotted({ services: [local('a', 80, 'app=a'), local('b', 81, 'app=b')] }).has, separate);
    assert.deepEqual(allotted({ services: [local('a', 80, ''), local('b', 81, '')] }).has, separate);
  });

  it('ends where the ports come to be the same: the later one gets another', () => {
    const at = { loadBalancer: { ingressIPs: ips('198.51.100.3') } };
    const result = allotted({ services: [sharing('a', 80, at), sharing('b', 80, { ...at, age: 1 })] });
    assert.deepEqual(
      [result.has, result.told],
      [{ a: ['198.51.100.3'], b: ['198.51.100.1'] }, ['Service default/b FW_LB_CONFLICT']],
    );
  });

  it('an address that is asked for may be shared as well', () => {
    const services = [
      sharing('a', 80, { loadBalancer: { ingressIPs: ips('198.51.100.3') } }),
      sharing('b', 443, { loadBalancer: { loadBalancerIP: '198.51.100.3' } }),
    ];
    assert.deepEqual(allotted({ services }).has, { a: ['198.51.100.3'], b: ['198.51.100.3'] });
  });
});

describe('status that is not ours', () => {
  it('of another controller stays, is told, and gets no company', () => {
    const web = balancer('web', {
      ...dual('PreferDualStack'),
      loadBalancer: { ingressIPs: ips('192.0.2.9'), writtenBy: 'ccm', ipFamilyPolicy: 'PreferDualStack' },
    });
    const result = allotted({ services: [web] });
    assert.deepEqual([result.has, result.told], [{}, ['Service default/web FW_LB_STATUS']]);
    assert.match(result.messages[0] ?? '', /its status has 192\.0\.2\.9, written by ccm and in no pool that may serve it/);
  });

  it('is not made to look like ours: beside it nothing is written, not even to take back an address too many', () => {
    const ours = ips('198.51.100.3', '198.51.100.2');
    const two = balancer('web', { loadBalancer: { ingressIPs: [...ours, ...ips('192.0.2.9')], writtenBy: 'ccm' } });
    const result = allotted({ services: [two] });
    assert.deepEqual([result.has, result.told], [{ web: ours }, ['Service default/web FW_LB_STATUS']]);
    const allocation = leading(handedOver('web', ['198.51.100.3', '192.0.2.7']));
    assert.deepEqual(allotted({ services: [two], allocation }).has, { web: ['198.51.100.3'] }, 'but what is in no pool goes');
    const other = balancer('other', { loadBalancer: { ingressIPs: ips('198.51.100.2'), writtenBy: 'fairway' } });
    const contested = allotted({ services: [two, other] });
    assert.deepEqual(contested.has, { web: ['198.51.100.3'], other: ['198.51.100.2'] }, "and what is another Service's");
  });

  it('is put right where the Service names a class of ours, or we wrote it', () => {
    const services = [
      balancer('named', { loadBalancer: { loadBalancerClass: 'kube-router', ingressIPs: ips('192.0.2.9'), writtenBy: 'ccm' } }),
      balancer('ours', { age: 1, loadBalancer: { ingressIPs: ips('192.0.2.8'), writtenBy: 'kube-router' } }),
    ];
    const result = allotted({ services });
    assert.deepEqual(result.has, { named: ['198.51.100.1'], ours: ['198.51.100.2'] });
    assert.deepEqual(result.told, ['Service default/named FW_LB_OUTSIDE', 'Service default/ours FW_LB_OUTSIDE']);
  });

  it('host names are told and stay', () => {
    const web = balancer('web', { loadBalancer: { ingressHostnames: ['lb.example.com'] } });
    const result = allotted({ services: [web] });
    assert.deepEqual([result.has, result.told], [{ web: ['198.51.100.1'] }, ['Service default/web FW_LB_STATUS']]);
  });

  it('what goes wrong in writing is told at the Service', () => {
    const allocation = leading(handedOver('web', ['198.51.100.1'], { trouble: 'update of services/status is forbidden' }));
    const result = allotted({ services: [balancer('web')], allocation });
    assert.deepEqual(result.messages, ['Service default/web: update of services/status is forbidden']);
  });
});

describe('pools', () => {
  const FLAG = { flagRanges: allRanges('198.51.100.0/29') };

  it('that name whom they serve come before those for everybody, and the one of the flag last', () => {
    const pools = addressPools([
      addressPool('all', ['192.0.2.0-192.0.2.0']),
      addressPool('shop', ['192.0.2.16-192.0.2.16'], { namespaces: ['shop'] }),
      addressPool('front', ['192.0.2.32-192.0.2.32'], { serviceSelector: selector({ tier: 'front' }) }),
    ]);
    const services = [
      balancer('shop/a', { age: 1, loadBalancer: { labels: { tier: 'front' } } }),
      balancer('shop/b', { age: 2, loadBalancer: { labels: { tier: 'front' } } }),
      balancer('shop/c', { age: 3, loadBalancer: { labels: { tier: 'front' } } }),
      balancer('shop/d', { age: 4, loadBalancer: { labels: { tier: 'front' } } }),
    ];
    assert.deepEqual(allotted({ services, addressPools: pools }, FLAG).has, {
      'shop/a': ['192.0.2.16'],
      'shop/b': ['192.0.2.32'],
      'shop/c': ['192.0.2.0'],
      'shop/d': ['198.51.100.1'],
    });
  });

  it('serve namespaces by name and by label', () => {
    const pools = addressPools([
      addressPool('team', ['192.0.2.0-192.0.2.9'], { namespaces: ['shop'], namespaceSelector: selector({ team: 'a' }) }),
    ]);
    const services = [balancer('shop/a'), balancer('blog/b', { age: 1 }), balancer('c')];
    const namespaces = [namespace('shop'), namespace('blog', { team: 'a' }), namespace('default')];
    assert.deepEqual(allotted({ services, namespaces, addressPools: pools }, FLAG).has, {
      'shop/a': ['192.0.2.0'],
      'blog/b': ['192.0.2.1'],
      c: ['198.51.100.1'],
    });
  });

  it('of a class serve it alone, and the others serve what has none', () => {
    const pools = addressPools([addressPool('edge', ['192.0.2.0-192.0.2.9'], { loadBalancerClasses: ['edge'] })]);
    const services = [
      balancer('a', { loadBalancer: { loadBalancerClass: 'edge' } }),
      balancer('b'),
      balancer('c', { loadBalancer: { loadBalancerClass: 'other' } }),
    ];
    assert.deepEqual(allotted({ services, addressPools: pools }, FLAG).has, { a: ['192.0.2.0'], b: ['198.51.100.1'] });
  });

  it('without --loadbalancer-default-class a Service without a class gets nothing', () => {
    const services = [balancer('a'), balancer('b', { loadBalancer: { loadBalancerClass: 'kube-router' } })];
    assert.deepEqual(allotted({ services }, { servesDefaultClass: false }).has, { b: ['198.51.100.1'] });
  });

  it('with autoAssign false serve only those who ask for them, or for an address of them', () => {
    const pools = addressPools([addressPool('rare', ['192.0.2.0/29'], { autoAssign: false })]);
    const services = [
      balancer('any'),
      balancer('pool', { annotations: { 'metallb.universe.tf/address-pool': 'rare' } }),
      balancer('address', asking('192.0.2.7')),
    ];
    assert.deepEqual(allotted({ services, addressPools: pools }, FLAG).has, {
      any: ['198.51.100.1'],
      pool: ['192.0.2.1'],
      address: ['192.0.2.7'],
    });
  });

  const pools = addressPools([
    addressPool('shop', ['192.0.2.0-192.0.2.1'], { namespaces: ['shop'] }),
    addressPool('spare', ['192.0.2.9']),
  ]);
  const inPool = (pool: string, deviations: Parameters<typeof balancer>[1] = {}): Service =>
    balancer('web', {
      annotations: { 'fairway.dev/lb-pool': pool },
      loadBalancer: { ingressIPs: ips('198.51.100.1') },
      ...deviations,
    });

  it('that are asked for: the Service moves there', () => {
    assert.deepEqual(allotted({ services: [inPool('spare')], addressPools: pools }, FLAG).has, { web: ['192.0.2.9'] });
  });

  const refused: readonly (readonly [title: string, web: Service, code: string, text: RegExp])[] = [
    [
      'that do not exist',
      inPool('nowhere'),
      'FW_LB_REQUEST',
      /asks for pool "nowhere", and there is none of that name; there are shop, spare, default\./,
    ],
    [
      'that do not serve the Service',
      inPool('shop'),
      'FW_LB_OUTSIDE',
      /asks for pool shop, which does not serve it: it is for namespaces shop/,
    ],
    [
      'without the family',
      inPool('spare', { ipFamilies: ['ipv6'] }),
      'FW_LB_FAMILY',
      /no pool gives it IPv6 addresses; it is served by spare\./,
    ],
    [
      'other than that of the address which is asked for',
      inPool('spare', { annotations: { 'fairway.dev/lb-pool': 'spare', 'fairway.dev/lb-ips': '198.51.100.4' } }),
      'FW_LB_OUTSIDE',
      /198\.51\.100\.4, which is of pool default, and fairway\.dev\/lb-pool for pool spare; remove one of them/,
    ],
  ];
  for (const [title, web, code, text] of refused)
    it(`${title}: told`, () => {
      const result = allotted({ services: [web], addressPools: pools }, FLAG);
      assert.deepEqual(result.told, [`Service default/web ${code}`]);
      assert.match(result.messages[0] ?? '', text);
    });

  it('an address of a pool that does not serve the Service is not given to it', () => {
    const result = allotted({ services: [balancer('web', asking('192.0.2.1'))], addressPools: pools }, FLAG);
    assert.deepEqual([result.has, result.told], [{}, ['Service default/web FW_LB_OUTSIDE']]);
    assert.match(result.messages[0] ?? '', /asks for 192\.0\.2\.1 of pool shop, which does not serve it/);
  });

  it('with both families needed: one that it has elsewhere stays where the pool asked for has none, and does not keep it from the other', () => {
    const has = (name: string, ...addresses: readonly string[]): Service =>
      balancer(name, {
        ipFamilies: ['ipv4', 'ipv6'],
        annotations: { 'fairway.dev/lb-pool': 'edge' },
        loadBalancer: { ipFamilyPolicy: 'RequireDualStack', ingressIPs: ips(...addresses) },
      });
    for (const ranges of [['2001:db8:9::/64'], ['2001:db8:9::/64', '192.0.2.1']]) {
      const services = [service('x', { externalIPs: ips('192.0.2.1') }), has('half', '198.51.100.1'), has('none')];
      const result = allotted({ services, addressPools: addressPools([addressPool('edge', ranges)]) }, FLAG);
      assert.deepEqual(result.has, { half: ['198.51.100.1', '2001:db8:9::1'] }, ranges.join(' '));
      assert.match(told(result, 'half'), /Until then it has 198\.51\.100\.1, 2001:db8:9::1\./);
    }
  });

  it('a pool that is full leaves who asks for it where it is', () => {
    const services = [balancer('there', { loadBalancer: { ingressIPs: ips('192.0.2.9') } }), inPool('spare')];
    const result = allotted({ services, addressPools: pools }, FLAG);
    assert.deepEqual([result.has['web'], result.told], [['198.51.100.1'], ['Service default/web FW_LB_EXHAUSTED']]);
  });

  it('a pool that shrinks moves exactly the Services outside, and leaves those without an address for whom none is free', () => {
    const services = [...SIX, balancer('out', { age: 1, loadBalancer: { ingressIPs: ips('198.51.100.9') } })];
    const moved = allotted({ services: services.slice(1) });
    assert.deepEqual([moved.has['out'], moved.has['old-2']], [['198.51.100.1'], ['198.51.100.2']]);
    assert.deepEqual(moved.told, ['Service default/out FW_LB_OUTSIDE']);
    const stuck = allotted({ services });
    assert.deepEqual(
      [stuck.has['out'], stuck.told],
      [[], ['Service default/out FW_LB_OUTSIDE', 'Service default/out FW_LB_EXHAUSTED']],
    );
  });

  it("that overlap are told, with the addresses, which belong to the first; the flag's pool is the last", () => {
    const overlapping = addressPools([addressPool('carved', ['198.51.100.2-198.51.100.3'], { namespaces: ['shop'] })]);
    const services = [balancer('shop/a'), balancer('b'), balancer('c', { age: 1 })];
    const result = allotted({ services, addressPools: overlapping }, FLAG);
    assert.deepEqual(result.has, { 'shop/a': ['198.51.100.2'], b: ['198.51.100.1'], c: ['198.51.100.4'] });
    assert.deepEqual(result.messages, [
      'pools of kube-system/pools: pools carved and default overlap in 198.51.100.2-198.51.100.3; these addresses belong to carved. Take them out of one of the two.',
    ]);
  });

  it('that have no address of their own are told', () => {
    const shadowed = addressPools([addressPool('first', ['192.0.2.0/29']), addressPool('second', ['192.0.2.4'])]);
    const { told: all, messages } = allotted({ addressPools: shadowed }, FLAG);
    assert.deepEqual(all, ['ConfigMap kube-system/pools FW_LB_POOL', 'ConfigMap kube-system/pools FW_LB_POOL']);
    assert.match(messages[1] ?? '', /pool second has no address to hand out/);
  });

  it('that are none at all, since no flag names any, take no address away, and it is said which flags to give', () => {
    const services = [
      balancer('web', { loadBalancer: { ingressIPs: ips('192.0.2.9'), writtenBy: 'kube-router' } }),
      balancer('new'),
    ];
    const result = allotted({ services }, { flagRanges: [] });
    assert.deepEqual(
      [result.has, result.told],
      [{ web: ['192.0.2.9'] }, ['Service default/new FW_LB_FAMILY', 'Module lb-allocator/pools FW_LB_POOL']],
    );
    for (const message of result.messages) assert.match(message, /--loadbalancer-ip-range or --loadbalancer-pools/);
  });

  it('that cannot be read and are not known from before take no address away', () => {
    const services = [balancer('web', { loadBalancer: { ingressIPs: ips('192.0.2.9') } }), balancer('new', { age: 1 })];
    for (const doubt of [{ unreadable: undefined }, { unreadable: ['spare'] }, { incomplete: ['spare'] }]) {
      const result = allotted({ services, addressPools: addressPools([], doubt) }, FLAG);
      assert.deepEqual(
        [result.has, result.told],
        [{ web: ['192.0.2.9'], new: ['198.51.100.1'] }, ['ConfigMap kube-system/pools FW_LB_POOL']],
      );
    }
    const edge = balancer('edge', { loadBalancer: { loadBalancerClass: 'edge', ingressIPs: ips('192.0.2.7') } });
    const other = balancer('other', {
      loadBalancer: { loadBalancerClass: 'edge', ingressIPs: ips('192.0.2.8'), writtenBy: 'ccm' },
    });
    const ofClass = allotted({ services: [edge, other], addressPools: addressPools([], { unreadable: undefined }) }, FLAG);
    assert.deepEqual(ofClass.has, { edge: ['192.0.2.7'] });
    const missing = allotted({ services }, { ...FLAG, hasNamedPools: true });
    assert.deepEqual([missing.has['web'], missing.told], [['192.0.2.9'], ['Module lb-allocator/pools FW_LB_POOL']]);
  });
});

function allRanges(...texts: readonly string[]) {
  return addressPool('', texts).ranges;
}
