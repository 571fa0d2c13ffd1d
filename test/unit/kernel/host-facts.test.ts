import assert from 'node:assert/strict';
import type { HostFacts } from '../../../daemon/cluster/snapshot.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { probeHost } from '../../../daemon/kernel/capabilities.ts';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { followHostFacts, monitoredLink, parseHost } from '../../../daemon/kernel/host-facts.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { ALL_CAPABILITIES as capabilities } from '../../fixtures/cluster.ts';

/** A host whose addresses are set by hand and whose monitor ends when told: what no real tool does on demand. */
class Host implements CommandRunner {
  addresses: Record<string, string[]> = { lo: ['127.0.0.1/8'], eth0: ['192.0.2.1/24'] };
  monitors: { onLine: (line: string) => void; end: (result: CommandResult) => void }[] = [];
  readings = 0;
  isBroken = false;

  async run(): Promise<CommandResult> {
    this.readings++;
    if (this.isBroken) return { status: 1, stdout: '', stderr: 'no memory' };
    const links = Object.entries(this.addresses).map(([ifname, list]) => ({
      ifname,
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
  const source = await followHostFacts(
    {
      runner: host,
      clock,
      hostname: 'node-1',
      capabilities,
      ownLinks: new Set(['kube-dummy-if']),
      onChange: facts => heard.push(facts),
      onTrouble: error => troubles.push(error?.message),
    },
    new AbortController().signal,
  );
  await clock.advance(1000);
  await clock.advance(100);
  return { host, clock, heard, troubles, source };
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
        addr_info: [{ local: 'fe80::1', prefixlen: 64, dadfailed: true }, { local: '::ffff:1.2.3.4', prefixlen: 128 }, {}],
      },
      {},
    ]);
    assert.deepEqual(parseHost(json), {
      links: new Map([['eth0', { mtu: 1500 }]]),
      addresses: [{ link: 'eth0', address: '::ffff:102:304', prefixLength: 128 }],
    });
    assert.throws(() => parseHost('oops'), { code: 'FW_READ_UNPARSABLE' });
    assert.throws(() => parseHost('{}'), { code: 'FW_READ_UNPARSABLE' });
  });

  it('finds the link in what the monitor prints', () => {
    assert.equal(monitoredLink('8: kube-dummy-if    inet 10.1.1.1/32 scope global'), 'kube-dummy-if');
    assert.equal(monitoredLink('9: veth1@if2: <BROADCAST> mtu 1500'), 'veth1');
    assert.equal(monitoredLink('Deleted 9: ke    inet6 fe80::1/64'), 'ke');
    assert.equal(monitoredLink('Terminated'), undefined);
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
