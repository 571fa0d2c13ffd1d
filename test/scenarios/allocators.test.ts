/** Several allocators of load-balancer addresses on one API server: whoever sleeps, dies, wakes or is cut off, no address is ever at two Services. */
import assert from 'node:assert/strict';
import { balancer, SleepyAllocator } from '../fakes/allocators.ts';
import { ManualClock } from '../fakes/clock.ts';
import { MemoryApi } from '../fakes/memory-api.ts';

const WRITE = 'update services/status';

describe('allocators of load-balancer addresses', () => {
  let clock: ManualClock;
  let api: MemoryApi;
  let nodes: readonly SleepyAllocator[];
  /** What stood at two Services at any time. */
  let twice: string[];

  async function start(...names: readonly string[]): Promise<void> {
    clock = new ManualClock(1_700_000_000_000);
    api = new MemoryApi(clock);
    twice = [];
    api.store.onChange(resource => {
      if (resource !== 'services') return;
      const all = [...addresses().values()];
      twice.push(...all.filter((address, index) => all.indexOf(address) !== index));
    });
    nodes = names.map(name => new SleepyAllocator(name, clock, api, '192.0.2.0/24'));
    for (const node of nodes) {
      node.start();
      await clock.advance(100);
    }
    await clock.advance(3000);
  }

  /** By the name of the Service. */
  function addresses(): ReadonlyMap<string, string> {
    return new Map(
      api.store.list('services').flatMap(({ json }) => {
        const { metadata, status } = JSON.parse(json) as Stored;
        return (status.loadBalancer.ingress ?? []).map(({ ip }) => [metadata.name, ip] as const);
      }),
    );
  }

  function leaders(): readonly string[] {
    return nodes.filter(({ office }) => office.state().leadership.isLeader).map(({ office }) => office.status().holder);
  }

  function at(index: number): SleepyAllocator {
    const node = nodes[index];
    assert.ok(node);
    return node;
  }

  const NAMES = Array.from({ length: 30 }, (_, index) => `s${String(index).padStart(2, '0')}`);

  it('give each Service an address of its own, and one of them does', async () => {
    await start('a', 'b', 'c');
    api.put(...NAMES.map(name => balancer(name)));
    await clock.advance(5000);
    assert.deepEqual([addresses().size, new Set(addresses().values()).size, leaders()], [30, 30, ['a']]);
    const { leadership } = at(1).office.state();
    assert.deepEqual(leadership, { isLeader: false, reason: 'the Lease kube-system/kube-router-lballoc is held by a' });
    assert.equal(at(0).office.state().handedOver.size, 0);
    const states = nodes.map(({ office }) => office.state());
    const writes = api.seen.filter(line => line.startsWith(WRITE)).length;
    await clock.advance(60_000);
    assert.ok(
      nodes.every(({ office }, index) => office.state() === states[index]),
      'nothing of it changes with time',
    );
    assert.equal(api.seen.filter(line => line.startsWith(WRITE)).length, writes);
    assert.equal(writes, 30);
  });

  it('stand for election when they know the Services, so that nobody waits for one that does not', async () => {
    await start();
    nodes = ['a', 'b'].map(name => new SleepyAllocator(name, clock, api, '192.0.2.0/24'));
    at(0).candidate.process.deafUntil = clock.now() + 120_000;
    for (const node of nodes) {
      node.start();
      await clock.advance(3000);
    }
    api.put(balancer('web'));
    await clock.advance(3000);
    assert.deepEqual([leaders(), [...addresses()]], [['b'], [['web', '192.0.2.1']]]);
  });

  it('go on at once where the leader is stopped, and no Service moves', async () => {
    await start('a', 'b');
    api.put(...NAMES.map(name => balancer(name)));
    await clock.advance(5000);
    const before = addresses();
    const revision = api.store.get('Service', 'shop', 's00')?.metadata;
    await at(0).stop();
    await clock.advance(5000);
    assert.deepEqual([leaders(), addresses()], [['b'], before]);
    assert.deepEqual(api.store.get('Service', 'shop', 's00')?.metadata, revision, 'nothing was written again');
  });

  it('tell one line for each Service, and no deletions where another one leads from now on', async () => {
    await start('a', 'b');
    api.put(balancer('web'));
    await clock.advance(2000);
    at(0).freeze();
    await clock.advance(40_000);
    await at(0).thaw();
    await clock.advance(5000);
    assert.deepEqual(leaders(), ['b']);
    assert.deepEqual(at(0).log.matching(/serviceStatus/), []);
  });

  it('take back what a former leader gave to a Service that is no load balancer any more', async () => {
    await start('a', 'b');
    api.put(balancer('web'));
    await clock.advance(2000);
    const web = api.store.get('Service', 'shop', 'web');
    assert.ok(web);
    await at(0).stop();
    // As an API server before 1.22 left it.
    api.put({ ...web, spec: { ...(web['spec'] as object), type: 'ClusterIP' } });
    await clock.advance(5000);
    assert.deepEqual([leaders(), addresses().size], [['b'], 0]);
  });

  it('leave what they gave to a Service that is another controller’s from now on, and do not give it to others', async () => {
    await start('a', 'b');
    api.put(balancer('web'));
    await clock.advance(2000);
    const web = api.store.get('Service', 'shop', 'web');
    assert.ok(web);
    api.put({ ...web, spec: { ...(web['spec'] as object), loadBalancerClass: 'example.com/lb' } });
    await clock.advance(2000);
    await at(0).stop();
    await clock.advance(5000);
    api.put(balancer('later'));
    await clock.advance(2000);
    assert.deepEqual(
      [leaders(), [...addresses()]],
      [
        ['b'],
        [
          ['later', '192.0.2.2'],
          ['web', '192.0.2.1'],
        ],
      ],
    );
  });

  it('do not give away what is being written, however long that takes', async () => {
    await start('a');
    api.faultNext(WRITE, 'held');
    api.put(balancer('web'));
    await clock.advance(1000);
    api.put(balancer('a-first'), balancer('z-asks', '192.0.2.1'));
    await clock.advance(1000);
    assert.deepEqual([...addresses()], [['a-first', '192.0.2.2']]);
    api.release();
    await clock.advance(5000);
    assert.deepEqual([twice, addresses().get('web')], [[], '192.0.2.1']);
  });

  it('write again at once what somebody emptied in the very moment in which it was written', async () => {
    await start('a');
    const stop = api.store.onChange(() => {
      const web = api.store.get('Service', 'shop', 'web');
      if (web === undefined || addresses().size === 0) return;
      stop();
      // As an API server does where the type goes to ClusterIP and back.
      api.put({ ...web, status: { loadBalancer: {} } });
    });
    api.put(balancer('web'));
    await clock.advance(2000);
    assert.deepEqual([...addresses()], [['web', '192.0.2.1']]);
  });

  it('put right at once what somebody emptied before it was heard that it was written', async () => {
    await start('a');
    api.faultNext(WRITE, 'held');
    api.put(balancer('web'));
    await clock.advance(1000);
    at(0).candidate.process.deafUntil = clock.now() + 5000;
    api.release();
    await clock.advance(1000);
    assert.equal(addresses().get('web'), '192.0.2.1');
    const written = api.store.get('Service', 'shop', 'web');
    assert.ok(written);
    api.put({ ...written, status: { loadBalancer: {} } });
    await clock.advance(6000);
    assert.equal(addresses().get('web'), '192.0.2.1');
  });

  it('know what the former leader wrote last, however late they hear of it otherwise', async () => {
    await start('a', 'b');
    at(1).candidate.process.deafUntil = clock.now() + 40_000;
    api.put(...NAMES.map(name => balancer(name)));
    await clock.advance(3000);
    assert.deepEqual([leaders(), addresses().size], [['a'], 30]);
    at(0).freeze();
    api.put(balancer('a-first'));
    await clock.advance(30_000);
    const { leadership: early } = at(1).office.state();
    assert.deepEqual(early, { isLeader: false, reason: 'elected; all Services are read anew before addresses are handed out' });
    await clock.advance(30_000);
    const { leadership } = at(1).office.state();
    assert.deepEqual([leadership, addresses().size, twice], [{ isLeader: true }, 31, []]);
  });

  for (const landed of ['before the other one leads', 'after the other one has written', 'never'] as const) {
    it(`never give one address twice when the leader sleeps with requests under way that arrive ${landed}`, async () => {
      await start('a', 'b');
      for (let count = 0; count < 4; count++) {
        api.faultNext(WRITE, 'held');
        api.faultNext('get services', 'held');
      }
      api.put(...NAMES.map(name => balancer(name)));
      await clock.advance(500);
      const a = at(0);
      a.freeze();
      assert.ok(a.office.status().pending > 10, 'it has a queue');
      // Those who come meanwhile want what the sleeper believes to have given away.
      await clock.advance(1000);
      api.put(balancer('a-first'), balancer('z-asks', '192.0.2.2'), balancer('z-too', '192.0.2.20'));
      if (landed === 'before the other one leads') api.release();
      await clock.advance(25_000);
      assert.deepEqual(leaders().slice(-1), ['b']);
      assert.equal(at(1).office.state().leadership.isLeader, true);
      if (landed === 'after the other one has written') api.release();
      await clock.advance(5000);
      const given = addresses();
      const writes = api.store.revision;
      const count = api.seen.length;
      await a.thaw();
      assert.equal(a.candidate.election.isLeaderNow(), false);
      assert.deepEqual(
        api.seen.slice(count).filter(line => line.startsWith(WRITE)),
        [],
        'who wakes writes nothing more',
      );
      await clock.advance(30_000);
      assert.deepEqual(leaders(), ['b']);
      assert.equal(a.office.state().leadership.isLeader, false);
      assert.deepEqual([twice, addresses()], [[], given]);
      assert.ok(given.size >= 31, `${given.size} of 33 have one: two may ask for what is taken`);
      assert.ok(api.store.revision - writes < 60, 'but for the Lease nothing is written');
    });
  }

  it('never give one address twice, whoever is frozen, cut off, woken or stopped at any time', async () => {
    await start('a', 'b', 'c');
    let seed = 7;
    const draw = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    for (let step = 0; step < 1200; step++) {
      const node = at(draw(3));
      const name = `s${draw(12)}`;
      switch (draw(9)) {
        case 0:
          node.freeze();
          break;
        case 1:
        case 2:
          await node.thaw();
          break;
        case 3:
          api.store.delete('Service', 'shop', name);
          break;
        case 4:
        case 5:
          if (api.store.get('Service', 'shop', name) === undefined) {
            const service = balancer(name, draw(3) === 0 ? `192.0.2.${1 + draw(12)}` : '');
            api.put({ ...service, metadata: { ...service.metadata, uid: `uid-${step}` } as object });
          }
          break;
        case 6:
          api.faultNext(WRITE, 'held');
          break;
        case 7:
          api.faultNext(WRITE, draw(2) === 0 ? 'lost' : { status: 409 });
          break;
        default:
          api.goDown();
      }
      await clock.advance(draw(4000));
      api.release();
      if (!api.isUp && draw(3) === 0) api.comeUp();
    }
    assert.deepEqual(twice, []);
    if (!api.isUp) api.comeUp();
    for (const node of nodes) await node.thaw();
    await clock.advance(120_000);
    assert.equal(leaders().length, 1);
    const names = api.store.list('services').length;
    assert.ok(names > 0 && addresses().size >= names - 2, `${addresses().size} of ${names}`);
    assert.deepEqual(twice, []);
  }).timeout(60_000);
});

interface Stored {
  readonly metadata: { readonly name: string };
  readonly status: { readonly loadBalancer: { readonly ingress?: readonly { readonly ip: string }[] } };
}
