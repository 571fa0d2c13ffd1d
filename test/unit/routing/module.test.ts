import assert from 'node:assert/strict';
import type { Service } from '../../../daemon/cluster/kinds.ts';
import { NO_RIB } from '../../../daemon/cluster/snapshot.ts';
import { Claims } from '../../../daemon/reconcile/claims.ts';
import type { Fragment, OwnerKey } from '../../../daemon/reconcile/fragment.ts';
import { routingModule } from '../../../modules/routing/module.ts';
import type { RoutingOptions } from '../../../modules/routing/options.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import {
  type Cluster,
  farNode,
  hostAddress,
  hostFacts,
  ips,
  learned,
  node,
  nodeView,
  rib,
  service,
  slice,
} from '../../fixtures/cluster.ts';
import { flagPeer, routingOptions } from '../../fixtures/routing-options.ts';
import { POD_ROUTES, routingSnapshot } from '../../fixtures/routing-scene.ts';

const ANNOUNCE: Partial<RoutingOptions> = { advertise: { clusterIP: true, externalIP: true, loadBalancerIP: true } };

/** A module with its claims, fed with one cluster after another. */
class Scene {
  readonly #module;
  readonly #claims = new Claims();

  constructor(options: Partial<RoutingOptions> = {}) {
    this.#module = routingModule(routingOptions(options));
  }

  plan(cluster: Cluster): ReadonlyMap<OwnerKey, Fragment> {
    return this.#module.plan(routingSnapshot(cluster)).fragments;
  }

  /** `table key` of each entry that is wanted differently from now on. */
  changed(cluster: Cluster): readonly string[] {
    const changed = this.#claims.update('routing', this.plan(cluster));
    return [...changed].flatMap(([table, keys]) => [...keys].map(key => `${table} ${key}`)).sort();
  }

  has(key: string): boolean {
    return this.#claims.wanted('bgpPath', key) !== undefined;
  }

  /** The messages of what is wrong with objects. */
  told(): readonly string[] {
    return this.#claims.diagnostics().map(({ message }) => message);
  }
}

function annotated(annotations: Readonly<Record<string, string>>): Cluster {
  return { nodes: [node(1, { annotations }), node(2), farNode(4)] };
}

function peers(...entries: readonly string[]): Cluster {
  return annotated({ 'kube-router.io/peers': `[${entries.join(', ')}]` });
}

describe('routing from one snapshot to the next', () => {
  it('the same snapshot gives the same plan, and so do a pod that brings its link and a label of a node', () => {
    const scene = new Scene();
    const first = scene.plan({});
    const host = hostFacts({
      addresses: [...hostFacts().addresses, hostAddress('veth7', 'fe80::77/64')],
      links: new Map([...hostFacts().links, ['veth7', { mtu: 1500, master: 'kube-bridge' }]]),
    });
    assert.equal(scene.plan({ host }), first);
    assert.equal(
      scene.plan({ host, nodes: [node(1, { labels: { a: 'b' } }), node(2), farNode(4, { labels: { c: 'd' } })] }),
      first,
    );
  });

  it('a node that is about to leave the cluster changes nothing', () => {
    const scene = new Scene();
    const first = scene.plan({ nodes: [node(1), node(2)] });
    const leaving = { nodes: [node(1, { isLeaving: true }), node(2, { isLeaving: true })], node: nodeView({ isLeaving: true }) };
    assert.equal(scene.plan(leaving), first);
  });

  it('a learned route that changes is one route, and its tunnel where it leads to another', () => {
    const scene = new Scene();
    const nodes = [node(1), node(2), farNode(4), farNode(5)];
    scene.changed({ nodes });
    const moved = rib(
      learned('10.244.4.0/24', 'node 192.168.2.5'),
      ...POD_ROUTES.filter(({ prefix }) => prefix !== '10.244.4.0/24'),
    );
    assert.deepEqual(scene.changed({ nodes, rib: moved }), [
      'link tun-64ece1459fa',
      'link tun-af95a848149',
      'unicastRoute 254 10.244.4.0/24',
      'unicastRoute 77 192.168.2.4/32',
      'unicastRoute 77 192.168.2.5/32',
    ]);
  });

  it('a load-balancer address is announced as soon as a named pool holds it, and nothing else is planned anew', () => {
    const module = routingModule(routingOptions({ ...ANNOUNCE, followsPools: true, loadBalancerIpRanges: [] }));
    const lb = { clusterIPs: ips('10.96.0.12'), loadBalancerIPs: ips('192.0.2.7'), type: 'LoadBalancer' } as const;
    const first = routingSnapshot({
      services: [service('web'), service('lb', lb)],
      slices: [slice('web', ['10.244.1.5']), slice('lb', ['10.244.1.5'])],
    });
    const before = module.plan(first).fragments;
    const announced = (fragments: ReadonlyMap<OwnerKey, Fragment>): readonly string[] =>
      fragments.get('Service default/lb')?.entries.map(({ key }) => key) ?? [];
    assert.deepEqual(announced(before), ['10.96.0.12/32']);
    const addressPoolsNow = addressPools([addressPool('web', ['192.0.2.0-192.0.2.9'])]);
    const after = module.plan({ ...first, addressPools: addressPoolsNow }).fragments;
    assert.deepEqual(announced(after), ['10.96.0.12/32', '192.0.2.7/32']);
    for (const [owner, fragment] of before) if (owner !== 'Service default/lb') assert.equal(after.get(owner), fragment, owner);
    assert.deepEqual(announced(module.plan(first).fragments), ['10.96.0.12/32']);
    assert.deepEqual(
      [true, false].map(followsPools => routingModule(routingOptions({ followsPools })).reads.includes('ConfigMap')),
      [true, false],
    );
  });

  it('a tunnel that two routes lead through goes with the last of them', () => {
    const scene = new Scene();
    const both = rib(...POD_ROUTES, learned('10.9.0.0/16', 'node 192.168.2.4'));
    scene.changed({ rib: both });
    const rest = POD_ROUTES.filter(({ prefix }) => prefix !== '10.244.4.0/24');
    assert.deepEqual(scene.changed({ rib: rib(...rest, learned('10.9.0.0/16', 'node 192.168.2.4')) }), [
      'unicastRoute 254 10.244.4.0/24',
    ]);
    assert.deepEqual(scene.changed({ rib: rib(...rest) }), [
      'link tun-64ece1459fa',
      'unicastRoute 254 10.9.0.0/16',
      'unicastRoute 77 192.168.2.4/32',
    ]);
  });

  it('a node that turns up with the address a route leads over, or is to, is seen by that route', () => {
    const scene = new Scene();
    const routes = rib(learned('10.9.0.0/16', '192.168.2.5'), learned('192.168.2.5/32', '192.168.1.254'));
    scene.changed({ rib: routes });
    const before = scene.plan({ rib: routes });
    assert.equal(before.has('Route 10.9.0.0/16'), false, 'a router further away is left to the fabric');
    assert.equal(before.has('Route 192.168.2.5/32'), true);
    const after = scene.plan({ rib: routes, nodes: [node(1), node(2), farNode(4), farNode(5)] });
    assert.equal(after.has('Route 10.9.0.0/16'), true, 'a node has its end of the tunnel');
    assert.equal(after.has('Route 192.168.2.5/32'), false);
    assert.deepEqual(new Map([...scene.plan({ rib: routes })].sort()), new Map([...before].sort()), 'and when it goes again');
  });

  it('what is wanted is not known in full while neighbours may still tell of routes', () => {
    const module = routingModule(routingOptions());
    assert.deepEqual(module.plan(routingSnapshot({ rib: { ...NO_RIB, isSettled: false } })).undecided, ['unicastRoute', 'link']);
    assert.deepEqual(module.plan(routingSnapshot({})).undecided, []);
  });

  it('sets grow in wide steps with the nodes', () => {
    const scene = new Scene();
    const maxElements = (count: number): readonly number[] => {
      const nodes = Array.from({ length: count }, (_, number) =>
        node(1, {
          meta: { ...node(1).meta, name: `node-${number + 1}` },
          internalIPs: ips(`10.${number >> 8}.${number & 255}.1`),
          podCIDRs: [],
        }),
      );
      const entries = scene.plan({ nodes, rib: NO_RIB }).get('Module routing')?.entries ?? [];
      return entries.flatMap(entry => (entry.table === 'ipset' && entry.value.kind === 'set' ? [entry.value.maxElements] : []));
    };
    assert.deepEqual(new Set(maxElements(16_384)), new Set([65_536]));
    assert.deepEqual(new Set(maxElements(16_385)), new Set([1_048_576]));
  });

  it('a plan that fails at one object forgets nothing of what else is to be planned', () => {
    const scene = new Scene(ANNOUNCE);
    scene.plan({});
    const broken: Service = Object.defineProperty(service('broken', { clusterIPs: ips('10.96.0.99') }), 'annotations', {
      get: () => assert.fail('a defect'),
    });
    const web = service('web');
    const slices = [slice('web', ['10.244.2.5'])];
    const nodes = [node(1), node(2), farNode(4), node(5)];
    assert.throws(() => scene.plan({ nodes, services: [web, broken], slices }), /a defect/);
    const after = scene.plan({ nodes, services: [web], slices });
    const afresh = new Scene(ANNOUNCE).plan({ nodes, services: [web], slices });
    assert.deepEqual(new Map([...after].sort()), new Map([...afresh].sort()));
    assert.ok(after.has('Node node-5') && after.has('Service default/web'));
  });
});

describe('annotations of our own node', () => {
  const ONE = '{ remoteip: 192.168.1.251, remoteasn: 65000 }';
  const TWO = '{ remoteip: 192.168.1.252, remoteasn: 65000 }';

  it('a router that comes or goes is one session and the policy that names it', () => {
    const scene = new Scene();
    scene.changed(peers(ONE));
    assert.deepEqual(scene.changed(peers(ONE, TWO)), ['bgpPeer 192.168.1.252', 'bgpPolicy export']);
    assert.deepEqual(scene.changed(peers(TWO)), ['bgpPeer 192.168.1.251', 'bgpPolicy export']);
    assert.deepEqual(scene.changed(peers(ONE, TWO)), ['bgpPeer 192.168.1.251', 'bgpPolicy export']);
    assert.deepEqual(scene.changed(peers(TWO, ONE)), [], 'their order means nothing');
  });

  it('a router that is broken by an edit loses its own session, and that is told', () => {
    const scene = new Scene();
    scene.changed(peers(ONE, TWO));
    assert.deepEqual(scene.changed(peers(ONE, '{ remoteip: 192.168.1.252, remoteasn: none }')), [
      'bgpPeer 192.168.1.252',
      'bgpPolicy export',
    ]);
    assert.match(scene.told().join(), /entry 2 has no usable AS number \("none"\)/);
  });

  it('another password is another session with that router alone, though passwords do not show', () => {
    const scene = new Scene();
    const secret = (password: string): string => `{ remoteip: 192.168.1.252, remoteasn: 65000, password: ${btoa(password)} }`;
    scene.changed(peers(ONE, secret('first')));
    assert.deepEqual(scene.changed(peers(ONE, secret('second'))), ['bgpPeer 192.168.1.252']);
    assert.deepEqual(scene.changed(peers(ONE, secret('second'))), []);
    assert.deepEqual(scene.changed(peers(ONE, TWO)), ['bgpPeer 192.168.1.252'], 'none at all');
  });

  for (const [what, annotation, changed] of [
    ['communities', { 'kube-router.io/node.bgp.communities': 'no-export' }, ['bgpPolicy export']],
    [
      'an AS-path prepend',
      { 'kube-router.io/path-prepend.as': '65055', 'kube-router.io/path-prepend.repeat-n': '3' },
      ['bgpPolicy export'],
    ],
    ['what is rejected', { 'kube-router.io/node.bgp.customimportreject': '10.9.0.0/16' }, ['bgpPolicy import']],
    ['where BGP listens', { 'kube-router.io/bgp-local-addresses': '192.168.1.1' }, ['bgpServer global']],
    ['the part of a reflector', { 'kube-router.io/rr.server': '42' }, ['bgpPolicy export']],
    ['the part of a client', { 'kube-router.io/rr.client': '42' }, ['bgpPeer 192.168.1.2', 'bgpPeer 192.168.2.4']],
  ] as const) {
    it(`${what} changes at run time, touching what it concerns`, () => {
      const scene = new Scene({ peers: [flagPeer('192.168.1.254')] });
      scene.changed({});
      assert.deepEqual(scene.changed(annotated(annotation)), changed);
      assert.deepEqual(scene.changed({}), changed);
    });
  }
});

describe('an address of a Service', () => {
  const web = service('web', { externalIPs: ips('203.0.113.7') });
  const other = service('other', { clusterIPs: ips('10.96.0.11'), externalIPs: ips('203.0.113.7'), age: 1 });
  const slices = [slice('web', ['10.244.2.5']), slice('other', ['10.244.2.6'])];

  it('that two announce is withdrawn when neither does', () => {
    const scene = new Scene(ANNOUNCE);
    scene.changed({ services: [web, other], slices });
    assert.deepEqual(scene.told(), []);
    assert.deepEqual(scene.changed({ services: [other], slices }), ['bgpPath 10.96.0.10/32']);
    assert.equal(scene.has('203.0.113.7/32'), true);
    assert.deepEqual(scene.changed({ services: [other], slices: slices.slice(0, 1) }), [
      'bgpPath 10.96.0.11/32',
      'bgpPath 203.0.113.7/32',
    ]);
    assert.deepEqual(scene.changed({ services: [web, other], slices: [] }), []);
    assert.deepEqual(scene.changed({ services: [web, other], slices: slices.slice(1) }), [
      'bgpPath 10.96.0.11/32',
      'bgpPath 203.0.113.7/32',
    ]);
  });

  it('is withdrawn with the Service, whether its slices go before, along or later', () => {
    for (const left of [slices, [], slices.slice(1)]) {
      const scene = new Scene(ANNOUNCE);
      scene.changed({ services: [web], slices });
      assert.deepEqual(scene.changed({ services: [], slices: left }), ['bgpPath 10.96.0.10/32', 'bgpPath 203.0.113.7/32']);
    }
  });

  it('follows the type of the Service', () => {
    const scene = new Scene(ANNOUNCE);
    const balanced = service('web', { type: 'LoadBalancer', loadBalancerIPs: ips('198.51.100.7') });
    scene.changed({ services: [balanced], slices });
    assert.deepEqual(scene.changed({ services: [{ ...balanced, type: 'NodePort' }], slices }), ['bgpPath 198.51.100.7/32']);
    assert.deepEqual(scene.changed({ services: [{ ...balanced, type: 'ExternalName' }], slices }), ['bgpPath 10.96.0.10/32']);
    assert.deepEqual(scene.changed({ services: [balanced], slices }), ['bgpPath 10.96.0.10/32', 'bgpPath 198.51.100.7/32']);
  });

  it('is announced when BGP comes, and with it goes', () => {
    const scene = new Scene({ ...ANNOUNCE, podRoutes: 'api' });
    const cluster: Cluster = { services: [web], slices };
    scene.changed(cluster);
    assert.equal(scene.has('203.0.113.7/32'), false);
    scene.changed({ ...cluster, ...peers('{ remoteip: 192.168.1.254, remoteasn: 65000 }') });
    assert.equal(scene.has('203.0.113.7/32'), true);
    scene.changed(cluster);
    assert.equal(scene.has('203.0.113.7/32'), false);
  });

  it('takes in a route to a part of its own network when the node that stood there has moved away', () => {
    const scene = new Scene();
    const route = rib(learned('192.168.1.0/25', '192.168.1.254'));
    scene.changed({ nodes: [node(1), node(2)], rib: route });
    const moved = node(2, { internalIPs: ips('192.168.1.200') });
    assert.ok(!scene.plan({ nodes: [node(1), node(2)], rib: route }).has('Route 192.168.1.0/25'), 'a node is in it');
    const after = scene.plan({ nodes: [node(1, { internalIPs: ips('192.168.1.201') }), moved], rib: route });
    assert.ok(after.has('Route 192.168.1.0/25'), 'nobody is in it');
  });
});
