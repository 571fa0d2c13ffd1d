/** Single objects, asked for over real TLS and HTTP/2, of a server that behaves in every way. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiObjects, type ObjectPlace, refusedWith, type WriteOptions } from '../../../daemon/cluster/api-objects.ts';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import { RequestWithheld, Transport } from '../../../daemon/cluster/transport.ts';
import { versionOf } from '../../../daemon/cluster/watch-event.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { FakeApiServer } from '../../fakes/api-server.ts';
import { ClusterRole } from '../../fakes/cluster-role.ts';

const WEB: ObjectPlace = { group: '', resource: 'services', subresource: '', namespace: 'shop', name: 'web' };
const STATUS: ObjectPlace = { ...WEB, subresource: 'status' };
const LEASE: ObjectPlace = {
  group: 'coordination.k8s.io',
  resource: 'leases',
  subresource: '',
  namespace: 'kube-system',
  name: 'l',
};

describe('single objects of the API server', () => {
  let directory: string;
  let fake: FakeApiServer;
  let transport: Transport;
  let objects: ApiObjects;
  const options: WriteOptions = { signal: new AbortController().signal };

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'api-objects-'));
    fake = await FakeApiServer.start({ directory });
    const kubeconfig = fake.writeKubeconfig();
    const credentials = await openCredentials({ kubeconfig, master: '', environment: {}, readFile: path => readFile(path) });
    transport = new Transport({ credentials, clock: systemClock(), userAgent: 'fairway/0.0.0-test' });
    objects = new ApiObjects({ transport, clock: systemClock() });
  });

  beforeEach(() => {
    const metadata = { namespace: 'shop', name: 'web', uid: 'u1' };
    fake.put({ apiVersion: 'v1', kind: 'Service', metadata, spec: { type: 'LoadBalancer' } });
  });

  after(() => {
    transport.close();
    fake.stop();
    rmSync(directory, { recursive: true });
  });

  it('are read, and the status is written alone, by whom the server keeps in its books', async () => {
    const service = await objects.get(WEB, options);
    const status = { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } };
    const spec = { type: 'ClusterIP' };
    const written = await objects.replace(STATUS, { ...service, spec, status }, { ...options, fieldManager: 'fairway' });
    assert.deepEqual([written['spec'], written['status']], [service['spec'], status]);
    const [entry] = (written['metadata'] as { managedFields: { manager: string; subresource: string }[] }).managedFields;
    assert.deepEqual([entry?.manager, entry?.subresource], ['fairway', 'status']);
    const again = await objects.replace(STATUS, written, { ...options, fieldManager: 'other' });
    assert.equal(versionOf(again), versionOf(written), 'what changes nothing makes no new version');
  });

  it('name the user agent as their writer where nobody says another', async () => {
    const service = await objects.get(WEB, options);
    const status = { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } };
    const written = await objects.replace(STATUS, { ...service, status }, options);
    assert.match(JSON.stringify(written['metadata']), /"manager":"fairway","operation":"Update"/);
  });

  it('are refused in the words of the server: conflict, absence, what is invalid, throttling', async () => {
    const service = await objects.get(WEB, options);
    await objects.replace(STATUS, { ...service, status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } } }, options);
    const refused = async (promise: Promise<unknown>, status: number, message: RegExp): Promise<void> => {
      await assert.rejects(promise, (error: unknown) => refusedWith(error) === status && message.test((error as Error).message));
    };
    await refused(objects.replace(STATUS, service, options), 409, /update services\/status shop\/web: 409 .*has been modified/);
    await refused(objects.get({ ...WEB, name: 'none' }, options), 404, /get services shop\/none: 404 services "none" not found/);
    await objects.create(LEASE, { metadata: { name: 'l' } }, options);
    await refused(objects.create(LEASE, { metadata: { name: 'l' } }, options), 409, /create leases .*already exists/);
    await refused(objects.replace(LEASE, { metadata: { name: 'l' } }, options), 422, /must be specified for an update/);
    fake.answerNext('get services', { status: 429, message: 'too many', headers: { 'retry-after': '7' } });
    await assert.rejects(objects.get(WEB, options), { status: 429, retryAfterMs: 7000, isCertain: true });
    fake.answerNext('get services', { status: 504, message: 'timeout' });
    await assert.rejects(objects.get(WEB, options), { status: 504, isCertain: false, code: 'FW_API_UNREACHABLE' });
  });

  it('name the rule that is missing where RBAC says no', async () => {
    fake.behaviour.role = new ClusterRole([{ apiGroups: [''], resources: ['services'], verbs: ['get'] }]);
    const service = await objects.get(WEB, options);
    await assert.rejects(objects.replace(STATUS, service, options), {
      code: 'FW_API_DENIED',
      message:
        /403: our identity lacks the verb "update" on "services\/status"; add to its ClusterRole the rule apiGroups: \[""\], resources: \["services\/status"\], verbs: \["update"\]/,
    });
    fake.behaviour.role = undefined;
  });

  it('are given up after their time, and by whom asked for them', async () => {
    fake.faultNext('get services', 'hang');
    await assert.rejects(objects.get(WEB, { ...options, deadlineMs: 30 }), {
      code: 'FW_API_UNREACHABLE',
      message: 'get services shop/web: the API server did not answer within 0.03 s',
    });
    await assert.rejects(objects.get(WEB, { signal: AbortSignal.abort(new Error('over')) }), /over/);
  });

  it('may have been written although the answer was lost', async () => {
    fake.faultNext('patch services', 'lost');
    await assert.rejects(objects.patch(WEB, { spec: { type: 'NodePort' } }, options), { code: 'FW_API_UNREACHABLE' });
    assert.deepEqual((await objects.get(WEB, options))['spec'], { type: 'NodePort' });
  });

  it('are not sent where at the last moment they may not be', async () => {
    const count = fake.requests.length;
    await assert.rejects(objects.get(WEB, { ...options, mayBeSent: () => false }), RequestWithheld);
    assert.equal(fake.requests.length, count);
  });
});
