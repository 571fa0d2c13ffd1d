import assert from 'node:assert/strict';
import { type BookFile, KeptBook } from '../../../daemon/allocation/kept-book.ts';
import { type OwnStatuses, openOwnStatuses } from '../../../daemon/allocation/own-statuses.ts';
import type { StatusOutcome } from '../../../daemon/allocation/status-port.ts';
import type { LoadBalancer, Service } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';
import { ManualClock, settle } from '../../fakes/clock.ts';
import { LogLines } from '../../fakes/daemon.ts';
import { Recorder } from '../../fakes/recorder.ts';
import { FakeSource } from '../../fakes/source.ts';
import { ips } from '../../fixtures/cluster.ts';

const [A, B, V6] = ['198.51.100.1', '198.51.100.2', '2001:db8:2::1'];
const NOW = 1_767_225_600_000;

/** A disk of one file, which may be full, or refuse to be read. */
class MemoryFile implements BookFile {
  readonly path = '/var/lib/fairway/node-1/load-balancer.json';
  readonly asidePath = `${this.path}.broken`;
  text: string | undefined;
  aside: string | undefined;
  unreadable: string | undefined;
  unwritable: string | undefined;
  writes = 0;

  read(): Promise<string | undefined> {
    return this.unreadable === undefined ? Promise.resolve(this.text) : Promise.reject(new Error(this.unreadable));
  }

  write(text: string): Promise<void> {
    if (this.unwritable !== undefined) return Promise.reject(new Error(this.unwritable));
    this.writes++;
    this.text = text;
    return Promise.resolve();
  }

  setAside(): Promise<void> {
    [this.aside, this.text] = [this.text, undefined];
    return Promise.resolve();
  }
}

interface Run {
  readonly statuses: OwnStatuses;
  readonly source: FakeSource;
  readonly told: Recorder;
  readonly clock: ManualClock;
  readonly log: LogLines;
}

/** A daemon's life over the file: from the first list to {@link Run.statuses}' stop. */
async function run(file: BookFile, services: readonly Service[]): Promise<Run> {
  const [source, told, clock, log] = [new FakeSource(), new Recorder(), new ManualClock(), new LogLines()];
  const statuses = await openOwnStatuses({ source, file, clock, log, wallNow: () => NOW });
  statuses.start(told);
  source.list('Service', services);
  return { statuses, source, told, clock, log };
}

/** From a manifest, as people write it. */
function balanced(
  name: string,
  { ingress = [], ...spec }: Readonly<Record<string, unknown>> & { ingress?: unknown } = {},
): Service {
  const raw = {
    metadata: { name },
    spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...spec },
    status: { loadBalancer: { ingress } },
  };
  const { object } = new Projector().project('Service', raw);
  assert.ok(object !== undefined);
  return object;
}

function give({ statuses }: Run, name: string, ...addresses: readonly string[]): Promise<StatusOutcome> {
  const order = { key: `default/${name}`, namespace: 'default', name, uid: '', addresses: ips(...addresses), found: [] };
  return statuses.write(order, () => true, new AbortController().signal);
}

function shown({ told }: Run, name: string): Service & { readonly loadBalancer: LoadBalancer } {
  const object = told.get('Service', `default/${name}`);
  assert.ok(object?.kind === 'Service' && object.loadBalancer !== undefined);
  return { ...object, loadBalancer: object.loadBalancer };
}

describe('the status of a Service without an API server', () => {
  it('is shown with the addresses as soon as they are written, as if an API server told it', async () => {
    const life = await run(new MemoryFile(), [balanced('web'), balanced('api')]);
    assert.deepEqual(shown(life, 'web').loadBalancer.ingressIPs, []);
    const outcome = await give(life, 'web', A, V6);
    const { loadBalancer, loadBalancerIPs } = shown(life, 'web');
    assert.deepEqual(loadBalancerIPs, [A, V6]);
    assert.deepEqual(loadBalancer.ingressIPs, [A, V6]);
    assert.deepEqual([loadBalancer.writtenBy, loadBalancer.writtenAt], ['fairway', NOW]);
    assert.deepEqual(outcome, { kind: 'written', version: loadBalancer.resourceVersion });
    assert.deepEqual(life.told.changes, ['upsert Service default/web']);
  });

  it('has a version that grows with every write, and is not told again where nothing differs', async () => {
    const life = await run(new MemoryFile(), [balanced('web'), balanced('api')]);
    const before = Number(shown(life, 'web').loadBalancer.resourceVersion);
    const first = await give(life, 'web', A);
    assert.ok(first.kind === 'written' && Number(first.version) > before);
    await give(life, 'api', B);
    assert.deepEqual(await give(life, 'web', A), { kind: 'unchanged', version: first.version });
    const last = await give(life, 'web');
    assert.ok(last.kind === 'written' && Number(last.version) > Number(first.version));
    assert.equal(shown(life, 'web').loadBalancer.resourceVersion, last.version);
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, []);
    assert.equal(life.told.changes.length, 3);
  });

  it('keeps its addresses when the Service is edited', async () => {
    const life = await run(new MemoryFile(), [balanced('web')]);
    await give(life, 'web', A);
    life.source.put(balanced('web', { externalTrafficPolicy: 'Local' }));
    assert.equal(shown(life, 'web').externalTrafficPolicy, 'Local');
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, [A]);
  });

  it('has its addresses again after a restart, whatever the order of the Services', async () => {
    const file = new MemoryFile();
    const first = await run(file, [balanced('web'), balanced('api')]);
    await give(first, 'web', A, V6);
    await give(first, 'api', B);
    await first.statuses.stop();
    const second = await run(file, [balanced('api'), balanced('web')]);
    assert.deepEqual(shown(second, 'web').loadBalancerIPs, [A, V6]);
    assert.deepEqual(shown(second, 'web').loadBalancer.writtenAt, NOW);
    assert.deepEqual(shown(second, 'api').loadBalancerIPs, [B]);
    assert.deepEqual(second.log.lines, []);
  });

  it('keeps an address that it shares with another', async () => {
    const file = new MemoryFile();
    const first = await run(file, [balanced('web')]);
    await give(first, 'web', A);
    await first.statuses.stop();
    const second = await run(file, [balanced('web'), balanced('api')]);
    await give(second, 'api', A);
    await second.statuses.stop();
    const third = await run(file, [balanced('web'), balanced('api')]);
    assert.deepEqual([shown(third, 'web').loadBalancerIPs, shown(third, 'api').loadBalancerIPs], [ips(A), ips(A)]);
  });

  it('leaves what a manifest says of it, as written by another, and adds ours', async () => {
    const life = await run(new MemoryFile(), [balanced('web', { ingress: [{ ip: A }] })]);
    await give(life, 'web', A, V6);
    const { loadBalancer, loadBalancerIPs } = shown(life, 'web');
    assert.deepEqual([loadBalancer.ingressIPs, loadBalancerIPs], [ips(A, V6), ips(A, V6)]);
    assert.equal(loadBalancer.writtenBy, '');
    await give(life, 'web');
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, [A]);
  });

  it('is not served where source ranges were asked for and none can be read', async () => {
    const life = await run(new MemoryFile(), [balanced('web', { loadBalancerSourceRanges: ['10.0.0.0/33'] })]);
    await give(life, 'web', A);
    assert.deepEqual(shown(life, 'web').loadBalancer.ingressIPs, [A]);
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, []);
  });

  it('is not written where the writer may not any more, nor for another Service of the name', async () => {
    const life = await run(new MemoryFile(), [{ ...balanced('web'), meta: { ...balanced('web').meta, uid: 'u1' } }]);
    assert.deepEqual(await give(life, 'web', A), { kind: 'gone' });
    const order = { key: 'default/web', namespace: 'default', name: 'web', uid: 'u1', addresses: ips(A), found: [] };
    const withheld = await life.statuses.write(order, () => false, new AbortController().signal);
    assert.deepEqual(withheld, { kind: 'withheld' });
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, []);
  });
});

describe('a Service that goes from the folder', () => {
  it('has its address again when it returns before that was taken back', async () => {
    const life = await run(new MemoryFile(), [balanced('web')]);
    await give(life, 'web', A);
    life.source.remove('Service', 'default/web');
    assert.deepEqual(await give(life, 'web', B), { kind: 'gone' }, 'an order that comes too late');
    life.source.put(balanced('web'));
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, [A]);
  });

  it('has none any more once it was taken back', async () => {
    const file = new MemoryFile();
    const life = await run(file, [balanced('web')]);
    await give(life, 'web', A);
    life.source.remove('Service', 'default/web');
    assert.deepEqual(await give(life, 'web'), { kind: 'gone' });
    life.source.put(balanced('web'));
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, []);
    await life.statuses.stop();
    assert.doesNotMatch(file.text ?? '', /web/);
  });

  it('claims nothing, when it returns, that another was given meanwhile', async () => {
    const file = new MemoryFile();
    const first = await run(file, [balanced('web')]);
    await give(first, 'web', A, V6);
    await first.statuses.stop();
    // Deleted while no daemon ran: nobody took it back.
    const second = await run(file, [balanced('api')]);
    await give(second, 'api', A);
    second.source.put(balanced('web'));
    assert.deepEqual(shown(second, 'web').loadBalancerIPs, [V6]);
    assert.deepEqual(shown(second, 'api').loadBalancerIPs, [A]);
  });

  it('is gone too where a full list has it no more', async () => {
    const life = await run(new MemoryFile(), [balanced('web'), balanced('api')]);
    await give(life, 'web', A);
    life.source.list('Service', [balanced('api')]);
    assert.deepEqual(await give(life, 'web', B), { kind: 'gone' });
    assert.equal(life.told.get('Service', 'default/web'), undefined);
  });

  it('or becomes one of another type shows no address, and gives it back', async () => {
    const life = await run(new MemoryFile(), [balanced('web')]);
    await give(life, 'web', A);
    life.source.put(balanced('web', { type: 'ClusterIP' }));
    assert.deepEqual(await give(life, 'web'), { kind: 'gone' });
    const object = life.told.get('Service', 'default/web');
    assert.ok(object?.kind === 'Service');
    assert.deepEqual([object.type, object.loadBalancerIPs], ['ClusterIP', []]);
    life.source.put(balanced('web'));
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, []);
  });
});

describe('the file of load-balancer addresses', () => {
  it('is written a few times for many Services, and has them all at the stop', async () => {
    const file = new MemoryFile();
    const names = Array.from({ length: 1000 }, (_, index) => `s${index}`);
    const life = await run(
      file,
      names.map(name => balanced(name)),
    );
    for (const [index, name] of names.entries()) await give(life, name, `10.0.${index >> 8}.${index & 255}`);
    await life.statuses.stop();
    assert.ok(file.writes <= 3, `${file.writes} writes`);
    const again = await run(
      file,
      names.map(name => balanced(name)),
    );
    assert.deepEqual(shown(again, 's999').loadBalancerIPs, ['10.0.3.231']);
    assert.deepEqual(shown(again, 's0').loadBalancerIPs, ['10.0.0.0']);
  });

  it('is told with the remedy where it cannot be read, and is kept before it is written over', async () => {
    const file = new MemoryFile();
    file.text = '{"services": {"default/web": {"addr';
    const torn = file.text;
    const life = await run(file, [balanced('web')]);
    assert.equal(life.log.lines.length, 1);
    assert.match(
      life.log.lines[0] ?? '',
      /node-1\/load-balancer\.json: .*kept as .*load-balancer\.json\.broken: .* code=FW_STATE_FILE/,
    );
    assert.deepEqual([file.text, file.aside], [torn, undefined], 'a dry run changes nothing');
    await give(life, 'web', A);
    await life.statuses.stop();
    assert.equal(file.aside, torn);
    assert.deepEqual(shown(await run(file, [balanced('web')]), 'web').loadBalancerIPs, [A]);
  });

  it('counts for what of it can be read', async () => {
    const file = new MemoryFile();
    file.text = `{"services": {
      "default/web": {"addresses": ["${A}"], "writtenAt": "2026-01-01T00:00:00.000Z"},
      "default/api": {"addresses": ["198.51.100.300"], "writtenAt": "2026-01-01T00:00:00.000Z"}
    }}`;
    const life = await run(file, [balanced('web'), balanced('api')]);
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, [A]);
    assert.deepEqual(shown(life, 'api').loadBalancerIPs, []);
    assert.match(life.log.lines.join('\n'), /services\["default\/api"\] is not of the form/);
  });

  it('is told once where it cannot be written, while addresses are in force, and is written once it can be', async () => {
    const file = new MemoryFile();
    file.unwritable = 'ENOSPC: no space left on device';
    const life = await run(file, [balanced('web'), balanced('api')]);
    await give(life, 'web', A);
    await settle();
    await give(life, 'api', B);
    await life.clock.advance(120_000);
    assert.deepEqual(shown(life, 'api').loadBalancerIPs, [B]);
    assert.equal(life.log.matching(/cannot be written .*ENOSPC.*space free/).length, 1);
    assert.equal(life.log.lines.length, 1);
    file.unwritable = undefined;
    await life.clock.advance(30_000);
    assert.match(file.text ?? '', /api.*\n.*web/);
    assert.equal(life.log.matching(/^info .*written to .* again/).length, 1);
  });

  it('that cannot be read ends no start, nor one that cannot be written a stop', async () => {
    const file = new MemoryFile();
    file.unreadable = 'EACCES: permission denied';
    file.unwritable = file.unreadable;
    const life = await run(file, [balanced('web')]);
    await give(life, 'web', A);
    await life.statuses.stop();
    assert.deepEqual(shown(life, 'web').loadBalancerIPs, [A]);
    assert.equal(life.log.lines.length, 2);
  });

  it('names no Service for itself: an empty book is a book', async () => {
    const file = new MemoryFile();
    const book = await KeptBook.open({ file, clock: new ManualClock(), log: new LogLines() });
    book.set('default/web', { addresses: ips(A), writtenAt: NOW });
    book.delete('default/web');
    await book.close();
    const log = new LogLines();
    const again = await KeptBook.open({ file, clock: new ManualClock(), log });
    assert.deepEqual([[...again.keys()], log.lines], [[], []]);
  });
});
