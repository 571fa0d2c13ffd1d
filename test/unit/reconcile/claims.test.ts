import assert from 'node:assert/strict';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import { Claims } from '../../../daemon/reconcile/claims.ts';
import { entry, type Fragment, ownerKey } from '../../../daemon/reconcile/fragment.ts';
import type { VirtualServer } from '../../../daemon/reconcile/tables.ts';

const VIP = mustParseAddress('10.96.0.1');
const KEY = 'TCP 10.96.0.1:80';

function server(scheduler: string): VirtualServer {
  return {
    listener: { by: 'address', protocol: 'TCP', address: VIP, port: 80 },
    scheduler,
    schedulerFlags: [],
    persistenceSeconds: 0,
    destinations: [],
  };
}

function wish(key: string, since: number, scheduler: string): Fragment {
  return { owner: { kind: 'Service', key, since }, entries: [entry('virtualServer', server(scheduler))], diagnostics: [] };
}

function plan(...fragments: readonly Fragment[]): Map<string, Fragment> {
  return new Map(fragments.map(fragment => [ownerKey(fragment.owner), fragment]));
}

describe('two objects want one entry', () => {
  it('the older keeps it, whichever came first, and the younger is told with both names', () => {
    for (const order of [0, 1]) {
      const claims = new Claims();
      const older = wish('a/old', 1, 'rr');
      const younger = wish('a/young', 2, 'lc');
      claims.update('services', plan(...(order === 0 ? [older, younger] : [younger, older])));
      assert.equal(claims.wanted('virtualServer', KEY)?.owner.key, 'a/old');
      assert.equal(claims.diagnostics().length, 1);
      assert.match(claims.diagnostics()[0]?.message ?? '', /a\/young.*a\/old/);
    }
  });

  it('the younger gets it as soon as the older goes', () => {
    const claims = new Claims();
    const younger = wish('a/young', 2, 'lc');
    claims.update('services', plan(wish('a/old', 1, 'rr'), younger));
    const changed = claims.update('services', plan(younger));
    assert.deepEqual([...(changed.get('virtualServer') ?? [])], [KEY]);
    assert.equal(claims.wanted('virtualServer', KEY)?.owner.key, 'a/young');
    assert.deepEqual(claims.diagnostics(), []);
  });

  it('equal wishes share the entry without a word, and it stays until the last owner goes', () => {
    const claims = new Claims();
    const first = wish('a/x', 1, 'rr');
    const second = wish('a/y', 2, 'rr');
    claims.update('services', plan(first, second));
    assert.deepEqual(claims.diagnostics(), []);
    assert.equal(claims.update('services', plan(second)).size, 0);
    assert.equal(claims.update('services', plan()).get('virtualServer')?.has(KEY), true);
    assert.equal(claims.wanted('virtualServer', KEY), undefined);
  });
});

describe('a plan that changes', () => {
  it('names only the keys whose wanted entry is now another', () => {
    const claims = new Claims();
    claims.update('services', plan(wish('a/x', 1, 'rr')));
    assert.equal(claims.update('services', plan(wish('a/x', 1, 'rr'))).size, 0, 'an equal entry in a new fragment is no change');
    assert.deepEqual([...claims.update('services', plan(wish('a/x', 1, 'lc'))).keys()], ['virtualServer']);
  });

  it('leaves what another module wants', () => {
    const claims = new Claims();
    claims.update('one', plan(wish('a/x', 1, 'rr')));
    claims.update('two', plan(wish('a/x', 1, 'rr')));
    claims.update('one', plan());
    assert.equal(claims.wanted('virtualServer', KEY)?.module, 'two');
  });
});
