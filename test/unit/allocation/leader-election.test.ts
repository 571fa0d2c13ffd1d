import assert from 'node:assert/strict';
import { leaseIdentity, leasePlace } from '../../../daemon/allocation/lease-place.ts';
import { type LeaseRecord, recordOf } from '../../../daemon/allocation/lease-record.ts';
import { Candidate } from '../../fakes/candidates.ts';
import { ManualClock, settle } from '../../fakes/clock.ts';
import { MemoryApi } from '../../fakes/memory-api.ts';

const NAME = 'kube-system/kube-router-lballoc';

describe('the election of the allocator', () => {
  let clock: ManualClock;
  let api: MemoryApi;

  beforeEach(() => {
    clock = new ManualClock(1_700_000_000_000);
    api = new MemoryApi(clock);
  });

  function candidates(...names: readonly string[]): readonly Candidate[] {
    return names.map(name => new Candidate(name, clock, api));
  }

  function record(): LeaseRecord {
    return recordOf(api.store.get('Lease', 'kube-system', 'kube-router-lballoc') ?? {});
  }

  function write(spec: object): void {
    const metadata = { namespace: 'kube-system', name: 'kube-router-lballoc', uid: 'u' };
    api.put({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec });
  }

  function leaders(all: readonly Candidate[]): number {
    return all.filter(({ election }) => election.isLeaderNow()).length;
  }

  it('makes one of three the leader, and tells the others who it is', async () => {
    const all = candidates('a', 'b', 'c');
    for (const each of all) each.start();
    await clock.advance(60_000);
    assert.deepEqual(
      all.map(({ told }) => told),
      [['elected'], [`the Lease ${NAME} is held by a`], [`the Lease ${NAME} is held by a`]],
    );
    const { observedAt = 0, ...status } = all[1]?.election.status() ?? {};
    assert.deepEqual(status, { lease: NAME, holder: 'a', since: 1_700_000_000_000 });
    assert.ok(clock.now() - observedAt <= 5000, 'its renewals are seen');
  });

  it('writes the Lease as client-go does', async () => {
    const [a] = candidates('a');
    a?.start();
    await clock.advance(4000);
    assert.deepEqual(record(), {
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      acquireTime: '2023-11-14T22:13:20.000500Z',
      renewTime: '2023-11-14T22:13:24.000500Z',
      leaseTransitions: 0,
    });
    await clock.advance(60_000);
    assert.equal(api.seen.filter(line => line.startsWith('get')).length, 1, 'a renewal is one request');
  });

  it('replaces a leader that is killed once its lease ran out, not before', async () => {
    const all = candidates('a', 'b', 'c');
    for (const each of all) each.start();
    await clock.advance(20_000);
    all[0]?.process.freeze();
    const at = clock.now();
    while (leaders(all.slice(1)) === 0) await clock.advance(100);
    assert.ok(clock.now() - at >= 13_000 && clock.now() - at < 20_000, `${clock.now() - at} ms`);
    assert.equal(leaders(all), 1, 'the dead one does not count');
    const { leaseTransitions, acquireTime, renewTime } = record();
    assert.equal(leaseTransitions, 1);
    assert.ok(acquireTime > '2023-11-14T22:13:40' && acquireTime <= renewTime);
  });

  it('never has two leaders at one time, whoever is frozen and wakes', async () => {
    const all = candidates('a', 'b', 'c');
    for (const each of all) each.start();
    await clock.advance(5000);
    // The periods have no common rhythm, so that they meet in every order.
    for (let step = 0; step < 3000; step++) {
      if (step % 41 === 0) all[(step / 41) % 3]?.process.freeze();
      if (step % 97 === 0) for (const each of all) await each.process.thaw();
      await clock.advance(500);
      assert.ok(leaders(all) <= 1, `step ${step}`);
    }
    for (const each of all) await each.process.thaw();
    await clock.advance(40_000);
    assert.equal(leaders(all), 1);
    assert.ok(
      all.every(({ elections }) => elections > 0),
      'each had its turn, and stood again after it',
    );
  }).timeout(20_000);

  it('lets the next one lead at once when the leader is stopped', async () => {
    const [a, b] = candidates('a', 'b');
    a?.start();
    await clock.advance(1000);
    b?.start();
    await clock.advance(1000);
    await a?.election.stop('release');
    const { holderIdentity, leaseDurationSeconds } = record();
    assert.deepEqual([holderIdentity, leaseDurationSeconds], ['', 1]);
    assert.equal(a?.election.isLeaderNow(), false);
    await clock.advance(4500);
    assert.equal(b?.election.isLeaderNow(), true);
    assert.equal(record().leaseTransitions, 1);
  });

  it('lets the Lease run out where the leader may still write something', async () => {
    const [a] = candidates('a');
    a?.start();
    await clock.advance(1000);
    await a?.election.stop('keep');
    assert.equal(record().holderIdentity, 'a');
  });

  it('gives the Lease back although the last renewal was broken off after it was written', async () => {
    const [a] = candidates('a');
    a?.start();
    await clock.advance(1000);
    api.faultNext('update leases', 'lost');
    await clock.advance(1000);
    await a?.election.stop('release');
    assert.equal(record().holderIdentity, '');
  });

  it('ends by the wall clock as well, for a machine that slept, and is regained by a new election', async () => {
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    await clock.advance(1000);
    a.wallAhead += 8900;
    assert.equal(a.election.isLeaderNow(), true);
    a.wallAhead += 100;
    assert.equal(a.election.isLeaderNow(), false, 'before any timer has told');
    await clock.advance(2000);
    assert.deepEqual(a.told, ['elected', `the Lease ${NAME} was not renewed in time`, 'elected']);
    a.wallAhead -= 3_600_000;
    await clock.advance(60_000);
    assert.equal(a.elections, 2, 'a clock that was set back changes nothing');
  });

  it('counts a renewal from when it was sent', async () => {
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    await clock.advance(1500);
    api.faultNext('update leases', 'held');
    await clock.advance(500);
    await clock.advance(4000);
    api.release();
    await settle();
    api.goDown();
    await clock.advance(5900);
    assert.equal(a.election.isLeaderNow(), true, 'renewed at 2.0 s, answered at 6.0 s, now it is 11.9 s');
    await clock.advance(100);
    assert.equal(a.election.isLeaderNow(), false);
    assert.deepEqual(a.told.slice(0, 2), ['elected', `the Lease ${NAME} was not renewed in time`]);
  });

  it('ends while a renewal hangs', async () => {
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    await clock.advance(1900);
    for (let count = 0; count < 9; count++) {
      api.faultNext('update leases', 'hang');
      api.faultNext('get leases', 'hang');
    }
    await clock.advance(8100);
    assert.deepEqual([a.election.isLeaderNow(), a.told.length], [false, 2]);
  });

  it('is lost when the API server is away, and somebody leads when it is back', async () => {
    const all = candidates('a', 'b');
    for (const each of all) each.start();
    await clock.advance(5000);
    api.goDown();
    await clock.advance(120_000);
    assert.equal(leaders(all), 0);
    const standing = all[1]?.election.standing;
    assert.match(standing?.isElected === false ? standing.reason : '', /cannot be read or written: .*does not answer/);
    assert.equal(all[1]?.told.length, 2, 'which is told once, not with each try');
    api.comeUp();
    await clock.advance(20_000);
    assert.equal(leaders(all), 1);
  });

  it('renews a Lease that was deleted, and nobody takes it before the one that stood in it has run out', async () => {
    const all = candidates('a', 'b');
    for (const each of all) each.start();
    await clock.advance(10_000);
    api.store.delete('Lease', 'kube-system', 'kube-router-lballoc');
    for (let step = 0; step < 100; step++) {
      await clock.advance(200);
      assert.equal(leaders(all), 1);
    }
    assert.deepEqual([record().holderIdentity, all[0]?.elections], ['a', 1]);
    all[0]?.process.freeze();
    api.store.delete('Lease', 'kube-system', 'kube-router-lballoc');
    await clock.advance(9000);
    assert.equal(leaders(all.slice(1)), 0);
    await clock.advance(11_000);
    assert.equal(leaders(all.slice(1)), 1);
  });

  it('waits for a kube-router as long as that renews, and for as long as its record says', async () => {
    const spec = { holderIdentity: 'kube-router-x7k2p', leaseDurationSeconds: 30, leaseTransitions: 4 };
    const renewed = (second: number): object => ({
      ...spec,
      acquireTime: '2023-11-14T20:00:00.000000Z',
      // Its clock is an hour behind, which matters to nobody.
      renewTime: `2023-11-14T21:13:${String(second).padStart(2, '0')}.123456Z`,
    });
    write(renewed(0));
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    for (let second = 2; second < 60; second += 2) {
      await clock.advance(2000);
      write(renewed(second));
    }
    assert.deepEqual(a.told, [`the Lease ${NAME} is held by kube-router-x7k2p`]);
    await clock.advance(29_000);
    assert.equal(a.election.isLeaderNow(), false);
    await clock.advance(6000);
    assert.equal(a.election.isLeaderNow(), true);
    assert.deepEqual([record().leaseTransitions, record().leaseDurationSeconds], [5, 15]);
  });

  it('takes what a kube-router gave back, and yields where one has taken it', async () => {
    write({ holderIdentity: '', leaseDurationSeconds: 1, leaseTransitions: 7 });
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    await clock.advance(100);
    assert.deepEqual([a.election.isLeaderNow(), record().leaseTransitions], [true, 8]);
    write({
      holderIdentity: 'kube-router-1',
      leaseDurationSeconds: 15,
      renewTime: '2023-11-14T22:13:20.000000Z',
      leaseTransitions: 9,
    });
    await clock.advance(2000);
    assert.deepEqual(a.told, ['elected', `the Lease ${NAME} is held by kube-router-1`]);
  });

  it('reads a record of garbage as nobody', async () => {
    write({ holderIdentity: 7, leaseDurationSeconds: 'x', acquireTime: null, leaseTransitions: [] });
    const [a] = candidates('a');
    a?.start();
    await clock.advance(100);
    assert.equal(a?.election.isLeaderNow(), true);
  });

  it('lets only one of two daemons of one name lead, and an earlier run of our own run out', async () => {
    const all = [0.25, 0.75].map(drawn => new Candidate('same', clock, api, { random: () => drawn }));
    for (const each of all) each.start();
    for (let step = 0; step < 200; step++) {
      await clock.advance(300);
      assert.equal(leaders(all), 1, `step ${step}`);
    }
    const whose = 'held by same, which is our own name: by an earlier run, or by another daemon of that name';
    assert.deepEqual(
      all.map(({ told }) => told),
      [['elected'], [`the Lease ${NAME} is ${whose}`]],
    );
  });

  it('names what the role lacks, and is won as soon as it is granted', async () => {
    api.forbidden.add('get leases');
    const [a] = candidates('a');
    assert.ok(a);
    a.start();
    await clock.advance(30_000);
    assert.equal(a.told.length, 1);
    assert.match(
      a.told[0] ?? '',
      /^the Lease kube-system\/kube-router-lballoc cannot be read or written: get leases .*: 403: .*an allocator needs the verbs get, create and update on leases of coordination.k8s.io$/,
    );
    api.forbidden.clear();
    await clock.advance(5000);
    assert.equal(a.election.isLeaderNow(), true);
  });

  it('takes place where kube-router holds it', async () => {
    const read = (path: string): Promise<string> =>
      path === '/var/run/secrets/kubernetes.io/serviceaccount/namespace'
        ? Promise.resolve('network\n')
        : Promise.reject(new Error('ENOENT'));
    const none = (): Promise<string> => Promise.reject(new Error('ENOENT'));
    assert.deepEqual(await leasePlace({ podNamespace: 'own' }, read), { namespace: 'own', name: 'kube-router-lballoc' });
    assert.equal((await leasePlace({ podNamespace: undefined }, read)).namespace, 'network');
    assert.equal((await leasePlace({ podNamespace: undefined }, none)).namespace, 'kube-system');
    assert.equal(leaseIdentity({ podName: 'fairway-abc' }, 'n1'), 'fairway-abc');
    assert.equal(leaseIdentity({ podName: undefined }, 'n1'), 'n1');
  });
});
