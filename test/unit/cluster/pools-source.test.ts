import assert from 'node:assert/strict';
import { ApiSource } from '../../../daemon/cluster/api-source.ts';
import { NodeViewer } from '../../../daemon/cluster/node-view.ts';
import { Projector } from '../../../daemon/cluster/project.ts';
import { Store } from '../../../daemon/cluster/store.ts';
import { instantOf } from '../../../daemon/net/instant.ts';
import { storeDiagnostics } from '../../../daemon/store-diagnostics.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { MemoryApi } from '../../fakes/memory-api.ts';
import type { ApiObject } from '../../fakes/object-store.ts';
import { Recorder } from '../../fakes/recorder.ts';
import { addressPool, addressPools, POOLS_KEY } from '../../fixtures/address-pools.ts';
import { hostFacts } from '../../fixtures/cluster.ts';

const WEB = 'pools: [{name: web, addresses: [192.0.2.1]}]';

function configMap(text: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'kube-system', name: 'pools' },
    data: { 'pools.yaml': text },
  };
}

describe('named pools of the API server', () => {
  it('are one ConfigMap, and no right to read another is needed', async () => {
    const clock = new ManualClock();
    const api = new MemoryApi(clock);
    api.put(configMap(WEB));
    const told = new Recorder();
    const source = new ApiSource({
      kinds: ['ConfigMap'],
      configMap: { namespace: 'kube-system', name: 'pools' },
      transport: api,
      clock,
      random: () => 0.5,
      observer: told,
    });
    source.start(told);
    await told.until(() => told.replaced.length === 1);
    api.put(configMap('pools: []'));
    await told.until(() => told.changes.length === 1);
    await source.stop();
    for (const path of api.paths) {
      const { pathname, searchParams } = new URL(path, 'https://api');
      assert.equal(pathname, '/api/v1/namespaces/kube-system/configmaps');
      assert.equal(searchParams.get('fieldSelector'), 'metadata.name=pools');
    }
    assert.deepEqual(told.changes, [`upsert ConfigMap ${POOLS_KEY}`]);
  });
});

describe('named pools in the snapshot', () => {
  let changes = 0;
  let store: Store;
  beforeEach(() => {
    changes = 0;
    const onChange = (): void => {
      changes++;
    };
    store = new Store({ kinds: ['ConfigMap'], nodeViewer: new NodeViewer('node-1'), onChange });
  });

  const arrive = (text: string): void => {
    const { object, complaints } = new Projector().project('ConfigMap', configMap(text));
    assert.ok(object !== undefined);
    store.upsert(object, complaints);
  };
  const pools = (): unknown => store.snapshot(instantOf(0), hostFacts()).addressPools?.pools;
  const said = (): readonly string[] =>
    storeDiagnostics({ store, nodeName: 'node-1', host: hostFacts(), poolsKey: POOLS_KEY }).map(
      ({ code, message }) => `${code} ${message}`,
    );

  it('stay while the text cannot be read, which is said', () => {
    arrive(WEB);
    const before = store.snapshot(instantOf(0), hostFacts()).addressPools;
    arrive('pools: {');
    assert.equal(store.snapshot(instantOf(0), hostFacts()).addressPools, before);
    assert.equal(changes, 1);
    assert.match(said().join('\n'), /^FW_LB_POOL ConfigMap kube-system\/pools: data\[pools\.yaml\], line 1: .*: not YAML/);
    arrive('pools: [{name: web, addresses: [192.0.2.1], namespaces: x}, {name: db, addresses: [192.0.2.2]}]');
    assert.deepEqual(pools(), [addressPool('web', ['192.0.2.1']), addressPool('db', ['192.0.2.2'])]);
    arrive('pools: [{name: db, addresses: [192.0.2.2]}]');
    assert.deepEqual([pools(), said()], [[addressPool('db', ['192.0.2.2'])], []]);
  });

  it('of a file are complained of by its path', () => {
    const meta = { namespace: '', name: '/etc/pools.yaml', uid: '', creationTimestamp: 0 };
    store.upsert(addressPools([], { meta }), [{ kind: 'ConfigMap', key: '/etc/pools.yaml', message: 'pools[]: 7: not a pool' }]);
    assert.deepEqual(said(), ['FW_LB_POOL Pools file /etc/pools.yaml: pools[]: 7: not a pool']);
  });

  it('are none when the ConfigMap goes, or never was, which is said', () => {
    assert.deepEqual(said(), []);
    store.replace('ConfigMap', []);
    const absent = [
      'FW_LB_POOL There is no ConfigMap kube-system/pools, which --loadbalancer-pools names: nothing is handed out of named pools, and of their addresses only those are served that were handed out before; create it with the pools under the key pools.yaml ("pools: []" for none), or correct the flag.',
    ];
    assert.deepEqual(said(), absent);
    arrive(WEB);
    assert.deepEqual(said(), []);
    store.remove('ConfigMap', POOLS_KEY);
    assert.deepEqual([pools(), said()], [undefined, absent]);
  });
});
