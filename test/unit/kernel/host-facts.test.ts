import assert from 'node:assert/strict';
import type { Disturbance } from '../../../daemon/cluster/disturbance.ts';
import type { HostFacts } from '../../../daemon/cluster/snapshot.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { probeHost } from '../../../daemon/kernel/capabilities.ts';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { followHostFacts, monitoredLink, parseHost } from '../../../daemon/kernel/host-facts.ts';
import type { AddressStanding } from '../../../daemon/kernel/lan-address-record.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { ALL_CAPABILITIES as capabilities } from '../../fixtures/cluster.ts';

/** A host whose addresses are set by hand and whose monitor ends when told: what no real tool does on demand. */
class Host implements CommandRunner {
  addresses: Record<string, string[]> = { lo: ['127.0.0.1/8'], eth0: ['192.0.2.1/24'] };
  masters: Record<string, string> = {};
  monitors: { onLine: (line: string) => void; end: (result: CommandResult) => void }[] = [];
  readings = 0;
  isBroken = false;

  async run(): Promise<CommandResult> {
    this.readings++;
    if (this.isBroken) return { status: 1, stdout: '', stderr: 'no memory' };
    const links = Object.entries(this.addresses).map(([ifname, list]) => ({
      ifname,
      ...(this.masters[ifname] === undefined ? {} : { master: this.masters[ifname] }),
      flags: ['BROADCAST', 'UP', 'LOWER_UP'],
      addr_info: list.map(text => ({ local: text.split('/')[0], prefixlen: Number(text.split('/')[1]) })),
    }));
    return { status: 0, stdout: JSON.stringify(links), stderr: '' };
  }

  lines(_: unknown, onLine: (line: string) => void, signal: AbortSignal): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      this.monitors.push({ onLine, end: resolve });
      signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
    });
  }

  say(line: string): void {
    this.monitors.at(-1)?.onLine(line);
  }
}

async function follow() {
  const host = new Host();
  const clock = new ManualClock();
  const heard: HostFacts[] = [];
  const troubles: (string | undefined)[] = [];
  const disturbances: Disturbance[] = [];
  const gone: (readonly string[] | undefined)[] = [];
  const standing = new Map<string, AddressStanding>();
  const source = await followHostFacts(
    {
      runner: host,
      clock,
      hostname: 'node-1',
      capabilities: () => capabilities,
      isOwnLink: name => name === 'kube-dummy-if' || name.startsWith('tun-'),
      standingOf: ({ link, address, prefixLength }) =>
        link === 'eth0' && prefixLength >= 31 ? (standing.get(address) ?? "the host's") : "the host's",
      onChange: facts => heard.push(facts),
      onDisturbance: (what, goneRoutes) => {
        disturbances.push(what);
        if (what === 'routes') gone.push(goneRoutes && [...goneRoutes]);
      },
      onTrouble: error => troubles.push(error?.message),
    },
    new AbortController().signal,
  );
  await clock.advance(1000);
  await clock.advance(100);
  return { host, clock, heard, troubles, disturbances, gone, standing, source };
}

describe('what the host is like', () => {
  it('is a new picture only when something in it changed', async () => {
    const { host, clock, heard, source } = await follow();
    const first = source.facts;
    assert.equal(heard.length, 0, 'the reading after the start of the monitor found nothing new');
    host.say('2: eth0: <UP> mtu 1400');
    await clock.advance(100);
    assert.equal(source.facts, first);
    host.addresses['eth0'] = ['192.0.2.1/24', '2001:db8::1/64'];
    host.say('2: eth0    inet6 2001:db8::1/64 scope global');
    await clock.advance(100);
    assert.deepEqual(heard.at(-1)?.addresses.at(-1), { link: 'eth0', address: '2001:db8::1', prefixLength: 64 });
    assert.equal(heard.length, 1);
    await source.stop();
  });

  it('follows a link into a bridge and out of it', async () => {
    const { host, clock, heard, source } = await follow();
    host.addresses['veth1'] = [];
    host.masters['veth1'] = 'kube-bridge';
    host.say('9: veth1@if2: <BROADCAST,UP> mtu 1500 master kube-bridge state UP');
    await clock.advance(100);
    assert.deepEqual(source.facts.links.get('veth1'), { mtu: 0, master: 'kube-bridge' });
    host.say('9: veth1@if2: <BROADCAST,UP> mtu 1500 master kube-bridge state UP');
    await clock.advance(100);
    assert.equal(heard.length, 1, 'nothing changed');
    delete host.masters['veth1'];
    host.say('Deleted 9: veth1@if2: <BROADCAST,UP> mtu 1500 master kube-bridge state UP');
    await clock.advance(100);
    assert.deepEqual(source.facts.links.get('veth1'), { mtu: 0, master: '' });
    assert.equal(heard.length, 2);
    await source.stop();
  });

  it('is read once for a burst of changes, and never for our own links', async () => {
    const { host, clock, source } = await follow();
    const before = host.readings;
    for (let index = 0; index < 10_000; index++) host.say(`9: kube-dummy-if    inet 10.96.0.${index & 255}/32 scope link`);
    await clock.advance(1000);
    assert.equal(host.readings, before);
    for (let index = 0; index < 6; index++) host.say('10: veth1@if2: <BROADCAST> mtu 1500');
    await clock.advance(100);
    assert.equal(host.readings, before + 1);
    await source.stop();
  });

  it('does not count our own links and their addresses', async () => {
    const { host, clock, source } = await follow();
    host.addresses['kube-dummy-if'] = ['10.96.0.1/32'];
    source.refresh();
    await clock.advance(100);
    assert.deepEqual([...source.facts.links.keys()], ['lo', 'eth0']);
    assert.equal(source.facts.addresses.length, 2);
    await source.stop();
  });

  it('does not count what we announce on a link of the host, nor is disturbed by it; its loss by another hand is told', async () => {
    const { host, clock, heard, disturbances, standing, source } = await follow();
    const readings = host.readings;
    host.addresses['eth0'] = ['192.0.2.1/24', '192.0.2.7/31', '192.0.2.7/32'];
    standing.set('192.0.2.7', 'ours');
    for (const text of ['192.0.2.7/32 scope global', '192.0.2.7/31 scope link noprefixroute'])
      host.say(`2: eth0    inet ${text} eth0`);
    host.say('Deleted 2: eth0    inet 192.0.2.7/31 scope link noprefixroute eth0');
    await clock.advance(1000);
    assert.equal(host.readings, readings, 'an announcement is no reason to read');
    source.refresh();
    await clock.advance(100);
    assert.deepEqual([heard, disturbances], [[], []]);
    for (const gone of ['leaving', 'left'] as const) {
      standing.set('192.0.2.7', gone);
      host.say('Deleted 2: eth0    inet 192.0.2.7/32 scope global eth0');
    }
    await clock.advance(100);
    assert.deepEqual(disturbances, []);
    standing.set('192.0.2.7', 'ours');
    host.say('Deleted 2: eth0    inet 192.0.2.7/32 scope global eth0');
    await clock.advance(100);
    assert.deepEqual(disturbances, ['lanAddresses']);
    standing.set('192.0.2.7', 'left');
    host.addresses['eth0'] = ['192.0.2.1/24', '192.0.2.7/32'];
    host.say('2: eth0    inet 192.0.2.7/32 scope global eth0');
    await clock.advance(100);
    assert.equal(heard.at(-1)?.addresses.at(-1)?.address, '192.0.2.7', 'put there by another');
    assert.deepEqual(disturbances, ['lanAddresses', 'hostLinks']);
    await source.stop();
  });

  it('goes on being followed when the monitor dies, at growing distances, and nothing in between is missed', async () => {
    const { host, clock, heard, troubles, source } = await follow();
    const end = (): void => host.monitors.at(-1)?.end({ status: 1, stdout: '', stderr: 'killed' });
    end();
    await clock.advance(0);
    assert.match(troubles.at(-1) ?? '', /monitor.*killed/);
    assert.equal(host.monitors.length, 1);
    host.addresses['eth1'] = ['198.51.100.1/24'];
    await clock.advance(1000);
    assert.equal(host.monitors.length, 2);
    await clock.advance(1000);
    await clock.advance(100);
    assert.equal(heard.length, 1);
    assert.equal(troubles.at(-1), undefined);
    end();
    await clock.advance(0);
    await clock.advance(1000);
    assert.equal(host.monitors.length, 2, 'the second time it waits longer');
    await clock.advance(1000);
    assert.equal(host.monitors.length, 3);
    await source.stop();
  });

  it('stays as last known while it cannot be read, and says so', async () => {
    const { host, clock, troubles, source } = await follow();
    const before = source.facts;
    host.isBroken = true;
    source.refresh();
    await clock.advance(100);
    assert.match(troubles.at(-1) ?? '', /no memory/);
    assert.equal(source.facts, before);
    await source.stop();
  });

  it('is not read any more once stopped', async () => {
    const { host, clock, source } = await follow();
    const before = host.readings;
    source.refresh();
    await source.stop();
    source.refresh();
    await clock.advance(10_000);
    assert.equal(host.readings, before);
  });

  it('leaves out addresses somebody else has (duplicate address detection)', () => {
    const json = JSON.stringify([
      {
        ifname: 'eth0',
        mtu: 1500,
        master: 'br0',
        addr_info: [{ local: 'fe80::1', prefixlen: 64, dadfailed: true }, { local: '::ffff:1.2.3.4', prefixlen: 128 }, {}],
      },
      {},
    ]);
    assert.deepEqual(parseHost(json), {
      links: new Map([['eth0', { mtu: 1500, master: 'br0' }]]),
      states: new Map(),
      addresses: [{ link: 'eth0', address: '::ffff:102:304', prefixLength: 128 }],
    });
    assert.throws(() => parseHost('oops'), { code: 'FW_READ_UNPARSABLE' });
    assert.throws(() => parseHost('{}'), { code: 'FW_READ_UNPARSABLE' });
  });

  it('finds the link in what the monitor prints', () => {
    assert.equal(monitoredLink('8: kube-dummy-if    inet 10.1.1.1/32 scope global'), 'kube-dummy-if');
    assert.equal(monitoredLink('9: veth1@if2: <BROADCAST> mtu 1500'), 'veth1');
    assert.equal(monitoredLink('Deleted 9: ke    inet6 fe80::1/64'), 'ke');
    for (const other of [
      'Terminated',
      '10.1.0.0/24 dev eth0 proto 70 ',
      'fd00:1::/64 dev eth0 proto 70 ',
      '32765:\tfrom all lookup 77',
    ])
      assert.equal(monitoredLink(other), undefined);
  });
});

describe('what happens on the host without a trace in its picture', () => {
  // As iproute2 6.1 prints them with -o -N.
  const ETH0_DOWN = '2: eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noqueue state DOWN group 0 \\    link/[1] da:83:b3:1f:d2:37';
  const ETH0_UP =
    '2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group 0 \\    link/[1] da:83:b3:1f:d2:37';
  const ROUTE = '10.1.0.0/24 via 192.0.2.9 dev eth0 proto 70 metric 32070 ';
  const TUNNEL = (flags: string): string => `9: tun-0123456789a@NONE: <${flags}> mtu 1480 qdisc noqueue state UNKNOWN group 0`;

  const told = async (...lines: readonly string[]): Promise<readonly Disturbance[]> => {
    const { host, clock, disturbances, source } = await follow();
    for (const line of lines) host.say(line);
    await clock.advance(99);
    assert.deepEqual(disturbances, [], 'not before it settled');
    await clock.advance(1);
    await source.stop();
    return disturbances;
  };

  it('is told: a link that flapped, once', async () => {
    const { host, clock, heard, disturbances, source } = await follow();
    for (let flaps = 0; flaps < 3; flaps++) for (const line of [ETH0_DOWN, ETH0_UP]) host.say(line);
    await clock.advance(100);
    assert.deepEqual(disturbances, ['hostLinks']);
    assert.equal(heard.length, 0, 'the picture is the same');
    await source.stop();
  });

  it('is told: a link that went down, and again when it comes up much later', async () => {
    const { host, clock, disturbances, source } = await follow();
    host.say(ETH0_DOWN);
    await clock.advance(100);
    assert.deepEqual(disturbances, ['hostLinks']);
    await clock.advance(60_000);
    host.say(ETH0_UP);
    await clock.advance(100);
    assert.deepEqual(disturbances, ['hostLinks', 'hostLinks']);
    await source.stop();
  });

  it('is told after the picture of that time', async () => {
    const { host, clock, heard, disturbances, source } = await follow();
    const before = heard.length;
    host.addresses['eth0'] = ['192.0.2.7/24'];
    host.say('2: eth0    inet 192.0.2.7/24 scope 0 eth0');
    const length = disturbances.push;
    disturbances.push = (...told): number => {
      assert.equal(heard.length, before + 1);
      return length.apply(disturbances, told);
    };
    await clock.advance(100);
    assert.deepEqual([...disturbances], ['hostLinks']);
    await source.stop();
  });

  it('is told: the carrier lost, a link with addresses vanished, an address gone or come', async () => {
    assert.deepEqual(await told(ETH0_UP.replace('UP,LOWER_UP', 'UP').replace('<', '<NO-CARRIER,')), ['hostLinks']);
    assert.deepEqual(await told(ETH0_DOWN.replace('2: eth0', 'Deleted 2: eth0@NONE')), ['hostLinks']);
    assert.deepEqual(await told('Deleted 2: eth0    inet 192.0.2.1/24 scope 0 eth0\\       valid_lft forever'), ['hostLinks']);
    assert.deepEqual(await told('2: eth0    inet6 2001:db8::1/64 scope 0 \\       valid_lft forever'), ['hostLinks']);
  });

  it('is not told: lines that say nothing new of a link, or are about links without addresses, ports of a bridge, link-local addresses', async () => {
    const lines = [
      ETH0_UP,
      ETH0_UP.replace('mtu 1500', 'mtu 1400'),
      '2: eth0    inet 192.0.2.1/24 scope 0 eth0\\       valid_lft 3600sec preferred_lft 3600sec',
      'Deleted 2: eth0    inet6 fe80::d883:b3ff:fe1f:d237/64 scope 253 \\       valid_lft forever',
      '5: c1@veth1: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 1500 qdisc noqueue state LOWERLAYERDOWN group 0',
      'Deleted 5: c1@NONE: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group 0',
      '2: eth0: <BROADCAST,MULTICAST> mtu 1500 master kube-bridge state DOWN \\    link/[1] 92:80:73:d8:db:05',
      'Deleted 2: eth0: <BROADCAST,MULTICAST> mtu 1500 master kube-bridge state DOWN \\    link/[1] 92:80:73:d8:db:05',
    ];
    assert.deepEqual(await told(...lines), []);
  });

  it('is told of links of ours when they are lost, not when they are made or filled', async () => {
    const made = [TUNNEL('POINTOPOINT,NOARP'), TUNNEL('POINTOPOINT,NOARP,UP,LOWER_UP')];
    const filled = [
      '8: kube-dummy-if    inet 10.96.0.1/32 scope 0 kube-dummy-if',
      'Deleted 8: kube-dummy-if    inet 10.96.0.1/32 scope 0 kube-dummy-if',
    ];
    assert.deepEqual(await told(...made, ...filled), []);
    assert.deepEqual(await told(...made, TUNNEL('POINTOPOINT,NOARP')), ['ownLinks']);
    assert.deepEqual(await told(...made, `Deleted ${TUNNEL('POINTOPOINT,NOARP')}`), ['ownLinks']);
    assert.deepEqual(await told('Deleted 8: kube-dummy-if: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group 0'), [
      'ownLinks',
    ]);
  });

  it('is told of routes and rules of ours that are deleted, once for ten thousand; never of such that are made, nor of others', async () => {
    const many = Array.from({ length: 10_000 }, () => ROUTE);
    assert.deepEqual(await told(...many), []);
    assert.deepEqual(await told(...many.map(line => `Deleted ${line}`)), ['routes']);
    assert.deepEqual(
      await told('Deleted fd00:1::/64 proto 70 metric 32070 pref medium\\\tnexthop via fd00::9 dev eth0 weight 1'),
      ['routes'],
    );
    assert.deepEqual(await told('Deleted 32765:\tfrom 10.1.0.0/24 lookup 77'), ['rules']);
    const foreign = [
      'Deleted 10.9.0.0/24 dev eth0 proto 2 ',
      'Deleted 32765:\tfrom 10.1.0.0/24 lookup 770',
      '32765:\tfrom 10.1.0.0/24 lookup 77',
    ];
    assert.deepEqual(await told(...foreign), []);
  });

  it('is told which routes of ours were deleted, by table and destination', async () => {
    const { host, clock, gone, source } = await follow();
    host.say('Deleted 10.1.0.0/24 via 192.0.2.9 dev eth0 proto 70 src 192.0.2.1 metric 32070 ');
    host.say('Deleted 192.0.2.77 dev tun-0123456789a table 77 proto 70 scope 253 ');
    host.say('Deleted fd00:1::/64 proto 70 metric 32070 pref medium\\\tnexthop via fd00::9 dev eth0 weight 1');
    await clock.advance(100);
    host.say('Deleted 10.2.0.0/24 via 192.0.2.9 dev eth0 proto 70 metric 32070 ');
    await clock.advance(100);
    host.say('Deleted 10.3.0.0/24 via 192.0.2.9 dev eth0 proto 70 metric 32070 ');
    host.say('Deleted something that cannot be read proto 70 ');
    await clock.advance(100);
    assert.deepEqual(gone, [['254 10.1.0.0/24', '77 192.0.2.77/32', '254 fd00:1::/64'], ['254 10.2.0.0/24'], undefined]);
    await source.stop();
  });

  it('is told in full when the monitor was away: anything may have happened', async () => {
    const { host, clock, disturbances, gone, source } = await follow();
    host.monitors.at(-1)?.end({ status: 1, stdout: '', stderr: 'killed' });
    await clock.advance(1000);
    assert.equal(host.monitors.length, 2);
    assert.deepEqual(disturbances, []);
    await clock.advance(1100);
    assert.deepEqual(disturbances, ['hostLinks', 'ownLinks', 'routes', 'rules', 'lanAddresses']);
    assert.deepEqual(gone, [undefined]);
    await source.stop();
  });

  it('is not told any more once stopped', async () => {
    const { host, clock, disturbances, source } = await follow();
    host.say(ETH0_DOWN);
    await source.stop();
    host.say(ETH0_UP);
    await clock.advance(1000);
    assert.deepEqual(disturbances, []);
  });
});

describe('the probe of a host that has nothing', () => {
  it('names every missing facility with a remedy', async () => {
    const missing = (): Promise<never> =>
      Promise.reject(new FairwayError('FW_CAPABILITY_TOOL_MISSING', 'not installed: install it'));
    const probe = await probeHost(
      { runner: { run: missing, lines: missing }, files: { readFile: () => Promise.reject(new Error('ENOENT')) } },
      new AbortController().signal,
    );
    assert.deepEqual(probe.capabilities, {
      ipvs: false,
      ipset: false,
      dummyLink: false,
      iptables: { ipv4: false, ipv6: false },
      xtIpvs: false,
      bridgeNetfilter: false,
      nflog: false,
      ipv6: false,
    });
    assert.equal(probe.iptables.flavour, undefined);
    for (const { facility, ok, remark } of probe.reports) {
      assert.equal(ok, false, facility);
      assert.match(remark, /install|load|switched off/, facility);
    }
  });
});
