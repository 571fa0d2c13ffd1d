import assert from 'node:assert/strict';
import type { EndpointSlice } from '../../../daemon/cluster/kinds.ts';
import { destinationKey } from '../../../daemon/reconcile/tables.ts';
import { chooseEndpoints, type EndpointChoice, underPolicy } from '../../../modules/services/endpoints.ts';
import { endpoint, endpointPort, slice, terminatingEndpoint, unreadyEndpoint } from '../../fixtures/cluster.ts';

const PORT = { name: '', protocol: 'TCP' } as const;
const HERE = { nodeName: 'node-1', zone: 'west' } as const;

/** Of endpoints with these hints those that the node in zone west uses for policy Cluster, by their numbers. */
function used(...hints: readonly { readonly zones?: readonly string[]; readonly nodes?: readonly string[] }[]): string {
  const endpoints = hints.map(({ zones = [], nodes = [] }, index) =>
    endpoint(`10.244.2.${index}`, { forZones: zones, forNodes: nodes }),
  );
  return choose(slice('web', endpoints))
    .cluster.map(key => /([0-9]+):/.exec(key)?.[1])
    .join(' ');
}

function choose(
  ...slices: readonly EndpointSlice[]
): Record<Exclude<keyof EndpointChoice, 'knownHere' | 'somewhere'>, readonly string[]> {
  const { cluster, local, onThisNode } = chooseEndpoints(slices, PORT, 'ipv4', HERE);
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
    const { local } = chooseEndpoints([slice('web', [endpoint('10.1.1.1', { nodeName: '' })])], PORT, 'ipv4', {
      nodeName: '',
      zone: '',
    });
    assert.deepEqual(local, []);
  });

  it('policy Local drops only while others serve elsewhere', () => {
    const elsewhere = chooseEndpoints([slice('web', ['10.244.2.5'])], PORT, 'ipv4', HERE);
    const nowhere = chooseEndpoints([], PORT, 'ipv4', HERE);
    assert.equal(underPolicy(elsewhere, 'Local'), 'drop');
    assert.deepEqual(underPolicy(nowhere, 'Local'), []);
    assert.equal(underPolicy(elsewhere, 'Cluster'), elsewhere.cluster);
  });

  it('endpoints that hints mean for this zone are used, and no other', () => {
    assert.equal(used({ zones: ['west'] }, { zones: ['east'] }, { zones: ['east', 'west'] }), '0 2');
  });

  it('endpoints that hints mean for this node go before those of its zone', () => {
    assert.equal(used({ zones: ['west'], nodes: ['node-1'] }, { zones: ['west'], nodes: ['node-2'] }), '0');
  });

  it('where no hint names this node its zone decides', () => {
    assert.equal(used({ zones: ['west'], nodes: ['node-2'] }, { zones: ['east'], nodes: ['node-3'] }), '0');
  });

  it('hints say nothing where one ready endpoint has none or none is for here', () => {
    assert.equal(used({ zones: ['west'] }, {}), '0 1');
    assert.equal(used({ zones: ['east'] }, { zones: ['north'] }), '0 1');
    assert.equal(used({ nodes: ['node-1'] }, {}), '0 1');
  });

  it('an endpoint that is not ready neither needs hints nor brings some', () => {
    const unready = unreadyEndpoint('10.244.2.9');
    const ready = endpoint('10.244.2.1', { forZones: ['west'] });
    const other = endpoint('10.244.2.2', { forZones: ['east'] });
    assert.deepEqual(choose(slice('web', [unready, ready, other])).cluster, ['10.244.2.1:8080']);
  });

  it('endpoints that terminate are a last resort and used whatever their hints', () => {
    const some = ['10.244.2.1', '10.244.2.2'].map(address => ({ ...terminatingEndpoint(address), forZones: ['east'] }));
    assert.deepEqual(choose(slice('web', some)).cluster, ['10.244.2.1:8080', '10.244.2.2:8080']);
  });

  it('hints have no part in policy Local', () => {
    const here = endpoint('10.244.1.1', { forZones: ['east'] });
    const there = endpoint('10.244.2.1', { forZones: ['west'] });
    assert.deepEqual(choose(slice('web', [here, there])), {
      cluster: ['10.244.2.1:8080'],
      local: ['10.244.1.1:8080'],
      onThisNode: ['10.244.1.1:8080'],
    });
  });
});
