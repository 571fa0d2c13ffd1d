import assert from 'node:assert/strict';
import { type Answer, ObjectRequests, placeOf, verbOf } from '../../fakes/object-requests.ts';
import { type ApiObject, ObjectStore } from '../../fakes/object-store.ts';

const STATUS = '/api/v1/namespaces/shop/services/web/status';

describe('single objects of a fake API server', () => {
  let store: ObjectStore;

  beforeEach(() => {
    store = new ObjectStore();
    const metadata = { namespace: 'shop', name: 'web', uid: 'u1', labels: { app: 'web' } };
    store.put({ apiVersion: 'v1', kind: 'Service', metadata, spec: { type: 'LoadBalancer' } });
  });

  function ask(
    method: string,
    path: string,
    body: object = {},
    userAgent = 'kubectl/v1.33 (linux)',
  ): Answer & { readonly object: Fields } {
    const url = new URL(path, 'http://fake');
    const place = placeOf(url.pathname);
    assert.ok(place, path);
    const answer = new ObjectRequests(store, () => 1_700_000_000_000).answer(place, {
      method,
      url,
      body: JSON.stringify(body),
      userAgent,
    });
    return { ...answer, object: JSON.parse(answer.json) as Fields };
  }

  function withStatus(...ips: readonly string[]): ApiObject {
    const status = ips.length === 0 ? { loadBalancer: {} } : { loadBalancer: { ingress: ips.map(ip => ({ ip })) } };
    return { ...store.get('Service', 'shop', 'web'), status };
  }

  function managers(): readonly string[] {
    const { managedFields } = (store.get('Service', 'shop', 'web')?.metadata ?? {}) as { managedFields?: { manager: string }[] };
    return (managedFields ?? []).map(({ manager }) => manager);
  }

  it('have a place in paths, as RBAC names what is asked of it', () => {
    const cases: readonly (readonly [method: string, path: string, expected: string])[] = [
      ['GET', '/api/v1/services?watch=true', 'watch services  '],
      ['GET', '/api/v1/namespaces/shop/services', 'list services shop '],
      ['PUT', STATUS, 'update services/status shop web'],
      ['GET', '/api/v1/namespaces/shop', 'get namespaces  shop'],
      ['POST', '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases', 'create leases kube-system '],
      ['PATCH', '/api/v1/namespaces/shop/events/web.1', 'patch events shop web.1'],
      ['GET', '/api/v1/nodes/node-1', 'get nodes  node-1'],
    ];
    for (const [method, path, expected] of cases) {
      const url = new URL(path, 'http://fake');
      const place = placeOf(url.pathname);
      assert.ok(place, path);
      const resource = place.subresource === '' ? place.resource : `${place.resource}/${place.subresource}`;
      assert.equal(`${verbOf(method, place, url)} ${resource} ${place.namespace} ${place.name}`, expected);
    }
    for (const path of ['/version', '/api/v1/secrets', '/api/v1/services/web', '/apis/apps/v1/deployments'])
      assert.equal(placeOf(path), undefined, path);
  });

  it('have two halves that are written apart', () => {
    const status = { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } };
    ask('PUT', STATUS, { ...withStatus('192.0.2.1'), spec: { type: 'NodePort' } });
    const service = store.get('Service', 'shop', 'web');
    assert.deepEqual([service?.['spec'], service?.['status']], [{ type: 'LoadBalancer' }, status]);
    const spec = { type: 'LoadBalancer', loadBalancerIP: '192.0.2.1' };
    ask('PUT', '/api/v1/namespaces/shop/services/web', { ...withStatus(), spec });
    const after = store.get('Service', 'shop', 'web');
    assert.deepEqual([after?.['spec'], after?.['status'], after?.metadata?.labels], [spec, status, { app: 'web' }]);
  });

  it('keep books of who wrote the addresses: the last one to change them', () => {
    ask('PUT', `${STATUS}?fieldManager=fairway`, withStatus('192.0.2.1'));
    assert.deepEqual(managers(), ['fairway']);
    ask('PUT', STATUS, withStatus('192.0.2.1'));
    assert.deepEqual(managers(), ['fairway'], 'who changes nothing has written nothing');
    ask('PUT', STATUS, withStatus('192.0.2.2'));
    assert.deepEqual(managers(), ['kubectl']);
    ask('PUT', `${STATUS}?fieldManager=fairway`, withStatus());
    assert.deepEqual(managers(), []);
  });

  it('are not written over what somebody else wrote, nor over another of the name', () => {
    const read = withStatus('192.0.2.1');
    assert.equal(ask('PUT', STATUS, read).status, 200);
    const late = ask('PUT', STATUS, { ...read, status: {} });
    assert.deepEqual([late.status, late.object['reason']], [409, 'Conflict']);
    const other = { ...withStatus(), metadata: { ...withStatus().metadata, uid: 'u2' } };
    assert.match(String(ask('PUT', STATUS, other).object['message']), /Precondition failed: UID/);
  });

  it('are patched and deleted', () => {
    const path = '/api/v1/namespaces/shop/services/web';
    ask('PATCH', path, { metadata: { labels: { app: null, tier: 'front' } } });
    assert.deepEqual(store.get('Service', 'shop', 'web')?.metadata?.labels, { tier: 'front' });
    assert.equal(ask('DELETE', path).status, 200);
    assert.deepEqual([ask('GET', path).status, ask('PATCH', path).status, ask('DELETE', path).status], [404, 404, 404]);
  });

  it('are refused where a real server would: a status, a Lease or an Event that is not valid', () => {
    const leases = '/apis/coordination.k8s.io/v1/namespaces/shop/leases';
    const lease = (spec: object): readonly [string, string, object] => ['POST', leases, { metadata: { name: 'l' }, spec }];
    const ingress = (...entries: readonly object[]): readonly [string, string, object] => [
      'PUT',
      STATUS,
      { ...store.get('Service', 'shop', 'web'), status: { loadBalancer: { ingress: entries } } },
    ];
    const event = { metadata: { name: 'web.1' }, involvedObject: { kind: 'Service', namespace: 'default', name: 'web' } };
    const cases: readonly (readonly [method: string, path: string, body: object])[] = [
      ingress({ ip: '192.0.2.1/32' }),
      ingress({ hostname: 'a.example', ipMode: 'VIP' }),
      ingress({ hostname: '192.0.2.1' }),
      ingress({ ip: '192.0.2.1', ipMode: 'vip' }),
      lease({ leaseDurationSeconds: 0 }),
      lease({ leaseTransitions: -1 }),
      lease({ renewTime: '2026-01-01T00:00:00.000Z' }),
      ['POST', '/api/v1/namespaces/shop/events', event],
    ];
    for (const [method, path, body] of cases) assert.equal(ask(method, path, body).status, 422, JSON.stringify(body));
  });

  it('take the status from a Service that stops being a load balancer, and let none be written there', () => {
    assert.equal(ask('PUT', STATUS, withStatus('192.0.2.1')).status, 200);
    const web = { ...store.get('Service', 'shop', 'web'), spec: { type: 'NodePort' } };
    assert.equal(ask('PUT', STATUS.replace('/status', ''), web).status, 200);
    assert.deepEqual([store.get('Service', 'shop', 'web')?.['status'], managers()], [{ loadBalancer: {} }, []]);
    assert.equal(ask('PUT', STATUS, withStatus('192.0.2.1')).status, 422);
  });
});

type Fields = Readonly<Record<string, unknown>>;
