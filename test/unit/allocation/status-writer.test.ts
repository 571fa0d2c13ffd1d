/** Statuses of Services, written to an API server in memory that refuses, loses and delays. */
import assert from 'node:assert/strict';
import { ApiStatusPort } from '../../../daemon/allocation/api-status-port.ts';
import { StatusWriter } from '../../../daemon/allocation/status-writer.ts';
import { ApiObjects } from '../../../daemon/cluster/api-objects.ts';
import type { ObjectKey, Service } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';
import type { IpAddress } from '../../../daemon/net/address.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import type { ServiceStatus } from '../../../daemon/reconcile/service-tables.ts';
import { ManualClock, settle } from '../../fakes/clock.ts';
import { MemoryApi } from '../../fakes/memory-api.ts';
import type { ApiObject } from '../../fakes/object-store.ts';

const [A, B, C] = ['192.0.2.1', '192.0.2.2', '192.0.2.3'] as IpAddress[] as [IpAddress, IpAddress, IpAddress];
const WRITE = 'update services/status';

function balancer(name: string, status: object = {}, changes: { readonly uid?: string; readonly type?: string } = {}): ApiObject {
  const { uid = `uid-${name}`, type = 'LoadBalancer' } = changes;
  const metadata = { namespace: 'shop', name, uid, creationTimestamp: '2026-01-02T03:04:05Z' };
  const spec = { type, clusterIP: '10.96.0.10', ports: [{ port: 80 }] };
  return { apiVersion: 'v1', kind: 'Service', metadata, spec, status: { loadBalancer: status } };
}

function entry(name: string, addresses: readonly IpAddress[], found: readonly IpAddress[] = []): ServiceStatus {
  return { namespace: 'shop', name, uid: `uid-${name}`, addresses, found };
}

function create(to: ServiceStatus): Change<ServiceStatus> {
  return { op: 'create', key: `shop/${to.name}`, to };
}

/** As the planner wants it of a Service that still is a load balancer. */
function takeBack(name: string, found: readonly IpAddress[]): Change<ServiceStatus> {
  return { op: 'update', key: `shop/${name}`, from: entry(name, found, found), to: entry(name, [], found) };
}

describe('the writer of the status of Services', () => {
  let clock: ManualClock;
  let api: MemoryApi;
  let writer: StatusWriter;
  let mayWrite: boolean;
  let told: string[];
  let changes: number;
  /** What the watch has shown; `undefined` for all that there is. */
  let shown: ReadonlyMap<ObjectKey, Service> | undefined;

  beforeEach(() => {
    clock = new ManualClock();
    api = new MemoryApi(clock);
    told = [];
    changes = 0;
    mayWrite = true;
    shown = undefined;
    writer = new StatusWriter({
      port: new ApiStatusPort(new ApiObjects({ transport: api, clock })),
      mayWrite: () => mayWrite,
      services: () => shown ?? services(),
      clock,
      backoff: { delay: failures => 500 * 2 ** (failures - 1) },
      observer: {
        written: ({ name, addresses }) => told.push(`written ${name} ${addresses.join(' ')}`),
        failed: ({ name }, { code }) => told.push(`failed ${name} ${code}`),
      },
      onChange: () => changes++,
    });
    writer.open();
  });

  function services(): ReadonlyMap<ObjectKey, Service> {
    const projector = new Projector();
    const all = api.store.list('services').map(({ json }) => projector.project('Service', JSON.parse(json)));
    return new Map(all.flatMap(({ key, object }) => (object?.kind === 'Service' ? [[key, object] as const] : [])));
  }

  function ingress(name: string): unknown {
    const status = api.store.get('Service', 'shop', name)?.['status'] as { loadBalancer?: { ingress?: unknown } } | undefined;
    return status?.loadBalancer?.ingress;
  }

  async function apply(...all: readonly Change<ServiceStatus>[]): Promise<void> {
    assert.equal((await writer.apply(all)).failed.size, 0);
    await settle();
  }

  function requests(match: string): number {
    return api.seen.filter(line => line.startsWith(match)).length;
  }

  function handed(name: string): object | undefined {
    return writer.handedOver().get(`shop/${name}`);
  }

  it('hands over, writes, and forgets what the Service shows', async () => {
    api.put(balancer('web'));
    shown = services();
    const before = writer.handedOver();
    const applied = writer.apply([create(entry('web', [A, B]))]);
    assert.deepEqual(handed('web'), { uid: 'uid-web', addresses: [A, B], inPlaceOf: [], version: undefined, trouble: undefined });
    await applied;
    await settle();
    assert.deepEqual(ingress('web'), [{ ip: A }, { ip: B }]);
    assert.match(JSON.stringify(api.store.get('Service', 'shop', 'web')?.metadata), /"manager":"fairway"/);
    assert.deepEqual(handed('web'), { uid: 'uid-web', addresses: [A, B], version: '1002', trouble: undefined });
    writer.seen(shown);
    assert.equal(writer.handedOver().size, 1, 'an older view of the Service says nothing');
    writer.seen(services());
    assert.equal(writer.handedOver().size, 0);
    assert.notEqual(writer.handedOver(), before);
    assert.equal(writer.handedOver(), writer.handedOver());
    assert.deepEqual([told, changes], [['written web 192.0.2.1 192.0.2.2'], 0]);
  });

  it('names what the Service may have until another order is known to be written: what was handed over before, seen or not', async () => {
    api.put(balancer('web'));
    shown = services();
    await apply(create(entry('web', [A])));
    writer.seen(shown);
    const applied = writer.apply([{ op: 'update', key: 'shop/web', from: entry('web', [A]), to: entry('web', [B]) }]);
    assert.deepEqual(handed('web'), { uid: 'uid-web', addresses: [B], inPlaceOf: [A], version: undefined, trouble: undefined });
    await applied;
    await settle();
    assert.deepEqual([ingress('web'), 'inPlaceOf' in (handed('web') ?? {})], [[{ ip: B }], false]);
  });

  it('asks nobody where the Service shows it already', async () => {
    api.put(balancer('web', { ingress: [{ ip: A }] }));
    await apply(create(entry('web', [A], [A])));
    assert.deepEqual([api.seen, writer.handedOver().size], [[], 0]);
  });

  it('leaves entries of others, host names and what stands in ours, and puts ours in order', async () => {
    const others = [{ hostname: 'lb.example' }];
    api.put(balancer('web', { ingress: [...others, { ip: B, ipMode: 'Proxy' }, { ip: C }] }));
    await apply(create(entry('web', [A, B], [B, C])));
    assert.deepEqual(ingress('web'), [{ ip: A }, { ip: B, ipMode: 'Proxy' }, ...others]);
    await apply(takeBack('web', [A, B]));
    assert.deepEqual(ingress('web'), others);
  });

  it('gives no address to a Service that another controller served first, and takes none of its', async () => {
    const theirs = [{ ip: '203.0.113.9', ports: [{ port: 80, protocol: 'TCP' }] }];
    api.put(balancer('web'));
    shown = services();
    api.put(balancer('web', { ingress: theirs }));
    await apply(create(entry('web', [A])));
    assert.deepEqual([ingress('web'), told], [theirs, []]);
    writer.seen(services());
    assert.equal(writer.handedOver().size, 0);
    api.put(balancer('web', { ingress: [...theirs, { ip: A }] }));
    shown = undefined;
    await apply(takeBack('web', [A]));
    assert.deepEqual(ingress('web'), theirs);
  });

  it('survives that others write the Service again and again, and puts it off where that does not end', async () => {
    api.put(balancer('web'));
    for (let count = 0; count < 4; count++) api.faultNext(WRITE, { status: 409, message: 'modified' });
    await apply(create(entry('web', [A])));
    assert.deepEqual([ingress('web'), requests('get services'), changes], [[{ ip: A }], 5, 0]);
    api.put(balancer('db'));
    for (let count = 0; count < 5; count++) api.faultNext(WRITE, { status: 409, message: 'modified' });
    await apply(create(entry('db', [B])));
    assert.match(JSON.stringify(handed('db')), /409 modified/);
    await clock.advance(500);
    assert.deepEqual(ingress('db'), [{ ip: B }]);
    assert.equal(changes, 2, 'told, and told to be over');
  });

  it('says what the role lacks, and goes on trying ever more slowly', async () => {
    api.put(balancer('web'));
    api.forbidden.add(WRITE);
    await apply(create(entry('web', [A])));
    assert.match(
      JSON.stringify(handed('web')),
      /update services\/status shop\/web: 403: .*add to its ClusterRole the rule apiGroups: \[.{4}\], resources: \[.{2}services\/status.{2}\], verbs: \[.{2}update/,
    );
    await clock.advance(16_000);
    assert.deepEqual([requests(WRITE), changes], [6, 1]);
    api.forbidden.clear();
    await clock.advance(16_000);
    assert.deepEqual(ingress('web'), [{ ip: A }]);
    assert.deepEqual(handed('web'), { uid: 'uid-web', addresses: [A], version: '1002', trouble: undefined });
  });

  it('asks ten times a second at most for a right that it lacks, and for all at once when it is given', async () => {
    const names = Array.from({ length: 1000 }, (_, index) => `s${index}`);
    api.put(...names.map(name => balancer(name)));
    api.forbidden.add(WRITE);
    await apply(...names.map(name => create(entry(name, [A]))));
    await clock.advance(1000);
    assert.ok(requests(WRITE) >= 1000 && requests(WRITE) <= 1010, 'each was tried');
    await clock.advance(60_000);
    assert.ok(requests(WRITE) <= 1610, `${requests(WRITE)} requests`);
    api.forbidden.clear();
    await clock.advance(1000);
    assert.equal(told.filter(line => line.startsWith('written')).length, 1000);
    assert.equal(writer.pending, 0);
  });

  it('does not know whether it was written where the answer was lost, and finds out by reading', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'lost');
    await apply(create(entry('web', [A])));
    assert.deepEqual(ingress('web'), [{ ip: A }]);
    const { version, trouble } = handed('web') as { version: unknown; trouble: unknown };
    assert.deepEqual([version, typeof trouble], [undefined, 'string']);
    await clock.advance(1000);
    assert.deepEqual(handed('web'), { uid: 'uid-web', addresses: [A], version: '1002', trouble: undefined });
    assert.equal(requests(WRITE), 1);
  });

  it('gives up a request that hangs, and lets nothing of it come later than 3 s after it was sent', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'held');
    await apply(create(entry('web', [A])));
    await clock.advance(2900);
    assert.equal(writer.pending, 1);
    await clock.advance(200);
    assert.match(JSON.stringify(handed('web')), /did not answer within 3 s/);
    await clock.advance(1000);
    assert.deepEqual(ingress('web'), [{ ip: A }]);
    const version = api.store.revision;
    api.release();
    await settle();
    assert.equal(api.store.revision, version, 'what comes late meets a newer version');
  });

  it('leaves everything alone as long as the server asks', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l']) api.put(balancer(name));
    api.faultNext('get services', { status: 429, message: 'busy', retryAfter: '7' });
    await apply(...['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'].map(name => create(entry(name, [A]))));
    const count = api.seen.length;
    await clock.advance(6900);
    assert.equal(api.seen.length, count);
    await clock.advance(200);
    assert.equal(told.filter(line => line.startsWith('written')).length, 12);
  });

  it('is not asked ten thousand times of a server that is away', async () => {
    const names = Array.from({ length: 1000 }, (_, index) => `s${index}`);
    api.put(...names.map(name => balancer(name)));
    api.goDown();
    await apply(...names.map(name => create(entry(name, [A]))));
    await clock.advance(30_000);
    assert.ok(api.requests.length <= 100, `${api.requests.length} requests`);
    api.comeUp();
    await clock.advance(70_000);
    assert.equal(told.filter(line => line.startsWith('written')).length, 1000);
  });

  it('writes eight at a time', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `s${index}`);
    api.put(...names.map(name => balancer(name)));
    for (const _ of names) api.faultNext('get services', 'held');
    await apply(...names.map(name => create(entry(name, [A]))));
    assert.equal(requests('get services'), 8);
    api.release();
    await settle();
    assert.equal(requests('get services'), 16);
  });

  it('writes the newest of several orders for one Service, one at a time', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'held');
    await apply(create(entry('web', [A])));
    await apply({ op: 'update', key: 'shop/web', from: entry('web', [A]), to: entry('web', [B], [A]) });
    await apply({ op: 'update', key: 'shop/web', from: entry('web', [B]), to: entry('web', [C], [B]) });
    assert.equal(requests(WRITE), 1);
    api.release();
    await settle();
    assert.deepEqual(ingress('web'), [{ ip: C }], 'what the first one wrote is taken away again');
    assert.deepEqual(told, ['written web 192.0.2.1', 'written web 192.0.2.3']);
    assert.equal(requests(WRITE), 2);
  });

  it('writes nothing into another Service of the same name, nor into one that is gone', async () => {
    api.put(balancer('web'), balancer('db'));
    shown = services();
    api.put(balancer('web', {}, { uid: 'another' }));
    api.store.delete('Service', 'shop', 'db');
    await apply(create(entry('web', [A])), create(entry('db', [B])));
    assert.deepEqual([ingress('web'), requests(WRITE), writer.pending], [undefined, 0, 0]);
    assert.equal(writer.handedOver().size, 2, 'until the watch says so');
    writer.seen(services());
    assert.equal(writer.handedOver().size, 0);
  });

  it('writes no address to a Service that stopped being a load balancer meanwhile', async () => {
    api.put(balancer('web'));
    shown = services();
    api.put(balancer('web', {}, { type: 'ClusterIP' }));
    await apply(create(entry('web', [A])));
    assert.equal(requests(WRITE), 0);
    writer.seen(services());
    assert.equal(writer.handedOver().size, 0);
  });

  it('puts right what was edited by hand once it is told of it', async () => {
    api.put(balancer('web', { ingress: [{ ip: A }] }));
    await apply(create(entry('web', [A], [A])));
    api.put(balancer('web'));
    await apply({ op: 'update', key: 'shop/web', from: entry('web', [A], [A]), to: entry('web', [A], []) });
    assert.deepEqual(ingress('web'), [{ ip: A }]);
  });

  it('writes nothing while it may not, and goes on when it may', async () => {
    api.put(balancer('web'));
    mayWrite = false;
    await apply(create(entry('web', [A])));
    assert.deepEqual([ingress('web'), told, changes], [undefined, [], 0]);
    mayWrite = true;
    await clock.advance(600);
    assert.deepEqual(ingress('web'), [{ ip: A }]);
  });

  it('asks once more whether it may after the Service was read', async () => {
    api.put(balancer('web'));
    api.faultNext('get services', 'held');
    await apply(create(entry('web', [A])));
    mayWrite = false;
    api.release();
    await settle();
    assert.deepEqual([ingress('web'), requests(WRITE)], [undefined, 0]);
  });

  it('forgets its queue where somebody else writes from now on, and keeps what may still land', async () => {
    const names = ['held', 'lost', ...Array.from({ length: 12 }, (_, index) => `s${index}`)];
    api.put(...names.map(name => balancer(name)));
    shown = services();
    api.faultNext(WRITE, 'held');
    await apply(create(entry('held', [A])));
    api.faultNext(WRITE, 'lost');
    await apply(create(entry('lost', [B])));
    await apply(...names.slice(2).map(name => create(entry(name, [C]))));
    writer.close();
    assert.deepEqual([...writer.handedOver().keys()].sort(), ['shop/held', 'shop/lost']);
    const count = api.seen.length;
    api.release();
    await clock.advance(120_000);
    assert.equal(api.seen.length, count);
    assert.deepEqual([ingress('held'), ingress('s0')], [[{ ip: A }], undefined]);
    await apply(create(entry('s0', [C])));
    assert.equal(ingress('s0'), undefined, 'a follower writes nothing');
    writer.open();
    assert.equal(writer.handedOver().size, 0);
  });

  it('finds what an earlier run or kube-router wrote to what is no load balancer any more, and nothing of others', async () => {
    const by = (manager: string, name: string, type: string): ApiObject => {
      const fieldsV1 = { 'f:status': { 'f:loadBalancer': { 'f:ingress': {} } } };
      const time = '2026-01-02T03:04:05Z';
      const managedFields = [{ manager, operation: 'Update', apiVersion: 'v1', time, fieldsType: 'FieldsV1', fieldsV1 }];
      const object = balancer(name, { ingress: [{ ip: A }] }, { type });
      return { ...object, metadata: { ...object.metadata, managedFields } as ApiObject['metadata'] & object };
    };
    api.put(
      by('fairway', 'ours', 'ClusterIP'),
      by('kube-router', 'former', 'NodePort'),
      by('metallb', 'theirs', 'ClusterIP'),
      by('fairway', 'of-another-class', 'LoadBalancer'),
    );
    api.put(balancer('pending'));
    const found = await writer.read(new Map());
    assert.deepEqual([...found.keys()].sort(), ['shop/former', 'shop/ours']);
    const from = found.get('shop/ours');
    assert.ok(from);
    await apply({ op: 'delete', key: 'shop/ours', from });
    assert.equal((ingress('ours') as unknown[]).length, 0);
  });

  it('finds the very entries that are wanted, also while they are on their way', async () => {
    api.put(
      balancer('web', { ingress: [{ ip: '203.0.113.9' }, { ip: A }] }),
      balancer('new'),
      balancer('moved', { ingress: [{ ip: B }] }),
    );
    const wanted = new Map(
      [entry('web', [A], [A]), entry('new', [C]), entry('moved', [C], [B])].map(each => [`shop/${each.name}`, each]),
    );
    shown = services();
    const [web, fresh] = [wanted.get('shop/web'), wanted.get('shop/new')];
    assert.ok(web && fresh);
    await apply(create(fresh));
    const found = await writer.read(wanted);
    assert.equal(found.get('shop/web'), web);
    assert.equal(found.get('shop/new'), fresh);
    assert.deepEqual(found.get('shop/moved'), entry('moved', [B], [B]));
  });

  it('takes back what is wanted to be nothing, and finds it as wanted then', async () => {
    api.put(balancer('web', { ingress: [{ ip: A }] }));
    const nothing = entry('web', [], [A]);
    await apply(create(nothing));
    assert.deepEqual(ingress('web'), []);
    writer.seen(services());
    assert.equal((await writer.read(new Map([['shop/web', nothing]]))).get('shop/web'), nothing);
  });

  it('says in a plan what it would write', () => {
    const text = writer.render([create(entry('web', [A, B])), { op: 'delete', key: 'shop/db', from: entry('db', [C], [C]) }]);
    assert.deepEqual(text.split('\n'), [
      'service shop/web loadBalancer 192.0.2.1 192.0.2.2 in place of none',
      'service shop/db loadBalancer none in place of 192.0.2.3',
      '',
    ]);
  });

  it('stops when what is under way has ended, and says whether something may still land', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'held');
    await apply(create(entry('web', [A])));
    const stopped = writer.stop(3000);
    await settle();
    api.release();
    assert.equal(await stopped, 'settled');
    writer.open();
    api.faultNext(WRITE, 'held');
    await apply(takeBack('web', [A]));
    const cut = writer.stop(1000);
    await clock.advance(1000);
    assert.equal(await cut, 'unsettled');
  });

  it('stops settled where a writing whose answer was lost has turned out to have landed', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'lost');
    await apply(create(entry('web', [A])));
    await clock.advance(1000);
    assert.deepEqual(ingress('web'), [{ ip: A }]);
    assert.equal(await writer.stop(3000), 'settled');
  });

  it('stops unsettled as long as the Service is of the version that a lost writing was sent for', async () => {
    api.put(balancer('web'));
    api.faultNext(WRITE, 'held');
    await apply(create(entry('web', [A])));
    await clock.advance(3000);
    // Nothing is to be written any more, and nothing stands there yet.
    await apply({ op: 'delete', key: 'shop/web', from: entry('web', [A], [A]) });
    await clock.advance(1000);
    assert.deepEqual([ingress('web'), requests(WRITE), writer.pending], [undefined, 1, 0]);
    assert.equal(await writer.stop(3000), 'unsettled');
  });
});
