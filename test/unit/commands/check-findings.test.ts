/** What `fairway check` makes of what it sees: versions, ports, MTUs, settings, the clock. */
import assert from 'node:assert/strict';
import { clockExaminer } from '../../../daemon/commands/examine/clock.ts';
import { facilitiesExaminer } from '../../../daemon/commands/examine/facilities.ts';
import { type Finding, findingsJson, findingsText, ok, verdictOf, warning } from '../../../daemon/commands/examine/finding.ts';
import { judgeFlavours } from '../../../daemon/commands/examine/flavours.ts';
import { judgeMtus } from '../../../daemon/commands/examine/links.ts';
import { judgePorts, parseListeners } from '../../../daemon/commands/examine/ports.ts';
import { settingsExaminer } from '../../../daemon/commands/examine/settings.ts';
import { toolsExaminer } from '../../../daemon/commands/examine/tools.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';

const { signal } = new AbortController();

/** One line a finding, as an operator reads them. */
function shown(findings: readonly Finding[]): string {
  return findings.map(({ verdict, subject, remark }) => `${verdict} ${subject}: ${remark}`).join('\n');
}

/** What the tools of Debian 12 print. */
const PRINTED: Readonly<Record<string, string>> = {
  'iptables-nft-restore': 'iptables-nft-restore v1.8.9 (nf_tables)',
  ip: 'ip utility, iproute2-6.1.0, libbpf 1.1.2',
  ipset: 'ipset v7.17, protocol version: 7',
  ipvsadm: 'ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)',
  conntrack: 'conntrack v1.4.7 (conntrack-tools)',
  gobgpd: 'gobgpd version 3.10.0',
  nsenter: 'nsenter from util-linux 2.38.1',
  modprobe: 'kmod version 30',
};

/** Tools that print their version; undefined for one that is not there. */
async function tools(changes: Readonly<Record<string, string | undefined>>, routing = true): Promise<string> {
  const printed: Readonly<Record<string, string | undefined>> = { ...PRINTED, ...changes };
  const run = ({ argv: [name] }: Command): Promise<CommandResult> => {
    const text = printed[name];
    if (text === undefined) return Promise.reject(new FairwayError('FW_CAPABILITY_TOOL_MISSING', `'${name}' is not installed`));
    return Promise.resolve({ status: 0, stdout: `${text}\n`, stderr: '' });
  };
  const runner: CommandRunner = { run, lines: run };
  const tool = { save: ['iptables-nft-save'], restore: ['iptables-nft-restore'] } as const;
  const iptables = { flavour: 'nft', reason: 'nft: why', byFamily: { ipv4: tool } } as const;
  const examiner = toolsExaminer({ runner, iptables, isEnabled: module => module !== 'routing' || routing });
  const findings = await examiner.examine(signal);
  return shown(findings.filter(({ verdict }) => verdict !== 'ok'));
}

describe('fairway check, of tools', () => {
  it('has nothing to say of those of Debian 12', async () => {
    assert.equal(await tools({}), '');
  });

  it('names the versions of iptables that lose rules, and those that others misread', async () => {
    const say = (version: string): Promise<string> => tools({ 'iptables-nft-restore': `iptables-restore v${version}` });
    assert.match(await say('1.6.1 (nf_tables)'), /^missing iptables: 1\.6\.1 .*1\.8 or newer$/);
    assert.match(await say('1.8.2 (nf_tables)'), /^warning iptables: 1\.8\.2 .*before 1\.8\.4 loses and doubles rules/);
    assert.match(await say('1.8.8 (nf_tables)'), /^warning iptables: 1\.8\.8 .*1\.8\.7 and older misread/);
    assert.equal(await say('1.8.2 (legacy)'), '');
    assert.equal(await say('1.8.10 (nf_tables)'), '');
    assert.equal(await say('1.10.0 (nf_tables)'), '');
  });

  it('names what is missing with its package, and what is not served without it', async () => {
    assert.match(await tools({ ipset: undefined }), /^missing ipset: 'ipset' is not installed$/);
    assert.match(await tools({ conntrack: undefined }), /^warning conntrack: .*UDP and SCTP clients may stay/);
  });

  it('takes gobgpd of another major version for missing where routing is on, and for a warning where it is off', async () => {
    assert.match(await tools({ gobgpd: 'gobgpd version 2.34.0' }), /^missing gobgpd: 2\.34\.0: .*install gobgpd 3\.x/);
    assert.match(await tools({ gobgpd: 'gobgpd version 2.34.0' }, false), /^warning gobgpd/);
  });

  it('needs JSON of ip, marks of ipset and flags of ipvsadm', async () => {
    assert.match(await tools({ ip: 'ip utility, iproute2-ss170501' }), /^$/);
    assert.match(await tools({ ip: 'ip utility, iproute2-4.9.0' }), /^missing ip: 4\.9\.0: it prints no JSON/);
    assert.match(await tools({ ipset: 'ipset v6.11, protocol version: 6' }), /^missing ipset/);
    assert.match(await tools({ ipvsadm: 'ipvsadm v1.26 2008/5/15' }), /^missing ipvsadm/);
  });
});

describe('fairway check, of the kernel', () => {
  const reports = [
    { facility: 'IPVS', neededBy: ['services'], ok: false, remark: 'load ip_vs' },
    { facility: 'IPv6', neededBy: ['services', 'routing'], ok: false, remark: 'switched off' },
    { facility: "iptables' log of denied packets", neededBy: ['policy'], ok: false, remark: 'load xt_NFLOG' },
    { facility: 'ipset', neededBy: ['services'], ok: true, remark: 'made and deleted' },
  ];

  it('weighs what lacks by who needs it', async () => {
    const verdicts = async (enabled: readonly string[], needsIpv6: boolean): Promise<readonly string[]> => {
      const examiner = facilitiesExaminer({ reports, isEnabled: name => enabled.includes(name), needsIpv6: () => needsIpv6 });
      return (await examiner.examine(signal)).map(({ verdict }) => verdict);
    };
    assert.deepEqual(await verdicts(['services', 'policy'], false), ['missing', 'warning', 'warning', 'ok']);
    assert.deepEqual(await verdicts(['services', 'policy'], true), ['missing', 'missing', 'warning', 'ok']);
    assert.deepEqual(await verdicts(['policy'], true), ['warning', 'warning', 'warning', 'ok']);
  });
});

describe('fairway check, of ports', () => {
  const SS = [
    'LISTEN 0      4096         *:20244            *:*    users:(("node",pid=41,fd=20))',
    'LISTEN 0      128    0.0.0.0:179        0.0.0.0:*    users:(("bird",pid=77,fd=7))',
    'LISTEN 0      128       [::]:179           [::]:*    users:(("bird",pid=77,fd=8))',
    'LISTEN 0      128    0.0.0.0:31000      0.0.0.0:*    users:(("nginx",pid=90,fd=6),("nginx",pid=91,fd=6))',
    'LISTEN 0      128    127.0.0.1:9999     0.0.0.0:*',
  ].join('\n');
  const wanted = [
    { port: 179, flag: '--bgp-port', use: 'no BGP session comes up' },
    { port: 20244, flag: '--health-port', use: 'probes are answered by it' },
    { port: 9999, flag: '--metrics-port', use: 'there are no metrics' },
    { port: 8080, flag: '--other', use: 'nothing' },
  ];

  it('names the program that has a port we want, knows our own, and warns of programs among the node ports', () => {
    const text = shown(judgePorts(parseListeners(SS), wanted, [30_000, 32_767]));
    assert.deepEqual(text.split('\n'), [
      'warning port 179: bird 77 listens there, and no BGP session comes up; stop it, or choose another port by --bgp-port',
      'ok port 20244: node 41 listens, which looks like the daemon itself (--health-port)',
      'warning port 9999: another program listens there, and there are no metrics; stop it, or choose another port by --metrics-port',
      'ok port 8080: free (--other)',
      'warning node ports: 31000 (nginx 90, nginx 91) within 30000-32767 belong to programs of the host: a Service of one of these ports takes it from them',
    ]);
  });
});

describe('fairway check, of MTUs', () => {
  const links = (changes: Readonly<Record<string, number>>): ReadonlyMap<string, number> =>
    new Map(Object.entries({ lo: 65_536, eth0: 1500, 'tun-0123456789a': 1480, 'kube-bridge': 1480, ...changes }));

  it('has nothing to say where packets of pods fit', () => {
    assert.match(shown(judgeMtus(links({}), ['eth0'], 1480)), /^ok links: .*1480/);
    assert.match(shown(judgeMtus(links({}), [], undefined)), /^ok links: there is no default route/);
  });

  it('names the bridge, the tunnel and the CNI file whose packets do not fit', () => {
    assert.match(
      shown(judgeMtus(links({ 'kube-bridge': 1500 }), ['eth0'], undefined)),
      /^warning kube-bridge: its MTU 1500 .* 1480/,
    );
    assert.match(
      shown(judgeMtus(links({ eth0: 1400 }), ['eth0'], undefined)),
      /^warning tun-0123456789a: its MTU 1480 .* 1400 of eth0/,
    );
    assert.match(shown(judgeMtus(links({}), ['eth0'], 9000)), /^warning CNI file: .*9000.*1480/);
  });
});

describe('fairway check, of settings', () => {
  const settings = async (values: Readonly<Record<string, string>>, enabled = true): Promise<string> => {
    const readFile = (path: string): Promise<string> => {
      const value = values[path.split('/').at(-1) ?? ''];
      return value === undefined ? Promise.reject(new Error('ENOENT')) : Promise.resolve(`${value}\n`);
    };
    const findings = await settingsExaminer({ readFile, isEnabled: () => enabled }).examine(signal);
    return shown(findings.filter(({ verdict }) => verdict !== 'ok'));
  };

  it('warns of a table of flows that is nearly full, and calls one that is full missing', async () => {
    const flows = (count: number): Promise<string> => settings({ nf_conntrack_count: String(count), nf_conntrack_max: '1000' });
    assert.equal(await flows(700), '');
    assert.match(await flows(800), /^warning nf_conntrack: 800 of 1000 flows: the table is nearly full; raise net\.netfilter/);
    assert.match(await flows(1000), /^missing nf_conntrack: 1000 of 1000 flows: the table is full and new flows are dropped/);
    assert.equal(await settings({}), '');
  });

  it('warns of strict reverse path filters, and of forwarding that nobody will switch on', async () => {
    assert.match(await settings({ rp_filter: '1' }), /^warning net\.ipv4\.conf\.all\.rp_filter: 1 \(strict\)/);
    assert.equal(await settings({ rp_filter: '2', ip_forward: '0' }), '');
    assert.match(await settings({ ip_forward: '0' }, false), /^warning net\.ipv4\.ip_forward: 0: no pod reaches/);
  });
});

describe('fairway check, of the clock', () => {
  it('compares with the API server, and knows a clock that was reset', async () => {
    const now = Date.UTC(2026, 5, 1);
    const say = async (at: number, server?: number): Promise<string> =>
      shown(await clockExaminer({ now: () => at, serverTime: () => server }).examine(signal));
    assert.match(await say(now), /^ok clock: 2026-06-01T00:00:00\.000Z, compared with nobody's$/);
    assert.match(await say(now, now - 30_000), /^ok/);
    assert.match(await say(now, now - 3_600_000), /^warning clock: .* is 3600 s ahead of the API server's/);
    assert.match(await say(now, now + 120_000), /^warning clock: .* is 120 s behind the API server's/);
    assert.match(await say(0), /^missing clock: 1970-.* is in the past/);
  });
});

describe('fairway check, of the flavours of iptables', () => {
  const none = { ours: 0, others: 0 };

  it('warns where software of the host uses both, and where rules of ours are left in the other', () => {
    assert.equal(judgeFlavours('nft', { ours: 9, others: 3 }, none).verdict, 'ok');
    const both = shown([judgeFlavours('legacy', { ours: 0, others: 3 }, { ours: 9, others: 2 })]);
    assert.match(both, /^warning .*3 rules of others are in nft and 2 in legacy, ours go into legacy/);
    const left = shown([judgeFlavours('nft', { ours: 9, others: 3 }, { ours: 4, others: 0 })]);
    assert.match(left, /^warning .*4 rules of ours are left in the legacy flavour.*fairway cleanup/);
  });
});

describe('fairway check, as it is printed', () => {
  const groups = [
    { title: 'Tools', findings: [ok('ip', '6.1.0')] },
    { title: 'Nothing', findings: [] },
    { title: 'Ports', findings: [warning('port 179', 'bird listens')] },
  ];

  it('is a paragraph a group, and the verdict before each finding', () => {
    assert.equal(findingsText(groups), 'Tools\n  ok      ip: 6.1.0\n\nPorts\n  warning port 179: bird listens\n');
  });

  it('is JSON with the worst verdict of all', () => {
    assert.equal(verdictOf(groups), 'warning');
    assert.deepEqual(JSON.parse(findingsJson(groups)), { verdict: 'warning', groups });
  });
});
