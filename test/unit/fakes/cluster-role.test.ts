import assert from 'node:assert/strict';
import { ClusterRole } from '../../fakes/cluster-role.ts';

describe('the role of a fake API server', () => {
  const role = new ClusterRole([
    { apiGroups: [''], resources: ['pods', 'namespaces', 'services/status'], verbs: ['list', 'watch', 'update'] },
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create'] },
  ]);
  const allows = (method: string, path: string): boolean => role.allows(method, new URL(path, 'http://fake'));

  it('grants verbs of resources as they are asked for by method and path', () => {
    const granted: readonly (readonly [string, string])[] = [
      ['GET', '/api/v1/pods?limit=500'],
      ['GET', '/api/v1/pods?watch=true'],
      ['GET', '/api/v1/namespaces/a/pods'],
      ['GET', '/api/v1/namespaces'],
      ['PUT', '/api/v1/namespaces/a/services/web/status'],
      ['GET', '/apis/coordination.k8s.io/v1/namespaces/a/leases/b'],
      ['POST', '/apis/coordination.k8s.io/v1/namespaces/a/leases'],
      ['GET', '/version'],
    ];
    for (const [method, path] of granted) assert.ok(allows(method, path), `${method} ${path}`);
    assert.deepEqual(role.denied, []);
  });

  it('grants nothing else, and remembers what it was', () => {
    const denied: readonly (readonly [string, string, string])[] = [
      ['GET', '/api/v1/secrets', 'list /secrets'],
      ['GET', '/api/v1/namespaces/a', 'get /namespaces'],
      ['GET', '/api/v1/namespaces/a/pods/b', 'get /pods'],
      ['PATCH', '/api/v1/namespaces/a/services/web/status', 'patch /services/status'],
      ['PUT', '/api/v1/namespaces/a/services/web', 'update /services'],
      ['DELETE', '/api/v1/namespaces/a/pods', 'deletecollection /pods'],
      ['GET', '/apis/coordination.k8s.io/v1/leases', 'list coordination.k8s.io/leases'],
    ];
    for (const [method, path] of denied) assert.ok(!allows(method, path), `${method} ${path}`);
    assert.deepEqual(
      role.denied,
      denied.map(([, , wanted]) => wanted),
    );
  });
});
