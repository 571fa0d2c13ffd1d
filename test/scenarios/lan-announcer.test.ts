/** Announcement on the local network as one node does it while the others come, die and are heard again. */
import assert from 'node:assert/strict';
import type { Kind } from '../../daemon/cluster/kinds.ts';
import { startLanWorld, type World } from '../fakes/daemon.ts';
import { node } from '../fixtures/cluster.ts';
import { balanced, lease } from '../fixtures/lan.ts';

/** Among node-1, node-2 and node-3: the first is node-1's in any case, the second node-2's before it is node-1's. */
const [OWN, INHERITED] = ['198.51.100.4', '198.51.100.12'];

async function worldOfThree(): Promise<World> {
  const world = startLanWorld({ followsPools: false });
  world.source.list('Node', [node(1), node(2), node(3)]);
  world.source.list('EndpointSlice', []);
  world.source.list('Service', [balanced('web', [OWN]), balanced('db', [INHERITED])]);
  world.source.list('Lease', [lease(1, 0), lease(2, 0), lease(3, 0)]);
  await world.clock.advance(100);
  return world;
}

let beats = 0;

/** Nodes renew every 10 seconds. */
async function live(world: World, seconds: number, ...nodes: readonly number[]): Promise<void> {
  for (let second = 0; second < seconds; second += 10) {
    for (const number of nodes) world.source.put(lease(number, ++beats));
    await world.clock.advance(10_000);
  }
}

/** With so many nodes that beat every second; the others do not, which nobody has to take notice of yet. */
async function roundsIn50Seconds(beating: number): Promise<number> {
  const world = await worldOfThree();
  let rounds = 0;
  world.settled.push(() => {
    rounds++;
  });
  for (let second = 0; second < 50; second++) {
    for (let number = 1; number <= beating; number++) world.source.put(lease(number, ++beats));
    await world.clock.advance(1000);
  }
  await world.daemon.stop();
  return rounds;
}

function answers(world: World): readonly string[] {
  return [...world.tables.lanAddress.state.keys()].sort();
}

describe('a node that answers on the local network', () => {
  it('waits for the heartbeats’ first list as for any other', async () => {
    const world = startLanWorld({ followsPools: false });
    world.source.list('Node', [node(1)]);
    world.source.list('EndpointSlice', []);
    world.source.list('Service', [balanced('web', [OWN])]);
    await world.clock.advance(1000);
    assert.deepEqual(answers(world), []);
    world.source.list('Lease', [lease(1, 0)]);
    await world.clock.advance(1000);
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    await world.daemon.stop();
  });

  it('takes over from one whose heartbeat stops, and gives back when it is heard again', async () => {
    const world = await worldOfThree();
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    await live(world, 120, 1, 2, 3);
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    await live(world, 30, 1, 3);
    assert.deepEqual(answers(world), [`${OWN} eth0`], 'a Lease lasts 40 s');
    await live(world, 10, 1, 3);
    assert.deepEqual(answers(world), [`${INHERITED} eth0`, `${OWN} eth0`]);
    world.source.put(lease(2, ++beats));
    await world.clock.advance(100);
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    await world.daemon.stop();
  });

  it('knows that it may have been replaced while Services, endpoints or Nodes are not followed, and no longer', async () => {
    const world = await worldOfThree();
    const steps: readonly (readonly [Kind, string | undefined])[] = [
      ['Lease', 'gone'],
      ['Service', 'gone'],
      ['Node', 'gone'],
      ['Service', undefined],
      ['Node', undefined],
    ];
    for (const [kind, reason] of steps) world.source.fails(kind, reason);
    assert.deepEqual(world.blind, [false, true, true, true, false]);
    await world.daemon.stop();
  });

  it('puts an address back at once that was left to another host and is to be had again', async () => {
    const world = await worldOfThree();
    const key = `${OWN} eth0`;
    world.tables.lanAddress.state.delete(key);
    world.daemon.lanMoved();
    await world.clock.advance(100);
    assert.deepEqual(answers(world), [key]);
    await world.daemon.stop();
  });

  it('does no round for a heartbeat', async () => {
    assert.equal(await roundsIn50Seconds(3), await roundsIn50Seconds(0));
  });

  it('takes nothing from anybody while it cannot hear them, and says what is amiss', async () => {
    const world = await worldOfThree();
    await live(world, 30, 1, 2, 3);
    world.source.fails('Lease', 'the watch broke');
    await world.clock.advance(600_000);
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    assert.equal(world.log.matching(/the watch broke/).length, 1);
    world.source.fails('Lease', undefined);
    await live(world, 30, 1, 3);
    assert.deepEqual(answers(world), [`${OWN} eth0`]);
    await live(world, 20, 1, 3);
    assert.deepEqual(answers(world), [`${INHERITED} eth0`, `${OWN} eth0`]);
    await world.daemon.stop();
  });

  it('counts heartbeats in its status', async () => {
    const world = await worldOfThree();
    const leases = world.daemon.status().cluster.find(({ kind }) => kind === 'Lease');
    assert.equal(leases?.objects, 3);
    await world.daemon.stop();
  });
});
