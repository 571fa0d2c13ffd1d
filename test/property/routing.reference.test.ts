import assert from 'node:assert/strict';
import fc from 'fast-check';
import { keyOf, type Node } from '../../daemon/cluster/kinds.ts';
import type { LearnedRoute } from '../../daemon/cluster/snapshot.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { Claims } from '../../daemon/reconcile/claims.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import type { BgpPolicy, BgpStatement, NextHop, RouteOrigin } from '../../daemon/reconcile/routing-tables.ts';
import type { TableName, TableTypes } from '../../daemon/reconcile/tables.ts';
import { routingModule } from '../../modules/routing/module.ts';
import type { RoutingOptions } from '../../modules/routing/options.ts';
import {
  arbitraryAdvertisedService,
  arbitraryEndpoints,
  arbitraryHostAddresses,
  arbitraryNode,
  arbitraryOptions,
  arbitraryRoute,
} from '../fixtures/arbitrary-routing.ts';
import { hostFacts, node, rib } from '../fixtures/cluster.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import { routingSnapshot } from '../fixtures/routing-scene.ts';
import { announcements, holds, isMartian, kernelRoutes, type World } from '../models/route-reference.ts';

/** Of objects with one key the last is what the API server has. */
function latest<T>(objects: readonly T[], key: (object: T) => string): readonly T[] {
  return [...new Map(objects.map(object => [key(object), object])).values()];
}

/** The cluster with this node, which keeps its own addresses. */
function clusterOf(nodes: readonly Node[]): readonly Node[] {
  const others = latest(nodes, ({ meta }) => meta.name).filter(({ meta }) => meta.name !== 'node-1');
  const ours = nodes.find(({ meta }) => meta.name === 'node-1') ?? node(1);
  return [{ ...ours, internalIPs: node(1).internalIPs, externalIPs: [] }, ...others];
}

/** What is wanted of the tables, of all owners together. */
class Wanted {
  readonly #claims = new Claims();

  constructor(fragments: ReadonlyMap<OwnerKey, Fragment>) {
    this.#claims.update('routing', fragments);
  }

  all<K extends TableName>(table: K): readonly TableTypes[K][] {
    return [...this.#claims.keys(table)].flatMap(key => {
      const claim = this.#claims.wanted(table, key);
      return claim === undefined ? [] : [claim.entry.value as TableTypes[K]];
    });
  }
}

function kernelOf(wanted: Wanted): ReadonlyMap<string, readonly string[]> {
  const links = new Map(wanted.all('link').map(link => [link.name, link]));
  const wayOf = ({ link, gateway, vxlanRemote }: NextHop): string => {
    const there = links.get(link);
    if (there === undefined) return `via ${gateway} dev ${link}`;
    if (there.type === 'vxlan') return `tunnel ${vxlanRemote}`;
    assert.ok(there.type === 'ipip' || there.type === 'ip6tnl', `a route by ${link}`);
    return `tunnel ${there.remote}`;
  };
  const routes = wanted.all('unicastRoute').filter(({ table }) => table === 254);
  return new Map(routes.map(({ destination, nextHops }) => [destination, nextHops.map(wayOf).sort()]));
}

/**
 * Each node that a tunnel leads to is reached through it by packets of pods too, and no tunnel is there without that. Of two nodes that want one
 * prefix the one that does not get it has its tunnel all the same.
 */
function assertTunnelsComplete(wanted: Wanted, routes: ReadonlyMap<string, readonly string[]>): void {
  const fromPods = new Set(
    wanted
      .all('unicastRoute')
      .flatMap(({ table, destination }) => (table === 77 ? [`tunnel ${destination.slice(0, destination.indexOf('/'))}`] : [])),
  );
  for (const way of [...routes.values()].flat())
    assert.ok(!way.startsWith('tunnel ') || fromPods.has(way), `${way} not for pods`);
  const tunnels = wanted
    .all('link')
    .flatMap(link => (link.type === 'ipip' || link.type === 'ip6tnl' ? [`tunnel ${link.remote}`] : []));
  for (const tunnel of tunnels) assert.ok(fromPods.has(tunnel), `${tunnel} for nothing`);
}

/** One route on its way in or out: whom it goes to or comes from, and where it was made. */
interface Route {
  readonly neighbor: string;
  readonly prefix: string;
  readonly origin: RouteOrigin;
  readonly audience?: string;
}

/** The policy as GoBGP applies it: the first statement of which all conditions hold decides. */
function accepts(policy: BgpPolicy | undefined, route: Route): boolean {
  assert.ok(policy !== undefined, 'no policy');
  const applies = ({ neighbors, prefixes, origin, audience }: BgpStatement): boolean =>
    (neighbors === undefined || neighbors.some(address => address === route.neighbor)) &&
    (origin === undefined || origin === route.origin) &&
    (audience === undefined || audience === route.audience) &&
    (prefixes === undefined ||
      prefixes.some(({ prefix, minLength, maxLength }) => {
        const length = Number(route.prefix.slice(route.prefix.indexOf('/') + 1));
        return holds(prefix, route.prefix) && length >= minLength && length <= maxLength;
      }));
  return (policy.statements.find(applies)?.verdict ?? policy.otherwise) === 'accept';
}

function worldOf(
  cluster: Pick<World, 'nodes' | 'services' | 'slices' | 'routes' | 'hostAddresses' | 'speaksBgp'>,
  options: RoutingOptions,
): World {
  return {
    ...cluster,
    isIPv6On: options.families.ipv6 !== 'off',
    podRoutes: options.podRoutes,
    overlay: options.overlay?.reach ?? 'off',
    advertises: {
      cluster: options.advertise.clusterIP,
      external: options.advertise.externalIP,
      balancer: options.advertise.loadBalancerIP,
      pods: options.advertisePodCidr,
    },
    externalRanges: options.externalIpRanges,
    balancerRanges: options.loadBalancerIpRanges,
    clusterRanges: options.clusterIpRanges,
  };
}

const A_NODE = '192.168.1.99';
const FOREIGN: readonly string[] = ['10.9.0.0/16', '10.244.3.0/24', '2001:db8:9::/48'];
const TOLD = [
  '10.9.1.0/24',
  '10.244.1.0/24',
  '10.244.1.9/32',
  '10.244.0.0/16',
  '0.0.0.0/0',
  '0.0.0.0/1',
  '127.0.0.1/32',
  '::/0',
  'fe80::/64',
  'fd00:10:1:0:8000::/65',
];

describe('routing against a naive reading of its specification', function () {
  this.timeout(120_000);

  it('every destination has the next hops and tunnels it should, and every prefix goes to whom it should', () => {
    const seen = { tunnel: 0, via: 0, none: 0, fabric: 0, nodes: 0, reflected: 0 };
    fc.assert(
      fc.property(
        fc.array(arbitraryNode, { minLength: 3, maxLength: 8, size: 'max' }),
        fc.array(arbitraryRoute, { maxLength: 10 }),
        fc.array(arbitraryAdvertisedService, { maxLength: 4 }),
        fc.array(arbitraryEndpoints, { maxLength: 8 }),
        arbitraryHostAddresses,
        arbitraryOptions,
        (someNodes, someRoutes, someServices, someSlices, hostAddresses, options) => {
          const nodes = clusterOf(someNodes);
          const routes: readonly LearnedRoute[] = latest(someRoutes, ({ prefix }) => prefix);
          const services = latest(someServices, ({ meta }) => keyOf(meta));
          const slices = latest(someSlices, ({ meta }) => meta.name);
          const snapshot = routingSnapshot({
            nodes,
            services,
            slices,
            rib: rib(...routes),
            host: hostFacts({ addresses: hostAddresses }),
          });
          const wanted = new Wanted(routingModule(options).plan(snapshot).fragments);
          const speaksBgp = wanted.all('bgpServer').length > 0;
          const world = worldOf({ nodes, services, slices, routes, hostAddresses, speaksBgp }, options);

          const expected = kernelRoutes(world);
          const actual = kernelOf(wanted);
          assert.deepEqual(new Map([...actual].sort()), new Map([...expected].sort()));
          assertTunnelsComplete(wanted, actual);
          for (const way of [...actual.values()].flat()) seen[way.startsWith('tunnel') ? 'tunnel' : 'via']++;
          seen.none += routes.length - actual.size > 0 ? 1 : 0;

          if (!speaksBgp) {
            for (const table of ['bgpPath', 'bgpPeer', 'bgpPolicy'] as const) assert.deepEqual(wanted.all(table), []);
            return;
          }
          const policies = wanted.all('bgpPolicy');
          const [exported, imported] = (['export', 'import'] as const).map(direction =>
            policies.find(policy => policy.direction === direction),
          );
          const paths = wanted.all('bgpPath');
          const toldTo = (neighbor: string): ReadonlySet<IpPrefix> =>
            new Set(
              paths
                .filter(({ prefix, audience }) => accepts(exported, { neighbor, prefix, origin: 'local', audience }))
                .map(({ prefix }) => prefix),
            );
          const told = announcements(world);
          assert.deepEqual([...toldTo(A_NODE)].sort(), [...told.nodes].sort());
          const nodeAddresses = new Set(nodes.flatMap(({ internalIPs, externalIPs }) => [...internalIPs, ...externalIPs]));
          const routers = wanted.all('bgpPeer').filter(({ address }) => !nodeAddresses.has(address));
          const isReflector = nodes[0]?.annotations['kube-router.io/rr.server'] === '42';
          for (const { address } of routers) {
            assert.deepEqual([...toldTo(address)].sort(), [...told.fabric].sort());
            seen.fabric += told.fabric.size;
            for (const prefix of FOREIGN) {
              assert.equal(accepts(exported, { neighbor: address, prefix, origin: 'external' }), false, 'no transit');
              assert.equal(
                accepts(exported, { neighbor: address, prefix, origin: 'internal' }),
                isReflector && options.advertisePodCidr,
              );
            }
          }
          seen.nodes += told.nodes.size;
          for (const prefix of FOREIGN) {
            assert.equal(accepts(exported, { neighbor: A_NODE, prefix, origin: 'external' }), false);
            assert.equal(accepts(exported, { neighbor: A_NODE, prefix, origin: 'internal' }), isReflector);
            seen.reflected += isReflector ? 1 : 0;
          }
          const rejected = (nodes[0]?.annotations['kube-router.io/node.bgp.customimportreject'] ?? '')
            .split(',')
            .filter(text => text.includes('/'));
          const own = [...told.nodes, ...rejected];
          for (const prefix of TOLD) {
            const isTaken = !isMartian(prefix) && !own.some(each => holds(each, prefix));
            assert.equal(accepts(imported, { neighbor: A_NODE, prefix, origin: 'internal' }), isTaken, prefix);
          }
        },
      ),
      { ...propertyRun('routing.reference', 400), plugins: [fc.unbiased()] },
    );
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 5, `hardly any ${what}: ${count}`);
  });

  it('of two nodes each wants a session with the other, at the address the other calls from, or neither does', () => {
    let sessions = 0;
    fc.assert(
      fc.property(
        fc.array(arbitraryNode, { minLength: 4, maxLength: 8, size: 'max' }),
        arbitraryOptions,
        (someNodes, options) => {
          const nodes = latest(someNodes, ({ meta }) => meta.name);
          const calls = nodes.flatMap(({ meta }) => sessionsOf(meta.name, nodes, options));
          const answers = calls.map(call => call.split(' ').toReversed().join(' '));
          assert.deepEqual(answers.toSorted(), calls.toSorted());
          sessions += calls.length;
        },
      ),
      { ...propertyRun('routing.sessions', 200), plugins: [fc.unbiased()] },
    );
    assert.ok(sessions > 50, `hardly any sessions: ${sessions}`);
  });
});

/** `LOCAL REMOTE` of each session that a node wants with another, seen from its own host. */
function sessionsOf(name: string, nodes: readonly Node[], options: RoutingOptions): readonly string[] {
  const ours = nodes.find(({ meta }) => meta.name === name);
  const eth0 = [...(ours?.internalIPs ?? []), ...(ours?.externalIPs ?? [])].map(address => ({
    link: 'eth0',
    address,
    prefixLength: address.includes(':') ? 64 : 24,
  }));
  const snapshot = routingSnapshot({ nodes, host: hostFacts({ addresses: eth0 }), rib: rib() }, name);
  const { fragments } = routingModule(options).plan(snapshot);
  return [...fragments.values()]
    .filter(({ owner }) => owner.kind === 'Node')
    .flatMap(({ entries }) =>
      entries.flatMap(({ table, value }) => (table === 'bgpPeer' ? [`${value.localAddress} ${value.address}`] : [])),
    );
}
