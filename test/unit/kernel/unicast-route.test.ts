// Address plan: nodes 192.168.1.0/24 and fd00:192::/64 on eth0; routes to 10.1.0.0/16 and fd00:1::/48.
import assert from 'node:assert/strict';
import { unicastRouteDriver } from '../../../daemon/kernel/unicast-route.ts';
import { routeText, shownRouteOf } from '../../../daemon/kernel/unicast-route-line.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import { MAIN_TABLE, type NextHop, POD_SOURCE_TABLE, type UnicastRoute } from '../../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../../daemon/reconcile/tables.ts';

const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };
const via = (gateway: string, link = 'eth0'): NextHop => ({ link, gateway: mustParseAddress(gateway), vxlanRemote: undefined });
const by = (link: string): NextHop => ({ link, gateway: undefined, vxlanRemote: undefined });
const vxlan = (remote: string): NextHop => ({ link: 'fairway-vxlan', gateway: undefined, vxlanRemote: mustParseAddress(remote) });
const route = (destination: string, nextHops: readonly NextHop[], source?: string): UnicastRoute => ({
  table: MAIN_TABLE,
  destination: mustParsePrefix(destination),
  nextHops,
  source: source === undefined ? undefined : mustParseAddress(source),
});
const keyOf = TABLES.unicastRoute.key;

describe('a route that leads elsewhere', () => {
  it('is written as ip takes it', () => {
    const tunnel = 'tun-0123456789a';
    assert.deepEqual(
      [
        route('10.1.0.0/24', [via('192.168.1.2')], '192.168.1.1'),
        route('10.1.1.0/24', [via('192.168.1.2'), via('192.168.1.3')]),
        route('10.1.2.0/24', [by(tunnel)]),
        route('10.1.3.0/24', [vxlan('192.168.1.2')]),
        route('fd00:1::/64', [by(tunnel)]),
        route('fd00:1:0:1::/64', [vxlan('fd00:192::2'), vxlan('fd00:192::3')]),
        { ...route('192.168.1.2/32', [by(tunnel)]), table: POD_SOURCE_TABLE } as const,
      ].map(routeText),
      [
        '10.1.0.0/24 table 254 proto 70 metric 32070 src 192.168.1.1 via 192.168.1.2 dev eth0',
        '10.1.1.0/24 table 254 proto 70 metric 32070 nexthop via 192.168.1.2 dev eth0 nexthop via 192.168.1.3 dev eth0',
        '10.1.2.0/24 table 254 proto 70 metric 32070 dev tun-0123456789a',
        '10.1.3.0/24 table 254 proto 70 metric 32070 encap ip id 1 dst 192.168.1.2 dev fairway-vxlan',
        'fd00:1::/64 table 254 proto 70 metric 32070 via fe80::1 dev tun-0123456789a',
        'fd00:1:0:1::/64 table 254 proto 70 metric 32070 nexthop encap ip6 id 1 dst fd00:192::2 csum via fe80::1 dev fairway-vxlan nexthop encap ip6 id 1 dst fd00:192::3 csum via fe80::1 dev fairway-vxlan',
        '192.168.1.2/32 table 77 proto 70 dev tun-0123456789a',
      ],
    );
  });

  it('is made with add, changed with replace, and deleted by our protocol', () => {
    const one = route('10.1.0.0/24', [via('192.168.1.2')]);
    const other = route('10.1.0.0/24', [via('192.168.1.3')]);
    const left = { ...one, nextHops: [] };
    const render = (change: Change<UnicastRoute>): readonly string[] =>
      unicastRouteDriver({ runner: unused }).render([change]).split('\n').slice(0, -1);
    const key = keyOf(one);
    assert.deepEqual(render({ op: 'create', key, to: one }), [`route add ${routeText(one)}`]);
    assert.deepEqual(render({ op: 'update', key, from: one, to: other }), [`route replace ${routeText(other)}`]);
    assert.deepEqual(render({ op: 'delete', key, from: one }), ['route del 10.1.0.0/24 table 254 proto 70']);
    // kube-router's goes only after ours came.
    assert.deepEqual(render({ op: 'update', key, from: left, to: one }), [
      `route replace ${routeText(one)}`,
      'route del 10.1.0.0/24 table 254 proto 17',
    ]);
  });

  it('is read from a line of ip, in every form', () => {
    const shown = (line: string): unknown => {
      const found = shownRouteOf(line);
      return found === undefined
        ? undefined
        : [found.destination, found.table, found.protocol, found.metric, found.source, found.nextHops];
    };
    const tab = '\\\tnexthop';
    for (const [line, expected] of [
      [
        '10.1.0.0/24 via 192.168.1.2 dev eth0 src 192.168.1.1 metric 32070 ',
        ['10.1.0.0/24', undefined, undefined, 32070, '192.168.1.1', [via('192.168.1.2')]],
      ],
      ['10.3.0.1 dev db table 77 scope 253 ', ['10.3.0.1/32', 77, undefined, 0, undefined, [by('db')]]],
      ['10.3.0.1 dev db proto 17 scope 253 linkdown ', ['10.3.0.1/32', undefined, 17, 0, undefined, [by('db')]]],
      [
        `fd00:2::/64 src fd00:192::1 metric 32070 pref medium${tab} via fd00:192::3 dev eth0 weight 1 ${tab} via fd00:192::2 dev eth0 weight 1 `,
        ['fd00:2::/64', undefined, undefined, 32070, 'fd00:192::1', [via('fd00:192::2'), via('fd00:192::3')]],
      ],
      [
        '10.2.0.0/24  encap ip id 1 src 0.0.0.0 dst 192.168.1.2 ttl 0 tos 0 dev fairway-vxlan src 192.168.1.1 metric 32070 ',
        ['10.2.0.0/24', undefined, undefined, 32070, '192.168.1.1', [vxlan('192.168.1.2')]],
      ],
      [
        `10.2.0.0/24 metric 32070 ${tab}  encap ip id 1 src 0.0.0.0 dst 192.168.1.2 ttl 0 tos 0 dev fairway-vxlan weight 1 ${tab}  encap ip id 2 src 0.0.0.0 dst 192.168.1.3 ttl 0 tos 0 dev fairway-vxlan weight 1 `,
        ['10.2.0.0/24', undefined, undefined, 32070, undefined, [by('fairway-vxlan'), vxlan('192.168.1.2')]],
      ],
      [
        'fd00:3::/64  encap ip6 id 1 src :: dst fd00:192::2 hoplimit 0 tc 0 csum via fe80::1 dev fairway-vxlan metric 32070 pref medium',
        ['fd00:3::/64', undefined, undefined, 32070, undefined, [vxlan('fd00:192::2')]],
      ],
      [
        'fd00:3::/64  encap ip6 id 1 src :: dst fd00:192::2 hoplimit 0 tc 0 via fe80::1 dev fairway-vxlan metric 32070 pref medium',
        ['fd00:3::/64', undefined, undefined, 32070, undefined, [by('fairway-vxlan')]],
      ],
      [
        'fd00:3::/64 via fe80::1 dev eth0 metric 1024 pref medium',
        ['fd00:3::/64', undefined, undefined, 1024, undefined, [via('fe80::1')]],
      ],
      [
        'fd00:3::1 via fe80::1 dev tun-0123456789a metric 1024 pref medium',
        ['fd00:3::1/128', undefined, undefined, 1024, undefined, [by('tun-0123456789a')]],
      ],
      ['default via 192.168.1.2 dev eth0 ', ['0.0.0.0/0', undefined, undefined, 0, undefined, [via('192.168.1.2')]]],
      ['default dev eth0 metric 1024 pref medium', ['::/0', undefined, undefined, 1024, undefined, [by('eth0')]]],
      ['blackhole 10.1.0.0/24 metric 5 ', undefined],
      ['local 10.1.0.1 dev lo table 255 ', undefined],
      ['', undefined],
    ] as const) {
      assert.deepEqual(shown(line), expected, line);
    }
  });
});
