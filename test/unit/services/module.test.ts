import assert from 'node:assert/strict';
import { keyOf } from '../../../daemon/cluster/kinds.ts';
import type { Snapshot } from '../../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../../daemon/net/address.ts';
import type { Fragment } from '../../../daemon/reconcile/fragment.ts';
import { servicesModule } from '../../../modules/services/module.ts';
import { addressPool, addressPools } from '../../fixtures/address-pools.ts';
import { type Cluster, hostAddress, hostFacts, ips, node, service, slice, snapshot } from '../../fixtures/cluster.ts';
import { renderFragment } from '../../fixtures/render-plan.ts';
import { servicesOptions } from '../../fixtures/services-options.ts';

const CLUSTER: Cluster = {
  services: [service('web'), service('db', { clusterIPs: ips('10.96.0.11'), externalIPs: ips('203.0.113.7') })],
  slices: [slice('web', ['10.244.1.5']), slice('db', ['10.244.2.5'])],
};

function fragmentOf(fragments: ReadonlyMap<string, Fragment>, owner: string): Fragment {
  const fragment = fragments.get(owner);
  assert.ok(fragment !== undefined, `no fragment of ${owner}`);
  return fragment;
}

describe('the services module from one snapshot to the next', () => {
  it('plans only the Service whose slice changed', () => {
    const module = servicesModule(servicesOptions());
    const first = snapshot(CLUSTER);
    const before = module.plan(first).fragments;
    const changed = slice('web', ['10.244.1.5', '10.244.1.6']);
    const after = module.plan({
      ...first,
      endpointSlicesOf: new Map([...first.endpointSlicesOf, ['default/web', [changed]]]),
    }).fragments;
    assert.match(renderFragment(fragmentOf(after, 'Service default/web')), /10\.244\.1\.6:8080/);
    assert.equal(after.get('Service default/db'), before.get('Service default/db'));
    assert.equal(after.get('Module services'), before.get('Module services'));
    assert.doesNotMatch(renderFragment(fragmentOf(before, 'Service default/web')), /10\.244\.1\.6/);
  });

  it('forgets a Service that is gone, and finds one that came in its place', () => {
    const module = servicesModule(servicesOptions());
    const first = snapshot(CLUSTER);
    module.plan(first);
    const mail = service('mail', { clusterIPs: ips('10.96.0.12') });
    const services = new Map([...first.services].filter(([key]) => key !== 'default/web'));
    services.set(keyOf(mail.meta), mail);
    const { fragments } = module.plan({ ...first, services });
    assert.deepEqual([...fragments.keys()].sort(), ['Module services', 'Service default/db', 'Service default/mail']);
  });

  it('serves a load-balancer address as soon as a named pool holds it, and plans no Service without such addresses anew', () => {
    const module = servicesModule(servicesOptions({ followsPools: true, loadBalancerIpRanges: [] }));
    const lb = service('lb', { clusterIPs: ips('10.96.0.12'), loadBalancerIPs: ips('192.0.2.7') });
    const first = snapshot({ ...CLUSTER, services: [...(CLUSTER.services ?? []), lb] });
    const before = module.plan(first).fragments;
    const told = ({ diagnostics }: Fragment): string => diagnostics.map(({ message }) => message).join();
    assert.match(told(fragmentOf(before, 'Service default/lb')), /192\.0\.2\.7 is rejected: --loadbalancer-ip-range is not set/);
    const pools = addressPools([addressPool('web', ['192.0.2.0-192.0.2.9'])]);
    const after = module.plan({ ...first, addressPools: pools }).fragments;
    assert.match(renderFragment(fragmentOf(after, 'Service default/lb')), /192\.0\.2\.7/);
    assert.equal(told(fragmentOf(after, 'Service default/lb')), '');
    for (const name of ['web', 'db']) assert.equal(after.get(`Service default/${name}`), before.get(`Service default/${name}`));
    const closed = addressPools([addressPool('web', ['192.0.2.0-192.0.2.9'], { autoAssign: false })]);
    assert.equal(module.plan({ ...first, addressPools: closed }).fragments, after);
    assert.deepEqual(module.plan(first).fragments.get('Service default/lb'), before.get('Service default/lb'));
    assert.ok(module.reads.includes('ConfigMap'));
    assert.ok(!servicesModule(servicesOptions()).reads.includes('ConfigMap'));
  });

  it('serves a Service as soon as it is no longer headless', () => {
    const module = servicesModule(servicesOptions());
    const before = module.plan(snapshot({ services: [service('web', { headless: true })] })).fragments;
    assert.equal(before.has('Service default/web'), false);
    const after = module.plan(snapshot({ services: [service('web')] })).fragments;
    assert.ok(after.has('Service default/web'));
  });

  it('gives an external IP back when a node turns up with it, and touches no other Service', () => {
    const module = servicesModule(servicesOptions());
    const first = snapshot(CLUSTER);
    const before = module.plan(first).fragments;
    assert.match(renderFragment(fragmentOf(before, 'Service default/db')), /address 203\.0\.113\.7/);
    const other = node(9, { internalIPs: ips('203.0.113.7') });
    const after = module.plan({ ...first, nodes: new Map([...first.nodes, ['node-9', other]]) }).fragments;
    assert.doesNotMatch(renderFragment(fragmentOf(after, 'Service default/db')), /address 203\.0\.113\.7/);
    assert.equal(after.get('Service default/web'), before.get('Service default/web'));
  });

  it('leaves an external IP to another link of the host that has it', () => {
    const module = servicesModule(servicesOptions());
    const first = snapshot(CLUSTER);
    module.plan(first);
    const host = hostFacts({ addresses: [...hostFacts().addresses, hostAddress('eth1', '203.0.113.7/24')] });
    const text = renderFragment(fragmentOf(module.plan({ ...first, host }).fragments, 'Service default/db'));
    assert.doesNotMatch(text, /address 203\.0\.113\.7|svip.* 203\.0\.113\.7/);
    assert.match(text, /server TCP 203\.0\.113\.7:80/);
  });

  it('its own addresses on kube-dummy-if do not count as taken', () => {
    const host = hostFacts({ addresses: [...hostFacts().addresses, hostAddress('kube-dummy-if', '10.96.0.10/32')] });
    const { fragments } = servicesModule(servicesOptions()).plan(snapshot({ ...CLUSTER, host }));
    assert.match(renderFragment(fragmentOf(fragments, 'Service default/web')), /address 10\.96\.0\.10 dev kube-dummy-if/);
  });

  it('gives back a drop when the older Service on the address goes', () => {
    const old = service('old', { clusterIPs: ips('10.96.0.11'), externalIPs: ips('203.0.113.7'), age: 1 });
    const young = service('young', {
      clusterIPs: ips('10.96.0.12'),
      externalIPs: ips('203.0.113.7'),
      externalTrafficPolicy: 'Local',
      age: 2,
    });
    const slices = [slice('old', ['10.244.2.5']), slice('young', ['10.244.2.6'])];
    const module = servicesModule(servicesOptions());
    const drops = (snapshotNow: Snapshot): boolean =>
      renderFragment(fragmentOf(module.plan(snapshotNow).fragments, 'Service default/young')).includes('fairway-drop');
    assert.equal(drops(snapshot({ services: [old, young], slices })), false);
    assert.equal(drops(snapshot({ services: [young], slices })), true);
    assert.equal(drops(snapshot({ services: [old, young], slices })), false);
  });

  it('a set grows in wide steps, long before it is full, and shrinks back with its content', () => {
    const services = Array.from({ length: 9_000 }, (_, number) =>
      service(`s${number}`, {
        clusterIPs: ['10.96', '10.97'].map(start => `${start}.${number >> 8}.${number & 255}` as IpAddress),
      }),
    );
    const module = servicesModule(servicesOptions());
    const text = (count: number): string =>
      renderFragment(fragmentOf(module.plan(snapshot({ services: services.slice(0, count) })).fragments, 'Module services'));
    assert.match(text(8_192), /set kube-router-svip hash:ip ipv4 maxelem 65536\n/);
    assert.match(text(8_193), /set kube-router-svip hash:ip ipv4 maxelem 1048576\n/);
    assert.equal(text(9_000), text(8_193));
    assert.match(text(1), /set kube-router-svip hash:ip ipv4 maxelem 65536\n/);
  });

  it('reads Services, slices and nodes, and nothing else', () => {
    assert.deepEqual([...servicesModule(servicesOptions()).reads].sort(), ['EndpointSlice', 'Node', 'Service']);
  });

  it('40,000 endpoints in one Service are planned like four', () => {
    const endpoints = Array.from({ length: 40_000 }, (_, number) => `10.244.${number >> 8}.${number & 255}`);
    const slices = Array.from({ length: 40 }, (_, number) =>
      slice('web', endpoints.slice(number * 1000, (number + 1) * 1000), { name: `web-${number}` }),
    );
    const { fragments } = servicesModule(servicesOptions()).plan(snapshot({ services: [service('web')], slices }));
    const [server] = fragmentOf(fragments, 'Service default/web').entries.flatMap(entry =>
      entry.table === 'virtualServer' ? [entry.value] : [],
    );
    assert.equal(server?.destinations.length, 40_000);
  });
});
