import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHAINED_PLUGINS, editedConfig, newConfig } from '../../../daemon/kernel/cni-edit.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import type { CniConfig } from '../../../daemon/reconcile/routing-tables.ts';

const V4 = '10.244.1.0/24';
const V6 = 'fd00:10:244:1::/64';
const root = join(import.meta.dirname, '../../..');

const wanted = (path: string, podCIDRs: readonly string[] = [V4, V6], mtu?: number): CniConfig => ({
  path,
  podCIDRs: podCIDRs.map(mustParsePrefix),
  mtu,
  needs: [],
});
const conf = (podCIDRs?: readonly string[], mtu?: number): CniConfig => wanted('/etc/cni/net.d/10-x.conf', podCIDRs, mtu);
const list = (podCIDRs?: readonly string[], mtu?: number): CniConfig => wanted('/etc/cni/net.d/10-x.conflist', podCIDRs, mtu);

const bridge = (ipam: object, more: object = { isDefaultGateway: true }): string =>
  JSON.stringify({
    cniVersion: '0.3.0',
    name: 'mynet',
    type: 'bridge',
    bridge: 'kube-bridge',
    ...more,
    ipam: { type: 'host-local', ...ipam },
  });

interface Shown {
  readonly mtu?: number;
  readonly plugins: readonly { readonly type: string }[];
  readonly ipam: { readonly routes?: unknown; readonly ranges: unknown };
}
const parsed = (text: string): Shown => JSON.parse(text) as Shown;
const ipamOf = (text: string): unknown => parsed(text).ipam;

describe('the text of a CNI configuration', () => {
  it('has each pod CIDR as a range set of its own, in their order, and no other', () => {
    const text = bridge({ ranges: [[{ subnet: V6 }], [{ subnet: '10.99.0.0/24' }], [{ subnet: V4 }]] });
    assert.deepEqual(ipamOf(editedConfig(text, conf())), { type: 'host-local', ranges: [[{ subnet: V4 }], [{ subnet: V6 }]] });
    assert.deepEqual(ipamOf(editedConfig(text, conf([V6]))), { type: 'host-local', ranges: [[{ subnet: V6 }]] });
  });

  it('keeps what an author says of a range of a pod CIDR', () => {
    const own = { subnet: V4, rangeStart: '10.244.1.20', rangeEnd: '10.244.1.30', gateway: '10.244.1.254' };
    const second = { subnet: V4, rangeStart: '10.244.1.50', rangeEnd: '10.244.1.60' };
    const text = bridge({ ranges: [[own, second, { subnet: '10.9.0.0/16' }]] });
    assert.deepEqual(ipamOf(editedConfig(text, conf([V4]))), { type: 'host-local', ranges: [[own, second]] });
  });

  it('knows a pod CIDR in other spelling', () => {
    const text = bridge({ ranges: [[{ subnet: 'fd00:10:244:1:0:0:0:0/64', gateway: 'fd00:10:244:1::9' }]] });
    assert.deepEqual(ipamOf(editedConfig(text, conf([V6]))), {
      type: 'host-local',
      ranges: [[{ subnet: V6, gateway: 'fd00:10:244:1::9' }]],
    });
  });

  it('moves the one subnet of the older form among the ranges, with what goes with it', () => {
    const old = { subnet: V4, rangeStart: '10.244.1.20', dataDir: '/run/leases' };
    assert.deepEqual(ipamOf(editedConfig(bridge(old), conf())), {
      type: 'host-local',
      dataDir: '/run/leases',
      ranges: [[{ subnet: V4, rangeStart: '10.244.1.20' }], [{ subnet: V6 }]],
    });
    assert.deepEqual(ipamOf(editedConfig(bridge({ subnet: '10.99.0.0/24', gateway: '10.99.0.9' }), conf([V4]))), {
      type: 'host-local',
      ranges: [[{ subnet: V4 }]],
    });
  });

  it('leads no family of pods out where another is', () => {
    const routesOf = (routes: object | undefined, more: object, podCIDRs?: readonly string[]): unknown =>
      parsed(editedConfig(bridge({ routes }, more), conf(podCIDRs))).ipam.routes;
    const v4 = { dst: '0.0.0.0/0' };
    const v6 = { dst: '::/0' };
    const other = { dst: '10.0.0.0/8', gw: '10.244.1.7' };
    assert.deepEqual(routesOf([other, v4], { isGateway: true }), [other, v4, v6]);
    assert.deepEqual(routesOf([v6], {}), [v6, v4]);
    assert.deepEqual(routesOf([v4, v6], {}), [v4, v6]);
    assert.deepEqual(routesOf([v4], {}, [V4]), [v4]);
    // The plugin does it.
    assert.deepEqual(routesOf([v4], { isDefaultGateway: true }), [v4]);
    // The author wants no way out.
    assert.deepEqual(routesOf([other], {}), [other]);
    assert.equal(routesOf(undefined, {}), undefined);
  });

  it('has the MTU that is given, and its own where none is', () => {
    const mtuOf = (text: string): unknown => parsed(text).mtu;
    assert.equal(mtuOf(editedConfig(bridge({}, { mtu: 9000 }), conf([V4], 1480))), 1480);
    assert.equal(mtuOf(editedConfig(bridge({}, { mtu: 9000 }), conf([V4]))), 9000);
    assert.equal(mtuOf(editedConfig(bridge({}), conf([V4]))), undefined);
  });

  it('is changed in the first bridge of a list, and nowhere else: keys, their order and the layout stay', () => {
    const text = `{
    "name": "theirs",
    "x-unknown": { "b": 1, "a": [ 1, 2 ] },
    "cniVersion": "0.3.1",
    "plugins": [
        { "type": "tuning" },
        { "mtu": 1500, "type": "bridge", "vlan": 7, "ipam": { "x": true, "type": "host-local", "ranges": [], "y": null } },
        { "type": "bridge", "ipam": { "type": "host-local" } }
    ]
}
`;
    const edited = editedConfig(text, list([V4], 1400));
    assert.equal(edited, `${JSON.stringify(JSON.parse(edited), null, 4)}\n`);
    assert.equal(
      JSON.stringify(JSON.parse(edited)),
      JSON.stringify(JSON.parse(text))
        .replace('"mtu":1500', '"mtu":1400')
        .replace('"ranges":[]', `"ranges":[[{"subnet":"${V4}"}]]`),
    );
  });

  it('is the very same, byte for byte, where it says so already', () => {
    const [first, second] = [V4, V6].map(subnet => `[ {"subnet" :"${subnet}"}]`);
    const text = `\n{"type":"bridge",  "mtu": 1.48e3,"ipam":{"ranges":[${first},${second}],\t"type":"host-local"}}\n\n`;
    assert.equal(editedConfig(text, conf(undefined, 1480)), text);
    const once = editedConfig(bridge({ subnet: V4 }), conf(undefined, 1480));
    assert.equal(editedConfig(once, conf(undefined, 1480)), once);
  });

  it('cannot be where we are not sure what we read: the file and a remedy are named', () => {
    const refusals: readonly (readonly [string, CniConfig, RegExp])[] = [
      ['{"type": "bridge"', conf(), /10-x\.conf is no JSON \(.*\): repair it, or remove it/],
      ['[]', conf(), /holds no JSON object/],
      ['{"type":"ptp"}', conf(), /10-x\.conf is not of type bridge: .*--enable-cni=false/],
      ['{"plugins":[{"type":"calico"}]}', list(), /10-x\.conflist has no plugin of type bridge: .*--enable-cni=false/],
      [bridge({}), list(), /has no plugin of type bridge/],
      [bridge({ type: 'dhcp' }), conf(), /leaves addresses to another plugin than host-local: set "ipam"/],
      ['{"type":"bridge"}', conf(), /leaves addresses to another plugin/],
      [bridge({ ranges: [{ subnet: V4 }] }), conf(), /ipam\.ranges that are no list of lists: repair/],
    ];
    for (const [text, entry, message] of refusals)
      assert.throws(() => editedConfig(text, entry), { name: 'FairwayError', message });
  });

  it('is as the shipped template where there was none, with the plugins that are installed', () => {
    const shipped = parsed(readFileSync(join(root, 'manifests/cni/10-kuberouter.conflist'), 'utf8'));
    const made = newConfig(list(undefined, 1480), new Set(CHAINED_PLUGINS));
    assert.deepEqual(JSON.parse(made), JSON.parse(editedConfig(JSON.stringify(shipped), list(undefined, 1480))));
    assert.equal(editedConfig(made, list(undefined, 1480)), made);
    const types = (text: string): unknown => parsed(text).plugins.map(({ type }) => type);
    assert.deepEqual(types(newConfig(list(), new Set())), ['bridge']);
    assert.deepEqual(types(newConfig(list(), new Set(['bandwidth', 'tuning']))), ['bridge', 'bandwidth']);
    const alone = parsed(newConfig(conf(undefined, 1480), new Set(CHAINED_PLUGINS)));
    assert.deepEqual(alone, { cniVersion: '0.4.0', name: 'mynet', ...shipped.plugins[0], mtu: 1480, ipam: alone.ipam });
    assert.deepEqual(alone.ipam.ranges, [[{ subnet: V4 }], [{ subnet: V6 }]]);
  });
});
