import assert from 'node:assert/strict';
import fc from 'fast-check';
import { iptablesDriver } from '../../../daemon/kernel/iptables.ts';
import { DEFAULT_HOOK_ORDER, hookRule, parseHookRule, ruleIdentity } from '../../../daemon/kernel/iptables-rule.ts';
import { hookChain, OUT_OF_PLACE, SaveReader } from '../../../daemon/kernel/iptables-save.ts';
import {
  type IptablesChange,
  impliedHooks,
  inDependencyOrder,
  iptablesScript,
  scriptText,
} from '../../../daemon/kernel/iptables-script.ts';
import { processRunner } from '../../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { ruleWords } from '../../../daemon/net/words.ts';
import { type IptablesEntry, type IptablesTable, TABLES } from '../../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const ownsChain = (name: string): boolean => name.startsWith('FAIRWAY-');
const key = TABLES.iptables.key;
const create = (to: IptablesEntry): IptablesChange => ({ op: 'create', key: key(to), to });
const remove = (from: IptablesEntry): IptablesChange => ({ op: 'delete', key: key(from), from });
const chain = (name: string, rules: readonly string[] = [], table: IptablesTable = 'filter'): IptablesEntry => ({
  kind: 'chain',
  family: 'ipv4',
  table,
  name,
  rules,
});
const hook = (to: string, order: number, match = '', from = 'INPUT'): IptablesEntry => ({
  kind: 'hook',
  family: 'ipv4',
  table: 'filter',
  from,
  to,
  order,
  match,
});

function readSave(
  text: string,
  expected: readonly IptablesEntry[] = [],
): { reader: SaveReader; entries: Map<string, IptablesEntry> } {
  const reader = new SaveReader('ipv4', ownsChain);
  for (const line of text.split('\n')) reader.line(line);
  return { reader, entries: reader.entries(new Map(expected.map(entry => [key(entry), entry]))) };
}

/** A kernel's one table of rules, as far as our scripts need it: enough to run what they say and print what is there. */
class RuleSet {
  readonly #chains = new Map<string, { readonly isBuiltIn: boolean; rules: string[] }>();

  constructor(text: string) {
    for (const name of ['INPUT', 'FORWARD', 'OUTPUT']) this.#chains.set(name, { isBuiltIn: true, rules: [] });
    this.restore(text);
  }

  restore(text: string): void {
    for (const line of text.split('\n')) this.#line(line);
  }

  save(): string {
    const chains = [...this.#chains].map(([name, { isBuiltIn }]) => `:${name} ${isBuiltIn ? 'ACCEPT' : '-'} [0:0]`);
    const rules = [...this.#chains].flatMap(([name, { rules }]) => rules.map(rule => `-A ${name} ${rule}`));
    return ['# Generated', '*filter', ...chains, ...rules, 'COMMIT', ''].join('\n');
  }

  rules(name: string): readonly string[] {
    return this.#chain(name).rules;
  }

  #chain(name: string): { readonly isBuiltIn: boolean; rules: string[] } {
    const found = this.#chains.get(name);
    assert.ok(found, `no chain ${name}`);
    return found;
  }

  #line(line: string): void {
    const [, option, name = '', rest = ''] = /^(-[ADIX]|:)\s?(\S+) ?(.*)$/.exec(line) ?? [];
    if (option === ':') this.#chains.set(name, { isBuiltIn: false, rules: [] });
    if (option === '-A') this.#chain(name).rules.push(rest);
    if (option === '-I') {
      const [, position, rule = ''] = /^([0-9]+) (.*)$/.exec(rest) ?? [];
      const { rules } = this.#chain(name);
      assert.ok(Number(position) >= 1 && Number(position) <= rules.length + 1, `index of insertion too big: ${line}`);
      rules.splice(Number(position) - 1, 0, rule);
    }
    if (option === '-D') {
      const index = this.#chain(name).rules.indexOf(rest);
      assert.ok(index >= 0, `no such rule: ${line}`);
      this.#chain(name).rules.splice(index, 1);
    }
    if (option === '-X') {
      for (const { rules } of this.#chains.values()) {
        for (const rule of rules) assert.ok(!rule.endsWith(`-j ${name}`), `${name} is still called by '${rule}'`);
      }
      assert.deepEqual(this.#chain(name).rules, []);
      this.#chains.delete(name);
    }
  }
}

describe('iptables rule text', () => {
  it('splits into words as the shell would', () => {
    assert.deepEqual(ruleWords('-m comment --comment "x \\"y\\" z" -j ACCEPT'), [
      '-m',
      'comment',
      '--comment',
      'x "y" z',
      '-j',
      'ACCEPT',
    ]);
  });

  it('is the same rule however a version of the tool prints it', () => {
    const pairs = [
      ['-m comment --comment "word" -j ACCEPT', '-m comment --comment word -j ACCEPT'],
      ['-s 10.0.0.1 -j ACCEPT', '-s 10.0.0.1/32 -j ACCEPT'],
      ['! -d fd00::1 -j ACCEPT', '! -d fd00::1/128 -j ACCEPT'],
      ['-m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -j RETURN', '-m ipvs --vdir ORIGINAL --vmethod MASQ -j RETURN'],
    ];
    for (const [one = '', other = ''] of pairs) assert.equal(ruleIdentity(one), ruleIdentity(other));
  });

  it('is another rule where the words differ', () => {
    const rules = [
      '-m ipvs --ipvs -j RETURN',
      '-m ipvs ! --ipvs -j RETURN',
      '-m comment --comment "x y" -j RETURN',
      '-m comment --comment "x  y" -j RETURN',
      '-s 10.0.0.0/24 -j RETURN',
      '-s 10.0.0.0/32 -j RETURN',
      '-j RETURN',
    ];
    assert.equal(new Set(rules.map(ruleIdentity)).size, rules.length);
  });

  it('of a hook reads back as it was written', () => {
    const match = fc.constantFrom('', '-p tcp -m tcp --dport 80', '-m comment --comment "x y"', '-s 10.0.0.0/8 ! -i eth0');
    fc.assert(
      fc.property(match, fc.nat(1000), fc.stringMatching(/^[A-Z0-9-]{1,20}$/), (text, order, name) => {
        const written = { to: `FAIRWAY-${name}`, order, match: text };
        assert.deepEqual(parseHookRule(hookRule(written), ownsChain), written);
      }),
    );
  });

  it('that jumps elsewhere is no hook, one that does not say its order is the default', () => {
    assert.equal(parseHookRule('-m comment --comment fairway-1 -j ACCEPT', ownsChain), undefined);
    assert.equal(parseHookRule('-m comment --comment FAIRWAY-A', ownsChain), undefined);
    assert.deepEqual(parseHookRule('-j FAIRWAY-A', ownsChain), { to: 'FAIRWAY-A', order: DEFAULT_HOOK_ORDER, match: '' });
  });
});

describe('what iptables-save prints', () => {
  it('is reduced to our chains and the jumps to them', () => {
    const { entries } = readSave(
      [
        '# Generated by iptables-save',
        '*raw',
        ':FAIRWAY-RAW - [0:0]',
        'COMMIT',
        '*filter',
        ':INPUT ACCEPT [1:2]',
        ':OTHERS - [0:0]',
        ':FAIRWAY-A - [0:0]',
        '-A INPUT -j OTHERS',
        '-A INPUT -i lo -m comment --comment fairway-7 -j FAIRWAY-A',
        '-A OTHERS -j FAIRWAY-A',
        '-A FAIRWAY-A -j ACCEPT',
        '-A FAIRWAY-A',
        'COMMIT',
        '*nat',
        ':FAIRWAY-A - [0:0]',
        'COMMIT',
      ].join('\n'),
    );
    const wanted = [chain('FAIRWAY-A', ['-j ACCEPT', '']), hook('FAIRWAY-A', 7, '-i lo'), chain('FAIRWAY-A', [], 'nat')];
    assert.deepEqual(entries, new Map(wanted.map(entry => [key(entry), entry])));
  });

  it('shows hooks out of place: doubled, behind a higher order', () => {
    const { entries } = readSave(
      [
        '*filter',
        ':INPUT ACCEPT [0:0]',
        '-A INPUT -j FAIRWAY-A',
        '-A INPUT -m comment --comment fairway-30 -j FAIRWAY-C',
        '-A INPUT -m comment --comment fairway-20 -j FAIRWAY-B',
        '-A INPUT -j FAIRWAY-D',
        '-A INPUT -j FAIRWAY-A',
        'COMMIT',
      ].join('\n'),
    );
    const orders = [...entries.values()].map(entry => (entry.kind === 'hook' ? [entry.to, entry.order] : []));
    assert.deepEqual(orders, [
      ['FAIRWAY-A', OUT_OF_PLACE],
      ['FAIRWAY-C', 30],
      ['FAIRWAY-B', OUT_OF_PLACE],
      ['FAIRWAY-D', OUT_OF_PLACE],
    ]);
  });

  it('is an error with a remedy where a table of ours cannot be shown', () => {
    assert.throws(() => readSave("# Table `nat' is incompatible, use 'nft' tool."), {
      code: 'FW_READ_UNPARSABLE',
      message: /nft\(8\)/,
    });
    readSave("# Table `security' is incompatible, use 'nft' tool.");
  });
});

describe('the script for iptables-restore', () => {
  it('makes chains, hooks them at the head and deletes what nothing calls any more, each table in one transaction', () => {
    const changes: IptablesChange[] = [
      remove(hook('FAIRWAY-OLD', 10)),
      remove(chain('FAIRWAY-OLD', ['-j DROP'])),
      create(hook('FAIRWAY-B', 20)),
      create(hook('FAIRWAY-A', 10, '-i lo')),
      create(chain('FAIRWAY-A', ['-j FAIRWAY-B'])),
      create(chain('FAIRWAY-B', ['-j ACCEPT'])),
      create(chain('FAIRWAY-N', ['-j MASQUERADE'], 'nat')),
    ];
    assert.equal(
      scriptText(iptablesScript(changes, impliedHooks(changes))),
      `*filter
:FAIRWAY-OLD - [0:0]
:FAIRWAY-A - [0:0]
:FAIRWAY-B - [0:0]
-D INPUT -j FAIRWAY-OLD
-A FAIRWAY-A -j FAIRWAY-B
-A FAIRWAY-B -j ACCEPT
-I INPUT 1 -i lo -j FAIRWAY-A
-I INPUT 2 -m comment --comment fairway-20 -j FAIRWAY-B
-X FAIRWAY-OLD
COMMIT
*nat
:FAIRWAY-N - [0:0]
-A FAIRWAY-N -j MASQUERADE
COMMIT
`,
    );
  });

  it('reaches what is wanted from any state, and moves no foreign rule', () => {
    const names = ['FAIRWAY-A', 'FAIRWAY-B', 'FAIRWAY-C', 'FAIRWAY-D'];
    const foreign = fc.integer({ min: 1, max: 99 }).map(mark => `-m mark --mark 0x${mark} -j ACCEPT`);
    const strayHook = fc
      .record({ to: fc.constantFrom(...names), order: fc.option(fc.nat(5)), match: fc.constantFrom('', '-i lo') })
      .map(({ to, order, match }) => (order === null ? `-j ${to}` : hookRule({ to, order, match })));
    const before = fc.record({
      chains: fc.dictionary(fc.constantFrom(...names), fc.array(fc.constantFrom('-j ACCEPT', '-i lo -j DROP'), { maxLength: 3 })),
      input: fc.array(fc.oneof(foreign, strayHook), { maxLength: 8 }),
    });
    const wanted = fc
      .dictionary(fc.constantFrom(...names), fc.array(fc.constantFrom('-j ACCEPT', '-i eth0 -j DROP'), { maxLength: 3 }))
      .chain(chains =>
        fc
          .uniqueArray(
            fc.record({ to: fc.constantFrom('', ...Object.keys(chains)), order: fc.nat(5), match: fc.constantFrom('', '-i lo') }),
            { selector: ({ to }) => to },
          )
          .map(hooks => [
            ...Object.entries(chains).map(([name, rules]) => chain(name, rules)),
            ...hooks.filter(({ to }) => to !== '').map(({ to, order, match }) => hook(to, order, match)),
          ]),
      );
    fc.assert(
      fc.property(before, wanted, (state, desired) => {
        // Hooks to chains that are not there cannot be: the chains they call exist, if empty.
        const called = new Set([
          ...Object.keys(state.chains),
          ...state.input.flatMap(rule => / -j (FAIRWAY-\S+)$/.exec(` ${rule}`)?.[1] ?? []),
        ]);
        const kernel = new RuleSet(
          [
            ...[...called].map(name => `:${name} - [0:0]`),
            ...Object.entries(state.chains).flatMap(([name, rules]) => rules.map(rule => `-A ${name} ${rule}`)),
            ...state.input.map(rule => `-A INPUT ${rule}`),
          ].join('\n'),
        );
        const { reader, entries: actual } = readSave(kernel.save(), desired);
        const changes: IptablesChange[] = [];
        const goal = new Map(desired.map(entry => [key(entry), entry]));
        for (const [name, to] of goal) {
          const from = actual.get(name);
          if (from === undefined) changes.push({ op: 'create', key: name, to });
          else if (!TABLES.iptables.same(from, to)) changes.push({ op: 'update', key: name, from, to });
        }
        for (const [name, from] of actual) if (!goal.has(name)) changes.push({ op: 'delete', key: name, from });
        kernel.restore(scriptText(iptablesScript(changes, reader.hooks)));
        assert.deepEqual(readSave(kernel.save(), desired).entries, goal);
        const isForeign = (rule: string): boolean => rule.includes('0x');
        assert.deepEqual(kernel.rules('INPUT').filter(isForeign), state.input.filter(isForeign));
      }),
      { numRuns: 500 },
    );
  });

  it('asks where hooks stand by table and chain', () => {
    const { reader } = readSave('*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n-A INPUT -j FAIRWAY-A\nCOMMIT');
    assert.deepEqual(reader.hooks.get(hookChain('filter', 'INPUT')), [
      { to: 'FAIRWAY-A', order: DEFAULT_HOOK_ORDER, match: '', position: 2, rule: '-j FAIRWAY-A' },
    ]);
  });

  it('can be cut anywhere when its changes stand in order of dependency', () => {
    const changes = [
      remove(chain('FAIRWAY-CALLED')),
      remove(chain('FAIRWAY-CALLER', ['-j FAIRWAY-CALLED'])),
      create(hook('FAIRWAY-A', 10)),
      create(chain('FAIRWAY-A', ['-j FAIRWAY-B', '-g FAIRWAY-C'])),
      create(chain('FAIRWAY-B', ['-j FAIRWAY-C'])),
      create(chain('FAIRWAY-C')),
      remove(hook('FAIRWAY-CALLER', 10)),
    ];
    const names = inDependencyOrder(changes).map(change => `${change.op} ${change.key.replace('ipv4 filter ', '')}`);
    assert.deepEqual(names, [
      'delete INPUT -> FAIRWAY-CALLER',
      'create FAIRWAY-C',
      'create FAIRWAY-B',
      'create FAIRWAY-A',
      'create INPUT -> FAIRWAY-A',
      'delete FAIRWAY-CALLER',
      'delete FAIRWAY-CALLED',
    ]);
  });
});

describe('a host without a working iptables', () => {
  const changes = [create(chain('FAIRWAY-A'))];

  it('refuses every entry of the family with the reason, and reads as empty', async () => {
    const unused = { run: () => assert.fail('nothing runs'), lines: () => assert.fail('nothing runs') };
    const tools = { flavour: undefined, reason: 'the kernel has no nat table', byFamily: {} };
    const driver = iptablesDriver({ runner: unused, tools, ownsChain });
    const { failed } = await driver.apply(changes, never);
    const error = failed.get(key(chain('FAIRWAY-A')));
    assert.ok(error);
    assert.equal(error.code, 'FW_CAPABILITY_KERNEL');
    assert.match(error.message, /ipv4.*the kernel has no nat table/);
    assert.deepEqual(await driver.read(new Map(), never), new Map());
  });

  it('says which tool is gone where it was uninstalled since', async () => {
    const clock = systemClock();
    const runner = processRunner({ environment: { PATH: '/nowhere' }, clock });
    const tool = { save: ['fairway-no-such-save'], restore: ['fairway-no-such-restore'] } as const;
    const driver = iptablesDriver({ runner, tools: { flavour: 'nft', reason: '', byFamily: { ipv4: tool } }, ownsChain });
    const { failed } = await driver.apply(changes, never);
    assert.equal(failed.get(key(chain('FAIRWAY-A')))?.code, 'FW_CAPABILITY_TOOL_MISSING');
    await assert.rejects(driver.read(new Map(), never), { code: 'FW_CAPABILITY_TOOL_MISSING' });
  });

  it('is not asked once the daemon stops', async () => {
    const runner = processRunner({ environment: process.env, clock: systemClock() });
    const tool = { save: ['true'], restore: ['true'] } as const;
    const driver = iptablesDriver({ runner, tools: { flavour: 'nft', reason: '', byFamily: { ipv4: tool } }, ownsChain });
    await assert.rejects(driver.apply(changes, AbortSignal.abort(new Error('stopping'))), /stopping/);
  });
});
