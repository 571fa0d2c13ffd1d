import assert from 'node:assert/strict';
import type { Family } from '../../../daemon/net/address.ts';
import { type Entry, entry } from '../../../daemon/reconcile/fragment.ts';
import type { IpSetType } from '../../../daemon/reconcile/tables.ts';
import { ip, ips } from '../../fixtures/cluster.ts';
import { PacketTracer, type TracerPacket, type Walk } from '../../models/packet-tracer.ts';

const LOCAL = ips('127.0.0.1', '192.168.1.1', 'fd00:1::1');

function chain(name: string, rules: readonly string[], family: Family = 'ipv4'): Entry {
  return entry('iptables', { kind: 'chain', family, table: 'filter', name, rules });
}

function hook(from: string, to: string, order = 10, family: Family = 'ipv4'): Entry {
  return entry('iptables', { kind: 'hook', family, table: 'filter', from, to, order, match: '' });
}

function set(name: string, type: IpSetType, elements: readonly string[], family: Family = 'ipv4'): readonly Entry[] {
  return [
    entry('ipset', { kind: 'set', name, type, family, maxElements: 1024 }),
    ...elements.map(value => entry('ipset', { kind: 'element', set: name, value })),
  ];
}

/** Forwarded TCP from 10.244.1.5 to 10.244.2.5 port 80 unless said otherwise. */
function packet(deviations: Partial<TracerPacket> = {}): TracerPacket {
  return {
    hook: 'FORWARD',
    source: ip('10.244.1.5'),
    destination: ip('10.244.2.5'),
    transport: { protocol: 'TCP', port: 80 },
    ...deviations,
  };
}

function packet6(deviations: Partial<TracerPacket> = {}): TracerPacket {
  return packet({ source: ip('fd00:10:1::5'), destination: ip('fd00:10:2::5'), ...deviations });
}

/** A packet's walk through chains entered at FAIRWAY-A from FORWARD. */
function walk(
  chains: Readonly<Record<string, readonly string[]>>,
  it: TracerPacket = packet(),
  others: readonly Entry[] = [],
): Walk {
  const family = it.source.includes(':') ? 'ipv6' : 'ipv4';
  const entries = Object.entries(chains).map(([name, rules]) => chain(name, rules, family));
  return new PacketTracer([...others, ...entries, hook('FORWARD', 'FAIRWAY-A', 10, family)], LOCAL).walk(it);
}

/** Whether a rule with this match takes the packet. */
function isMatch(match: string, it: TracerPacket = packet(), others: readonly Entry[] = []): boolean {
  return walk({ 'FAIRWAY-A': [`${match} -j DROP`] }, it, others).verdict === 'drop';
}

describe('the packet tracer', () => {
  describe('follows chains as iptables does', () => {
    it('a jump comes back to the rule after it, at the end of the chain or by RETURN', () => {
      const { verdict, rules } = walk({
        'FAIRWAY-A': ['-j FAIRWAY-B', '-j FAIRWAY-C', '-j DROP'],
        'FAIRWAY-B': ['-p udp -j ACCEPT'],
        'FAIRWAY-C': ['-j RETURN', '-j ACCEPT'],
      });
      assert.deepEqual({ verdict, rules }, { verdict: 'drop', rules: 6 });
    });

    it('a goto does not come back: its chain ends where the chain with the goto would have', () => {
      const chains = { 'FAIRWAY-B': ['-g FAIRWAY-C', '-j ACCEPT'], 'FAIRWAY-C': ['-p udp -j ACCEPT'] };
      assert.equal(walk({ ...chains, 'FAIRWAY-A': ['-j FAIRWAY-B', '-j DROP'] }).verdict, 'drop');
      assert.equal(walk({ ...chains, 'FAIRWAY-A': ['-g FAIRWAY-B', '-j DROP'] }).verdict, 'fall through');
      assert.equal(walk({ ...chains, 'FAIRWAY-A': ['-j FAIRWAY-B', '-j DROP'], 'FAIRWAY-C': ['-j RETURN'] }).verdict, 'drop');
    });

    it('jumps behind a goto come back behind it', () => {
      const { verdict } = walk({
        'FAIRWAY-A': ['-j FAIRWAY-B', '-j REJECT --reject-with icmp-port-unreachable'],
        'FAIRWAY-B': ['-g FAIRWAY-C', '-j ACCEPT'],
        'FAIRWAY-C': ['-j FAIRWAY-D', '-j DROP'],
        'FAIRWAY-D': ['-j RETURN'],
      });
      assert.equal(verdict, 'drop');
    });

    it('what no rule decides goes on to the next hook, lowest order first, and then to the host', () => {
      const hooks = [hook('FORWARD', 'FAIRWAY-B', 20), hook('FORWARD', 'FAIRWAY-A', 10), hook('INPUT', 'FAIRWAY-D', 5)];
      const mark = (value: string): string => `-m mark --mark 0x0/${value} -j MARK --set-xmark ${value}/${value}`;
      const chains = [
        chain('FAIRWAY-A', [mark('0x1'), '-j RETURN']),
        chain('FAIRWAY-B', ['-m mark --mark 0x1/0x1 -j MARK --set-xmark 0x2/0x2']),
        chain('FAIRWAY-D', ['-j DROP']),
      ];
      const tracer = new PacketTracer([...hooks, ...chains], LOCAL);
      const { verdict, mark: last, rules } = tracer.walk(packet());
      assert.deepEqual({ verdict, last, rules }, { verdict: 'fall through', last: 3, rules: 5 });
      assert.equal(tracer.walk(packet({ hook: 'OUTPUT' })).rules, 0);
    });

    it('a rule without a target, NFLOG and MARK go on; the two families are apart', () => {
      const { verdict, logged } = walk({
        'FAIRWAY-A': [
          '-p tcp',
          '-m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-prefix "deny a/b" --nflog-group 100',
          '-p tcp -j REJECT --reject-with tcp-reset',
        ],
      });
      assert.deepEqual({ verdict, logged }, { verdict: 'reject', logged: ['deny a/b'] });
      const both = [chain('FAIRWAY-A', ['-j DROP']), hook('FORWARD', 'FAIRWAY-A')];
      assert.equal(new PacketTracer(both, LOCAL).walk(packet6()).verdict, 'fall through');
    });

    it('says how a packet is rejected, and explains its way', () => {
      const entries = [
        chain('FAIRWAY-A', ['-p udp -j DROP', '-p tcp -j REJECT --reject-with tcp-reset']),
        hook('FORWARD', 'FAIRWAY-A'),
      ];
      const tracer = new PacketTracer(entries, LOCAL);
      assert.equal(tracer.walk(packet()).rejectWith, 'tcp-reset');
      assert.deepEqual(tracer.explain(packet({ mark: 0x4000 })), [
        '+ FORWARD -j FAIRWAY-A   [mark 0x4000]',
        '  FAIRWAY-A -p udp -j DROP   [mark 0x4000]',
        '+ FAIRWAY-A -p tcp -j REJECT --reject-with tcp-reset   [mark 0x4000]',
        '= reject, mark 0x4000',
      ]);
    });
  });

  describe('matches', () => {
    const cases: readonly (readonly [string, TracerPacket, boolean])[] = [
      ['-s 10.244.1.0/24', packet(), true],
      ['! -s 10.244.1.0/24', packet(), false],
      ['-s 10.244.1.4/31', packet(), true],
      ['-d 10.244.1.4/31', packet(), false],
      ['-d fd00:10:2::/64', packet6(), true],
      ['! -d fd00:10:2::6/128', packet6(), true],
      ['-p tcp', packet(), true],
      ['! -p tcp', packet(), false],
      ['-p tcp -m tcp --dport 80', packet(), true],
      ['-p tcp -m tcp ! --dport 80', packet(), false],
      ['-p tcp -m tcp --dport 81:90', packet(), false],
      ['-p tcp -m tcp --dport 1:80', packet(), true],
      ['-p udp -m udp --dport 80', packet(), false],
      ['-p sctp -m sctp --dport 80', packet({ transport: { protocol: 'SCTP', port: 80 } }), true],
      ['-p tcp -m multiport --dports 1,70:79,81', packet(), false],
      ['-p tcp -m multiport --dports 1,70:80,90', packet(), true],
      ['-p icmp -m icmp --icmp-type 8', packet(), false],
      ['-p icmp -m icmp --icmp-type 8', packet({ transport: { protocol: 'ICMP', type: 8 } }), true],
      ['-p icmp -m icmp --icmp-type 3/4', packet({ transport: { protocol: 'ICMP', type: 3 } }), false],
      ['-p icmp -m icmp --icmp-type 3/4', packet({ transport: { protocol: 'ICMP', type: 3, code: 4 } }), true],
      ['-p ipv6-icmp -m icmp6 --icmpv6-type 135', packet6({ transport: { protocol: 'ICMP', type: 135 } }), true],
      ['-m conntrack --ctstate RELATED,ESTABLISHED', packet(), false],
      ['-m conntrack --ctstate RELATED,ESTABLISHED', packet({ state: 'RELATED' }), true],
      ['-m conntrack ! --ctstate NEW', packet({ state: 'INVALID' }), true],
      ['-m mark --mark 0x10000/0x10000', packet({ mark: 0x14000 }), true],
      ['-m mark --mark 0x10000', packet({ mark: 0x14000 }), false],
      ['-m mark ! --mark 0x10000/0x10000', packet({ mark: 0x14000 }), false],
      ['-m mark --mark 0x80000000/0x80000000', packet({ mark: 0x80000000 }), true],
      ['-m addrtype --src-type LOCAL', packet({ source: ip('192.168.1.1') }), true],
      ['-m addrtype --src-type LOCAL', packet(), false],
      ['-m addrtype ! --dst-type LOCAL', packet(), true],
      ['-m addrtype --dst-type LOCAL', packet6({ destination: ip('fd00:1::1') }), true],
      ['-i kube-bridge', packet({ inLink: 'kube-bridge' }), true],
      ['-i eth+', packet({ inLink: 'eth0' }), true],
      ['! -o eth0', packet({ outLink: 'eth0' }), false],
      ['-m comment --comment "-s no one"', packet(), true],
      ['-m limit --limit 10/min --limit-burst 10', packet(), true],
    ];
    for (const [match, it_, expected] of cases) {
      it(`${match}: ${expected ? 'takes' : 'leaves'} ${it_.source} > ${it_.destination} ${JSON.stringify(it_.transport)}`, () => {
        assert.equal(isMatch(match, it_), expected);
      });
    }
  });

  describe('looks into sets', () => {
    it('hash:ip by source or destination, and not in it', () => {
      const sets = set('fairway-x', 'hash:ip', ['10.244.1.5', '10.244.1.6']);
      assert.equal(isMatch('-m set --match-set fairway-x src', packet(), sets), true);
      assert.equal(isMatch('-m set --match-set fairway-x dst', packet(), sets), false);
      assert.equal(isMatch('-m set ! --match-set fairway-x src', packet(), sets), false);
    });

    it('hash:ip,port by address, protocol and port of the destination; ICMP has none', () => {
      const sets = set('fairway-n', 'hash:ip,port', ['10.244.2.5,tcp:80', '10.244.2.5,udp:53']);
      const match = '-m set --match-set fairway-n dst,dst';
      assert.equal(isMatch(match, packet(), sets), true);
      assert.equal(isMatch(match, packet({ transport: { protocol: 'TCP', port: 53 } }), sets), false);
      assert.equal(isMatch(match, packet({ transport: { protocol: 'UDP', port: 53 } }), sets), true);
      assert.equal(isMatch(match, packet({ transport: { protocol: 'ICMP', type: 8 } }), sets), false);
      assert.equal(isMatch(match, packet({ destination: ip('10.244.2.6') }), sets), false);
    });

    it('hash:ip,port,ip by the destination, its port, and the source', () => {
      const sets = set('fairway-self', 'hash:ip,port,ip', ['10.244.1.5,tcp:80,10.244.1.5']);
      const match = '-m set --match-set fairway-self dst,dst,src';
      assert.equal(isMatch(match, packet({ destination: ip('10.244.1.5') }), sets), true);
      assert.equal(isMatch(match, packet(), sets), false);
      const otherPort = packet({ destination: ip('10.244.1.5'), transport: { protocol: 'TCP', port: 81 } });
      assert.equal(isMatch(match, otherPort, sets), false);
      assert.equal(isMatch(match, packet({ source: ip('10.244.1.6'), destination: ip('10.244.1.5') }), sets), false);
    });

    it('hash:net by the longest prefix, which may say nomatch', () => {
      const elements = ['0.0.0.0/1', '10.244.0.0/16 nomatch', '10.244.1.0/24', '10.244.1.5 nomatch', '10.244.2.5'];
      const sets = set('fairway-b', 'hash:net', elements);
      const isFrom = (source: string): boolean =>
        isMatch('-m set --match-set fairway-b src', packet({ source: ip(source) }), sets);
      assert.deepEqual(['9.9.9.9', '129.0.0.1', '10.244.3.1', '10.244.1.6', '10.244.1.5', '10.244.2.5'].map(isFrom), [
        true,
        false,
        false,
        true,
        false,
        true,
      ]);
      const sets6 = set('inet6:fairway-b', 'hash:net', ['::/1', '8000::/1', 'fd00:10:1::/64 nomatch'], 'ipv6');
      const isFrom6 = (source: string): boolean =>
        isMatch('-m set --match-set inet6:fairway-b src', packet6({ source: ip(source) }), sets6);
      assert.deepEqual(['fd00:10:1::5', 'fd00:10:2::5', '2001:db8::1'].map(isFrom6), [false, true, true]);
    });
  });

  describe('refuses what the kernel would refuse, or what it does not know', () => {
    const x = set('fairway-x', 'hash:ip', []);
    const refusals: readonly (readonly [string, string, RegExp])[] = [
      ['a word it does not know', '-m tcp --sport 80 -j DROP', /-m tcp without -p tcp/],
      ['a match it does not know', '-m physdev --physdev-is-bridged -j DROP', /match physdev/],
      ['an option it does not know', '-p tcp -m tcp --sport 80 -j DROP', /--dport/],
      ['ports without their protocol', '-p udp -m tcp --dport 80 -j DROP', /without -p tcp/],
      ['an unknown protocol', '-p gre -j DROP', /protocol gre/],
      ['a chain that is not there', '-j FAIRWAY-GONE', /no chain FAIRWAY-GONE/],
      ['a goto to nowhere', '-g FAIRWAY-GONE', /no chain FAIRWAY-GONE/],
      ['a set that is not there', '-m set --match-set fairway-gone src -j DROP', /no set fairway-gone/],
      ['too many dimensions', '-m set --match-set fairway-x dst,dst -j DROP', /1 dimensions/],
      ['a prefix of length 0', '-s 0.0.0.0/0 -j DROP', /prefix/],
      ['a prefix of the other family', '-s fd00::/8 -j DROP', /family/],
      ['an address without its length', '-s 10.0.0.1 -j DROP', /prefix/],
      ['an RST to what is not TCP', '-j REJECT --reject-with tcp-reset', /tcp-reset/],
      ['sixteen ports at once', `-p tcp -m multiport --dports ${'1,'.repeat(14)}1:2 -j DROP`, /16 ports/],
      ['words behind the target', '-j DROP -p tcp', /after the target/],
      ['a rule that ends too early', '-p tcp -m', /too early/],
      ['a long NFLOG prefix', `-j NFLOG --nflog-prefix ${'x'.repeat(64)} --nflog-group 100`, /64 bytes/],
      ['a state that is none', '-m conntrack --ctstate OLD -j DROP', /state OLD/],
    ];
    for (const [what, rule, reason] of refusals) {
      it(what, () => assert.throws(() => walk({ 'FAIRWAY-A': [rule] }, packet(), x), reason));
    }

    it('chains that go round in a circle', () => {
      assert.throws(() => walk({ 'FAIRWAY-A': ['-j FAIRWAY-B'], 'FAIRWAY-B': ['-g FAIRWAY-A'] }), /circle/);
    });

    it('elements that ipset takes in another spelling, not at all, or twice', () => {
      const elements: readonly (readonly [IpSetType, readonly string[], RegExp])[] = [
        ['hash:ip', ['10.0.0.0/8'], /not a canonical address/],
        ['hash:ip', ['fd00::1'], /another family/],
        ['hash:ip,port', ['10.0.0.1,80'], /with a port/],
        ['hash:net', ['0.0.0.0/0'], /not an element/],
        ['hash:net', ['10.0.0.1/32'], /not an element/],
        ['hash:net', ['10.0.0.1/8'], /not an element/],
        ['hash:net', ['10.0.0.0/8', '10.0.0.0/8 nomatch'], /two ways/],
      ];
      for (const [type, values, reason] of elements) {
        assert.throws(() => new PacketTracer(set('fairway-x', type, values), LOCAL), reason, values.join());
      }
    });

    it('an element without its set, a set that is full, one wanted in two ways, names too long', () => {
      const [head] = x;
      const element = entry('ipset', { kind: 'element', set: 'fairway-y', value: '10.0.0.1' });
      assert.throws(() => new PacketTracer([head!, element], LOCAL), /no set/);
      const small = entry('ipset', { kind: 'set', name: 'fairway-y', type: 'hash:ip', family: 'ipv4', maxElements: 0 });
      assert.throws(() => new PacketTracer([small, element], LOCAL), /full/);
      const other = entry('ipset', { kind: 'set', name: 'fairway-x', type: 'hash:net', family: 'ipv4', maxElements: 1024 });
      assert.throws(() => new PacketTracer([head!, other], LOCAL), /two ways/);
      assert.throws(() => new PacketTracer(set('x'.repeat(32), 'hash:ip', []), LOCAL), /too long/);
      assert.throws(() => new PacketTracer([chain('X'.repeat(29), [])], LOCAL), /too long/);
    });
  });
});
