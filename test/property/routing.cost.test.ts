import assert from 'node:assert/strict';
import type { Node } from '../../daemon/cluster/kinds.ts';
import { patched } from '../../daemon/cluster/patched-map.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { Claims } from '../../daemon/reconcile/claims.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module } from '../../daemon/reconcile/module.ts';
import { routingModule } from '../../modules/routing/module.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import { cidrs, hostAddress, hostFacts, ips, learned, node, rib, service, slice, snapshot } from '../fixtures/cluster.ts';
import { routingOptions } from '../fixtures/routing-options.ts';

const NODES = 1000;

/** In subnets of 250; the first of them is ours. */
function nodeOf(number: number, deviations: Partial<Node> = {}): Node {
  const place = `${1 + Math.floor(number / 250)}.${1 + (number % 250)}`;
  return node(1, {
    meta: { ...node(1).meta, name: `node-${number + 1}` },
    internalIPs: ips(`192.168.${place}`),
    podCIDRs: cidrs(`10.${100 + Math.floor(number / 250)}.${number % 250}.0/24`),
    ...deviations,
  });
}

const ALL_NODES = Array.from({ length: NODES }, (_, number) => nodeOf(number));
const SERVICES = Array.from({ length: NODES }, (_, number) =>
  service(`s${number}`, { clusterIPs: ips(`10.96.${number >> 8}.${number & 255}`) }),
);
const WHOLE = snapshot({
  nodes: ALL_NODES,
  services: SERVICES,
  slices: SERVICES.map(({ meta }) => slice(meta.name, ['10.244.2.5'])),
  rib: rib(
    ...ALL_NODES.slice(1).flatMap(({ internalIPs, podCIDRs }) =>
      podCIDRs.map(prefix => learned(prefix, `node ${internalIPs[0]}`)),
    ),
  ),
});

/** What one change of a large cluster makes: the owners planned anew, and the keys wanted differently. */
class Watched {
  readonly #module: Module;
  readonly #claims = new Claims();
  #snapshot: Snapshot;
  #fragments: ReadonlyMap<OwnerKey, Fragment>;

  constructor(options: Partial<RoutingOptions>) {
    this.#module = routingModule(
      routingOptions({ advertise: { clusterIP: true, externalIP: true, loadBalancerIP: true }, ...options }),
    );
    this.#snapshot = WHOLE;
    this.#fragments = this.#module.plan(WHOLE).fragments;
    this.#claims.update('routing', this.#fragments);
  }

  change(change: (snapshot: Snapshot) => Partial<Snapshot>): {
    readonly owners: readonly OwnerKey[];
    readonly keys: readonly string[];
  } {
    this.#snapshot = { ...this.#snapshot, ...change(this.#snapshot) };
    const { fragments } = this.#module.plan(this.#snapshot);
    const owners = [...new Set([...fragments.keys(), ...this.#fragments.keys()])].filter(
      owner => fragments.get(owner) !== this.#fragments.get(owner),
    );
    this.#fragments = fragments;
    const changed = this.#claims.update('routing', fragments);
    return {
      owners: owners.sort(),
      keys: [...changed].flatMap(([table, keys]) => [...keys].map(key => `${table} ${key}`)).sort(),
    };
  }

  putNode(changed: Node): ReturnType<Watched['change']> {
    return this.change(({ nodes }) => ({ nodes: patched(nodes, new Map([[changed.meta.name, changed]])) }));
  }
}

const OTHER_PODS = { podCIDRs: cidrs('10.200.0.0/24') };

describe('what one event costs among 1,000 nodes, Services and routes', () => {
  it('another pod CIDR of a node in the mesh: its element of the set', () => {
    const watched = new Watched({});
    assert.deepEqual(watched.putNode(nodeOf(700, OTHER_PODS)), {
      owners: ['Node node-701'],
      keys: ['ipset kube-router-pod-subnets 10.102.200.0/24', 'ipset kube-router-pod-subnets 10.200.0.0/24'],
    });
  });

  it('with --pod-routes=api: its route besides', () => {
    const watched = new Watched({ podRoutes: 'api' });
    const { owners, keys } = watched.putNode(nodeOf(700, OTHER_PODS));
    assert.deepEqual(owners, ['Node node-701']);
    assert.deepEqual(
      keys.filter(key => !key.startsWith('ipset ')),
      ['unicastRoute 254 10.102.200.0/24', 'unicastRoute 254 10.200.0.0/24'],
    );
  });

  it('another address of a node: its session and its elements, and what neighbours told over the former one, where no node is any more', () => {
    const watched = new Watched({});
    const { owners, keys } = watched.putNode(nodeOf(700, { internalIPs: ips('192.168.9.9') }));
    assert.deepEqual(owners, ['Node node-701', 'Route 10.102.200.0/24']);
    assert.deepEqual(
      keys.filter(key => !/^(unicastRoute|link) /.test(key)),
      [
        'bgpPeer 192.168.3.201',
        'bgpPeer 192.168.9.9',
        'ipset kube-router-node-ips 192.168.3.201',
        'ipset kube-router-node-ips 192.168.9.9',
      ],
    );
    assert.deepEqual(
      keys.filter(key => key.startsWith('unicastRoute ')),
      ['unicastRoute 254 10.102.200.0/24', 'unicastRoute 77 192.168.3.201/32'],
    );
  });

  it('a label of a node, a Service without endpoints, a pod with its link: nothing', () => {
    const watched = new Watched({});
    assert.deepEqual(watched.putNode(nodeOf(700, { labels: { a: 'b' } })), { owners: [], keys: [] });
    const idle = service('idle', { clusterIPs: ips('10.96.200.1') });
    assert.deepEqual(
      watched.change(({ services }) => ({ services: patched(services, new Map([['default/idle', idle]])) })),
      { owners: [], keys: [] },
    );
    const host = hostFacts({ addresses: [...hostFacts().addresses, hostAddress('veth9', 'fe80::99/64')] });
    assert.deepEqual(
      watched.change(() => ({ host })),
      { owners: [], keys: [] },
    );
  });

  it('endpoints of a Service that go: its path; a route that goes: its route and tunnel', () => {
    const watched = new Watched({});
    assert.deepEqual(
      watched.change(({ endpointSlicesOf }) => ({
        endpointSlicesOf: patched(endpointSlicesOf, new Map([['default/s700', []]])),
      })),
      { owners: ['Service default/s700'], keys: ['bgpPath 10.96.2.188/32'] },
    );
    const { owners, keys } = watched.change(({ rib: { routes } }) => ({
      rib: { routes: patched(routes, new Map([['10.102.200.0/24', undefined]])), isSettled: true },
    }));
    assert.deepEqual(owners, ['Route 10.102.200.0/24']);
    assert.deepEqual(keys.length, 3, keys.join());
  });

  it('communities of our own node: the policy alone', () => {
    const watched = new Watched({ podRoutes: 'bgp' });
    const ours = nodeOf(0, { annotations: { 'kube-router.io/peers': '[{ remoteip: 192.168.1.254, remoteasn: 65000 }]' } });
    assert.deepEqual(watched.putNode(ours).owners, ['Module routing']);
    const more = { ...ours, annotations: { ...ours.annotations, 'kube-router.io/node.bgp.communities': 'no-export' } };
    assert.deepEqual(watched.putNode(more), { owners: ['Module routing'], keys: ['bgpPolicy export'] });
  });
});
