import assert from 'node:assert/strict';
import fc from 'fast-check';
import { lineEdits, planOutput } from '../../../daemon/commands/plan-text.ts';
import type { TableChanges } from '../../../daemon/reconcile/view.ts';
import { propertyRun } from '../../fixtures/property-run.ts';

const WEB = { kind: 'Service', key: 'default/web', since: 0 };

const CHANGES: readonly TableChanges[] = [
  {
    table: 'iptables',
    changes: [
      {
        op: 'update',
        key: 'ipv4 nat X',
        before: ['a', 'b', 'c'],
        after: ['a', 'c', 'd'],
        owners: [{ kind: 'Module', key: 'services', since: 0 }],
      },
    ],
    script: '*nat\nCOMMIT',
    unreadable: undefined,
  },
  {
    table: 'virtualServer',
    changes: [
      { op: 'create', key: 'TCP 10.96.0.1:80', before: [], after: ['ipvsadm -A -t 10.96.0.1:80 -s rr'], owners: [WEB] },
      { op: 'delete', key: 'TCP 10.96.0.2:80', before: ['ipvsadm -A -t 10.96.0.2:80 -s rr'], after: [], owners: [] },
    ],
    script: '-A -t 10.96.0.1:80 -s rr\n',
    unreadable: undefined,
  },
  { table: 'ipset', changes: [], script: '', unreadable: { code: 'FW_COMMAND_FAILED', message: 'ipset: no' } },
];

describe('a plan', () => {
  it('as text names each change, whose it is, and only the lines that differ', () => {
    assert.equal(
      planOutput(CHANGES, 'text'),
      `iptables
  change ipv4 nat X  # Module services
    - b
    + d
virtualServer
  create TCP 10.96.0.1:80  # Service default/web
    + ipvsadm -A -t 10.96.0.1:80 -s rr
  remove TCP 10.96.0.2:80  # nobody wants it
    - ipvsadm -A -t 10.96.0.2:80 -s rr
1 to create, 1 to change, 1 to remove
`,
    );
  });

  it('without changes says so', () => {
    assert.equal(planOutput([], 'text'), 'nothing would be changed\n');
    assert.equal(planOutput([], 'script'), '');
  });

  it('as scripts is what the tools are given', () => {
    assert.equal(planOutput(CHANGES, 'script'), '# iptables\n*nat\nCOMMIT\n# virtualServer\n-A -t 10.96.0.1:80 -s rr\n');
  });

  it('as JSON has objects by name, and what could not be read', () => {
    const report = JSON.parse(planOutput(CHANGES, 'json')) as {
      changes: readonly { objects: readonly string[] }[];
      unreadable: readonly unknown[];
    };
    assert.deepEqual(
      report.changes.map(({ objects }) => objects),
      [['Module services'], ['Service default/web'], []],
    );
    assert.deepEqual(report.unreadable, [{ table: 'ipset', code: 'FW_COMMAND_FAILED', message: 'ipset: no' }]);
  });

  it('has edits that make the one list of lines the other, in order, for any two', () => {
    const lines = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 12 });
    fc.assert(
      fc.property(lines, lines, (before, after) => {
        const edits = lineEdits(before, after);
        const without = (sign: string): readonly string[] =>
          edits.filter(line => !line.startsWith(sign)).map(line => line.slice(2));
        assert.deepEqual(without('+'), before);
        assert.deepEqual(without('-'), after);
      }),
      propertyRun('edits of lines', 300),
    );
  });
});
