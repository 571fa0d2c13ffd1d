/** A host that lacks something at first: what a daemon that runs makes of it when it is there. */
import assert from 'node:assert/strict';
import { FairwayError } from '../../../daemon/errors.ts';
import { type HostProbe, probeHost } from '../../../daemon/kernel/capabilities.ts';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { HostAbilities, watchLacks } from '../../../daemon/kernel/host-abilities.ts';
import { ManualClock } from '../../fakes/clock.ts';

const { signal } = new AbortController();

/** A host by the answers of its tools: which are missing, and what the others say. */
class Host implements CommandRunner {
  readonly missing = new Set<string>();
  /** By the start of the program's name. */
  readonly says = new Map<string, CommandResult>();
  readonly legacyTables: string;
  readonly ran: Command[] = [];

  constructor(legacyTables = '') {
    this.legacyTables = legacyTables;
  }

  run(command: Command): Promise<CommandResult> {
    this.ran.push(command);
    const [program] = command.argv;
    if (this.missing.has(program))
      return Promise.reject(new FairwayError('FW_CAPABILITY_TOOL_MISSING', `'${program}' is not installed`));
    const [, said] = [...this.says].find(([start]) => program.startsWith(start)) ?? [];
    return Promise.resolve(said ?? { status: 0, stdout: '', stderr: '' });
  }

  async lines(command: Command): Promise<CommandResult> {
    return await this.run(command);
  }

  async probe(): Promise<HostProbe> {
    const readFile = (path: string): Promise<string> => Promise.resolve(path.endsWith('_tables_names') ? this.legacyTables : '');
    return await probeHost({ runner: this, files: { readFile } }, signal);
  }
}

describe('a host that lacks something at the start', () => {
  it('is looked at again after 5 s, then at doubling distances up to 5 min, until nothing is lacking', async () => {
    const clock = new ManualClock();
    const looks: number[] = [];
    const started = clock.now();
    let isLacking = true;
    const watching = watchLacks(
      {
        clock,
        isLacking: () => isLacking,
        look: () => {
          looks.push((clock.now() - started) / 1000);
          if (looks.length === 9) isLacking = false;
          return Promise.resolve();
        },
      },
      signal,
    );
    await clock.advance(3_600_000);
    await watching;
    assert.deepEqual(looks, [5, 15, 35, 75, 155, 315, 615, 915, 1215]);
  });

  it('can do what it was found to do later, and tells what that is', async () => {
    const host = new Host();
    host.missing.add('ipset').add('ip6tables-nft-restore');
    const abilities = new HostAbilities(await host.probe());
    const { iptables } = abilities;
    const before = abilities.probe;
    assert.deepEqual(
      before.reports.filter(({ ok }) => !ok).map(({ facility }) => facility),
      ['ipset', 'iptables (ipv6)'],
    );
    assert.deepEqual(Object.keys(iptables.byFamily), ['ipv4']);
    assert.deepEqual(abilities.learn(await host.probe()), []);
    assert.equal(abilities.probe, before, 'nothing new is no new object');
    host.missing.clear();
    assert.deepEqual(
      abilities.learn(await host.probe()).map(({ facility }) => facility),
      ['ipset', 'iptables (ipv6)'],
    );
    assert.deepEqual(iptables.byFamily.ipv6?.restore, ['ip6tables-nft-restore']);
    assert.ok(abilities.probe.capabilities.ipset && abilities.probe.capabilities.iptables.ipv6);
    assert.ok(abilities.probe.reports.every(({ ok }) => ok));
  });

  it('keeps what it could do where a later look fails for want of processes', async () => {
    const host = new Host();
    host.missing.add('gobgpd');
    const abilities = new HostAbilities(await host.probe());
    host.missing.clear();
    for (const tool of ['ip', 'modprobe', 'conntrack']) host.says.set(tool, { status: 1, stdout: '', stderr: 'no process' });
    assert.deepEqual(
      abilities.learn(await host.probe()).map(({ facility }) => facility),
      ['gobgpd'],
    );
    assert.deepEqual(abilities.probe.capabilities.iptables, { ipv4: true, ipv6: true });
    assert.ok(abilities.probe.reports.every(({ ok }) => ok));
  });
});

describe('a host whose xtables lock is held while we start', () => {
  it('keeps the flavour of iptables that the others use', async () => {
    const host = new Host('filter\nnat\n');
    const stderr = 'Another app is currently holding the xtables lock. Perhaps you want to use the -w option?';
    host.says.set('iptables-legacy-save', { status: 0, stdout: '', stderr: '' });
    for (const tool of ['iptables-legacy', 'ip6tables-legacy']) host.says.set(tool, { status: 4, stdout: '', stderr });
    host.says.set('iptables-nft-save', { status: 1, stdout: '', stderr: '' });
    host.missing.add('iptables-nft-save').add('ip6tables-nft-save');
    const abilities = new HostAbilities(await host.probe());
    assert.equal(abilities.iptables.flavour, 'legacy');
    assert.deepEqual(Object.keys(abilities.iptables.byFamily), ['ipv4', 'ipv6']);
    assert.deepEqual(
      abilities.probe.reports.filter(({ ok }) => !ok).map(({ facility }) => facility),
      [],
      'what could not be tried for the lock counts as there: rules of an earlier run must not go for it',
    );
  });
});

describe('a host that starts no process while we start', () => {
  it('counts as able to do all: what an earlier run made must not go for that, and what fails is tried again', async () => {
    for (const code of ['FW_COMMAND_FAILED', 'FW_COMMAND_TIMEOUT'] as const) {
      const fail = (): Promise<never> => Promise.reject(new FairwayError(code, 'no process'));
      const probe = await probeHost(
        { runner: { run: fail, lines: fail }, files: { readFile: () => Promise.resolve('') } },
        signal,
      );
      assert.deepEqual(
        probe.reports.filter(({ ok }) => !ok),
        [],
      );
      assert.deepEqual(probe.capabilities.iptables, { ipv4: true, ipv6: true });
      assert.ok(Object.values(probe.capabilities).every(can => can !== false));
    }
  });
});

describe('modprobe that hangs', () => {
  it('is given ten seconds, and the probe goes on', async () => {
    const host = new Host();
    const readFile = (): Promise<string> => Promise.reject(new Error('ENOENT'));
    host.says.set('modprobe', { status: 137, stdout: '', stderr: '' });
    await probeHost({ runner: host, files: { readFile } }, signal);
    assert.equal(host.ran.find(({ argv }) => argv[0] === 'modprobe')?.timeoutMs, 10_000);
    assert.ok(host.ran.some(({ argv }) => argv[0] === 'ipset'));
  });
});
