import assert from 'node:assert/strict';
import { NodeViewer } from '../../../daemon/cluster/node-view.ts';
import type { Snapshot } from '../../../daemon/cluster/snapshot.ts';
import { lanAnnouncerModule } from '../../../modules/lan-announcer/module.ts';
import type { LanAnnouncerOptions } from '../../../modules/lan-announcer/options.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import {
  type Cluster,
  farNode,
  hostAddress,
  hostFacts,
  hostLinks,
  ips,
  node,
  selector,
  slice,
  snapshot,
  terminatingEndpoint,
} from '../../fixtures/cluster.ts';
import { balanced, lanOptions } from '../../fixtures/lan.ts';

const NODES = [node(1), node(2), node(3)];
/** Of `198.51.100.4` among node-1, node-2 and node-3, first to last. */
const ORDER = ['node-1', 'node-2', 'node-3'];
const VIP = '198.51.100.4';
const EXCLUSION = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** The cluster as this node sees it: `eth0` has its addresses. */
function seenBy(name: string, cluster: Cluster): Snapshot {
  const nodes = cluster.nodes ?? NODES;
  const own = nodes.find(({ meta }) => meta.name === name);
  const addresses = (own?.internalIPs ?? []).map(address => ({
    link: 'eth0',
    address,
    prefixLength: address.includes(':') ? 64 : 24,
  }));
  const host = cluster.host ?? hostFacts({ addresses });
  const byName = new Map(nodes.map(each => [each.meta.name, each]));
  return snapshot({ ...cluster, nodes, host, node: new NodeViewer(name).view(byName, host) });
}

interface Told {
  /** `LINK ADDRESS`, sorted. */
  readonly answers: readonly string[];
  readonly diagnostics: readonly string[];
}

function planOf(picture: Snapshot, options: Partial<LanAnnouncerOptions> = {}): Told {
  const { fragments } = lanAnnouncerModule(lanOptions(options)).plan(picture);
  const all = [...fragments.values()];
  const answers = all.flatMap(({ entries }) =>
    entries.flatMap(each => (each.table === 'lanAddress' ? [`${each.value.link} ${each.value.address}`] : [])),
  );
  return {
    answers: [...new Set(answers)].sort(),
    diagnostics: all.flatMap(({ diagnostics }) => diagnostics.map(({ code, message }) => `${code} ${message}`)),
  };
}

/** Who answers for the address. */
function ownersOf(cluster: Cluster, options: Partial<LanAnnouncerOptions> = {}, address = VIP): readonly string[] {
  const names = (cluster.nodes ?? NODES).map(({ meta }) => meta.name);
  return names.filter(name => planOf(seenBy(name, cluster), options).answers.includes(`eth0 ${address}`));
}

/** All that is told, by all nodes together. */
function toldBy(cluster: Cluster, options: Partial<LanAnnouncerOptions> = {}): readonly string[] {
  return (cluster.nodes ?? NODES).flatMap(({ meta }) => planOf(seenBy(meta.name, cluster), options).diagnostics);
}

const WEB = { services: [balanced('web', [VIP])] };

function local(name: string, address = VIP): ReturnType<typeof balanced> {
  return balanced(name, [address], { externalTrafficPolicy: 'Local' });
}

describe('an address on the local network', () => {
  it('is answered for by one node, and by the next one when that is gone, silent, not ready, leaving or excluded', () => {
    const [first, second] = ORDER;
    assert.deepEqual(ownersOf(WEB), [first]);
    assert.deepEqual(ownersOf({ ...WEB, nodes: [node(2), node(3)] }), [second]);
    assert.deepEqual(ownersOf({ ...WEB, silentNodes: ['node-1'] }), [second]);
    assert.deepEqual(ownersOf({ ...WEB, nodes: [node(1, { isReady: false }), node(2), node(3)] }), [second]);
    assert.deepEqual(ownersOf({ ...WEB, nodes: [node(1, { isLeaving: true }), node(2), node(3)] }), [second]);
    assert.deepEqual(ownersOf({ ...WEB, nodes: [node(1, { labels: { [EXCLUSION]: '' } }), node(2), node(3)] }), [second]);
    assert.deepEqual(toldBy(WEB), []);
  });

  it('stays with nodes that leave when there are no others', () => {
    const nodes = NODES.map(each => ({ ...each, isLeaving: true }));
    assert.deepEqual(ownersOf({ ...WEB, nodes }), ['node-1']);
    assert.deepEqual(toldBy({ ...WEB, nodes }), []);
  });

  it('is left to a node that is not ready rather than to nobody, and that is told once', () => {
    const cluster = { ...WEB, nodes: NODES.map(each => ({ ...each, isReady: false })) };
    assert.deepEqual(ownersOf(cluster), ['node-1']);
    assert.deepEqual(toldBy(cluster), [
      'FW_LAN_UNANNOUNCED Service default/web: load-balancer IP 198.51.100.4 is not announced on the local network: no node that may announce it is ready; it is left to node-1, which answers if it can; see kubectl describe node node-1.',
    ]);
  });

  it('is answered for by the host itself where there are no Nodes at all', () => {
    const bare = snapshot({ ...WEB, nodes: [], node: new NodeViewer('node-1').view(new Map(), hostFacts()) });
    assert.deepEqual(planOf(bare), { answers: [`eth0 ${VIP}`], diagnostics: [] });
  });

  it('stays on bare metal when it is on the link, where it looks like an address of the host', () => {
    const host = hostFacts({ addresses: [...hostFacts().addresses, hostAddress('eth0', `${VIP}/32`)] });
    const bare = snapshot({ ...WEB, nodes: [], host, node: new NodeViewer('node-1').view(new Map(), host) });
    assert.deepEqual(planOf(bare).answers, [`eth0 ${VIP}`]);
  });

  it('is not answered for by a node that no Node object is named after', () => {
    const { answers, diagnostics } = planOf(seenBy('stranger', WEB));
    assert.deepEqual(answers, []);
    assert.deepEqual(diagnostics, []);
  });

  it('is answered for in its own family alone, by a node that has an address of it', () => {
    const both = { services: [balanced('web', [VIP, '2001:db8:2::1'])] };
    const nodes = [node(1), node(2, { internalIPs: ips('192.168.1.2') }), node(3, { internalIPs: ips('192.168.1.3') })];
    assert.deepEqual(ownersOf({ ...both, nodes }, {}, '2001:db8:2::1'), ['node-1']);
    const none = NODES.map((each, index) => ({ ...each, internalIPs: ips(`192.168.1.${index + 1}`) }));
    assert.deepEqual(ownersOf({ ...both, nodes: none }, {}, '2001:db8:2::1'), []);
    assert.deepEqual(toldBy({ ...both, nodes: none }), [
      'FW_LAN_UNANNOUNCED Service default/web: load-balancer IP 2001:db8:2::1 is not announced on the local network: no node has an IPv6 address; give nodes one, or the Service an address of another family.',
    ]);
    assert.deepEqual(ownersOf(both, { families: ['ipv4'] }, '2001:db8:2::1'), []);
  });

  it('is answered for where traffic policy Local finds a ready endpoint, else where one terminates and serves', () => {
    const services = [local('web')];
    assert.deepEqual(ownersOf({ services, slices: [slice('web', ['10.244.3.9'])] }), ['node-3']);
    assert.deepEqual(ownersOf({ services, slices: [slice('web', ['10.244.3.9', '10.244.2.9'])] }), ['node-2']);
    assert.deepEqual(ownersOf({ services, slices: [slice('web', [terminatingEndpoint('10.244.1.9'), '10.244.3.9'])] }), [
      'node-3',
    ]);
    assert.deepEqual(ownersOf({ services, slices: [slice('web', [terminatingEndpoint('10.244.2.9')])] }), ['node-2']);
  });

  it('is answered for by nobody where policy Local finds no endpoint, which is no fault', () => {
    const cluster = { services: [local('web')], slices: [] };
    assert.deepEqual(ownersOf(cluster), []);
    assert.deepEqual(toldBy(cluster), []);
  });

  it('is told of where endpoints are only on nodes that may not announce it', () => {
    const nodes = [node(1), node(2), node(3, { labels: { [EXCLUSION]: 'true' } })];
    const cluster = { services: [local('web')], slices: [slice('web', ['10.244.3.9'])], nodes };
    assert.deepEqual(ownersOf(cluster), []);
    const [message, ...others] = toldBy(cluster);
    assert.match(
      message ?? '',
      /its traffic policy is Local, and the nodes with an endpoint \(node-3\) may not announce it; let them/,
    );
    assert.deepEqual(others, []);
  });

  it('of several Services is answered for where all have endpoints, else where most have, and the others are told', () => {
    const services = [local('a'), local('b'), balanced('c', [VIP])];
    const agreed = [slice('a', ['10.244.2.9', '10.244.3.9']), slice('b', ['10.244.3.8', '10.244.1.8'])];
    assert.deepEqual(ownersOf({ services, slices: agreed }), ['node-3']);
    assert.deepEqual(toldBy({ services, slices: agreed }), []);
    const split = [slice('a', ['10.244.3.9']), slice('b', ['10.244.2.8'])];
    assert.deepEqual(ownersOf({ services, slices: split }), ['node-2']);
    const told = toldBy({ services, slices: split });
    assert.equal(told.length, 1);
    assert.match(
      told[0] ?? '',
      /Service default\/a: load-balancer IP 198.51.100.4 is answered for by node-2, where this Service has no endpoint/,
    );
  });

  it('is answered for by nodes that the nodeSelector of its pool matches', () => {
    const pool = addressPool('edge', ['198.51.100.0/28'], { nodeSelector: selector({ role: 'edge' }) });
    const nodes = [node(1), node(2), node(3, { labels: { role: 'edge' } })];
    const cluster = { ...WEB, addressPools: addressPools([pool]) };
    assert.deepEqual(ownersOf({ ...cluster, nodes }), ['node-3']);
    assert.deepEqual(ownersOf(cluster), []);
    assert.deepEqual(toldBy(cluster), [
      'FW_LAN_UNANNOUNCED Service default/web: load-balancer IP 198.51.100.4 is not announced on the local network: no node with an IPv4 address matches the nodeSelector of pool edge; label a node, or change the selector.',
    ]);
    const excluded = NODES.map(each => ({ ...each, labels: { role: 'edge', [EXCLUSION]: '' } }));
    assert.match(
      toldBy({ ...cluster, nodes: excluded }).join(),
      /every node that matches the nodeSelector of pool edge has the label/,
    );
  });

  it('that is a node’s own is left to that node', () => {
    const cluster = { ...WEB, nodes: [node(1), node(2), node(3, { externalIPs: ips(VIP) })] };
    assert.deepEqual(ownersOf(cluster), []);
    assert.match(toldBy(cluster).join('\n'), /it is an address of Node node-3, which answers for it itself; choose another\.$/);
  });

  it('of direct server return is announced in neither family, and that is told', () => {
    const annotations = { 'kube-router.io/service.dsr': 'tunnel' };
    const cluster = { services: [balanced('web', [VIP, '2001:db8:2::1'], { annotations })] };
    assert.deepEqual(ownersOf(cluster), []);
    assert.deepEqual(ownersOf(cluster, {}, '2001:db8:2::1'), []);
    const told = toldBy(cluster);
    assert.equal(told.length, 2);
    for (const text of told)
      assert.match(text, /Service default\/web asks for direct server return \(kube-router.io\/service.dsr\)/);
  });
});

describe('which addresses are announced on the local network', () => {
  const one = (service: ReturnType<typeof balanced>, options: Partial<LanAnnouncerOptions> = {}): number =>
    ownersOf({ services: [service] }, options).length;

  it('are those of Services of type LoadBalancer and our classes, in allowed ranges', () => {
    assert.equal(one(balanced('web', [VIP])), 1);
    assert.equal(one(balanced('web', [VIP], { type: 'ClusterIP' })), 0);
    assert.equal(one(balanced('web', [VIP], { loadBalancerClass: 'example.com/lb' })), 0);
    assert.equal(one(balanced('web', [VIP], { loadBalancerClass: 'kube-router' }), { servesDefaultClass: false }), 1);
    assert.equal(one(balanced('web', [VIP]), { servesDefaultClass: false }), 0);
    assert.equal(one(balanced('web', [VIP]), { flagRanges: [] }), 0);
    assert.equal(one(balanced('web', [VIP]), { flagRanges: [], strictExternalIpValidation: false }), 1);
    assert.equal(one(balanced('web', [VIP], { proxyName: 'cilium' })), 0);
    assert.equal(one(balanced('web', [VIP], { annotations: { 'kube-router.io/service.skiplbips': '' } })), 0);
    const pools = addressPools([addressPool('extra', ['198.51.100.0/24'], { loadBalancerClasses: ['example.com/lb'] })]);
    const services = [balanced('web', [VIP], { loadBalancerClass: 'example.com/lb' })];
    assert.equal(ownersOf({ services, addressPools: pools }, { flagRanges: [] }).length, 1);
  });

  it('are those that we handed out, of a class that may be named by a pool which cannot be read', () => {
    const edge = balanced('web', [VIP], { loadBalancerClass: 'example.com/lb' });
    const { loadBalancer } = edge;
    assert.ok(loadBalancer);
    const others = { ...edge, loadBalancer: { ...loadBalancer, writtenBy: 'ccm' } };
    const unknown = addressPools([], { unreadable: undefined });
    for (const strictExternalIpValidation of [true, false]) {
      const rules = { followsPools: true, arePoolsKnown: false, strictExternalIpValidation };
      assert.equal(ownersOf({ services: [edge], addressPools: unknown }, rules).length, 1);
      assert.equal(ownersOf({ services: [others], addressPools: unknown }, rules).length, 0);
      assert.equal(ownersOf({ services: [edge], addressPools: addressPools([]) }, rules).length, 0);
      assert.equal(ownersOf({ services: [edge] }, rules).length, 1);
    }
    assert.equal(ownersOf({ services: [edge] }, { followsPools: false }).length, 0);
  });

  it('are not those of a Service that does not want it; what its annotation cannot mean is told', () => {
    const annotated = (text: string): ReturnType<typeof balanced> =>
      balanced('web', [VIP], { annotations: { 'fairway.dev/announce-l2': text } });
    assert.equal(one(annotated('false')), 0);
    assert.equal(one(annotated('true')), 1);
    assert.equal(one(annotated('no')), 1);
    assert.deepEqual(planOf(seenBy('node-1', { services: [annotated('no')] })).diagnostics, [
      `FW_SERVICE_ANNOTATION Service default/web: fairway.dev/announce-l2 is 'no', which is neither "true" nor "false"; its addresses are announced as without it.`,
    ]);
  });

  it('are told of where no other module does', () => {
    const cluster = { services: [balanced('web', ['192.0.2.1'])] };
    assert.deepEqual(toldBy(cluster), []);
    assert.match(toldBy(cluster, { tellsOfAddresses: true })[0] ?? '', /^FW_SERVICE_ADDRESS_RANGE Service default\/web/);
  });
});

describe('the links on which addresses are announced', () => {
  const host = (...addresses: readonly [string, string][]): ReturnType<typeof hostFacts> =>
    hostFacts({
      addresses: addresses.map(([link, address]) => hostAddress(link, address)),
      links: hostLinks('lo', 'eth0', 'eth1', 'eth2'),
    });
  const nodes = [node(1)];
  const plain = host(['eth0', '192.168.1.1/24'], ['eth0', 'fd00:1::1/64'], ['eth1', '10.9.0.1/24']);

  it('are those that have the addresses of the node, of the same family', () => {
    assert.deepEqual(planOf(seenBy('node-1', { ...WEB, nodes, host: plain })).answers, [`eth0 ${VIP}`]);
    const split = host(['eth0', '192.168.1.1/24'], ['eth1', 'fd00:1::1/64']);
    const both = { services: [balanced('web', [VIP, '2001:db8:2::1'])], nodes, host: split };
    assert.deepEqual(planOf(seenBy('node-1', both)).answers, [`eth0 ${VIP}`, 'eth1 2001:db8:2::1']);
  });

  it('are exactly those of the flag, and only those whose subnet has the address where there are such', () => {
    const cluster = { ...WEB, nodes, host: plain };
    assert.deepEqual(planOf(seenBy('node-1', cluster), { links: ['eth1', 'eth2'] }).answers, [`eth1 ${VIP}`, `eth2 ${VIP}`]);
    const near = host(['eth0', '192.168.1.1/24'], ['eth2', '198.51.100.254/24']);
    assert.deepEqual(planOf(seenBy('node-1', { ...cluster, host: near }), { links: ['eth1', 'eth2'] }).answers, [`eth2 ${VIP}`]);
  });

  it('are one of several in the same subnet, where the network would hear two answers; who named both is told', () => {
    const same = host(['eth0', '192.168.1.1/24'], ['eth1', '192.168.1.9/24'], ['eth0', 'fd00:1::1/64'], ['eth1', 'fd00:1::9/64']);
    const both = [node(1, { internalIPs: ips('192.168.1.1', 'fd00:1::1', '192.168.1.9', 'fd00:1::9') })];
    const services = [balanced('web', [VIP, '2001:db8:2::1']), balanced('near', ['192.168.1.200'])];
    const cluster = { services, nodes: both, host: same };
    const anywhere = { strictExternalIpValidation: false };
    assert.deepEqual(planOf(seenBy('node-1', cluster), anywhere), {
      answers: ['eth0 192.168.1.200', `eth0 ${VIP}`, 'eth0 2001:db8:2::1'],
      diagnostics: [],
    });
    const named = planOf(seenBy('node-1', cluster), { ...anywhere, links: ['eth1', 'eth0'] });
    assert.deepEqual(named, {
      answers: ['eth1 192.168.1.200', `eth1 ${VIP}`, 'eth1 2001:db8:2::1'],
      diagnostics: [
        'FW_LAN_UNANNOUNCED --announce-interfaces names eth0 and eth1, which are in one subnet: addresses are answered for on eth1 alone, lest the network hear two answers. Name one of them.',
      ],
    });
  });

  it('that are named and not there are told, and nothing is answered for elsewhere', () => {
    const { answers, diagnostics } = planOf(seenBy('node-1', { ...WEB, nodes, host: plain }), { links: ['eth7'] });
    assert.deepEqual(answers, []);
    assert.deepEqual(diagnostics, [
      'FW_LAN_UNANNOUNCED --announce-interfaces names eth7, and this host has no such link: nothing is answered for there. Correct the flag, or bring the link up.',
    ]);
  });

  it('are none where the node’s address is on no link, and that is told', () => {
    const { answers, diagnostics } = planOf(seenBy('node-1', { ...WEB, nodes: [farNode(1)], host: plain }));
    assert.deepEqual(answers, []);
    assert.match(diagnostics[0] ?? '', /None of the IPv4 addresses of this node is on a link of this host/);
  });

  it('are set to tell of new addresses, to test them, and to answer for no others', () => {
    const { fragments } = lanAnnouncerModule(lanOptions({ links: ['eth1'] })).plan(seenBy('node-1', { nodes, host: plain }));
    const settings = [...fragments.values()].flatMap(({ entries }) => entries);
    assert.deepEqual(
      settings.map(each => (each.table === 'sysctl' ? `${each.key}=${each.value.value} ${each.value.whenMissing}` : each.key)),
      [
        'net/ipv4/conf/all/arp_ignore=1 fail',
        'net/ipv4/conf/all/arp_announce=2 fail',
        'net/ipv4/conf/eth1/arp_ignore=1 skip',
        'net/ipv4/conf/eth1/arp_notify=1 skip',
        'net/ipv6/conf/eth1/ndisc_notify=1 skip',
        'net/ipv6/conf/eth1/accept_dad=1 skip',
        'net/ipv6/conf/eth1/dad_transmits=1 skip',
      ],
    );
  });

  it('with an own address of the host that a Service has as well need nothing more', () => {
    const bare = hostFacts({ addresses: [hostAddress('eth0', `${VIP}/24`)] });
    const picture = snapshot({ ...WEB, nodes: [], host: bare, node: new NodeViewer('node-1').view(new Map(), bare) });
    assert.deepEqual(planOf(picture), { answers: [], diagnostics: [] });
  });
});

describe('planning announcements again', () => {
  const services = Array.from({ length: 10_000 }, (_, index) =>
    balanced(`web-${index}`, [`10.20.${index >> 8}.${index & 255}`], {
      externalTrafficPolicy: index % 10 === 0 ? 'Local' : 'Cluster',
    }),
  );
  const slices = services.map(({ meta }) => slice(meta.name, ['10.244.1.9']));
  const nodes = Array.from({ length: 100 }, (_, index) => node(index + 1, { internalIPs: ips(`192.168.1.${index + 1}`) }));
  const options = lanOptions({ strictExternalIpValidation: false });

  it('costs the Services whose addresses move, of ten thousand on a hundred nodes', () => {
    const module = lanAnnouncerModule(options);
    const before = seenBy('node-1', { services, slices, nodes });
    const first = module.plan(before).fragments;
    const begun = process.cpuUsage();
    const second = module.plan({ ...before, silentNodes: new Set(['node-7']) }).fragments;
    const { user, system } = process.cpuUsage(begun);
    const moved = [...second].filter(([owner, fragment]) => first.get(owner) !== fragment);
    assert.ok(moved.length > 0 && moved.length < 30, `${moved.length} fragments`);
    for (const [owner, fragment] of first) assert.equal(second.get(owner), fragment);
    // 100 ms were asked for; a million hashes take some 15.
    assert.ok(user + system < 400_000, `${(user + system) / 1000} ms`);
  });

  it('is nothing at all for an endpoint or a node that changes no decision', () => {
    const module = lanAnnouncerModule(options);
    const cluster = { services: services.slice(0, 100), slices: slices.slice(0, 100), nodes: nodes.slice(0, 3) };
    const first = module.plan(seenBy('node-1', cluster)).fragments;
    const more = [slice('web-0', ['10.244.1.9', '10.244.1.10']), slice('web-1', []), ...slices.slice(2, 100)];
    const labelled = nodes.slice(0, 3).map(each => ({ ...each, labels: { colour: 'green' } }));
    assert.equal(module.plan(seenBy('node-1', { ...cluster, slices: more, nodes: labelled })).fragments, first);
  });
});
