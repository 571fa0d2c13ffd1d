import assert from 'node:assert/strict';
import { parseHookRule } from '../../../daemon/kernel/iptables-rule.ts';
import { parseSave } from '../../../daemon/kernel/ipvsadm-read.ts';
import { shownRouteOf } from '../../../daemon/kernel/unicast-route-line.ts';
import { kernelText, routeLine } from '../../../daemon/reconcile/kernel-text.ts';
import { MAIN_TABLE, type NextHop, POD_SOURCE_TABLE, type UnicastRoute } from '../../../daemon/reconcile/routing-tables.ts';
import { type IptablesEntry, listenerKey, sameEntry, type VirtualServer } from '../../../daemon/reconcile/tables.ts';
import { cidrs, ip } from '../../fixtures/cluster.ts';

/** What is shown is what the tools print: the drivers read the same entries in it. */
describe('kernel entries as fairway why shows them', () => {
  const servers: readonly VirtualServer[] = [
    {
      listener: { by: 'address', protocol: 'TCP', address: ip('10.96.0.10'), port: 80 },
      scheduler: 'rr',
      schedulerFlags: [],
      persistenceSeconds: 0,
      destinations: [{ address: ip('10.244.1.5'), port: 8080, weight: 1, forwarding: 'masquerade' }],
    },
    {
      listener: { by: 'address', protocol: 'SCTP', address: ip('fd00:96::a'), port: 80 },
      scheduler: 'sh',
      schedulerFlags: ['flag-1', 'flag-2'],
      persistenceSeconds: 10_800,
      destinations: [{ address: ip('fd00:10:1::5'), port: 80, weight: 0, forwarding: 'tunnel' }],
    },
    {
      listener: { by: 'mark', mark: 4660, family: 'ipv6' },
      scheduler: 'wlc',
      schedulerFlags: [],
      persistenceSeconds: 0,
      destinations: [],
    },
  ];
  for (const server of servers) {
    const key = listenerKey(server.listener);
    it(`ipvsadm -Sn: ${key}`, () => {
      const read = parseSave(kernelText('virtualServer', key, server)).get(key);
      assert.ok(read !== undefined && sameEntry('virtualServer', read, server));
    });
  }

  const hop = (deviations: Partial<NextHop>): NextHop => ({
    link: 'eth0',
    gateway: undefined,
    vxlanRemote: undefined,
    ...deviations,
  });
  const routes: readonly UnicastRoute[] = [
    {
      table: MAIN_TABLE,
      destination: cidrs('10.244.2.0/24')[0]!,
      nextHops: [hop({ gateway: ip('192.168.1.2') })],
      source: ip('192.168.1.1'),
    },
    {
      table: POD_SOURCE_TABLE,
      destination: cidrs('192.168.2.4/32')[0]!,
      nextHops: [hop({ link: 'tun-64ece1459fa' })],
      source: undefined,
    },
    {
      table: MAIN_TABLE,
      destination: cidrs('fd00:10:4::/64')[0]!,
      nextHops: [hop({ link: 'tun-033ecb2dd12' })],
      source: ip('fd00:1::1'),
    },
    {
      table: MAIN_TABLE,
      destination: cidrs('10.9.0.0/16')[0]!,
      nextHops: [hop({ gateway: ip('192.168.1.2') }), hop({ gateway: ip('192.168.1.3') })],
      source: undefined,
    },
  ];
  for (const route of routes) {
    it(`ip route show: ${route.destination}`, () => {
      const read = shownRouteOf(routeLine(route));
      assert.deepEqual(
        { ...read, table: read?.table ?? MAIN_TABLE },
        {
          destination: route.destination,
          table: route.table,
          protocol: 70,
          metric: route.table === MAIN_TABLE ? 32070 : 0,
          source: route.source,
          nextHops: route.nextHops,
        },
      );
    });
  }

  it('ip route show: by VXLAN, what matters of it', () => {
    const route = { table: MAIN_TABLE, destination: cidrs('10.244.4.0/24')[0]!, source: undefined } as const;
    const way = hop({ link: 'fairway-vxlan', vxlanRemote: ip('192.168.2.4') });
    assert.equal(
      routeLine({ ...route, nextHops: [way] }),
      '10.244.4.0/24 encap ip id 1 dst 192.168.2.4 dev fairway-vxlan proto 70 metric 32070',
    );
  });

  it('iptables-save: hooks with their place, chains rule by rule', () => {
    const hook: IptablesEntry = {
      kind: 'hook',
      family: 'ipv4',
      table: 'nat',
      from: 'POSTROUTING',
      to: 'FAIRWAY-MASQUERADE',
      order: 20,
      match: '-m ipvs --ipvs',
    };
    const [line = ''] = kernelText('iptables', '', hook);
    const read = parseHookRule(line.slice('-A POSTROUTING '.length), name => name.startsWith('FAIRWAY-'));
    assert.deepEqual(read, { to: hook.to, order: 20, match: hook.match });
    const chain: IptablesEntry = {
      kind: 'chain',
      family: 'ipv4',
      table: 'nat',
      name: 'FAIRWAY-X',
      rules: ['-j RETURN', '-j DROP'],
    };
    assert.deepEqual(kernelText('iptables', '', chain), ['-A FAIRWAY-X -j RETURN', '-A FAIRWAY-X -j DROP']);
  });
});
