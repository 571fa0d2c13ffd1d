import assert from 'node:assert/strict';
import { ruleDriver, sourceOf } from '../../../daemon/kernel/rule.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import { POD_SOURCE_TABLE, type SourceRule } from '../../../daemon/reconcile/routing-tables.ts';

const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };

describe('rules', () => {
  it('are rendered for the dry run', () => {
    const rule: SourceRule = { from: mustParsePrefix('fd00:244:1::/64'), table: POD_SOURCE_TABLE };
    assert.equal(
      ruleDriver({ runner: unused }).render([
        { op: 'create', key: '1', to: rule },
        { op: 'delete', key: '1', from: rule },
      ]),
      'rule add from fd00:244:1::/64 lookup 77\nrule del from fd00:244:1::/64 lookup 77\n',
    );
  });

  it('are ours where they ask for a source alone', () => {
    assert.equal(sourceOf('32765:\tfrom 10.244.1.0/24 lookup 77'), '10.244.1.0/24');
    assert.equal(sourceOf('32765:\tfrom 10.244.1.9 lookup 77 proto kernel'), '10.244.1.9/32');
    assert.equal(sourceOf('7:\tfrom fd00:244:1::/64 lookup 77 '), 'fd00:244:1::/64');
    for (const line of [
      '32766:\tfrom all lookup 77',
      '32766:\tfrom 10.244.1.0/24 lookup 254',
      '32766:\tfrom 10.244.1.0/24 lookup 777',
      '32764:\tfrom 10.244.1.0/24 iif eth0 lookup 77',
      '32764:\tfrom 10.244.1.0/24 to 10.0.0.0/8 lookup 77',
      '32764:\tfrom 10.244.1.0/24 fwmark 0x1 lookup 77',
      '32764:\tfrom 10.244.1.0/24 lookup 77 suppress_prefixlength 0',
      '32764:\tnot from 10.244.1.0/24 lookup 77',
    ]) {
      assert.equal(sourceOf(line), undefined, line);
    }
  });
});
