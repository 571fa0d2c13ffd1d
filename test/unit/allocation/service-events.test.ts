import assert from 'node:assert/strict';
import { EVENT_REASONS } from '../../../daemon/allocation/event-object.ts';
import { ServiceEvents } from '../../../daemon/allocation/service-events.ts';
import type { StatusOrder } from '../../../daemon/allocation/status-port.ts';
import { ApiObjects } from '../../../daemon/cluster/api-objects.ts';
import { keyOf, type Service } from '../../../daemon/cluster/kinds.ts';
import type { IpAddress } from '../../../daemon/net/address.ts';
import { DIAGNOSTIC_CODES, type Diagnostic, type DiagnosticCode } from '../../../daemon/reconcile/fragment.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { LogLines } from '../../fakes/daemon.ts';
import { MemoryApi } from '../../fakes/memory-api.ts';
import { service } from '../../fixtures/cluster.ts';

describe('Events on Services', () => {
  let clock: ManualClock;
  let api: MemoryApi;
  let log: LogLines;
  let isLeader: boolean;
  let events: ServiceEvents;
  let services: ReadonlyMap<string, Service>;

  beforeEach(() => {
    clock = new ManualClock(1_700_000_000_000);
    api = new MemoryApi(clock);
    log = new LogLines();
    isLeader = true;
    const web = service('web');
    services = new Map([[keyOf(web.meta), web]]);
    events = new ServiceEvents({
      objects: new ApiObjects({ transport: api, clock }),
      host: 'node-1',
      isLeader: () => isLeader,
      clock,
      wallNow: () => clock.now(),
      log,
    });
  });

  function diagnostic(message: string, code: DiagnosticCode = 'FW_LB_EXHAUSTED', kind = 'Service'): Diagnostic {
    return { code, object: { kind, key: [...services.keys()][0] ?? '', since: 0 }, message };
  }

  function order(addresses: readonly string[], found: readonly string[]): StatusOrder {
    const [[key, { meta }] = ['', service('none')]] = services;
    const { namespace, name, uid } = meta;
    return { key, namespace, name, uid, addresses: addresses as IpAddress[], found: found as IpAddress[] };
  }

  function written(): readonly Record<string, unknown>[] {
    return api.store.list('events').map(({ json }) => JSON.parse(json) as Record<string, unknown>);
  }

  it('say why there is no address, once, as kubectl describe shows it', async () => {
    for (let round = 0; round < 5; round++) {
      events.diagnosed([diagnostic('nothing is free'), diagnostic('a pool', 'FW_LB_POOL', 'ConfigMap')], services);
      await clock.advance(1000);
    }
    const [event, ...others] = written();
    const { metadata, involvedObject, ...rest } = event ?? {};
    const [meta] = [...services.values()].map(({ meta: { namespace, name, uid } }) => ({ namespace, name, uid }));
    assert.deepEqual(involvedObject, { apiVersion: 'v1', kind: 'Service', ...meta });
    assert.match((metadata as { name: string }).name, /^web\.[0-9a-f]{16}$/);
    assert.deepEqual(rest, {
      apiVersion: 'v1',
      kind: 'Event',
      type: 'Warning',
      reason: 'AddressPoolExhausted',
      message: 'nothing is free',
      source: { component: 'fairway', host: 'node-1' },
      reportingComponent: 'fairway',
      reportingInstance: 'node-1',
      firstTimestamp: '2023-11-14T22:13:20Z',
      lastTimestamp: '2023-11-14T22:13:20Z',
      count: 1,
    });
    assert.equal(others.length, 0);
  });

  it('say it again when it says something else, and count when the same comes again', async () => {
    for (const messages of [['a'], ['b'], [], ['b'], ['b'], []]) {
      events.diagnosed(
        messages.map(message => diagnostic(message)),
        services,
      );
      await clock.advance(1000);
    }
    const seen = written().map(({ message, count, firstTimestamp, lastTimestamp }) => [
      message,
      count,
      firstTimestamp === lastTimestamp,
    ]);
    assert.deepEqual(seen, [
      ['a', 1, true],
      ['b', 2, false],
    ]);
  });

  it('of one kind are told once each, also where one Service has two of them', async () => {
    for (let round = 0; round < 5; round++) {
      events.diagnosed([diagnostic('an address', 'FW_LB_STATUS'), diagnostic('a host name', 'FW_LB_STATUS')], services);
      await clock.advance(1000);
    }
    assert.deepEqual(
      written().map(({ message, count }) => [message, count]),
      [
        ['an address', 1],
        ['a host name', 1],
      ],
    );
  });

  it('are written anew when the server has forgotten them', async () => {
    for (let round = 0; round < 2; round++) {
      events.diagnosed([diagnostic('a')], services);
      await clock.advance(1000);
      for (const { metadata } of written()) api.delete({ kind: 'Event', metadata: metadata as object });
      events.diagnosed([], services);
    }
    assert.deepEqual(
      api.seen.map(line => line.replace(/\.[0-9a-f]+$/, '')),
      ['create events default/', 'patch events default/web', 'create events default/'],
    );
  });

  it('say which address was given and which was taken back', async () => {
    events.written(order(['192.0.2.1', 'fd00::1'], []));
    events.written(order(['192.0.2.2', 'fd00::1'], ['192.0.2.1', 'fd00::1']));
    events.written(order([], ['192.0.2.2', 'fd00::1']));
    await clock.advance(1000);
    assert.deepEqual(
      written().map(({ type, reason, message }) => `${String(type)} ${String(reason)} ${String(message)}`),
      [
        'Normal AddressAllocated Allocated 192.0.2.1, fd00::1',
        'Normal AddressAllocated Allocated 192.0.2.2',
        'Normal AddressReleased Took back 192.0.2.1',
        'Normal AddressReleased Took back 192.0.2.2, fd00::1',
      ],
    );
  });

  it('are the leader’s alone; the next one tells what still is so', async () => {
    isLeader = false;
    events.diagnosed([diagnostic('a')], services);
    await clock.advance(1000);
    assert.equal(written().length, 0);
    isLeader = true;
    events.diagnosed([diagnostic('a')], services);
    await clock.advance(1000);
    assert.equal(written().length, 1);
  });

  it('are given up for an hour where the role lacks the right, which is told once', async () => {
    api.forbidden.add('create events');
    for (let minute = 0; minute < 150; minute++) {
      events.diagnosed([diagnostic(`minute ${minute}`)], services);
      await clock.advance(60_000);
    }
    assert.equal(api.seen.length, 3);
    const lines = log.lines.filter(line => line.includes('no Events on Services'));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /apiGroups: \[""\], resources: \["events"\], verbs: \["create"\]/);
    api.forbidden.clear();
    await clock.advance(3_600_000);
    events.diagnosed([diagnostic('at last')], services);
    await clock.advance(1000);
    assert.equal(written().length, 1);
  });

  it('are not given up for the others where one namespace is going', async () => {
    const message = 'unable to create new content in namespace shop because it is being terminated';
    api.faultNext('create events', { status: 403, message });
    events.written(order(['192.0.2.1'], []));
    events.written(order(['192.0.2.2'], []));
    await clock.advance(1000);
    assert.deepEqual([written().length, log.lines], [1, []]);
  });

  it('are tried again where the server does not answer, and dropped where it goes on like that', async () => {
    api.faultNext('create events', { status: 500 });
    events.written(order(['192.0.2.1'], []));
    await clock.advance(11_000);
    assert.equal(written().length, 1);
    api.goDown();
    events.written(order(['192.0.2.2'], []));
    events.written(order(['192.0.2.3'], []));
    await clock.advance(120_000);
    assert.deepEqual([events.dropped, log.lines.length], [2, 1]);
  });

  it('are at most ten a second, and no more than a thousand wait', async () => {
    for (let count = 0; count < 5000; count++) events.written(order([`192.0.2.${count}`], []));
    await clock.advance(1000);
    assert.ok(written().length <= 11, `${written().length}`);
    assert.ok(events.dropped >= 3990, `${events.dropped}`);
    assert.equal(log.lines.length, 1);
    events.stop();
    const count = api.seen.length;
    await clock.advance(10_000);
    assert.equal(api.seen.length, count);
  });

  it('say what is wrong first, whatever else is waiting to be told', async () => {
    for (let count = 0; count < 2000; count++) events.written(order([`10.0.${count >> 8}.${count & 255}`], []));
    events.diagnosed([diagnostic('nothing is free')], services);
    await clock.advance(1000);
    assert.ok(written().some(({ message }) => message === 'nothing is free'));
    assert.equal(events.dropped, 1000);
  });

  it('have a reason for each diagnostic that is about a Service', () => {
    const codes = Object.keys(DIAGNOSTIC_CODES).filter(code => code.startsWith('FW_LB_') && code !== 'FW_LB_POOL');
    assert.deepEqual(Object.keys(EVENT_REASONS).sort(), codes.sort());
    assert.ok(Object.values(EVENT_REASONS).every(reason => /^([A-Z][a-z]+)+$/.test(reason)));
  });
});
