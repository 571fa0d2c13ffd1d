// Runs as root: in the lab's guest, or in a network namespace of a machine.
// Address plan: clients 10.0.0.0/24 and fd00::/64, services 10.96.0.0/16 and fd00:96::/64, endpoints 10.244.1.0/24 and fd00:244:1::/64.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FairwayError } from '../../daemon/errors.ts';
import { type AnsweredFlows, forgetFlows } from '../../daemon/kernel/conntrack.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Protocol } from '../../daemon/net/port.ts';

const never = new AbortController().signal;
const spawned: string[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv.join(' ')) });

function conntrack(args: string): string {
  const { stdout, stderr, status } = spawnSync('conntrack', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `conntrack ${args}: ${stderr}`);
  return stdout;
}

interface Entry {
  readonly protocol: Protocol;
  readonly client: string;
  readonly clientPort: number;
  readonly to: string;
  readonly port: number;
  readonly endpoint: string;
  readonly endpointPort: number;
}

const v4: Entry = {
  protocol: 'UDP',
  client: '10.0.0.1',
  clientPort: 1000,
  to: '10.96.0.10',
  port: 53,
  endpoint: '10.244.1.5',
  endpointPort: 8053,
};
const v6: Entry = { ...v4, client: 'fd00::1', to: 'fd00:96::10', endpoint: 'fd00:244:1::5' };

/** What the kernel would have after a packet of the client. */
function track({ protocol, client, clientPort, to, port, endpoint, endpointPort }: Entry): void {
  const forward = `-s ${client} -d ${to} --sport ${clientPort} --dport ${port}`;
  const reply = `-r ${endpoint} -q ${client} --reply-port-src ${endpointPort} --reply-port-dst ${clientPort}`;
  const state = protocol === 'SCTP' ? ' --state ESTABLISHED --orig-vtag 1 --reply-vtag 2' : '';
  const tcp = protocol === 'TCP' ? ' --state ESTABLISHED' : '';
  conntrack(`-I -p ${protocol.toLowerCase()} ${forward} ${reply} -t 100${state}${tcp}`);
}

const flowsOf = ({ protocol, to, port, endpoint, endpointPort }: Entry): AnsweredFlows => ({
  protocol,
  address: mustParseAddress(to),
  port,
  answeredBy: mustParseAddress(endpoint),
  answeringPort: endpointPort,
});

/** `udp 10.0.0.1:1000 10.96.0.10:53 10.244.1.5:8053` of each entry, sorted. */
function tracked(): readonly string[] {
  const lines = ['ipv4', 'ipv6'].flatMap(family => conntrack(`-L -f ${family}`).split('\n'));
  return lines
    .flatMap(line => {
      const found = /^(\w+) .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+).* src=(\S+) dst=\S+ sport=(\d+)/.exec(line);
      if (found === null) return [];
      const [, protocol, client, to, clientPort, port, endpoint, endpointPort] = found;
      return [`${protocol} ${client}:${clientPort} ${to}:${port} ${endpoint}:${endpointPort}`];
    })
    .sort();
}

const shown = (...entries: readonly Entry[]): readonly string[] =>
  entries
    .map(
      ({ protocol, client, clientPort, to, port, endpoint, endpointPort }) =>
        `${protocol.toLowerCase()} ${client}:${clientPort} ${to}:${port} ${endpoint}:${endpointPort}`,
    )
    .sort();

/** Each differs from these flows in one thing. */
const bystanders = (of: Entry, other: Entry): readonly Entry[] => [
  { ...of, protocol: 'TCP' },
  { ...of, to: other.to, clientPort: 2000 },
  { ...of, port: 54 },
  { ...of, endpoint: other.endpoint, clientPort: 3000 },
  { ...of, endpointPort: 8054, clientPort: 4000 },
];
const others4 = bystanders(v4, { ...v4, to: '10.96.0.11', endpoint: '10.244.1.6' });
const others6 = bystanders(v6, { ...v6, to: 'fd00:96::11', endpoint: 'fd00:244:1::6' });
const clientsOf = (of: Entry, ...clients: readonly string[]): readonly Entry[] =>
  clients.flatMap(client => [1, 2].map(clientPort => ({ ...of, client, clientPort })));
const gone: readonly Entry[] = [
  ...clientsOf(v4, '10.0.0.1', '10.0.0.2'),
  ...clientsOf(v6, 'fd00::1', 'fd00::2'),
  ...clientsOf({ ...v4, protocol: 'SCTP' }, '10.0.0.1'),
  ...clientsOf({ ...v6, protocol: 'SCTP' }, 'fd00::1'),
];
const named = [v4, v6, { ...v4, protocol: 'SCTP' as const }, { ...v6, protocol: 'SCTP' as const }].map(flowsOf);
/** Flows of which there is none. */
const absent = (count: number): readonly AnsweredFlows[] =>
  Array.from({ length: count }, (_, index) => flowsOf({ ...v4, endpoint: `10.244.9.${index + 1}` }));

describe('flows of conntrack', function () {
  this.timeout(60_000);

  beforeEach(() => {
    conntrack('-F');
    spawned.length = 0;
  });

  it('that are few are forgotten, one process each, and no others', async () => {
    for (const entry of [...gone, ...others4, ...others6]) track(entry);
    assert.deepEqual(tracked(), shown(...gone, ...others4, ...others6));
    await forgetFlows(runner, named, never);
    assert.deepEqual(tracked(), shown(...others4, ...others6));
    assert.equal(spawned.length, named.length);
  });

  it('that are many are looked for once a protocol and family, and those that are there forgotten', async () => {
    for (const entry of [...gone, ...others4, ...others6]) track(entry);
    await forgetFlows(runner, [...absent(20), ...named, ...named], never);
    assert.deepEqual(tracked(), shown(...others4, ...others6));
    const looks = ['sctp', 'udp'].flatMap(protocol => ['ipv4', 'ipv6'].map(family => `conntrack -L -p ${protocol} -f ${family}`));
    assert.deepEqual(spawned.slice(0, 4).sort(), looks);
    assert.equal(spawned.length, 4 + named.length);
  });

  it('that nobody translates are those that the address itself answers', async () => {
    const past = { ...v4, endpoint: v4.to, endpointPort: v4.port };
    for (const entry of [past, { ...v4, clientPort: 2000 }]) track(entry);
    await forgetFlows(runner, [flowsOf(past)], never);
    assert.deepEqual(tracked(), shown({ ...v4, clientPort: 2000 }));
  });

  it('of which there is none are no failure, few or many, in a table that is empty or not', async () => {
    for (const entries of [[], others4]) {
      for (const entry of entries) track(entry);
      await forgetFlows(runner, [], never);
      await forgetFlows(runner, absent(3), never);
      await forgetFlows(runner, absent(30), never);
      assert.deepEqual(tracked(), shown(...entries));
    }
    assert.equal(spawned.filter(argv => argv.includes(' -D ')).length, 6, 'of many, only those that are there');
  });

  it('that go between looking and forgetting are no failure', async () => {
    track(v4);
    const racing: typeof runner = {
      run: runner.run.bind(runner),
      async lines(command, onLine, signal) {
        const result = await runner.lines(command, onLine, signal);
        conntrack('-F');
        return result;
      },
    };
    await forgetFlows(racing, [...absent(9), flowsOf(v4)], never);
    assert.match(spawned.at(-1) ?? '', /^conntrack -D /);
  });

  it('of a full table are forgotten all the same', async () => {
    const line = (port: number): string =>
      `-I -p udp -s 10.0.0.1 -d 10.96.0.10 --sport ${port} --dport 53 -r 10.244.1.5 -q 10.0.0.1 --reply-port-src 8053 --reply-port-dst ${port} -t 100\n`;
    const input = Array.from({ length: 2_000 }, (_, index) => line(10_000 + index)).join('');
    const folder = mkdtempSync(join(tmpdir(), 'fairway-conntrack-'));
    writeFileSync(join(folder, 'entries'), input);
    conntrack(`-R ${folder}/entries`);
    rmSync(folder, { recursive: true });
    assert.equal(conntrack('-C').trim(), '2000');
    track({ ...v4, endpoint: '10.244.1.6' });
    await forgetFlows(runner, [...absent(9), flowsOf(v4)], never);
    assert.deepEqual(tracked(), shown({ ...v4, endpoint: '10.244.1.6' }));
  });

  it('cannot be forgotten without the tool: the error names its package', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairway-conntrack-'));
    for (const tool of readdirSync('/usr/sbin')) if (tool !== 'conntrack') symlinkSync(`/usr/sbin/${tool}`, join(folder, tool));
    // The folders that are searched whatever PATH says.
    spawnSync('mount', ['--bind', folder, '/usr/sbin']);
    try {
      for (const flows of [absent(1), absent(9)]) {
        const thrown = await forgetFlows(runner, flows, never).catch((each: unknown) => each);
        assert.ok(thrown instanceof FairwayError);
        assert.equal(thrown.code, 'FW_CAPABILITY_TOOL_MISSING');
        assert.match(thrown.message, /'conntrack' is not installed: install the Debian package 'conntrack'/);
      }
    } finally {
      spawnSync('umount', ['/usr/sbin']);
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('cannot be forgotten without the right to: the error says what the tool said', async () => {
    const powerless: typeof runner = {
      run: ({ argv, ...rest }, signal) =>
        runner.run({ ...rest, argv: ['setpriv', '--bounding-set=-all', '--inh-caps=-all', ...argv] }, signal),
      lines: ({ argv, ...rest }, onLine, signal) =>
        runner.lines({ ...rest, argv: ['setpriv', '--bounding-set=-all', '--inh-caps=-all', ...argv] }, onLine, signal),
    };
    for (const flows of [absent(1), absent(9)]) {
      await assert.rejects(forgetFlows(powerless, flows, never), (thrown: unknown) => {
        assert.ok(thrown instanceof FairwayError);
        assert.equal(thrown.code, 'FW_COMMAND_FAILED');
        assert.match(thrown.message, /^'conntrack -[DL] -p udp .*' ended with status \d+: .*you must be root/);
        return true;
      });
    }
  });
});
