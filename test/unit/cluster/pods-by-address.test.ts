// Address plan: pods 10.244.1.0/24, the node 192.168.1.1.
import assert from 'node:assert/strict';
import { NodeViewer } from '../../../daemon/cluster/node-view.ts';
import { Store } from '../../../daemon/cluster/store.ts';
import { ip, pod } from '../../fixtures/cluster.ts';

describe('pods by address', () => {
  const filled = (): Store => {
    const store = new Store({ kinds: ['Pod'], nodeViewer: new NodeViewer('node-1'), onChange: () => undefined });
    store.upsert(pod('web', '10.244.1.5'), []);
    return store;
  };
  const names = (store: Store, address: string): readonly string[] => store.podsAt(ip(address)).map(({ meta }) => meta.name);

  it('are found from the first question on, as they come, move, end and go', () => {
    const store = filled();
    assert.deepEqual(names(store, '10.244.1.5'), ['web']);
    store.upsert(pod('api', '10.244.1.6'), []);
    assert.deepEqual(names(store, '10.244.1.6'), ['api']);
    store.upsert(pod('api', '10.244.1.7'), []);
    assert.deepEqual([names(store, '10.244.1.6'), names(store, '10.244.1.7')], [[], ['api']]);
    store.upsert(pod('api', '10.244.1.7', { finished: true }), []);
    assert.deepEqual(names(store, '10.244.1.7'), []);
    store.remove('Pod', 'default/web');
    assert.deepEqual(names(store, '10.244.1.5'), []);
  });

  it('share an address where they are in the network of the host, or one has just been given it', () => {
    const store = filled();
    assert.deepEqual(names(store, '192.168.1.1'), []);
    for (const name of ['proxy', 'agent']) store.upsert(pod(name, '192.168.1.1', { hostNetwork: true }), []);
    assert.deepEqual(names(store, '192.168.1.1'), ['proxy', 'agent']);
    store.remove('Pod', 'default/proxy');
    assert.deepEqual(names(store, '192.168.1.1'), ['agent']);
    store.replace('Pod', []);
    assert.deepEqual([names(store, '192.168.1.1'), names(store, '10.244.1.5')], [[], []]);
  });
});
