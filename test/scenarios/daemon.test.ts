import assert from 'node:assert/strict';
import { isReady } from '../../daemon/observe/health.ts';
import { STAGES } from '../../daemon/reconcile/tables.ts';
import { startWorld, type World } from '../fakes/daemon.ts';
import { virtualServersOf } from '../fakes/tables.ts';
import { hostAddress, hostFacts, ips, node, service, servicePort, slice } from '../fixtures/cluster.ts';

const WEB = 'TCP 10.96.0.10:80';

/** A daemon that has listed the cluster's three nodes, Service `web` and its two endpoints, and has had time for a round. */
async function worldWithWeb(): Promise<World> {
  const world = startWorld();
  list(world);
  await world.clock.advance(100);
  return world;
}

function list({ source }: World): void {
  source.list('Node', [node(1), node(2), node(3)]);
  source.list('EndpointSlice', [slice('web', ['10.244.1.5', '10.244.2.5'])]);
  source.list('Service', [service('web')]);
}

function destinations(world: World, key: string): readonly string[] | undefined {
  return virtualServersOf(world.tables)
    .get(key)
    ?.destinations.map(({ address, port }) => `${address}:${port}`)
    .sort();
}

describe('a daemon that starts', () => {
  it('touches nothing before every list is in, so that a restart deletes nothing it has not heard of yet', async () => {
    const world = startWorld();
    world.tables.virtualServer.state.set('TCP 10.96.0.77:80', {
      listener: { by: 'address', protocol: 'TCP', address: ips('10.96.0.77')[0] as never, port: 80 },
      scheduler: 'rr',
      schedulerFlags: [],
      persistenceSeconds: 0,
      destinations: [],
    });
    world.source.list('Node', [node(1)]);
    world.source.list('Service', [service('web')]);
    await world.clock.advance(120_000);
    assert.ok(world.tables.virtualServer.state.has('TCP 10.96.0.77:80'));
    assert.equal(world.log.matching(/no full list of EndpointSlice yet/).length, 1);
    assert.equal(isReady(world.daemon.health()), false);
    world.source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    await world.clock.advance(100);
    assert.deepEqual([...world.tables.virtualServer.state.keys()], [WEB], 'the first full round removes what no Service wants');
    assert.equal(isReady(world.daemon.health()), true);
    await world.daemon.stop();
  });

  it('writes nothing where an earlier run left everything right', async () => {
    const first = await worldWithWeb();
    await first.daemon.stop();
    const second = startWorld();
    for (const name of STAGES) {
      for (const [key, value] of first.tables[name].state) second.tables[name].state.set(key, value as never);
    }
    list(second);
    await second.clock.advance(100);
    assert.deepEqual(second.tables.virtualServer.written, []);
    assert.deepEqual(second.tables.iptables.written, []);
    assert.deepEqual(second.tables.ipset.written, []);
    assert.deepEqual(second.tables.address.written, []);
    await second.daemon.stop();
  });
});

describe('an endpoint that changes', () => {
  it('is one update of one virtual server, and no other table is written', async () => {
    const world = await worldWithWeb();
    const before = { address: world.tables.address.written.length, ipset: world.tables.ipset.written.length };
    world.tables.virtualServer.written.length = 0;
    world.source.put(slice('web', ['10.244.1.5', '10.244.3.9']));
    await world.clock.advance(10);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.3.9:8080']);
    assert.deepEqual(world.tables.virtualServer.written, [`update ${WEB}`]);
    assert.equal(world.tables.address.written.length, before.address);
    await world.daemon.stop();
  });

  it('starts a round within 10 ms; a storm of changes shares rounds and ends in the last state', async () => {
    const world = await worldWithWeb();
    world.tables.virtualServer.written.length = 0;
    for (let change = 1; change <= 100; change++) {
      world.source.put(slice('web', [`10.244.2.${change}`]));
      await world.clock.advance(1);
    }
    await world.clock.advance(100);
    assert.deepEqual(destinations(world, WEB), ['10.244.2.100:8080']);
    assert.ok(
      world.tables.virtualServer.written.length <= 4,
      `${world.tables.virtualServer.written.length} writes for 100 changes in 100 ms`,
    );
    await world.daemon.stop();
  });
});

describe('an entry that the tool refuses', () => {
  it('is said once, tried again until it takes, and holds up nothing else', async () => {
    const world = startWorld();
    world.tables.virtualServer.refused.set(WEB, 'Memory allocation problem');
    list(world);
    world.source.put(service('api', { clusterIPs: ips('10.96.0.11') }), slice('api', ['10.244.1.7']));
    await world.clock.advance(100);
    assert.deepEqual(destinations(world, 'TCP 10.96.0.11:80'), ['10.244.1.7:8080']);
    await world.clock.advance(60_000);
    assert.equal(world.log.matching(/Service default\/web.*Memory allocation problem/).length, 1);
    assert.equal(world.daemon.health().modules.get('services')?.state, 'degraded');
    assert.equal(isReady(world.daemon.health()), true, 'one bad entry does not take the node out of service');
    world.tables.virtualServer.refused.clear();
    await world.clock.advance(70_000);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    assert.equal(world.daemon.health().modules.get('services')?.state, 'ok');
    assert.equal(world.log.matching(/well again/).length, 1);
    await world.daemon.stop();
  });

  it('takes others with it when it goes in at last: what was in the way may have been in theirs', async () => {
    const world = startWorld();
    const API = 'TCP 10.96.0.11:80';
    for (const key of [WEB, API]) world.tables.virtualServer.refused.set(key, 'the runtime does not answer');
    list(world);
    await world.clock.advance(40_000);
    // Half a minute later than the other, so that its next turn is nearer.
    world.source.put(service('api', { clusterIPs: ips('10.96.0.11') }), slice('api', ['10.244.1.7']));
    await world.clock.advance(100);
    world.tables.virtualServer.refused.clear();
    await world.clock.advance(1000);
    assert.deepEqual(destinations(world, API), ['10.244.1.7:8080']);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    await world.daemon.stop();
  });

  it('does not hold up deletes of the same table', async () => {
    const world = await worldWithWeb();
    world.tables.virtualServer.refused.set('TCP 10.96.0.11:80', 'no');
    world.source.put(service('api', { clusterIPs: ips('10.96.0.11') }));
    world.source.remove('Service', 'default/web');
    await world.clock.advance(100);
    assert.deepEqual([...world.tables.virtualServer.state.keys()], []);
    await world.daemon.stop();
  });
});

describe('a tool that cannot be asked at all', () => {
  it('stops its own table only, and all comes in when it is back', async () => {
    const world = startWorld();
    world.tables.ipset.broken = 'ipset is not installed';
    list(world);
    await world.clock.advance(100);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    assert.equal(
      [...world.tables.iptables.state.keys()].some(key => key.includes('FAIRWAY-SERVICES')),
      false,
      'a chain waits for the sets it matches on',
    );
    world.tables.ipset.broken = undefined;
    await world.clock.advance(70_000);
    assert.ok([...world.tables.iptables.state.keys()].some(key => key.includes('FAIRWAY-SERVICES')));
    await world.daemon.stop();
  });
});

describe('someone else changes the kernel', () => {
  it('the audit names what was changed, counts it, and repairs it within the period', async () => {
    const world = await worldWithWeb();
    world.tables.virtualServer.state.delete(WEB);
    world.tables.address.state.clear();
    await world.clock.advance(61_000);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    assert.ok(world.tables.address.state.has('10.96.0.10 kube-dummy-if'));
    assert.equal(world.log.matching(/virtualServer was changed behind our back.*TCP 10\.96\.0\.10:80 \(missing\)/).length, 1);
    assert.equal(world.log.matching(/address was changed behind our back/).length, 1);
    await world.clock.advance(120_000);
    assert.equal(world.log.matching(/behind our back/).length, 2, 'a quiet kernel gives no drift');
    await world.daemon.stop();
  });
});

describe('the host gets another address', () => {
  it('node ports listen on it at once with --nodeport-bindon-all-ip', async () => {
    const world = startWorld({ nodeportBindOnAllIp: true });
    list(world);
    world.source.put(service('web', { type: 'NodePort', ports: [servicePort({ nodePort: 30080 })] }));
    await world.clock.advance(100);
    assert.equal(destinations(world, 'TCP 192.168.9.9:30080'), undefined);
    world.daemon.hostChanged(hostFacts({ addresses: [...hostFacts().addresses, hostAddress('eth1', '192.168.9.9/24')] }));
    await world.clock.advance(60);
    assert.deepEqual(destinations(world, 'TCP 192.168.9.9:30080'), ['10.244.1.5:8080', '10.244.2.5:8080']);
    await world.daemon.stop();
  });
});

describe('a node that is about to leave the cluster', () => {
  it('is told by health, stays ready, and keeps its data path as it is', async () => {
    const world = await worldWithWeb();
    assert.equal(world.daemon.health().isNodeLeaving, false);
    world.tables.virtualServer.written.length = 0;
    world.source.put(node(1, { isLeaving: true }), node(2, { isLeaving: true }));
    assert.equal(world.daemon.health().isNodeLeaving, true);
    await world.clock.advance(1000);
    assert.equal(world.daemon.health().isNodeLeaving, true);
    assert.equal(isReady(world.daemon.health()), true);
    assert.deepEqual(world.tables.virtualServer.written, []);
    world.source.put(node(1));
    assert.equal(world.daemon.health().isNodeLeaving, false, 'the autoscaler may change its mind');
    await world.daemon.stop();
  });

  it('is no other node', async () => {
    const world = await worldWithWeb();
    world.source.put(node(2, { isLeaving: true }));
    await world.clock.advance(100);
    assert.equal(world.daemon.health().isNodeLeaving, false);
    await world.daemon.stop();
  });
});

describe('the API server is lost', () => {
  it('is said once, what is programmed stays, and events go on when it is back', async () => {
    const world = await worldWithWeb();
    world.source.fails('Service', 'Services: connection refused');
    world.source.fails('Service', 'Services: connection refused');
    await world.clock.advance(3_600_000);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    assert.equal(world.log.matching(/connection refused/).length, 1);
    assert.equal(world.daemon.health().modules.get('services')?.state, 'degraded');
    world.source.fails('Service', undefined);
    world.source.put(slice('web', ['10.244.2.6']));
    await world.clock.advance(60);
    assert.deepEqual(destinations(world, WEB), ['10.244.2.6:8080']);
    await world.daemon.stop();
  });
});

describe('a daemon that stops', () => {
  it('leaves the data path in place', async () => {
    const world = await worldWithWeb();
    await world.daemon.stop();
    world.tables.virtualServer.written.length = 0;
    await world.clock.advance(600_000);
    assert.deepEqual(destinations(world, WEB), ['10.244.1.5:8080', '10.244.2.5:8080']);
    assert.deepEqual(world.tables.virtualServer.written, []);
  });
});
