import assert from 'node:assert/strict';
import { RibWorld } from '../fakes/rib-world.ts';
import type { FakeSpeaker } from '../fakes/speaker.ts';
import { address, prefixes } from '../fixtures/bgp.ts';

const TWO = address('192.0.2.2');
const THREE = address('192.0.2.3');

/** Two neighbours that are there and have told a route each, a settled RIB. */
async function settledWorld(): Promise<{ world: RibWorld; speaker: FakeSpeaker }> {
  const world = new RibWorld();
  world.expectedPeers = 2;
  const speaker = await world.speaker('192.0.2.2', '192.0.2.3');
  for (const [neighbor, route] of [
    [TWO, '10.244.2.0/24'],
    [THREE, '10.244.3.0/24'],
  ] as const) {
    speaker.establish(neighbor);
    speaker.tell(neighbor, prefixes(route));
    speaker.complete(neighbor);
  }
  await world.follow(speaker);
  await world.clock.advance(2_000);
  assert.equal(world.isSettled, true);
  return { world, speaker };
}

describe('what BGP taught us, at the start', () => {
  it('is settled at once where nobody is expected', async () => {
    const world = new RibWorld();
    await world.follow(await world.speaker());
    assert.deepEqual(world.told, [{ changes: 0, isSettled: true }]);
    await world.rib.stop();
  });

  it('is not settled while it is not known who is expected, until the limit', async () => {
    const world = new RibWorld();
    world.expectedPeers = Number.POSITIVE_INFINITY;
    await world.follow(await world.speaker());
    await world.clock.advance(89_000);
    assert.deepEqual(world.told, []);
    await world.clock.advance(2_000);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('is settled once every neighbour is there and has marked its end, and not before', async () => {
    const world = new RibWorld();
    world.expectedPeers = 2;
    const speaker = await world.speaker('192.0.2.2', '192.0.2.3');
    await world.follow(speaker);
    speaker.establish(TWO);
    speaker.tell(TWO, prefixes('10.244.2.0/24'));
    speaker.complete(TWO);
    await world.clock.advance(5_000);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.2'], 'what is there already is handed out');
    assert.equal(world.isSettled, false);
    speaker.establish(THREE);
    speaker.tell(THREE, prefixes('10.244.3.0/24'));
    await world.clock.advance(5_000);
    assert.equal(world.isSettled, false, 'a session that is up has not told all yet');
    speaker.complete(THREE, 'no event');
    await world.clock.advance(1_100);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('does not wait beyond the limit for a neighbour that never comes', async () => {
    const world = new RibWorld();
    world.expectedPeers = 2;
    const speaker = await world.speaker('192.0.2.2', '192.0.2.3');
    speaker.establish(TWO);
    speaker.complete(TWO);
    await world.follow(speaker);
    await world.clock.advance(89_000);
    assert.equal(world.isSettled, false);
    await world.clock.advance(2_000);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('waits for the number of neighbours wanted, even where those configured so far have told all', async () => {
    const world = new RibWorld();
    world.expectedPeers = 2;
    const speaker = await world.speaker('192.0.2.2');
    speaker.establish(TWO);
    speaker.complete(TWO);
    await world.follow(speaker);
    await world.clock.advance(10_000);
    assert.equal(world.isSettled, false);
    world.expectedPeers = 1;
    await world.clock.advance(1_100);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });
});

describe('a session that ends while gobgpd lives', () => {
  it('takes its routes along and leaves the others and the settled state alone', async () => {
    const { world, speaker } = await settledWorld();
    const kept = world.routes.get(prefixes('10.244.3.0/24')[0]!);
    speaker.drop(TWO);
    await world.clock.advance(50);
    assert.deepEqual(world.shown(), ['10.244.3.0/24 via 192.0.2.3']);
    assert.equal(world.routes.get(prefixes('10.244.3.0/24')[0]!), kept, 'the same object');
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('and comes back again and again ends in what the neighbour told last', async () => {
    const { world, speaker } = await settledWorld();
    for (let flap = 0; flap < 20; flap++) {
      speaker.drop(TWO);
      await world.clock.advance(flap);
      speaker.establish(TWO);
      speaker.tell(TWO, prefixes(flap % 2 === 0 ? '10.244.2.0/24' : '10.244.22.0/24'));
      speaker.complete(TWO);
      await world.clock.advance(flap);
    }
    await world.clock.advance(100);
    assert.deepEqual(world.shown(), ['10.244.22.0/24 via 192.0.2.2', '10.244.3.0/24 via 192.0.2.3']);
    assert.ok(
      world.told.every(({ isSettled }, index) => index === 0 || isSettled || !world.told[index - 1]!.isSettled),
      'it never unsettled',
    );
    await world.rib.stop();
  });
});

describe('gobgpd that is lost', () => {
  it('takes nothing along, and what the new one does not tell is gone only when all is told', async () => {
    const { world, speaker } = await settledWorld();
    const before = world.shown();
    const kept = world.routes.get(prefixes('10.244.2.0/24')[0]!);
    speaker.lose();
    world.rib.lost();
    await world.clock.advance(30_000);
    assert.deepEqual(world.shown(), before);
    assert.equal(world.isSettled, false);

    const next = await world.speaker('192.0.2.2', '192.0.2.3');
    await world.follow(next);
    await world.clock.advance(5_000);
    assert.deepEqual(world.shown(), before, 'an empty answer of a new speaker removes nothing');
    next.establish(TWO);
    next.tell(TWO, prefixes('10.244.2.0/24'));
    next.complete(TWO);
    await world.clock.advance(5_000);
    assert.deepEqual(world.shown(), before);
    assert.equal(world.isSettled, false);
    next.establish(THREE);
    next.complete(THREE);
    await world.clock.advance(1_100);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.2'], 'the third node has no pods any more');
    assert.equal(world.routes.get(prefixes('10.244.2.0/24')[0]!), kept, 'what was told again is the same object');
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('keeps what a neighbour that stays away told until the limit, counted from when the new one was there', async () => {
    const { world, speaker } = await settledWorld();
    speaker.lose();
    world.rib.lost();
    await world.clock.advance(300_000);
    assert.equal(world.routes.size, 2, 'without a speaker there is no limit');
    const next = await world.speaker('192.0.2.2', '192.0.2.3');
    next.establish(TWO);
    next.tell(TWO, prefixes('10.244.2.0/24'));
    next.complete(TWO);
    await world.follow(next);
    await world.clock.advance(89_000);
    assert.equal(world.routes.size, 2);
    await world.clock.advance(2_000);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.2']);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('follows at once what the new one says otherwise, and a withdrawal of what it had told', async () => {
    const { world, speaker } = await settledWorld();
    speaker.lose();
    world.rib.lost();
    const next = await world.speaker('192.0.2.2', '192.0.2.3');
    await world.follow(next);
    next.establish(TWO);
    next.tell(TWO, prefixes('10.244.2.0/24'), address('192.0.2.22'));
    await world.clock.advance(50);
    assert.deepEqual(world.shown(), ['10.244.2.0/24 via 192.0.2.22', '10.244.3.0/24 via 192.0.2.3']);
    next.withdraw(TWO, prefixes('10.244.2.0/24'));
    await world.clock.advance(50);
    assert.deepEqual(world.shown(), ['10.244.3.0/24 via 192.0.2.3']);
    assert.equal(world.isSettled, false);
    await world.rib.stop();
  });

  it('time and again keeps everything, and settles after the last time', async () => {
    const { world, speaker } = await settledWorld();
    let at = speaker;
    for (let time = 0; time < 5; time++) {
      at.lose();
      world.rib.lost();
      at = await world.speaker('192.0.2.2', '192.0.2.3');
      await world.follow(at);
      at.establish(TWO);
      await world.clock.advance(20_000);
      assert.equal(world.routes.size, 2);
      assert.equal(world.isSettled, false);
    }
    await world.clock.advance(71_000);
    assert.deepEqual(world.shown(), []);
    assert.equal(world.isSettled, true);
    await world.rib.stop();
  });

  it('is noticed by its watch, told once, and the same speaker is asked again until another comes', async () => {
    const { world, speaker } = await settledWorld();
    speaker.lose();
    await world.clock.advance(20_000);
    assert.deepEqual(world.troubles, ['the speaker is lost']);
    assert.equal(world.routes.size, 2);
    assert.equal(world.isSettled, false);
    await world.rib.stop();
    const calls = speaker.calls.length;
    await world.clock.advance(100_000);
    assert.equal(speaker.calls.length, calls, 'a RIB that was stopped asks nobody');
  });

  it('but for its watch is followed again, and what changed meanwhile is seen', async () => {
    const { world, speaker } = await settledWorld();
    speaker.endWatches();
    speaker.withdraw(TWO, prefixes('10.244.2.0/24'));
    speaker.tell(THREE, prefixes('10.244.33.0/24'));
    await world.clock.advance(600);
    assert.deepEqual(world.shown(), ['10.244.3.0/24 via 192.0.2.3', '10.244.33.0/24 via 192.0.2.3']);
    assert.equal(world.isSettled, true);
    assert.equal(world.troubles.length, 1);
    await world.rib.stop();
  });
});
