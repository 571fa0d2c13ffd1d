import assert from 'node:assert/strict';
import { Heartbeats } from '../../../daemon/cluster/heartbeats.ts';
import type { Clock } from '../../../daemon/net/clock.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { lease } from '../../fixtures/lan.ts';

/** Nodes whose kubelets renew every 10 seconds, at different moments, as long as they are among the living. */
class Scene {
  readonly clock = new ManualClock();
  timers = 0;
  changes = 0;
  readonly heartbeats: Heartbeats;
  #beat = 0;

  constructor(...nodes: readonly number[]) {
    const counted: Clock = {
      now: () => this.clock.now(),
      after: (milliseconds, fire) => {
        this.timers++;
        return this.clock.after(milliseconds, fire);
      },
    };
    this.heartbeats = new Heartbeats({
      clock: counted,
      onChange: () => {
        this.changes++;
      },
    });
    this.heartbeats.replace(nodes.map(number => lease(number, 0)));
  }

  async live(seconds: number, ...nodes: readonly number[]): Promise<void> {
    for (let second = 1; second <= seconds; second++) {
      await this.clock.advance(1000);
      for (const number of nodes) if ((second + number) % 10 === 0) this.heartbeats.upsert(lease(number, ++this.#beat));
    }
  }

  silent(): readonly string[] {
    return [...this.heartbeats.silent].sort();
  }
}

describe('heartbeats of nodes', () => {
  it('leave nobody silent while they come, and wake nobody', async () => {
    const scene = new Scene(1, 2, 3);
    const before = scene.heartbeats.silent;
    await scene.live(600, 1, 2, 3);
    assert.equal(scene.heartbeats.silent, before);
    assert.equal(scene.changes, 0);
    // 180 beats; the one timer looks anew when the time of the first who was due is over.
    assert.ok(scene.timers <= 25, `${scene.timers} timers`);
  });

  it('make a node silent when its Lease ended, by our clock, and heard at its next beat', async () => {
    const scene = new Scene(1, 2);
    await scene.live(39, 1);
    assert.deepEqual(scene.silent(), []);
    await scene.live(1, 1);
    assert.deepEqual(scene.silent(), ['node-2']);
    const silent = scene.heartbeats.silent;
    await scene.live(300, 1);
    assert.equal(scene.heartbeats.silent, silent);
    assert.equal(scene.changes, 1);
    scene.heartbeats.upsert(lease(2, 1000));
    assert.deepEqual(scene.silent(), []);
    assert.equal(scene.changes, 2);
    await scene.live(40, 1);
    assert.deepEqual(scene.silent(), ['node-2']);
  });

  it('count when the Lease changes, not when it is told again', async () => {
    const scene = new Scene(1, 2);
    for (let second = 0; second < 41; second++) {
      await scene.live(1, 1);
      scene.heartbeats.upsert(lease(1, second + 1));
      scene.heartbeats.upsert(lease(2, 0));
    }
    assert.deepEqual(scene.silent(), ['node-2']);
  });

  it('follow the duration that a Lease has, also one that becomes shorter', async () => {
    const scene = new Scene(1, 2);
    await scene.live(8, 1);
    scene.heartbeats.upsert(lease(2, 0, { leaseDurationSeconds: 20 }));
    scene.heartbeats.upsert(lease(1, 900));
    await scene.live(11, 1);
    assert.deepEqual(scene.silent(), []);
    await scene.live(1, 1);
    assert.deepEqual(scene.silent(), ['node-2']);
  });

  it('count from the first sight: what was before is not known', async () => {
    const scene = new Scene(1);
    await scene.live(100, 1);
    scene.heartbeats.upsert(lease(2, 0));
    await scene.live(39, 1);
    assert.deepEqual(scene.silent(), []);
    await scene.live(1, 1);
    assert.deepEqual(scene.silent(), ['node-2']);
  });

  it('judge a node without Lease no more, and one that is not in a new list', async () => {
    const scene = new Scene(1, 2, 3);
    await scene.live(45, 1);
    assert.deepEqual(scene.silent(), ['node-2', 'node-3']);
    scene.heartbeats.remove('kube-node-lease/node-2');
    assert.deepEqual(scene.silent(), ['node-3']);
    scene.heartbeats.replace([lease(1, 999)]);
    assert.deepEqual(scene.silent(), []);
    assert.equal(scene.heartbeats.size, 1);
    await scene.live(100, 1);
    assert.deepEqual(scene.silent(), []);
  });

  it('are not those of other Leases', async () => {
    const scene = new Scene(1);
    const meta = { ...lease(2, 0).meta, namespace: 'kube-system' };
    scene.heartbeats.upsert(lease(2, 0, { meta }));
    scene.heartbeats.replace([lease(1, 1), lease(2, 0, { meta })]);
    await scene.live(100, 1);
    assert.deepEqual(scene.silent(), []);
    scene.heartbeats.remove('kube-system/node-1');
    assert.equal(scene.heartbeats.size, 1);
  });

  it('make nobody silent while the watch is in trouble, nor until a full duration after', async () => {
    const scene = new Scene(1, 2, 3);
    await scene.live(45, 1, 2);
    assert.deepEqual(scene.silent(), ['node-3']);
    scene.heartbeats.degraded(true);
    await scene.live(300);
    assert.deepEqual(scene.silent(), ['node-3']);
    scene.heartbeats.degraded(false);
    await scene.live(39, 1);
    assert.deepEqual(scene.silent(), ['node-3']);
    await scene.live(1, 1);
    assert.deepEqual(scene.silent(), ['node-2', 'node-3']);
  });

  it('make nobody silent when all stop at once: then we hear nothing, or the API server takes no renewals', async () => {
    const scene = new Scene(1, 2, 3);
    await scene.live(30, 1, 2, 3);
    await scene.live(3600);
    assert.deepEqual(scene.silent(), []);
    assert.equal(scene.changes, 0);
    // As it goes on, everybody has a full duration; node-3 died meanwhile.
    await scene.live(39, 1, 2);
    assert.deepEqual(scene.silent(), []);
    await scene.live(20, 1, 2);
    assert.deepEqual(scene.silent(), ['node-3']);
  });

  it('make a node with a short Lease silent in its time, though the others beat less often than it lasts', async () => {
    const scene = new Scene(1, 2);
    scene.heartbeats.upsert(lease(3, 0, { leaseDurationSeconds: 2 }));
    await scene.live(2, 1, 2);
    assert.deepEqual(scene.silent(), ['node-3']);
    scene.heartbeats.upsert(lease(3, 1, { leaseDurationSeconds: 2 }));
    await scene.live(600);
    assert.deepEqual(scene.silent(), ['node-3']);
  });

  it('leave no timer behind when stopped', async () => {
    const scene = new Scene(1, 2);
    await scene.live(20, 1, 2);
    scene.heartbeats.stop();
    await scene.live(100);
    assert.equal(scene.changes, 0);
  });
});
