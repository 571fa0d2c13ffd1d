import assert from 'node:assert/strict';
import type { EndpointSlice } from '../../../daemon/cluster/kinds.ts';
import { destinationKey } from '../../../daemon/reconcile/tables.ts';
import { chooseEndpoints, type EndpointChoice, underPolicy } from '../../../modules/services/endpoints.ts';
import { endpoint, endpointPort, slice, terminatingEndpoint, unreadyEndpoint } from '../../fixtures/cluster.ts';

const PORT = { name: '', protocol: 'TCP' } as const;

function choose(...slices: readonly EndpointSlice[]): Record<keyof EndpointChoice, readonly string[]> {
  const { cluster, local, onThisNode } = chooseEndpoints(slices, PORT, 'ipv4', 'node-1');
  return { cluster: cluster.map(destinationKey), local: local.map(destinationKey), onThisNode: onThisNode.map(destinationKey) };
}

describe('choice of endpoints', () => {
  it('an endpoint that serves but is neither ready nor terminating gets nothing', () => {
    const choice = choose(slice('web', [endpoint('10.244.2.5', { ready: false, serving: true })]));
    assert.deepEqual(choice, { cluster: [], local: [], onThisNode: [] });
  });

  it('of two copies of one endpoint the ready one counts, whichever comes first', () => {
    const stale = slice('web', [unreadyEndpoint('10.244.1.5')], { name: 'web-a' });
    const fresh = slice('web', ['10.244.1.5'], { name: 'web-b' });
    const expected = { cluster: ['10.244.1.5:8080'], local: ['10.244.1.5:8080'], onThisNode: ['10.244.1.5:8080'] };
    assert.deepEqual(choose(stale, fresh), expected);
    assert.deepEqual(choose(fresh, stale), expected);
  });

  it('one copy that names this node makes the endpoint one of this node', () => {
    const choice = choose(
      slice('web', [endpoint('10.244.9.5', { nodeName: '' })], { name: 'web-a' }),
      slice('web', [endpoint('10.244.9.5', { nodeName: 'node-1' })], { name: 'web-b' }),
    );
    assert.deepEqual(choice.local, ['10.244.9.5:8080']);
  });

  it('one address on two ports is two endpoints', () => {
    const choice = choose(
      slice('web', ['10.244.1.5'], { name: 'web-a' }),
      slice('web', ['10.244.1.5'], { name: 'web-b', ports: [endpointPort({ port: 9090 })] }),
    );
    assert.deepEqual(choice.cluster, ['10.244.1.5:8080', '10.244.1.5:9090']);
  });

  it('ports are matched by name and protocol, never by number', () => {
    const choice = choose(
      slice('web', ['10.244.1.5'], { name: 'web-a', ports: [endpointPort({ name: 'http', port: 80 })] }),
      slice('web', ['10.244.1.6'], { name: 'web-b', ports: [endpointPort({ protocol: 'UDP', port: 80 })] }),
    );
    assert.deepEqual(choice.cluster, []);
  });

  it('endpoints of this node are those of either choice, also where only the Local one falls back to a terminating one', () => {
    const choice = choose(slice('web', [terminatingEndpoint('10.244.1.5'), '10.244.2.5', unreadyEndpoint('10.244.1.6')]));
    assert.deepEqual(choice, { cluster: ['10.244.2.5:8080'], local: ['10.244.1.5:8080'], onThisNode: ['10.244.1.5:8080'] });
  });

  it('while the name of this node is unknown no endpoint is one of this node', () => {
    const { local } = chooseEndpoints([slice('web', [endpoint('10.1.1.1', { nodeName: '' })])], PORT, 'ipv4', '');
    assert.deepEqual(local, []);
  });

  it('policy Local drops only while others serve elsewhere', () => {
    const elsewhere = chooseEndpoints([slice('web', ['10.244.2.5'])], PORT, 'ipv4', 'node-1');
    const nowhere = chooseEndpoints([], PORT, 'ipv4', 'node-1');
    assert.equal(underPolicy(elsewhere, 'Local'), 'drop');
    assert.deepEqual(underPolicy(nowhere, 'Local'), []);
    assert.equal(underPolicy(elsewhere, 'Cluster'), elsewhere.cluster);
  });
});
