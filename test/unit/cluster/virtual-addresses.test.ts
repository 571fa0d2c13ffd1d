import assert from 'node:assert/strict';
import type { Service } from '../../../daemon/cluster/kinds.ts';
import { RulesInForce } from '../../../daemon/cluster/rules-in-force.ts';
import { familiesOf, policiesOf, type VirtualAddressRules, vipsOf } from '../../../daemon/cluster/virtual-addresses.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import { balancer, cidrs, ips, service } from '../../fixtures/cluster.ts';

const STRICT: VirtualAddressRules = {
  externalIpRanges: cidrs('203.0.113.0/24'),
  loadBalancerIpRanges: cidrs('198.51.100.0/24'),
  namedPools: [],
  arePoolsKnown: true,
  clusterIpRanges: cidrs('10.96.0.0/16'),
  strictExternalIpValidation: true,
};
const ANY: VirtualAddressRules = { ...STRICT, strictExternalIpValidation: false };

/** `ADDRESS ORIGINS POLICY` of each virtual address. */
function vips(of: Service, rules = STRICT): readonly string[] {
  return vipsOf(of, policiesOf(of).policies, rules).vips.map(
    ({ address, origins, policy }) => `${address} ${origins.join('+')} ${policy}`,
  );
}

function objections(of: Service, rules = STRICT): readonly string[] {
  return vipsOf(of, policiesOf(of).policies, rules).objections.map(({ code, message }) => `${code} ${message}`);
}

describe('the virtual addresses of a Service', () => {
  it('are its ClusterIPs under the internal policy, and all others under the external one', () => {
    const web = service('web', {
      externalIPs: ips('203.0.113.1'),
      loadBalancerIPs: ips('198.51.100.1'),
      externalTrafficPolicy: 'Local',
    });
    assert.deepEqual(vips(web), [
      '10.96.0.10 clusterIP Cluster',
      '203.0.113.1 externalIP Local',
      '198.51.100.1 loadBalancerIP Local',
    ]);
    assert.deepEqual(objections(web), []);
  });

  it('each once, with all fields it comes from', () => {
    const web = service('web', {
      externalIPs: ips('198.51.100.1', '198.51.100.1', '10.96.0.10'),
      loadBalancerIPs: ips('198.51.100.1'),
    });
    assert.deepEqual(vips(web, ANY), [
      '10.96.0.10 clusterIP+externalIP Cluster',
      '198.51.100.1 externalIP+loadBalancerIP Cluster',
    ]);
  });

  it('without the load balancer where the annotation says so, whatever its value', () => {
    const annotations = { 'kube-router.io/service.skiplbips': 'false' };
    assert.deepEqual(vips(service('web', { loadBalancerIPs: ips('198.51.100.1'), annotations })), [
      '10.96.0.10 clusterIP Cluster',
    ]);
  });

  it('lie in the ranges of their own flag', () => {
    const web = service('web', { externalIPs: ips('198.51.100.1', '10.96.7.7'), loadBalancerIPs: ips('203.0.113.1') });
    assert.deepEqual(vips(web), ['10.96.0.10 clusterIP Cluster']);
    const [external, cluster, balancer] = objections(web);
    assert.match(
      external ?? '',
      /^FW_SERVICE_ADDRESS_RANGE Service default\/web: external IP 198\.51\.100\.1 is rejected: .*--service-external-ip-range/,
    );
    assert.match(cluster ?? '', /lies in --service-cluster-ip-range/);
    assert.match(balancer ?? '', /load-balancer IP 203\.0\.113\.1 is rejected: .*--loadbalancer-ip-range/);
    assert.match(
      objections(web, { ...STRICT, externalIpRanges: [] })[0] ?? '',
      /--service-external-ip-range is not set, so that none is allowed/,
    );
    assert.equal(vips(web, ANY).length, 4);
  });

  it('lie in a named pool as well, of which the objection names each', () => {
    const balanced = service('web', { loadBalancerIPs: ips('192.0.2.1'), externalIPs: ips('192.0.2.2') });
    const pools: VirtualAddressRules = {
      ...STRICT,
      namedPools: [
        { name: 'web', prefixes: cidrs('192.0.2.0/31', '2001:db8::/64') },
        { name: 'db', prefixes: cidrs('192.0.3.0/24') },
      ],
    };
    assert.deepEqual(vips(balanced, pools), ['10.96.0.10 clusterIP Cluster', '192.0.2.1 loadBalancerIP Cluster']);
    assert.match(
      objections(balanced, pools).join(),
      /external IP 192\.0\.2\.2 is rejected: it is outside --service-external-ip-range \(203/,
    );
    const told = (rules: Partial<VirtualAddressRules>): string =>
      objections(service('web', { loadBalancerIPs: ips('192.0.9.1') }), { ...pools, ...rules }).join();
    assert.match(
      told({}),
      /is rejected: it is outside --loadbalancer-ip-range \(198\.51\.100\.0\/24\) and the pools web, db\. Add a range that holds it to --loadbalancer-ip-range or a pool, or set/,
    );
    assert.match(
      told({ loadBalancerIpRanges: [], namedPools: pools.namedPools.slice(0, 1) }),
      /: it is outside the pool web, and --loadbalancer-ip-range is not set\. Add/,
    );
  });

  it('are those that we handed out, while a pool that may hold them cannot be read', () => {
    const address = ips('192.0.2.1');
    const written = (by: string): Service =>
      balancer('web', { externalIPs: ips('192.0.2.2'), loadBalancer: { ingressIPs: address, writtenBy: by } });
    const unknown = { ...STRICT, arePoolsKnown: false };
    const served = '10.96.0.10 clusterIP Cluster';
    assert.deepEqual(vips(written('fairway'), unknown), [served, '192.0.2.1 loadBalancerIP Cluster']);
    assert.deepEqual(vips(written('kube-router'), unknown), [served, '192.0.2.1 loadBalancerIP Cluster']);
    assert.deepEqual(vips(written('kubectl-edit'), unknown), [served]);
    assert.deepEqual(vips(written('fairway'), STRICT), [served]);
  });

  it('are none that would cut off a host', () => {
    const bad = ips('127.0.0.1', '169.254.1.1', '0.0.0.0', '224.0.0.1', '::1', 'fe80::1', '::', 'ff02::1');
    const web = service('web', {
      externalIPs: bad,
      loadBalancerIPs: bad,
      clusterIPs: ips('10.96.0.10', '127.0.0.2'),
      ipFamilies: ['ipv4', 'ipv6'],
    });
    assert.deepEqual(vips(web, ANY), ['10.96.0.10 clusterIP Cluster']);
    assert.equal(objections(web, ANY).length, 2 * bad.length + 1);
    for (const objection of objections(web, ANY)) assert.match(objection, /^FW_OBJECT_FIELD .*left out/);
  });

  it('are of the families of the Service; one that says none is of any', () => {
    const web = service('web', { externalIPs: ips('2001:db8:1::1') });
    assert.match(objections(web, ANY).join(), /the Service is not of family IPv6\. Add IPv6 to spec\.ipFamilies/);
    const free = service('web', { clusterIPs: [], ipFamilies: [], externalIPs: ips('2001:db8:1::1') });
    assert.equal(familiesOf(free), undefined);
    assert.deepEqual(vips(free, ANY), ['2001:db8:1::1 externalIP Cluster']);
  });
});

describe('the traffic policies of a Service', () => {
  it('are its own; kube-router.io/service.local makes both Local', () => {
    const of = (text: string): ReturnType<typeof policiesOf> =>
      policiesOf(service('web', { internalTrafficPolicy: 'Local', annotations: { 'kube-router.io/service.local': text } }));
    assert.deepEqual(of(' true '), { policies: { internal: 'Local', external: 'Local' }, objections: [] });
    for (const text of ['', 'false'])
      assert.deepEqual(of(text), { policies: { internal: 'Local', external: 'Cluster' }, objections: [] });
    const { policies, objections: told } = of('True');
    assert.deepEqual(policies, { internal: 'Local', external: 'Cluster' });
    assert.match(told[0]?.message ?? '', /'True', which is neither "true" nor "false"; the Service's own traffic policies stand/);
  });
});

describe('the rules in force', () => {
  const pools = addressPools([addressPool('web', ['192.0.2.1-192.0.2.2'])]);

  it('are the same object as long as pools allow the same addresses', () => {
    const inForce = new RulesInForce(STRICT);
    assert.equal(inForce.with(undefined), STRICT);
    const rules = inForce.with(pools);
    assert.deepEqual(rules, { ...STRICT, namedPools: [{ name: 'web', prefixes: ['192.0.2.1/32', '192.0.2.2/32'] }] });
    const kept = addressPools([addressPool('web', ['192.0.2.1-192.0.2.2'], { autoAssign: false })]);
    assert.equal(inForce.with(kept), rules);
    assert.deepEqual(inForce.with(undefined), { ...STRICT, arePoolsKnown: false });
  });

  it('ask for no pools where every address is allowed', () => {
    assert.equal(new RulesInForce(ANY).with(pools), ANY);
  });
});
