import assert from 'node:assert/strict';
import { startWorld } from '../fakes/daemon.ts';
import { node, service, slice } from '../fixtures/cluster.ts';

/** A daemon whose virtual servers take so many milliseconds to read back, an hour after its start. */
async function readsInAnHour(milliseconds: number): Promise<number> {
  const world = startWorld();
  const { virtualServer } = world.tables;
  const read = virtualServer.read.bind(virtualServer);
  virtualServer.read = async (expected, signal) => {
    await new Promise<void>(resolve => world.clock.after(milliseconds, resolve));
    return await read(expected, signal);
  };
  world.source.list('Node', [node(1)]);
  world.source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
  world.source.list('Service', [service('web')]);
  await world.clock.advance(3_600_000);
  await world.daemon.stop();
  return virtualServer.reads;
}

describe('the audit of a table', () => {
  it('comes once a minute where reading is cheap', async () => {
    const reads = await readsInAnHour(100);
    assert.ok(reads >= 59 && reads <= 61, `${reads} in an hour`);
  });

  it('takes no more than a quarter of a percent of the time where reading is dear', async () => {
    const reads = await readsInAnHour(3000);
    assert.ok(reads >= 3 && reads <= 4, `${reads} readings of 3 s in an hour`);
  });
});
