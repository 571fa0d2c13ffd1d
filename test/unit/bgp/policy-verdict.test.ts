import assert from 'node:assert/strict';
import { accepts, asksForPrefix, type Route } from '../../../daemon/bgp/policy-verdict.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import type { BgpPolicy, BgpStatement } from '../../../daemon/reconcile/routing-tables.ts';
import { address } from '../../fixtures/bgp.ts';

const FABRIC = address('192.0.2.2');
const NODE = address('192.0.2.3');
const statement = (conditions: Partial<BgpStatement>): BgpStatement => ({
  neighbors: undefined,
  prefixes: undefined,
  origin: undefined,
  audience: undefined,
  verdict: 'accept',
  actions: { setCommunities: undefined, prepend: undefined, nextHopSelf: false },
  ...conditions,
});
const policy = (...statements: readonly BgpStatement[]): BgpPolicy => ({ direction: 'export', statements, otherwise: 'reject' });
const route = (prefix: string, overrides: Partial<Route> = {}): Route => ({
  prefix: mustParsePrefix(prefix),
  origin: 'local',
  audience: 'everyone',
  ...overrides,
});

describe('the verdict of a policy', () => {
  it('is that of the first statement whose conditions all hold, else what is said for the rest', () => {
    const asked = policy(
      statement({ neighbors: [FABRIC], origin: 'local', audience: 'fabric' }),
      statement({ neighbors: [FABRIC], verdict: 'reject' }),
      statement({ origin: 'local', audience: 'everyone' }),
    );
    assert.equal(accepts(asked, FABRIC, route('10.1.0.0/24', { audience: 'fabric' })), true);
    assert.equal(accepts(asked, FABRIC, route('10.1.0.0/24')), false);
    assert.equal(accepts(asked, NODE, route('10.1.0.0/24')), true);
    assert.equal(accepts(asked, NODE, route('10.1.0.0/24', { audience: 'fabric' })), false);
    assert.equal(accepts(asked, NODE, route('10.1.0.0/24', { origin: 'internal', audience: undefined })), false);
    assert.equal(accepts({ ...asked, otherwise: 'accept' }, NODE, route('10.1.0.0/24', { origin: 'external' })), true);
    assert.equal(asksForPrefix(asked), false);
  });

  it('is about prefixes inside a range and of its lengths', () => {
    const range = { prefix: mustParsePrefix('10.0.0.0/8'), minLength: 16, maxLength: 24 };
    const asked = policy(statement({ prefixes: [range, { prefix: mustParsePrefix('fd00::/8'), minLength: 8, maxLength: 128 }] }));
    const verdicts = ['10.1.0.0/16', '10.1.1.0/24', '10.1.1.0/25', '10.0.0.0/8', '11.0.0.0/16', 'fd00:1::/64', 'fe00::/64'].map(
      prefix => accepts(asked, NODE, route(prefix)),
    );
    assert.deepEqual(verdicts, [true, true, false, false, false, true, false]);
    assert.equal(asksForPrefix(asked), true);
  });
});
