/** What the daemon does when the host was disturbed, where no picture of it changed. */
import assert from 'node:assert/strict';
import { startRoutingWorld, startWorld } from '../fakes/daemon.ts';
import { learned, node, service, slice } from '../fixtures/cluster.ts';

const ROUTE = '254 10.9.0.0/16';

async function routing() {
  const world = startRoutingWorld();
  world.source.list('Node', [node(1)]);
  world.source.list('EndpointSlice', []);
  world.source.list('Service', []);
  await world.clock.advance(2000);
  const route = learned('10.9.0.0/16', '192.168.1.254');
  world.daemon.ribChanged(new Map([[route.prefix, route]]), true);
  await world.clock.advance(2000);
  return world;
}

describe('a disturbance of the host', () => {
  it('has lost routes put back at once, and told as drift', async () => {
    const { clock, daemon, log, tables } = await routing();
    assert.ok(tables.unicastRoute.state.has(ROUTE), [...tables.unicastRoute.state.keys()].join());
    for (const what of ['hostLinks', 'routes'] as const) {
      tables.unicastRoute.state.delete(ROUTE);
      daemon.disturbed(what);
      await clock.advance(100);
      assert.ok(tables.unicastRoute.state.has(ROUTE), what);
    }
    assert.equal(log.matching(/unicastRoute was changed behind our back.*254 10\.9\.0\.0\/16 \(missing\)/).length, 2);
    await daemon.stop();
  });

  it('reads routes back where one is gone that should be there, not where we have deleted it ourselves', async () => {
    const { clock, daemon, tables } = await routing();
    const before = tables.unicastRoute.reads;
    const prefix = learned('10.9.0.0/16', '192.168.1.254').prefix;
    daemon.ribChanged(new Map([[prefix, undefined]]), true);
    // Told before the round has deleted it.
    daemon.disturbed('routes', new Set([ROUTE]));
    await clock.advance(2000);
    daemon.disturbed('routes', new Set([ROUTE]));
    await clock.advance(2000);
    assert.ok(!tables.unicastRoute.state.has(ROUTE));
    assert.equal(tables.unicastRoute.reads, before + 1, 'once, for what was told too early');
    daemon.ribChanged(new Map([[prefix, learned('10.9.0.0/16', '192.168.1.254')]]), true);
    await clock.advance(2000);
    tables.unicastRoute.state.delete(ROUTE);
    daemon.disturbed('routes', new Set([ROUTE]));
    await clock.advance(100);
    assert.ok(tables.unicastRoute.state.has(ROUTE));
    assert.equal(tables.unicastRoute.reads, before + 2);
    await daemon.stop();
  });

  it('has what a link that was down refused tried again when it is up, however often it failed', async () => {
    const { clock, daemon, tables } = await routing();
    tables.unicastRoute.state.delete(ROUTE);
    tables.unicastRoute.refused.set(ROUTE, 'Network is down');
    daemon.disturbed('hostLinks');
    await clock.advance(40_000);
    assert.ok(!tables.unicastRoute.state.has(ROUTE));
    tables.unicastRoute.refused.clear();
    daemon.disturbed('hostLinks');
    await clock.advance(100);
    assert.ok(tables.unicastRoute.state.has(ROUTE));
    await daemon.stop();
  });

  it('reads only what may be lost, and nothing that no module writes', async () => {
    const { clock, daemon, tables } = await routing();
    const reads = (): readonly number[] =>
      [tables.unicastRoute, tables.rule, tables.link, tables.ipset].map(table => table.reads);
    const before = reads();
    daemon.disturbed('rules');
    await clock.advance(100);
    assert.deepEqual(
      reads(),
      before.map((count, index) => (index === 1 ? count + 1 : count)),
    );
    await daemon.stop();
    const services = startWorld();
    services.daemon.disturbed('routes');
    await services.clock.advance(2000);
    assert.equal(services.tables.unicastRoute.reads, 0);
    await services.daemon.stop();
  });

  it('has a link of ours that somebody deleted back, with its addresses', async () => {
    const { source, clock, daemon, tables } = startWorld();
    source.list('Node', [node(1)]);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    source.list('Service', [service('web')]);
    await clock.advance(2000);
    const [links, addresses] = [[...tables.link.state.keys()], [...tables.address.state.keys()]];
    assert.ok(links.length > 0 && addresses.length > 0);
    tables.link.state.clear();
    tables.address.state.clear();
    daemon.disturbed('ownLinks');
    await clock.advance(100);
    assert.deepEqual([...tables.link.state.keys()], links);
    assert.deepEqual([...tables.address.state.keys()], addresses);
    await daemon.stop();
  });
});
