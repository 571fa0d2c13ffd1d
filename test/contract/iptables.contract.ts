// Runs as root in a network namespace without any iptables rule: in the lab's guest, or under `unshare -n`.
// Address plan: pods 10.244.0.0/16 and fd00:244::/64, the node 192.168.1.1 and fd00::1.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { iptablesDriver } from '../../daemon/kernel/iptables.ts';
import { type IptablesTools, preferred, probeIptables, toolOf } from '../../daemon/kernel/iptables-flavour.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import type { Family } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { type IptablesEntry, type IptablesTable, TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const FLAVOURS = ['legacy', 'nft'] as const;
const hasIpvs = existsSync('/proc/net/ip_vs');

function sh(program: string, args: readonly string[], stdin = ''): string {
  const { stdout, stderr, status } = spawnSync(program, args, { input: stdin, encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Sends one datagram to the discard port: the rules on the way count it. */
function datagramTo(host: string): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  return new Promise((resolve, reject) => {
    socket.send('x', 9, host, error => {
      socket.close();
      if (error) reject(error);
      else resolve();
    });
  });
}

const key = TABLES.iptables.key;
const keyed = (entries: readonly IptablesEntry[]): ReadonlyMap<string, IptablesEntry> =>
  new Map(entries.map(entry => [key(entry), entry]));
const create = (entry: IptablesEntry): Change<IptablesEntry> => ({ op: 'create', key: key(entry), to: entry });
const update = (from: IptablesEntry, to: IptablesEntry): Change<IptablesEntry> => ({ op: 'update', key: key(to), from, to });
const remove = (from: IptablesEntry): Change<IptablesEntry> => ({ op: 'delete', key: key(from), from });

/** Every canonical rule of one family, by table. */
function corpus(family: Family): Record<IptablesTable, readonly string[]> {
  const isV4 = family === 'ipv4';
  const n = isV4 ? '4' : '6';
  const icmp = isV4
    ? ['8', '0', '3', '3/4', '11'].map(type => `-p icmp -m icmp --icmp-type ${type} -j ACCEPT`)
    : ['1', '2', '3', '4', '128', '129', '133', '134', '135', '136'].map(
        type => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`,
      );
  const pods = isV4 ? '10.244.1.0/24' : 'fd00:244:1::/64';
  const node = isV4 ? '192.168.1.1' : 'fd00::1';
  const host = `${node}/${isV4 ? 32 : 128}`;
  const unreachable = isV4 ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
  return {
    filter: [
      `-m set --match-set svip${n} dst -j FAIRWAY-CALLED`,
      ...icmp,
      `-m set --match-set svip-prt${n} dst,dst -j ACCEPT`,
      `-m set ! --match-set svip${n} dst -j REJECT --reject-with ${unreachable}`,
      `-m set --match-set svip-prt${n} dst,dst -j DROP`,
      '-p tcp -j REJECT --reject-with tcp-reset',
      `-s ${pods} -j RETURN`,
      `-d ${pods} -j RETURN`,
      `-s ${pods} -d ${host} ! -i eth0 -o eth+ -j RETURN`,
      `! -s ${pods} ! -d ${host} -j RETURN`,
      '-m comment --comment "x y" -j ACCEPT',
      '-m comment --comment "default/web:http" -j ACCEPT',
      '-m comment --comment word -j ACCEPT',
      '-m mark --mark 0x10000/0x10000 -j RETURN',
      '-m mark ! --mark 0x1234 -j RETURN',
      '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-m conntrack --ctstate INVALID -j DROP',
      '-m conntrack --ctdir REPLY -j ACCEPT',
      `-p tcp -m conntrack --ctstate NEW -m set --match-set svip-prt${n} dst,dst -j REJECT --reject-with tcp-reset`,
      '-m addrtype --dst-type LOCAL -j RETURN',
      '-m addrtype ! --dst-type LOCAL -j RETURN',
      '-j NFLOG --nflog-prefix "DROP by policy a/b" --nflog-group 100',
      '-j NFLOG --nflog-prefix DROP --nflog-group 100',
      '-m limit --limit 10/min --limit-burst 10 -j ACCEPT',
      '-m limit --limit 10/min -j ACCEPT',
      '-p tcp -m tcp --dport 80 -j ACCEPT',
      '-p tcp -m tcp --dport 30000:32767 -j ACCEPT',
      '-p udp -m udp --sport 53 --dport 53 -j ACCEPT',
      '-p sctp -m sctp --dport 80 -j ACCEPT',
      '-p tcp -m multiport --dports 80,443,1000:2000 -j ACCEPT',
      '-g FAIRWAY-CALLED',
      ...policyCorpus(family),
    ],
    nat: [
      ...(hasIpvs ? ['-m ipvs --vdir ORIGINAL --vmethod MASQ -j FAIRWAY-CALLED', '-m ipvs ! --ipvs -j RETURN'] : []),
      `-m set --match-set hairpin${n} dst,dst,src -j SNAT --to-source ${node} --random-fully`,
      '-j MASQUERADE --random-fully',
      '-j MASQUERADE',
    ],
    mangle: [
      '-j MARK --set-xmark 0x1234/0xffff',
      '-j MARK --set-xmark 0x1234/0xffffffff',
      '-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1440',
    ],
  };
}

/** What network policy writes. */
function policyCorpus(family: Family): readonly string[] {
  const isV4 = family === 'ipv4';
  const n = isV4 ? '4' : '6';
  const pod = isV4 ? '10.244.1.2/32' : 'fd00:244:1::2/128';
  const protocols = ['tcp', 'udp', 'sctp'];
  return [
    '-m conntrack --ctstate RELATED,ESTABLISHED -g FAIRWAY-CALLED',
    `-m set --match-set svip${n} src -j FAIRWAY-CALLED`,
    `-m set ! --match-set svip${n} src -j RETURN`,
    `-m set --match-set svip${n} src -g FAIRWAY-CALLED`,
    `-s ${pod} -d ${pod} -j ACCEPT`,
    ...protocols.flatMap(protocol => [
      `-p ${protocol} -g FAIRWAY-CALLED`,
      `-p ${protocol} -m ${protocol} --dport 80:90 -g FAIRWAY-CALLED`,
      `-p ${protocol} -m ${protocol} --dport 1:65535 -g FAIRWAY-CALLED`,
      `-p ${protocol} -m multiport --dports 80,443,1000:2000 -g FAIRWAY-CALLED`,
      `-p ${protocol} -m multiport --dports 1:2,4:5,7:8,10:11,13:14,16:17,19:20,22 -g FAIRWAY-CALLED`,
      `-p ${protocol} -m multiport --dports 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29 -g FAIRWAY-CALLED`,
      `-p ${protocol} -m set --match-set svip-prt${n} dst,dst -g FAIRWAY-CALLED`,
      `-p ${protocol} -m multiport --dports 80,443 -m set --match-set svip${n} src -m comment --comment "default/web ingress[0]" -g FAIRWAY-CALLED`,
      `-p ${protocol} -m set --match-set svip${n} src -m multiport --dports 80,443 -m comment --comment "default/web ingress[0]" -g FAIRWAY-CALLED`,
      `-p ${protocol} -m set --match-set svip${n} dst -m set --match-set svip-prt${n} dst,dst -m comment --comment "default/web.v1 egress[12]" -g FAIRWAY-CALLED`,
      `-p ${protocol} -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN`,
      `-p ${protocol} -m multiport --dports 30000:32767 -m addrtype --dst-type LOCAL -j RETURN`,
    ]),
    `-m set --match-set svip-prt${n} dst,dst -m comment --comment "default/web egress[0]" -g FAIRWAY-CALLED`,
    '-m comment --comment "default/web" -j FAIRWAY-CALLED',
    // The longest: of what is longer the tool cuts the end without a word.
    `-m comment --comment "${'n'.repeat(63)}/${'p'.repeat(191)}" -j FAIRWAY-CALLED`,
    `-j NFLOG --nflog-prefix "${'n'.repeat(31)}/${'p'.repeat(31)}" --nflog-group 100`,
    '-m addrtype --src-type LOCAL -j RETURN',
    '-j MARK --set-xmark 0x10000/0x10000',
    '-j MARK --set-xmark 0x0/0x10000',
    '-m mark --mark 0x10000/0x10000 -g FAIRWAY-CALLED',
    '-m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-prefix "fairway: denied default/web.v1[0]" --nflog-group 100',
    '-m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100',
  ];
}

before('only where no rule can be harmed', () => {
  for (const program of ['iptables-legacy-save', 'ip6tables-legacy-save', 'iptables-nft-save', 'ip6tables-nft-save']) {
    assert.doesNotMatch(sh(program, []), /^-A/m, `${program}: this network namespace has rules; run under 'unshare -n'`);
  }
  const types = { svip: 'hash:ip', 'svip-prt': 'hash:ip,port', hairpin: 'hash:ip,port,ip' };
  for (const [name, type] of Object.entries(types)) {
    sh('ipset', ['create', `${name}4`, type]);
    sh('ipset', ['create', `${name}6`, type, 'family', 'inet6']);
  }
});

for (const flavour of FLAVOURS) {
  for (const family of FAMILIES) {
    describe(`iptables, ${flavour} flavour, ${family}`, () => {
      const tools: IptablesTools = { flavour, reason: 'test', byFamily: { [family]: toolOf(flavour, family) } };
      const driver = iptablesDriver({ runner, tools, ownsChain: name => name.startsWith('FAIRWAY-') });
      const program = toolOf(flavour, family).save[0].replace('-save', '');
      const iptables = (args: string): string => sh(program, args.split(' '));
      const saved = (table: IptablesTable): string[] =>
        sh(`${program}-save`, ['-t', table])
          .split('\n')
          .filter(line => line.startsWith('-A'));
      const chain = (name: string, rules: readonly string[], table: IptablesTable = 'filter'): IptablesEntry => ({
        kind: 'chain',
        family,
        table,
        name,
        rules,
      });
      const hook = (
        to: string,
        order: number,
        more: { from?: string; match?: string; table?: IptablesTable } = {},
      ): IptablesEntry => ({
        kind: 'hook',
        family,
        table: more.table ?? 'filter',
        from: more.from ?? 'INPUT',
        to,
        order,
        match: more.match ?? '',
      });
      const apply = async (...changes: Change<IptablesEntry>[]): Promise<Map<string, string>> => {
        const { failed } = await driver.apply(changes, never);
        return new Map([...failed].map(([name, error]) => [name, `${error.code} ${error.message}`]));
      };
      const read = (expected: readonly IptablesEntry[] = []) => driver.read(keyed(expected), never);
      const host = family === 'ipv4' ? '192.0.2.1/32' : '2001:db8::1/128';

      afterEach(() => {
        for (const table of ['filter', 'nat', 'mangle']) {
          iptables(`-t ${table} -F`);
          iptables(`-t ${table} -X`);
        }
      });

      it('reads every canonical rule back as it was written, in one process', async () => {
        const rules = corpus(family);
        const wanted = [
          chain('FAIRWAY-ALL', rules.filter),
          chain('FAIRWAY-CALLED', ['']),
          chain('FAIRWAY-ALL', rules.nat, 'nat'),
          chain('FAIRWAY-CALLED', [], 'nat'),
          chain('FAIRWAY-ALL', rules.mangle, 'mangle'),
        ];
        assert.deepEqual(await apply(...wanted.map(create)), new Map());
        spawned.length = 0;
        const found = await read();
        assert.deepEqual(found, keyed(wanted));
        assert.equal(spawned.length, 1);
        const again = await read(wanted);
        for (const entry of wanted) assert.equal(again.get(key(entry)), entry, 'the very object expected');
      });

      it('writes all tables in one process', async () => {
        spawned.length = 0;
        await apply(create(chain('FAIRWAY-A', ['-j ACCEPT'])), create(chain('FAIRWAY-A', ['-j RETURN'], 'nat')));
        assert.deepEqual(spawned.length, 1);
      });

      it('keeps foreign rules, chains and counters', async () => {
        const counted = (): string[] =>
          sh(`${program}-save`, ['-c', '-t', 'filter'])
            .split('\n')
            .filter(line => /OTHERS|FORWARD/.test(line));
        iptables('-N OTHERS');
        iptables('-A OTHERS -j ACCEPT');
        iptables('-A INPUT -i lo -j OTHERS');
        iptables('-P FORWARD DROP');
        sh('ip', ['link', 'set', 'lo', 'up']);
        await datagramTo(family === 'ipv4' ? '127.0.0.1' : '::1');
        const before = counted();
        assert.match(before.join('\n'), /\[[1-9][0-9]*:[1-9][0-9]*\] -A INPUT -i lo -j OTHERS/);
        sh('ip', ['link', 'set', 'lo', 'down']);
        await apply(create(chain('FAIRWAY-A', ['-j ACCEPT'])), create(hook('FAIRWAY-A', 10)));
        await apply(remove(hook('FAIRWAY-A', 10)), remove(chain('FAIRWAY-A', ['-j ACCEPT'])));
        assert.deepEqual(counted(), before);
        assert.deepEqual(await read(), new Map());
        iptables('-P FORWARD ACCEPT');
      });

      it('places hooks at the head in their order, whatever order they come in', async () => {
        iptables(`-A INPUT -s ${host} -j ACCEPT`);
        const chains = ['A', 'B', 'C'].map(name => chain(`FAIRWAY-${name}`, []));
        await apply(...chains.map(create), create(hook('FAIRWAY-C', 30)), create(hook('FAIRWAY-A', 10)));
        await apply(create(hook('FAIRWAY-B', 20, { match: '-p tcp -m tcp --dport 80' })));
        assert.deepEqual(saved('filter'), [
          '-A INPUT -j FAIRWAY-A',
          '-A INPUT -p tcp -m tcp --dport 80 -m comment --comment fairway-20 -j FAIRWAY-B',
          '-A INPUT -m comment --comment fairway-30 -j FAIRWAY-C',
          `-A INPUT -s ${host} -j ACCEPT`,
        ]);
        const hooks = [
          hook('FAIRWAY-A', 10),
          hook('FAIRWAY-B', 20, { match: '-p tcp -m tcp --dport 80' }),
          hook('FAIRWAY-C', 30),
        ];
        assert.deepEqual(await read(), keyed([...chains, ...hooks]));
      });

      it('leaves foreign rules above and between its hooks, and calls that no drift', async () => {
        const entries = [chain('FAIRWAY-A', []), chain('FAIRWAY-B', []), hook('FAIRWAY-A', 10), hook('FAIRWAY-B', 20)];
        await apply(...entries.map(create));
        iptables(`-I INPUT 2 -s ${host} -j DROP`);
        iptables(`-I INPUT 1 -s ${host} -j ACCEPT`);
        assert.deepEqual(await read(), keyed(entries));
        const moved = hook('FAIRWAY-A', 30);
        assert.deepEqual(await apply(update(hook('FAIRWAY-A', 10), moved)), new Map());
        assert.deepEqual(saved('filter'), [
          `-A INPUT -s ${host} -j ACCEPT`,
          `-A INPUT -s ${host} -j DROP`,
          '-A INPUT -m comment --comment fairway-20 -j FAIRWAY-B',
          '-A INPUT -m comment --comment fairway-30 -j FAIRWAY-A',
        ]);
      });

      it('sees and repairs hooks that are deleted, doubled, out of order or altered', async () => {
        const a = hook('FAIRWAY-A', 10);
        const b = hook('FAIRWAY-B', 20);
        const entries = [chain('FAIRWAY-A', []), chain('FAIRWAY-B', []), a, b];
        const right = ['-A INPUT -j FAIRWAY-A', '-A INPUT -m comment --comment fairway-20 -j FAIRWAY-B'];
        await apply(...entries.map(create));
        const vandalisms: (readonly [string, string])[] = [
          ['-D INPUT 1', 'deleted'],
          ['-A INPUT -j FAIRWAY-A', 'doubled'],
          ['-I INPUT -m comment --comment mine -j FAIRWAY-A', 'written by hand as well'],
          ['-I INPUT -m comment --comment fairway-20 -j FAIRWAY-B', 'doubled at the head'],
        ];
        for (const [vandalism, name] of vandalisms) {
          iptables(vandalism);
          const found = await read(entries);
          const wrong = entries.filter(entry => {
            const there = found.get(key(entry));
            return there === undefined || !TABLES.iptables.same(there, entry);
          });
          assert.notDeepEqual(wrong, [], name);
          const changes = wrong.map(entry => {
            const there = found.get(key(entry));
            return there === undefined ? create(entry) : update(there, entry);
          });
          assert.deepEqual(await apply(...changes), new Map(), name);
          assert.deepEqual(saved('filter'), right, name);
        }
        // Out of order: the second is moved to the head by hand.
        iptables('-D INPUT 2');
        iptables('-I INPUT -m comment --comment fairway-20 -j FAIRWAY-B');
        const found = await read(entries);
        const out = entries.filter(entry => !TABLES.iptables.same(found.get(key(entry)) ?? b, entry));
        assert.deepEqual(out, [a]);
        await apply(update(found.get(key(a)) ?? a, a));
        assert.deepEqual(saved('filter'), right);
      });

      it('sees a rule that was flushed, added or deleted by hand in our chains', async () => {
        const entry = chain('FAIRWAY-A', ['-j ACCEPT', '-m mark --mark 0x1 -j DROP']);
        await apply(create(entry));
        iptables('-A FAIRWAY-A -j DROP');
        assert.equal(TABLES.iptables.same((await read([entry])).get(key(entry)) ?? entry, entry), false);
        iptables('-F FAIRWAY-A');
        const emptied = (await read([entry])).get(key(entry));
        assert.deepEqual(emptied, chain('FAIRWAY-A', []));
        await apply(update(chain('FAIRWAY-A', []), entry));
        assert.deepEqual(await read([entry]), keyed([entry]));
      });

      it('is refused what no table can hold, so that nobody counts on it', async () => {
        const refused = [
          // A range counts twice, and 15 is all.
          '-p tcp -m multiport --dports 1:2,4:5,7:8,10:11,13:14,16:17,19:20,22:23 -j ACCEPT',
          '-p tcp -m multiport --dports 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 -j ACCEPT',
          '-m multiport --dports 80 -j ACCEPT',
          '-j REJECT --reject-with tcp-reset',
        ];
        const entries = refused.map((rule, index) => chain(`FAIRWAY-${index}`, [rule]));
        assert.deepEqual([...(await apply(...entries.map(create))).keys()], entries.map(key));
      });

      it('takes text that only prints differently for the same rule', async () => {
        const loose = chain('FAIRWAY-A', [`-s ${host.replace(/\/.*/, '')} -m comment --comment "word" -j ACCEPT`]);
        await apply(create(loose));
        assert.equal((await read([loose])).get(key(loose)), loose);
      });

      it('names chain, rule and reason of a refused entry, and applies all others', async () => {
        const good = chain('FAIRWAY-GOOD', ['-j ACCEPT']);
        const nat = chain('FAIRWAY-NAT', ['-j RETURN'], 'nat');
        const failed = await apply(
          create(chain('FAIRWAY-BAD-SET', ['-j ACCEPT', '-m set --match-set nosuch dst -j ACCEPT'])),
          create(good),
          create(chain('FAIRWAY-BAD-JUMP', ['-j FAIRWAY-NOSUCH'])),
          create(chain('FAIRWAY-BAD-OPTION', ['--wrong x -j ACCEPT'])),
          create(nat),
          create(hook('FAIRWAY-GOOD', 10)),
          create(hook('FAIRWAY-BAD-SET', 20)),
        );
        const jump = key(hook('FAIRWAY-BAD-SET', 20));
        const names = ['FAIRWAY-BAD-SET', 'FAIRWAY-BAD-JUMP', 'FAIRWAY-BAD-OPTION'];
        assert.deepEqual([...failed.keys()].sort(), [...names.map(name => key(chain(name, []))), jump].sort());
        const setError = failed.get(key(chain('FAIRWAY-BAD-SET', []))) ?? '';
        assert.match(setError, /^FW_COMMAND_REFUSED chain 'FAIRWAY-BAD-SET' of table 'filter'/);
        assert.match(setError, /-A FAIRWAY-BAD-SET -m set --match-set nosuch dst -j ACCEPT': Set nosuch doesn't exist$/);
        assert.match(failed.get(key(chain('FAIRWAY-BAD-JUMP', []))) ?? '', /FAIRWAY-NOSUCH/);
        assert.match(failed.get(jump) ?? '', /needs chain '.* FAIRWAY-BAD-SET', which was refused/);
        assert.deepEqual(await read(), keyed([good, nat, hook('FAIRWAY-GOOD', 10)]));
      });

      it('isolates what only the kernel refuses, wherever it stands', async () => {
        const entries = Array.from({ length: 13 }, (_, index) =>
          chain(`FAIRWAY-${index}`, [index === 5 || index === 11 ? '-j MASQUERADE' : `-j FAIRWAY-${(index + 1) % 13}`]),
        ).map((entry, index) => (index === 4 || index === 10 || index === 12 ? { ...entry, rules: ['-j ACCEPT'] } : entry));
        const nat = chain('FAIRWAY-NAT', [], 'nat');
        const failed = await apply(...entries.map(create), create(nat));
        assert.deepEqual([...failed.keys()].sort(), ['FAIRWAY-11', 'FAIRWAY-5'].map(name => key(chain(name, []))).sort());
        const good = entries.filter((_, index) => index !== 5 && index !== 11);
        assert.deepEqual(await read(), keyed([...good, nat]));
      });

      it('deletes chains that jump to each other, and one that is gone already', async () => {
        const a = chain('FAIRWAY-A', ['-j FAIRWAY-B']);
        const b = chain('FAIRWAY-B', ['-j ACCEPT']);
        await apply(create(a), create(b), create(hook('FAIRWAY-A', 10)));
        iptables('-F INPUT');
        assert.deepEqual(
          await apply(remove(b), remove(chain('FAIRWAY-GONE', [])), remove(hook('FAIRWAY-A', 10)), remove(a)),
          new Map(),
        );
        assert.deepEqual(await read(), new Map());
      });

      it('says why a chain stays that a foreign rule jumps to, and deletes the others', async () => {
        const a = chain('FAIRWAY-A', []);
        const b = chain('FAIRWAY-B', []);
        await apply(create(a), create(b));
        iptables('-N OTHERS');
        iptables('-A OTHERS -j FAIRWAY-A');
        const failed = await apply(remove(a), remove(b));
        assert.deepEqual([...failed.keys()], [key(a)]);
        assert.match(failed.get(key(a)) ?? '', /-X FAIRWAY-A/);
        assert.deepEqual(await read(), keyed([a]));
      });

      it('shows the script it would run', async () => {
        const a = chain('FAIRWAY-A', ['-j ACCEPT']);
        const changes = [create(a), create(hook('FAIRWAY-A', 10)), remove(chain('FAIRWAY-B', []))];
        sh(`${program}-restore`, ['--noflush'], driver.render(changes));
        assert.deepEqual(await read(), keyed([a, hook('FAIRWAY-A', 10)]));
      });
    });
  }
}

describe('iptables, the lock', () => {
  it('is waited for, then reported (legacy)', async function () {
    this.timeout(20_000);
    // A lock of its own: this machine's other users of iptables share the common one.
    const folder = mkdtempSync(join(tmpdir(), 'lock-'));
    const lock = join(folder, 'xtables.lock');
    const locking = processRunner({ environment: { ...process.env, XTABLES_LOCKFILE: lock }, clock: systemClock() });
    const tools: IptablesTools = { flavour: 'legacy', reason: 'test', byFamily: { ipv4: toolOf('legacy', 'ipv4') } };
    const driver = iptablesDriver({ runner: locking, tools, ownsChain: name => name.startsWith('FAIRWAY-') });
    const entry: IptablesEntry = { kind: 'chain', family: 'ipv4', table: 'filter', name: 'FAIRWAY-A', rules: [] };
    const holder = new AbortController();
    const held = locking.run({ argv: ['flock', '-F', lock, 'sleep', '30'] }, holder.signal).catch(() => undefined);
    while (spawnSync('flock', ['-n', lock, 'true']).status === 0);
    const { failed } = await driver.apply([create(entry)], never);
    holder.abort();
    await held;
    rmSync(folder, { recursive: true });
    assert.equal(failed.get(key(entry))?.code, 'FW_COMMAND_TIMEOUT');
    assert.match(failed.get(key(entry))?.message ?? '', /xtables lock/);
  });
});

describe('the choice of the iptables flavour', () => {
  afterEach(() => {
    for (const flavour of FLAVOURS) {
      for (const args of [['-t', 'mangle', '-F'], ['-t', 'mangle', '-X'], ['-F']]) sh(`iptables-${flavour}`, args);
    }
  });

  it('is nft where nothing speaks for the other', async () => {
    const tools = await probeIptables({ runner, files: { readFile: path => readFile(path, 'utf8') } }, never);
    assert.equal(tools.flavour, 'nft');
    assert.deepEqual(tools.byFamily.ipv6, { save: ['ip6tables-nft-save'], restore: ['ip6tables-nft-restore'] });
    assert.doesNotMatch(sh('iptables-nft-save', []), /FAIRWAY/);
  });

  it('is the one with more rules', async () => {
    sh('iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT']);
    const tools = await probeIptables({ runner, files: { readFile: path => readFile(path, 'utf8') } }, never);
    assert.equal(tools.flavour, 'legacy');
    assert.match(tools.reason, /more rules \(1 to 0\)/);
  });

  it("is the kubelet's, against the number of rules", async () => {
    sh('iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT']);
    sh('iptables-nft', ['-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY']);
    assert.match(
      (await probeIptables({ runner, files: { readFile: path => readFile(path, 'utf8') } }, never)).reason,
      /^nft: the kubelet uses it/,
    );
    sh('iptables-nft', ['-t', 'mangle', '-X', 'KUBE-KUBELET-CANARY']);
    sh('iptables-nft', ['-A', 'INPUT', '-j', 'ACCEPT']);
    sh('iptables-legacy', ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
    assert.match(
      (await probeIptables({ runner, files: { readFile: path => readFile(path, 'utf8') } }, never)).reason,
      /^legacy: the kubelet uses it/,
    );
  });

  it('takes the one that is installed', () => {
    const only = { flavour: 'legacy', isInstalled: true, rules: 0, hasKubeletHint: false } as const;
    assert.deepEqual(preferred([only]), [{ flavour: 'legacy', reason: 'the only one installed' }]);
  });
});
