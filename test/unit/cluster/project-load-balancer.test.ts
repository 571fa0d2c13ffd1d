import assert from 'node:assert/strict';
import type { LoadBalancer } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';

function loadBalancerOf(raw: object): { readonly found: LoadBalancer | undefined; readonly told: readonly string[] } {
  const { object, complaints } = new Projector().project('Service', raw);
  return { found: object?.loadBalancer, told: complaints.map(({ message }) => message) };
}

const META = { namespace: 'shop', name: 'web' };
const INGRESS = { 'f:status': { 'f:loadBalancer': { 'f:ingress': {} } } };

/** Who wrote the addresses, and when, as those who manage fields say. */
function writer(...managedFields: readonly unknown[]): readonly [string | undefined, number | undefined] {
  const metadata = { ...META, managedFields };
  const { found, told } = loadBalancerOf({ metadata, spec: { type: 'LoadBalancer' } });
  assert.deepEqual(told, []);
  return [found?.writtenBy, found?.writtenAt];
}

describe('what the allocation of addresses sees of a Service', () => {
  it('is nothing of one of another type without addresses in its status', () => {
    for (const type of ['ClusterIP', 'NodePort', 'ExternalName']) {
      assert.equal(loadBalancerOf({ metadata: META, spec: { type, selector: { a: 'b' } } }).found, undefined);
    }
    const hostname = { loadBalancer: { ingress: [{ hostname: 'lb.example' }] } };
    assert.equal(loadBalancerOf({ metadata: META, spec: { type: 'NodePort' }, status: hostname }).found, undefined);
  });

  it('is what it has, of one that is a LoadBalancer no more', () => {
    const raw = {
      metadata: { ...META, resourceVersion: '7', labels: { a: 'b' } },
      spec: { type: 'ClusterIP', selector: { a: 'b' } },
      status: { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } },
    };
    assert.deepEqual(loadBalancerOf(raw).found, {
      loadBalancerClass: '',
      loadBalancerIP: '',
      ipFamilyPolicy: 'SingleStack',
      labels: {},
      selector: '',
      ingressIPs: ['198.51.100.1'],
      ingressHostnames: [],
      writtenBy: '',
      writtenAt: 0,
      resourceVersion: '7',
    });
  });

  it('is what it asks for and has', () => {
    const raw = {
      metadata: { ...META, resourceVersion: '12', labels: { app: 'web', tier: 'front' } },
      spec: {
        type: 'LoadBalancer',
        loadBalancerClass: 'example.com/edge',
        loadBalancerIP: ' 198.51.100.7',
        ipFamilyPolicy: 'PreferDualStack',
        selector: { tier: 'front', app: 'web' },
      },
      status: {
        loadBalancer: {
          ingress: [{ ip: '2001:DB8::1', ipMode: 'Proxy' }, { ip: 'x' }, 7, { ip: '198.51.100.7' }, { hostname: 'lb.example' }],
        },
      },
    };
    assert.deepEqual(loadBalancerOf(raw), {
      found: {
        loadBalancerClass: 'example.com/edge',
        loadBalancerIP: '198.51.100.7',
        ipFamilyPolicy: 'PreferDualStack',
        labels: { app: 'web', tier: 'front' },
        selector: 'app=web,tier=front',
        ingressIPs: ['2001:db8::1', '198.51.100.7'],
        ingressHostnames: ['lb.example'],
        writtenBy: '',
        writtenAt: 0,
        resourceVersion: '12',
      },
      told: [
        'status.loadBalancer.ingress[]: 7: not an object, left out',
        'status.loadBalancer.ingress[].ip: "x": not an IP address, left out; write it as 10.0.0.1 or fd00::1',
      ],
    });
  });

  it('has the policy of families that the API server would fill in', () => {
    const policyOf = (spec: object): string | undefined =>
      loadBalancerOf({ metadata: META, spec: { type: 'LoadBalancer', ...spec } }).found?.ipFamilyPolicy;
    assert.equal(policyOf({}), 'SingleStack');
    assert.equal(policyOf({ ipFamilies: ['IPv6'] }), 'SingleStack');
    assert.equal(policyOf({ ipFamilies: ['IPv6', 'IPv4'] }), 'RequireDualStack');
    assert.equal(policyOf({ clusterIPs: ['10.96.0.1', 'fd00:96::1'] }), 'RequireDualStack');
    assert.equal(policyOf({ ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' }), 'PreferDualStack');
  });

  it('is written by the manager of its addresses, of several the last', () => {
    const [early, late] = ['2026-01-02T03:04:05Z', '2026-01-02T03:04:06Z'];
    const update = { operation: 'Update', apiVersion: 'v1', fieldsType: 'FieldsV1' };
    const kubectl = { ...update, manager: 'kubectl', time: late, fieldsV1: { 'f:spec': { 'f:type': {} } } };
    const router = { ...update, manager: 'kube-router', subresource: 'status', time: early, fieldsV1: INGRESS };
    const ours = { ...router, manager: 'fairway', time: late };
    assert.deepEqual(writer(kubectl, router), ['kube-router', Date.parse(early)]);
    assert.deepEqual(writer(ours, router, kubectl), ['fairway', Date.parse(late)]);
    assert.deepEqual(writer(router, ours), ['fairway', Date.parse(late)]);
    assert.deepEqual(writer({ ...ours, subresource: undefined }), ['fairway', Date.parse(late)]);
    assert.deepEqual(writer({ ...ours, subresource: 'scale' }), ['', 0]);
    assert.deepEqual(writer({ ...ours, time: undefined }), ['fairway', 0]);
  });

  it('is written by nobody known where managed fields are missing or of no use', () => {
    const conditions = { 'f:status': { 'f:conditions': {} } };
    assert.deepEqual(writer({ manager: 'a', fieldsV1: conditions }, 7, null, { manager: 'b', fieldsV1: 'x' }), ['', 0]);
    const { found, told } = loadBalancerOf({ metadata: { ...META, managedFields: 'x' }, spec: { type: 'LoadBalancer' } });
    assert.deepEqual([found?.writtenBy, told], ['', []]);
  });
});
