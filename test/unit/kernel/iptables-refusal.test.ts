import assert from 'node:assert/strict';
import { preferred } from '../../../daemon/kernel/iptables-flavour.ts';
import { dependentsOf, reasonOf, refusalOf, refused } from '../../../daemon/kernel/iptables-refusal.ts';
import { type IptablesChange, iptablesScript } from '../../../daemon/kernel/iptables-script.ts';
import { type IptablesEntry, type IptablesTable, TABLES } from '../../../daemon/reconcile/tables.ts';

const create = (name: string, rules: readonly string[], table: IptablesTable = 'filter'): IptablesChange => {
  const to: IptablesEntry = { kind: 'chain', family: 'ipv4', table, name, rules };
  return { op: 'create', key: TABLES.iptables.key(to), to };
};
// Lines: 1 *filter, 2 :A, 3 :B, 4 -A A, 5 -A A, 6 -A B, 7 COMMIT, 8 *nat, 9 :N, 10 COMMIT
const changes = [
  create('FAIRWAY-A', ['-j ACCEPT', '-j FAIRWAY-NONE']),
  create('FAIRWAY-B', ['-j RETURN']),
  create('FAIRWAY-N', [], 'nat'),
];
const lines = iptablesScript(changes, new Map());
const of = (stderr: string, status = 2) => refusalOf({ status, stdout: '', stderr }, lines, changes);

describe('what iptables-restore says when it refuses', () => {
  it('blames the entry whose line it names (legacy)', () => {
    const said =
      "iptables-restore v1.8.9 (legacy): Set nosuch doesn't exist.\n\nError occurred at line: 4\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n";
    assert.deepEqual(of(said), {
      of: 'entries',
      table: 'filter',
      reason: "Set nosuch doesn't exist",
      blamed: new Map([['ipv4 filter FAIRWAY-A', '-A FAIRWAY-A -j ACCEPT']]),
    });
  });

  it('blames every entry whose line the kernel refused (nft)', () => {
    const said =
      'iptables-nft-restore v1.8.9 (nf_tables): \nline 5: RULE_APPEND failed (Invalid argument): rule in chain FAIRWAY-A\nline 6: RULE_APPEND failed (Invalid argument): rule in chain FAIRWAY-B\n';
    const refusal = of(said, 4);
    assert.deepEqual(refusal.of === 'entries' && [...refusal.blamed.keys()], ['ipv4 filter FAIRWAY-A', 'ipv4 filter FAIRWAY-B']);
  });

  it('blames those who call a chain that is missing at the commit (nft)', () => {
    const refusal = of(
      "iptables-nft-restore v1.8.9 (nf_tables): Chain 'FAIRWAY-NONE' does not exist\nError occurred at line: 7\n",
    );
    assert.deepEqual(refusal.of === 'entries' && refusal.blamed, new Map([['ipv4 filter FAIRWAY-A', '-j FAIRWAY-NONE']]));
  });

  it('blames nobody where only the commit failed (legacy)', () => {
    assert.deepEqual(of('iptables-restore: line 7 failed\n', 1), { of: 'commit', table: 'filter', reason: 'line 7 failed' });
    assert.deepEqual(of('iptables-restore: line 10 failed.\n', 1), { of: 'commit', table: 'nat', reason: 'line 10 failed' });
  });

  it('blames the table where it cannot be had, the lock where another holds it, else the tool', () => {
    const table = of(
      "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n\nError occurred at line: 8\n",
    );
    assert.deepEqual([table.of, table.of === 'table' && table.table], ['table', 'nat']);
    const lock = of('Another app is currently holding the xtables lock. Stopped waiting after 5s.\n', 4);
    assert.equal(lock.of === 'tool' && lock.error.code, 'FW_COMMAND_TIMEOUT');
    const tool = of(
      'iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n',
      4,
    );
    assert.equal(tool.of === 'tool' && tool.error.code, 'FW_COMMAND_FAILED');
  });

  it('is told without the name and the advice of the tool', () => {
    assert.equal(reasonOf({ status: 3, stdout: '', stderr: '' }), 'exit status 3');
    const warned = 'ip6tables-nft-restore v1.8.9 (nf_tables): unknown option "--x"\n# Warning: iptables-legacy tables present\n';
    assert.equal(reasonOf({ status: 2, stdout: '', stderr: warned }), 'unknown option "--x"');
  });

  it('becomes an error that names chain, table, family and rule', () => {
    const change = changes[0];
    assert.ok(change);
    const error = refused(change, "Set nosuch doesn't exist", '-A FAIRWAY-A -j ACCEPT');
    assert.equal(
      error.message,
      "chain 'FAIRWAY-A' of table 'filter' (ipv4) was refused, at '-A FAIRWAY-A -j ACCEPT': Set nosuch doesn't exist",
    );
    assert.equal(error.code, 'FW_COMMAND_REFUSED');
  });

  it('takes along those who need a refused new chain, and those who need them', () => {
    const family = [
      create('FAIRWAY-A', ['-j ACCEPT']),
      create('FAIRWAY-B', ['-j FAIRWAY-A']),
      create('FAIRWAY-C', ['-i lo -g FAIRWAY-B']),
      create('FAIRWAY-D', ['-j DROP']),
    ];
    const dependents = dependentsOf(new Map([['ipv4 filter FAIRWAY-A', true]]), family);
    assert.deepEqual(
      dependents,
      new Map([
        ['ipv4 filter FAIRWAY-B', 'ipv4 filter FAIRWAY-A'],
        ['ipv4 filter FAIRWAY-C', 'ipv4 filter FAIRWAY-B'],
      ]),
    );
  });
});

describe('the iptables flavour', () => {
  const survey = (flavour: 'nft' | 'legacy', rules: number, hasKubeletHint = false) =>
    ({ flavour, isInstalled: true, rules, hasKubeletHint }) as const;
  const first = (...surveys: Parameters<typeof preferred>[0]) => preferred(surveys)[0]?.flavour;

  it("is the kubelet's, else that with more rules, else nft", () => {
    assert.equal(first(survey('nft', 0), survey('legacy', 0)), 'nft');
    assert.equal(first(survey('nft', 5), survey('legacy', 5)), 'nft');
    assert.equal(first(survey('nft', 5), survey('legacy', 6)), 'legacy');
    assert.equal(first(survey('nft', 5, true), survey('legacy', 600)), 'nft');
    assert.equal(first(survey('nft', 500), survey('legacy', 0, true)), 'legacy');
    assert.equal(first(survey('nft', 0, true), survey('legacy', 1, true)), 'nft');
    assert.equal(first(survey('legacy', 0)), 'legacy');
  });

  it('has the other one as the second choice', () => {
    assert.deepEqual(
      preferred([survey('nft', 0), survey('legacy', 1)]).map(({ flavour }) => flavour),
      ['legacy', 'nft'],
    );
  });
});
