import assert from 'node:assert/strict';
import { LearnedRoutes } from '../../../daemon/bgp/learned-routes.ts';
import type { BestPath } from '../../../daemon/bgp/speaker.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import type { IpPrefix } from '../../../daemon/net/prefix.ts';
import { RibWorld } from '../../fakes/rib-world.ts';
import { address, manyPrefixes, prefixes } from '../../fixtures/bgp.ts';

const NEIGHBOR = address('192.0.2.2');
const [POD_RANGE] = prefixes('10.244.2.0/24') as [IpPrefix];

function path(nextHop: string, overrides: Partial<BestPath> = {}): BestPath {
  return { prefix: POD_RANGE, nextHop: address(nextHop), origin: 'internal', neighbor: NEIGHBOR, ...overrides };
}

/** A settled RIB with one neighbour that has told nothing, its calls forgotten. */
async function quietWorld() {
  const world = new RibWorld();
  world.expectedPeers = 1;
  const speaker = await world.speaker('192.0.2.2');
  speaker.establish(NEIGHBOR);
  speaker.complete(NEIGHBOR);
  await world.follow(speaker);
  await world.clock.advance(2_000);
  assert.equal(world.isSettled, true);
  speaker.calls.length = 0;
  world.told.length = 0;
  return { world, speaker };
}

describe('learned routes', () => {
  it('have each next hop once, sorted, and say whether another node told it', () => {
    const routes = new LearnedRoutes();
    const changes = routes.take('all', [
      path('192.0.2.9', { origin: 'external' }),
      path('192.0.2.3'),
      path('192.0.2.3', { neighbor: address('192.0.2.4') }),
      path('192.0.2.9'),
    ]);
    assert.deepEqual(changes.get(POD_RANGE), {
      prefix: POD_RANGE,
      nextHops: [
        { address: '192.0.2.3', isInternal: true },
        { address: '192.0.2.9', isInternal: true },
      ],
    });
  });

  it('are none where the path is our own', () => {
    const routes = new LearnedRoutes();
    assert.equal(routes.take('all', [path('192.0.2.1', { origin: 'local', neighbor: undefined })]).size, 0);
  });

  it('are handed out only where they changed, in whatever order the paths come', () => {
    const routes = new LearnedRoutes();
    routes.take('all', [path('192.0.2.3'), path('192.0.2.4')]);
    assert.equal(routes.take('all', [path('192.0.2.4'), path('192.0.2.3')]).size, 0);
    assert.equal(routes.take([POD_RANGE], [path('192.0.2.3'), path('192.0.2.4')]).size, 0);
    assert.equal(routes.take([POD_RANGE], [path('192.0.2.4')]).size, 1);
    assert.equal(routes.take([POD_RANGE], [path('192.0.2.4', { origin: 'external' })]).size, 1, 'who told it counts');
  });

  it('go when they are asked for and not answered, and no others', () => {
    const routes = new LearnedRoutes();
    const [other] = prefixes('10.244.3.0/24') as [IpPrefix];
    routes.take('all', [path('192.0.2.3'), path('192.0.2.3', { prefix: other })]);
    assert.deepEqual([...routes.take([POD_RANGE], [])], [[POD_RANGE, undefined]]);
    assert.equal(routes.take([POD_RANGE], []).size, 0, 'once');
    assert.deepEqual([...routes.take('all', [])], [[other, undefined]]);
  });
});

describe('the RIB', () => {
  it('answers one event with one small reading', async () => {
    const { world, speaker } = await quietWorld();
    speaker.tell(NEIGHBOR, [POD_RANGE]);
    await world.clock.advance(10);
    assert.deepEqual(speaker.calls, ['bestPaths 1']);
    assert.deepEqual(world.told, [{ changes: 1, isSettled: true }]);
    await world.clock.advance(600_000);
    assert.deepEqual(speaker.calls, ['bestPaths 1'], 'at rest it asks nothing');
    await world.rib.stop();
  });

  it('reads once for the events of ten milliseconds, and all where they are many', async () => {
    const { world, speaker } = await quietWorld();
    for (const prefix of manyPrefixes(200)) speaker.tell(NEIGHBOR, [prefix]);
    await world.clock.advance(20);
    assert.deepEqual(speaker.calls, ['bestPaths 200']);
    speaker.tell(NEIGHBOR, manyPrefixes(501));
    await world.clock.advance(20);
    assert.deepEqual(speaker.calls.slice(1), ['bestPaths all']);
    assert.equal(world.routes.size, 501);
    assert.deepEqual(world.told.at(-1), { changes: 301, isSettled: true }, 'the 200 of before are no news');
    await world.rib.stop();
  });

  it('hands out nothing where an event turns out to be none', async () => {
    const { world, speaker } = await quietWorld();
    speaker.tell(NEIGHBOR, [POD_RANGE]);
    await world.clock.advance(20);
    world.told.length = 0;
    speaker.say([POD_RANGE]);
    await world.clock.advance(20);
    assert.deepEqual(world.told, []);
    await world.rib.stop();
  });

  it('tells once that reading fails, goes on trying, and keeps what it has', async () => {
    const { world, speaker } = await quietWorld();
    speaker.tell(NEIGHBOR, [POD_RANGE]);
    await world.clock.advance(20);
    speaker.refusal = new FairwayError('FW_BGP_REFUSED', 'no memory');
    speaker.say([POD_RANGE]);
    await world.clock.advance(5_000);
    assert.deepEqual(world.troubles, ['no memory']);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.2']);
    speaker.refusal = undefined;
    speaker.tell(NEIGHBOR, prefixes('10.244.22.0/24'));
    await world.clock.advance(10_000);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.2', '10.244.22.0/24 via 192.0.2.2']);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('takes 10,000 routes, and their withdrawal, in well under a second of processor time', async () => {
    const { world, speaker } = await quietWorld();
    const many = manyPrefixes(10_000);
    const before = process.cpuUsage();
    // As an UPDATE brings them: some hundreds of prefixes at a time.
    for (let from = 0; from < many.length; from += 400) {
      speaker.tell(NEIGHBOR, many.slice(from, from + 400));
      await world.clock.advance(5);
    }
    await world.clock.advance(100);
    assert.equal(world.routes.size, 10_000);
    speaker.withdraw(NEIGHBOR, many);
    await world.clock.advance(100);
    assert.equal(world.routes.size, 0);
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 1_000_000, `${(user + system) / 1000} ms of processor time`);
    await world.rib.stop();
  });
});
