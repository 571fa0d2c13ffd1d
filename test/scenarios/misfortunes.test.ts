/** What goes wrong for long, on a clock moved by hand. */
import assert from 'node:assert/strict';
import { describeHealth } from '../../daemon/observe/health.ts';
import type { ApiWorld } from '../fakes/daemon.ts';
import { startApiWorld, startWorld } from '../fakes/daemon.ts';
import type { ApiObject } from '../fakes/object-store.ts';
import { node, service, slice } from '../fixtures/cluster.ts';

const HOUR = 3_600_000;
const WEB = 'TCP 10.96.0.10:80';

const nodeObject: ApiObject = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-1' },
  status: { addresses: [{ type: 'InternalIP', address: '192.168.1.1' }] },
};

function serviceObject(name: string, clusterIP: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name },
    spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ name: 'http', port: 80 }] },
  };
}

function sliceObject(owner: string, ...addresses: readonly string[]): ApiObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'shop', name: owner, labels: { 'kubernetes.io/service-name': owner } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080 }],
    endpoints: addresses.map(address => ({ addresses: [address], conditions: { ready: true } })),
  };
}

/** Endpoints of each virtual server that is there. */
function served({ tables }: Pick<ApiWorld, 'tables'>): readonly string[] {
  return [...tables.virtualServer.state].map(
    ([key, { destinations }]) => `${key} -> ${destinations.map(({ address }) => address).join(' ')}`,
  );
}

function writesOf({ tables }: Pick<ApiWorld, 'tables'>): number {
  return Object.values(tables).reduce((sum, { written }) => sum + written.length, 0);
}

describe('an API server that is gone for an hour', () => {
  it('changes nothing in the kernel, is asked twice a minute at most, is told once a kind, and what changed meanwhile is caught up with', async () => {
    const world = startApiWorld();
    const { api, clock, log } = world;
    api.put(nodeObject, serviceObject('web', '10.96.0.10'), serviceObject('old', '10.96.0.11'));
    api.put(sliceObject('web', '10.244.1.5'), sliceObject('old', '10.244.1.6'));
    await clock.advance(10_000);
    assert.deepEqual(served(world), [`${WEB} -> 10.244.1.5`, 'TCP 10.96.0.11:80 -> 10.244.1.6']);
    await clock.advance(HOUR);
    assert.deepEqual(log.matching(/^(error|warn)/), [], 'an hour of quiet is no trouble');

    const before = writesOf(world);
    api.goDown();
    api.requests.length = 0;
    api.put(sliceObject('web', '10.244.2.7'));
    api.delete(serviceObject('old', '10.96.0.11'));
    api.delete(sliceObject('old'));
    await clock.advance(HOUR);
    const kinds = 3;
    assert.ok(api.requests.length <= kinds * 130, `${api.requests.length} requests in an hour`);
    assert.ok(api.requests.length >= kinds * 100, 'it goes on trying');
    assert.equal(writesOf(world), before);
    assert.equal(log.matching(/^error.*API server does not answer.*code=FW_API_UNREACHABLE/).length, kinds);
    assert.match(describeHealth(world.daemon.health()), /services: degraded: .*API server does not answer/);

    // Somebody else's changes are still repaired.
    world.tables.virtualServer.state.delete(WEB);
    await clock.advance(120_000);
    assert.deepEqual(served(world)[1], `${WEB} -> 10.244.1.5`);

    api.comeUp();
    await clock.advance(45_000);
    assert.deepEqual(served(world), [`${WEB} -> 10.244.2.7`]);
    assert.equal(log.matching(/well again: source/).length, kinds);
    assert.equal(world.daemon.health().modules.get('services')?.state, 'ok');
    await world.daemon.stop();
  });
});

describe('a start without all lists', () => {
  it('changes nothing, and log and /readyz say which list is awaited and why', async () => {
    const { source, clock, daemon, log, tables } = startWorld();
    source.list('Node', [node(1)]);
    source.list('Service', [service('web')]);
    const refusal = 'list endpointslices: 403: our identity lacks the verb "list" on "endpointslices"';
    source.fails('EndpointSlice', refusal);
    await clock.advance(70_000);
    assert.equal(
      log.matching(/no full list of EndpointSlice yet \(list endpointslices: 403.*nothing is changed before/).length,
      1,
    );
    assert.match(
      describeHealth(daemon.health()),
      /services: starting: no full list of EndpointSlice yet \(list endpointslices: 403/,
    );
    assert.equal(tables.virtualServer.written.length, 0);
    source.fails('EndpointSlice', undefined);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    await clock.advance(100);
    assert.ok(tables.virtualServer.state.has(WEB));
    assert.equal(daemon.health().modules.get('services')?.state, 'ok');
    await daemon.stop();
  });
});

describe('a node whose name no Node object has', () => {
  it('is told with the flag that names it, Services are served, and it is told when the object comes', async () => {
    const { source, clock, daemon, log, tables } = startWorld();
    source.list('Node', [node(2), node(3)]);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    source.list('Service', [service('web')]);
    await clock.advance(1000);
    assert.ok(tables.virtualServer.state.has(WEB));
    const pattern = /No Node object is named node-1, though there are 2 others: .*correct --hostname-override or NODE_NAME/;
    assert.equal(log.matching(pattern).length, 1);
    assert.deepEqual(
      daemon.diagnostics().map(({ code }) => code),
      ['FW_NODE_UNKNOWN'],
    );
    source.put(node(1));
    await clock.advance(1000);
    assert.deepEqual(daemon.diagnostics(), []);
    assert.equal(log.matching(/no longer: FW_NODE_UNKNOWN/).length, 1);
    await daemon.stop();
  });

  it('is bare metal where there are no Node objects at all, and nothing is told', async () => {
    const { source, clock, daemon } = startWorld();
    source.list('Node', []);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    source.list('Service', [service('web')]);
    await clock.advance(1000);
    assert.deepEqual(daemon.diagnostics(), []);
    await daemon.stop();
  });
});

describe('a tool that hangs', () => {
  it('is given up after its time, told once, and holds up other tables no longer than that', async () => {
    const { source, clock, daemon, log, tables } = startWorld();
    source.list('Node', [node(1)]);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    source.list('Service', [service('web')]);
    await clock.advance(1000);
    const { virtualServer } = tables;
    const apply = virtualServer.apply.bind(virtualServer);
    let isHanging = true;
    virtualServer.apply = async (changes, signal) => {
      // What the runner of tools does with one that does not end.
      if (isHanging) await new Promise<void>(resolve => clock.after(60_000, resolve));
      virtualServer.broken = isHanging ? "'ipvsadm -R' did not end within 60000 ms and was killed" : undefined;
      return await apply(changes, signal);
    };
    const addresses = (): number => tables.address.state.size;
    const before = addresses();
    source.put(service('api', { clusterIPs: ['10.96.0.11' as never] }), slice('api', ['10.244.1.7']));
    await clock.advance(100);
    assert.equal(addresses(), before + 1, 'what comes before it in a round is there at once');
    assert.ok(daemon.health().isLive);
    await clock.advance(200_000);
    assert.equal(
      log.matching(/did not end within 60000 ms and was killed/).length,
      2,
      'once of the change, once of reading back',
    );
    assert.ok(daemon.health().isLive);
    assert.equal(daemon.health().modules.get('services')?.state, 'degraded');
    source.put(service('more', { clusterIPs: ['10.96.0.12' as never] }), slice('more', ['10.244.1.8']));
    await clock.advance(65_000);
    assert.equal(addresses(), before + 2);
    isHanging = false;
    virtualServer.broken = undefined;
    await clock.advance(150_000);
    assert.equal(virtualServer.state.size, 3);
    assert.equal(daemon.health().modules.get('services')?.state, 'ok');
    await daemon.stop();
  });
});
