import assert from 'node:assert/strict';
import type { Snapshot } from '../../../daemon/cluster/snapshot.ts';
import type { Fragment, OwnerKey } from '../../../daemon/reconcile/fragment.ts';
import { policyModule } from '../../../modules/policy/module.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import { ips, namespace, networkPolicy, pod, service, snapshot } from '../../fixtures/cluster.ts';
import { policyOptions } from '../../fixtures/policy-options.ts';

const FIRST = snapshot({
  pods: [pod('web', '10.244.1.5')],
  namespaces: [namespace('default')],
  networkPolicies: [networkPolicy('closed')],
  services: [service('in', { clusterIPs: ips('10.96.0.11') }), service('lb', { loadBalancerIPs: ips('192.0.2.7') })],
});
const POOLS = addressPools([addressPool('web', ['192.0.2.6-192.0.2.8'])]);

function rules(fragments: ReadonlyMap<OwnerKey, Fragment>): string {
  return JSON.stringify(fragments.get('Module policy')?.entries.map(({ value }) => value));
}

describe('network policy from one snapshot to the next', () => {
  it('leaves what pods send to named pools to the service proxy as soon as there are some, and plans nothing else anew', () => {
    const module = policyModule(policyOptions({ followsPools: true, strictExternalIpValidation: false }));
    const withPools = (addressPool?: Snapshot['addressPools']): ReadonlyMap<OwnerKey, Fragment> =>
      module.plan({ ...FIRST, addressPools: addressPool }).fragments;
    const before = withPools();
    const listed = (fragments: ReadonlyMap<OwnerKey, Fragment>): readonly (string | undefined)[] =>
      (fragments.get('Service default/lb')?.entries ?? []).map(({ key }) => key);
    assert.equal(listed(before).length, 1);
    assert.doesNotMatch(rules(before), /192\.0\.2/);

    const after = withPools(POOLS);
    for (const range of ['192.0.2.6/31', '192.0.2.8'])
      assert.match(rules(after), new RegExp(`-d ${range.replaceAll('.', '\\.')}.* -j RETURN`));
    assert.deepEqual(listed(after), []);
    const others = [...before].filter(([owner]) => !['Module policy', 'Service default/lb'].includes(owner));
    for (const [owner, fragment] of others) assert.equal(after.get(owner), fragment, owner);

    assert.equal(withPools(addressPools([...POOLS.pools].map(pool => ({ ...pool, autoAssign: false })))), after);
    assert.deepEqual([...withPools()].sort(), [...before].sort());
  });

  it('reads ConfigMaps only where named pools are asked for', () => {
    assert.ok(policyModule(policyOptions({ followsPools: true })).reads.includes('ConfigMap'));
    assert.ok(!policyModule(policyOptions()).reads.includes('ConfigMap'));
  });
});
