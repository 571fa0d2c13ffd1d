import assert from 'node:assert/strict';
import type { IpAddress } from '../../../daemon/net/address.ts';
import { hostPrefix } from '../../../daemon/net/prefix.ts';
import { type Entry, entry, type Fragment } from '../../../daemon/reconcile/fragment.ts';
import { type IpSetType, type IptablesTable, type Listener, LOCAL_TABLE } from '../../../daemon/reconcile/tables.ts';
import { ip, ips } from '../../fixtures/cluster.ts';
import { type Opening, type Outcome, ServiceKernel } from '../../models/service-kernel.ts';

const HOST = {
  addresses: ips('127.0.0.1', '::1', '192.168.1.1', 'fd00:1::1'),
  primary: { ipv4: ip('192.168.1.1'), ipv6: ip('fd00:1::1') },
};
const VIP = ip('10.96.0.1');
const vipAddress = entry('address', { link: 'kube-dummy-if', address: VIP });

/** By address 10.96.0.1 port 80/TCP unless said otherwise, to port 8080 of the endpoints. */
function server(endpoints: readonly string[], listener: Partial<Listener> = {}, weight = 1): Entry {
  const byAddress = { by: 'address', protocol: 'TCP', address: VIP, port: 80 } as const;
  return entry('virtualServer', {
    listener: { ...byAddress, ...listener } as Listener,
    scheduler: 'rr',
    schedulerFlags: [],
    persistenceSeconds: 0,
    destinations: endpoints.map(text => ({ address: ip(text), port: 8080, weight, forwarding: 'masquerade' })),
  });
}

const byMark = (endpoints: readonly string[], mark: number, family: 'ipv4' | 'ipv6' = 'ipv4'): Entry =>
  server(endpoints, { by: 'mark', mark, family });

/** A chain of these rules, with a hook in a built-in one. */
function rules(table: IptablesTable, from: string, ...texts: readonly string[]): readonly Entry[] {
  const name = `FAIRWAY-${table.toUpperCase()}-${from}`;
  return [
    entry('iptables', { kind: 'chain', family: 'ipv4', table, name, rules: texts }),
    entry('iptables', { kind: 'hook', family: 'ipv4', table, from, to: name, order: 20, match: '' }),
  ];
}

function set(name: string, type: IpSetType, ...elements: readonly string[]): readonly Entry[] {
  const isMarking = elements.some(element => element.includes(' skbmark '));
  return [
    entry('ipset', { kind: 'set', name, type, family: 'ipv4', maxElements: 8, ...(isMarking ? { carriesMarks: true } : {}) }),
    ...elements.map(value => entry('ipset', { kind: 'element', set: name, value })),
  ];
}

function fragment(key: string, since: number, entries: readonly Entry[]): Fragment {
  return { owner: { kind: 'Service', key, since }, entries, diagnostics: [] };
}

/** TCP from 172.16.9.9 to 10.96.0.1 port 80 unless said otherwise. */
function outcome(entries: readonly Entry[], deviations: Partial<Opening> = {}): Outcome {
  const opening: Opening = { from: ip('172.16.9.9'), address: VIP, port: 80, protocol: 'TCP', ...deviations };
  return new ServiceKernel([fragment('web', 0, entries)], HOST).outcomeOf(opening);
}

const own = { from: 'this node' } as const;
const pod = { from: ip('10.244.1.5') } as const;

/** Who meets 10.244.2.5 and is seen there as this. */
function servedAs(source: string, endpoint = '10.244.2.5'): ReadonlyMap<string, IpAddress> {
  return new Map([[`${endpoint} 8080`, ip(source)]]);
}

const BALANCED = [vipAddress, server(['10.244.2.5'])];

describe('the kernel that Services are traced through', () => {
  describe('takes to IPVS', () => {
    it('what arrives at a local address, and what the node sends to any', () => {
      assert.deepEqual(outcome(BALANCED), servedAs('172.16.9.9'));
      assert.deepEqual(outcome([server(['10.244.2.5'])]), 'left alone');
      assert.deepEqual(outcome([server(['10.244.2.5'])], own), servedAs('192.168.1.1'));
      for (const other of [{ port: 81 }, { protocol: 'UDP' }, { address: ip('192.168.1.1') }] as const) {
        assert.equal(outcome(BALANCED, other), 'left alone');
        assert.equal(outcome(BALANCED, { ...other, ...own }), 'left alone');
      }
    });

    it('the node from the address it connects to, unless the route of that names another', () => {
      assert.deepEqual(outcome(BALANCED, own), servedAs('10.96.0.1'));
      const source = ip('192.168.1.1');
      const route = entry('route', {
        type: 'local',
        table: LOCAL_TABLE,
        destination: hostPrefix(VIP),
        link: 'kube-dummy-if',
        source,
        standsFor: 'address',
      });
      assert.deepEqual(outcome([...BALANCED, route], own), servedAs('192.168.1.1'));
    });

    it('the mark before the address: the whole mark, of the family', () => {
      const entries = [...BALANCED, byMark(['10.244.3.5'], 5)];
      assert.deepEqual(outcome(entries, { mark: 5 }), servedAs('172.16.9.9', '10.244.3.5'));
      for (const mark of [0, 4, 0x4005]) assert.deepEqual(outcome(entries, { mark }), servedAs('172.16.9.9'));
      assert.deepEqual(outcome([...BALANCED, byMark(['fd00:10:2::5'], 5, 'ipv6')], { mark: 5 }), servedAs('172.16.9.9'));
      assert.deepEqual(
        outcome([vipAddress, byMark(['10.244.3.5'], 5)], { mark: 5, port: 99 }),
        servedAs('172.16.9.9', '10.244.3.5'),
      );
    });

    it('nobody where no destination takes new connections: refused', () => {
      assert.equal(outcome([vipAddress, server([])]), 'refused');
      assert.equal(outcome([vipAddress, server(['10.244.2.5'], {}, 0)]), 'refused');
      assert.equal(outcome([vipAddress, server([])], own), 'refused');
    });
  });

  describe('marks by -j SET --map-set', () => {
    const inside = set('inside', 'hash:ip,port', '10.96.0.1,tcp:80 skbmark 0x5/0x1fff');
    const map = '-j SET --map-set inside dst,dst --map-mark';
    const entries = [...BALANCED, byMark(['10.244.3.5'], 5), ...inside];

    it('in PREROUTING what arrives, in OUTPUT what the node sends', () => {
      const before = [...entries, ...rules('mangle', 'PREROUTING', `-s 10.244.1.0/24 ${map}`)];
      assert.deepEqual(outcome(before), servedAs('172.16.9.9'));
      assert.deepEqual(outcome(before, pod), servedAs('10.244.1.5', '10.244.3.5'));
      assert.deepEqual(outcome(before, own), servedAs('10.96.0.1'));
      const output = [...entries, ...rules('mangle', 'OUTPUT', map)];
      assert.deepEqual(outcome(output, pod), servedAs('10.244.1.5'));
      assert.deepEqual(outcome(output, own), servedAs('10.96.0.1', '10.244.3.5'));
    });

    it('the bits of the mask only, so that with others set the address is found', () => {
      const before = [...entries, ...rules('mangle', 'PREROUTING', map)];
      assert.deepEqual(outcome(before, { mark: 0x1abc }), servedAs('172.16.9.9', '10.244.3.5'));
      assert.deepEqual(outcome(before, { mark: 0x4000 }), servedAs('172.16.9.9'));
    });

    it('nothing that is not in the set, nor by an element without a mark', () => {
      const others = [...BALANCED, ...rules('mangle', 'PREROUTING', map), byMark(['10.244.3.5'], 5)];
      const elements = ['10.96.0.1,tcp:80', '10.96.0.1,tcp:81 skbmark 0x5/0x1fff'];
      assert.deepEqual(outcome([...others, ...set('inside', 'hash:ip,port', ...elements)]), servedAs('172.16.9.9'));
    });
  });

  describe('filters', () => {
    it('what arrives in INPUT before IPVS, and there the node only what IPVS left', () => {
      const drop = rules('filter', 'INPUT', '-m conntrack --ctstate NEW -m set --match-set x dst,dst -j DROP');
      const entries = [...set('x', 'hash:ip,port', '10.96.0.1,tcp:80'), ...drop];
      assert.equal(outcome([...BALANCED, ...entries]), 'dropped');
      assert.deepEqual(outcome([...BALANCED, ...entries], own), servedAs('10.96.0.1'));
      assert.equal(outcome([vipAddress, ...entries], own), 'dropped');
      assert.equal(outcome([vipAddress, ...entries], { port: 81 }), 'left alone');
    });

    it('what the node sends in OUTPUT: in mangle before IPVS, in filter what comes from there', () => {
      assert.equal(outcome([...BALANCED, ...rules('mangle', 'OUTPUT', '-d 10.96.0.1/32 -j DROP')], own), 'dropped');
      assert.deepEqual(
        outcome([...BALANCED, ...rules('filter', 'OUTPUT', '-d 10.96.0.1/32 -j DROP')], own),
        servedAs('10.96.0.1'),
      );
      assert.equal(outcome([...BALANCED, ...rules('filter', 'OUTPUT', '-d 10.244.2.5/32 -j DROP')], own), 'dropped');
    });

    it('what arrives once more in OUTPUT, on its way to the endpoint', () => {
      const two = [vipAddress, server(['10.244.2.5', '10.244.3.5'])];
      for (const table of ['mangle', 'filter'] as const) {
        const drop = rules(table, 'OUTPUT', '-d 10.244.3.5/32 -p tcp -m tcp --dport 8080 -j DROP');
        assert.deepEqual(outcome([...two, ...drop]), servedAs('172.16.9.9'), table);
      }
    });

    it('by mark, by the direction of the connection, and by sources behind a port', () => {
      const dropped = (rule: string, deviations: Partial<Opening> = {}): boolean =>
        outcome(
          [
            ...BALANCED,
            ...set('open', 'hash:ip,port,net', '10.96.0.1,tcp:80,172.16.0.0/12', '10.96.0.1,tcp:81,0.0.0.0/1'),
            ...rules('filter', 'INPUT', `${rule} -j DROP`),
          ],
          deviations,
        ) === 'dropped';
      assert.equal(dropped('-m mark --mark 0x0/0x1fff', { mark: 0x2000 }), true);
      assert.equal(dropped('-m mark --mark 0x0/0x1fff', { mark: 0x2001 }), false);
      assert.equal(dropped('-m conntrack --ctdir REPLY'), false);
      assert.equal(dropped('-m conntrack --ctdir ORIGINAL'), true);
      assert.equal(dropped('-m set --match-set open dst,dst,src'), true);
      assert.equal(dropped('-m set ! --match-set open dst,dst,src'), false);
      assert.equal(dropped('-m set --match-set open dst,dst,src', pod), false);
      assert.equal(dropped('-m set --match-set open dst,dst,src', { protocol: 'UDP' }), false);
      assert.equal(dropped('-m set --match-set open dst,dst,src', { ...pod, port: 81 }), true);
      assert.equal(dropped('-m ipvs --vdir ORIGINAL --vmethod MASQ'), false);
    });

    it('and refuses what a rule rejects', () => {
      const reject = rules(
        'filter',
        'INPUT',
        '-p tcp -j REJECT --reject-with tcp-reset',
        '-j REJECT --reject-with icmp-port-unreachable',
      );
      assert.equal(outcome([...BALANCED, ...reject]), 'refused');
      assert.equal(outcome([...BALANCED, ...reject], { protocol: 'UDP' }), 'refused');
      assert.deepEqual(outcome([...BALANCED, ...rules('filter', 'INPUT', '-j ACCEPT', '-j DROP')]), servedAs('172.16.9.9'));
    });
  });

  describe('changes the source in POSTROUTING', () => {
    const balanced = '-m ipvs --vdir ORIGINAL --vmethod MASQ';
    const snat = `${balanced} -j SNAT --to-source 192.168.1.1 --random-fully`;

    it('of what IPVS balances, to what SNAT says or for MASQUERADE to the address of the link', () => {
      assert.deepEqual(outcome([...BALANCED, ...rules('nat', 'POSTROUTING', snat)]), servedAs('192.168.1.1'));
      assert.deepEqual(outcome([...BALANCED, ...rules('nat', 'POSTROUTING', snat)], own), servedAs('192.168.1.1'));
      const masquerade = rules('nat', 'POSTROUTING', `${balanced} -j MASQUERADE --random-fully`);
      assert.deepEqual(outcome([...BALANCED, ...masquerade]), servedAs('192.168.1.1'));
      assert.deepEqual(
        outcome([...BALANCED, ...rules('nat', 'POSTROUTING', '-m ipvs --vdir REPLY --vmethod MASQ -j MASQUERADE')]),
        servedAs('172.16.9.9'),
      );
    });

    it('unless a rule before returns; by the endpoint, not by what the client asked for', () => {
      const returning = rules('nat', 'POSTROUTING', '-d 10.244.2.0/24 -j RETURN', snat);
      assert.deepEqual(outcome([...BALANCED, ...returning]), servedAs('172.16.9.9'));
      const other = rules('nat', 'POSTROUTING', '-d 10.96.0.1/32 -j RETURN', snat);
      assert.deepEqual(outcome([...BALANCED, ...other]), servedAs('192.168.1.1'));
    });

    it('of an endpoint that is its own client, by address, port and address', () => {
      const self = set('self', 'hash:ip,port,ip', '10.244.1.5,tcp:8080,10.244.1.5');
      const hairpin = rules('nat', 'POSTROUTING', '-m set --match-set self dst,dst,src -j SNAT --to-source 192.168.1.1');
      const entries = [vipAddress, server(['10.244.1.5', '10.244.1.6']), ...self, ...hairpin];
      assert.deepEqual(
        outcome(entries, pod),
        new Map([...servedAs('192.168.1.1', '10.244.1.5'), ...servedAs('10.244.1.5', '10.244.1.6')]),
      );
      assert.deepEqual(
        outcome(entries, { from: ip('10.244.1.6') }),
        new Map([...servedAs('10.244.1.6', '10.244.1.5'), ...servedAs('10.244.1.6', '10.244.1.6')]),
      );
    });

    it('not of what arrived for the node itself, which is there already, but of what the node sends itself', () => {
      const here = [vipAddress, server(['192.168.1.1']), ...rules('nat', 'POSTROUTING', snat)];
      assert.deepEqual(outcome(here), servedAs('172.16.9.9', '192.168.1.1'));
      assert.deepEqual(outcome(here, own), servedAs('192.168.1.1', '192.168.1.1'));
    });
  });

  it('of two owners that want one entry, the older has it', () => {
    const older = fragment('b', 1, BALANCED);
    const younger = fragment('a', 2, [vipAddress, server(['10.244.3.5'])]);
    const kernel = new ServiceKernel([younger, older], HOST);
    assert.deepEqual(
      kernel.outcomeOf({ from: ip('172.16.9.9'), address: VIP, port: 80, protocol: 'TCP' }),
      servedAs('172.16.9.9'),
    );
  });

  describe('refuses what the kernel would refuse', () => {
    const cases: readonly (readonly [string, readonly Entry[], RegExp])[] = [
      ['an element of no set', [entry('ipset', { kind: 'element', set: 'gone', value: '10.0.0.1' })], /no set/],
      [
        'SET in another table than mangle',
        rules('filter', 'INPUT', '-j SET --map-set inside dst,dst --map-mark'),
        /SET in table filter/,
      ],
      [
        'REJECT in another table than filter',
        rules('mangle', 'INPUT', '-j REJECT --reject-with icmp-port-unreachable'),
        /table mangle/,
      ],
      ['SNAT in another table than nat', rules('mangle', 'POSTROUTING', '-j SNAT --to-source 192.168.1.1'), /table mangle/],
      ['a new source of the other family', rules('nat', 'POSTROUTING', '-j SNAT --to-source fd00:1::1'), /address fd00:1::1/],
      ['a chain that the table does not have', rules('filter', 'PREROUTING', '-j DROP'), /no chain PREROUTING/],
      [
        'marks from a set whose elements carry none',
        [
          ...set('inside', 'hash:ip,port', '10.96.0.1,tcp:80'),
          ...rules('mangle', 'OUTPUT', '-j SET --map-set inside dst,dst --map-mark'),
        ],
        /carry no marks/,
      ],
      ['a prefix of length 0 behind a port', set('open', 'hash:ip,port,net', '10.96.0.1,tcp:80,0.0.0.0/0'), /not an element/],
      ['a host with its length behind a port', set('open', 'hash:ip,port,net', '10.96.0.1,tcp:80,10.0.0.1/32'), /not an element/],
      ['a virtual service of mark 0', [byMark([], 0)], /mark 0/],
      ['a destination of the other family', [server(['fd00:10:2::5'])], /two families/],
      ['a destination twice', [server(['10.244.2.5', '10.244.2.5'])], /twice/],
    ];
    for (const [what, entries, reason] of cases) it(what, () => assert.throws(() => outcome(entries), reason));

    it('an element with a mark in a set that has no place for it', () => {
      const head = entry('ipset', { kind: 'set', name: 'x', type: 'hash:ip,port', family: 'ipv4', maxElements: 8 });
      const element = entry('ipset', { kind: 'element', set: 'x', value: '10.96.0.1,tcp:80 skbmark 0x5/0x1fff' });
      assert.throws(() => outcome([head, element]), /no place for marks/);
    });
  });
});
