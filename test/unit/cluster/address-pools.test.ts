import assert from 'node:assert/strict';
import fc from 'fast-check';
import { loadBalancerPrefixes, poolOf, poolsInForce } from '../../../daemon/cluster/address-pools.ts';
import type { AddressPool, AddressPools } from '../../../daemon/cluster/kinds.ts';
import { lastGoodPools } from '../../../daemon/cluster/last-good-pools.ts';
import { poolsPlaceOf } from '../../../daemon/cluster/pools-place.ts';
import { Projector } from '../../../daemon/cluster/project.ts';
import { addressPool, addressPools, ranges } from '../../fixtures/address-pools.ts';
import { ip, requirement, selector } from '../../fixtures/cluster.ts';

const META = { namespace: 'kube-system', name: 'pools' };

/** What is made of a ConfigMap with that text. */
function read(text: unknown): { pools: readonly AddressPool[]; unreadable: AddressPools['unreadable']; told: readonly string[] } {
  const { object, complaints } = new Projector().project('ConfigMap', { metadata: META, data: { 'pools.yaml': text } });
  assert.ok(object !== undefined);
  return { pools: object.pools, unreadable: object.unreadable, told: complaints.map(({ message }) => message) };
}

/** Of one pool `web` with these lines and an address. */
function readPool(...lines: readonly string[]): ReturnType<typeof read> {
  return read(['pools:', '- name: web', '  addresses: [192.0.2.0/28]', ...lines.map(line => `  ${line}`)].join('\n'));
}

describe('named pools', () => {
  it('are read with all they may have', () => {
    const text = `
pools:
  - name: web
    addresses: [192.0.2.0/28, 198.51.100.10-198.51.100.20, "2001:db8::/120", 203.0.113.7]
    autoAssign: false
    namespaces: [prod, prod, stage]
    namespaceSelector: {matchLabels: {team: a}}
    serviceSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [test]}]}
    loadBalancerClasses: [example.com/edge]
    nodeSelector: {}
  - {name: rest, addresses: [10.9.0.0/24]}
`;
    assert.deepEqual(read(text), {
      pools: [
        addressPool('web', ['192.0.2.0/28', '198.51.100.10-198.51.100.20', '2001:db8::/120', '203.0.113.7'], {
          autoAssign: false,
          namespaces: ['prod', 'stage'],
          namespaceSelector: selector({ team: 'a' }),
          serviceSelector: selector({}, requirement('tier', 'NotIn', 'test')),
          loadBalancerClasses: ['example.com/edge'],
          nodeSelector: selector(),
        }),
        addressPool('rest', ['10.9.0.0/24']),
      ],
      unreadable: [],
      told: [],
    });
    assert.deepEqual(read(JSON.stringify({ pools: [{ name: 'rest', addresses: ['10.9.0.0/24'] }] })).pools, [
      addressPool('rest', ['10.9.0.0/24']),
    ]);
    assert.deepEqual(read('pools: []'), { pools: [], unreadable: [], told: [] });
  });

  it('lose only the addresses that cannot be read, which are named', () => {
    const { pools, unreadable, told } = read('pools: [{name: web, addresses: [192.0.2.0/33, 192.0.2.7, 7]}]');
    assert.deepEqual([pools, unreadable], [[addressPool('web', ['192.0.2.7'])], []]);
    assert.deepEqual(told, [
      'pools[web].addresses[]: "192.0.2.0/33" (and 1 more like it): neither a CIDR nor an ascending range of addresses, left out unless the pool was read before and stays as it was; write it as 192.0.2.0/28 or 192.0.2.10-192.0.2.20',
    ]);
  });

  const WIDER: readonly (readonly [line: string, told: RegExp])[] = [
    [
      'autoAssign: "false"',
      /^pools\[web\]\.autoAssign: "false": neither true nor false; write one of them, without quotes; the pool stays/,
    ],
    ['namespaces: prod', /^pools\[web\]\.namespaces: "prod": not a list; write it as \[a, b\]; the pool stays as it was before/],
    ['loadBalancerClasses: {a: b}', /^pools\[web\]\.loadBalancerClasses: an object with a: not a list/],
    ['namespaceSelector: {team: a}', /^pools\[web\]\.namespaceSelector: "team": not a field of a selector/],
    [
      'serviceSelector: {matchLabels: {tier: 1}}',
      /^pools\[web\]\.serviceSelector\.matchLabels\[tier\]: 1: not a string; put it in quotes; the pool/,
    ],
    ['nodeSelector: all', /^pools\[web\]\.nodeSelector: "all": not a label selector/],
    [
      'namespaceSelecter: {}',
      /^pools\[web\]\.namespaceSelecter: an object with no fields: not a field of a pool, which are name, addresses, autoAssign/,
    ],
  ];
  for (const [line, expected] of WIDER) {
    it(`with ${line} are unreadable: without it they would serve others`, () => {
      const { pools, unreadable, told } = readPool(line);
      assert.deepEqual([pools, unreadable, told.length], [[], ['web'], 1]);
      assert.match(told[0] ?? '', expected);
    });
  }

  it('with some names that are none serve the others; with none left they are unreadable', () => {
    const some = readPool('namespaces: [prod, 7]');
    assert.deepEqual(
      [some.pools[0]?.namespaces, some.told],
      [['prod'], ['pools[web].namespaces[]: 7: not a name, left out; put it in quotes']],
    );
    assert.deepEqual(readPool('namespaces: [7]').unreadable, ['web']);
  });

  it('without a readable address are unreadable', () => {
    for (const addresses of ['', '[]', '[x]', '192.0.2.0/24']) {
      const { pools, unreadable, told } = read(`pools: [{name: web, addresses: ${addresses}}]`);
      assert.deepEqual([pools, unreadable], [[], ['web']], addresses);
      assert.match(told.join('\n'), /pools\[web\]\.addresses/);
    }
  });

  it('have one name each, and none that of the flag', () => {
    const { pools, unreadable, told } = read(
      'pools: [{name: web, addresses: [192.0.2.1]}, {name: web, addresses: [x]}, {name: default, addresses: [192.0.2.3]}]',
    );
    assert.deepEqual([pools, unreadable], [[addressPool('web', ['192.0.2.1'])], []]);
    assert.match(told[0] ?? '', /^pools\[web\]\.name: "web": there twice, only the first counts/);
    assert.match(
      told[1] ?? '',
      /^pools\[default\]\.name: "default": the pool is ignored: so is called that of --loadbalancer-ip-range/,
    );
  });

  const UNKNOWN: readonly (readonly [text: unknown, told: RegExp])[] = [
    [undefined, /^data\[pools\.yaml\]: missing: write the pools under this key/],
    ['pools:\n- name: web\n  addresses: [', /^data\[pools\.yaml\], line [34]: .*: not YAML, so nothing of the text is used/],
    ['', /^data\[pools\.yaml\]: missing: not one map/],
    ['- name: web', /^data\[pools\.yaml\]: a list of 1: not one map/],
    ['pools: []\n---\npools: []', /^data\[pools\.yaml\]: a list of 2: not one map/],
    ['pool: []', /^data\[pools\.yaml\]: "pool": not a field that is known here/],
    ['pools: {web: {}}', /^data\[pools\.yaml\]: pools: an object with web: not a list, so nothing/],
    ['pools: [{addresses: [192.0.2.1]}]', /^pools\[\]\.name: missing: which pool that is cannot be told/],
    ['pools: [{name: Web Pool, addresses: [192.0.2.1]}]', /^pools\[\]\.name: "Web Pool"/],
    ['pools: [web]', /^pools\[\]: "web": not a pool/],
  ];
  for (const [text, expected] of UNKNOWN) {
    it(`of ${text === undefined ? 'no text' : JSON.stringify(text)} are not known`, () => {
      const { pools, unreadable, told } = read(text);
      assert.deepEqual([pools, unreadable], [[], undefined]);
      assert.match(told[0] ?? '', expected);
    });
  }

  it('of any text are read without an exception, and what is unreadable is complained of', () => {
    const value = fc.constantFrom(undefined, null, 'x', 7, true, [], {}, ['192.0.2.1'], { matchLabels: { a: 1 } });
    const pool = fc.record(
      Object.fromEntries([
        ['name', fc.constantFrom('a', 'b', 7, undefined)],
        ['addresses', fc.oneof(value, fc.constant(['192.0.2.1']))],
        ...['autoAssign', 'namespaces', 'namespaceSelector', 'loadBalancerClasses', 'other'].map(
          field => [field, value] as const,
        ),
      ]),
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(pool, value), { maxLength: 4 }), list => {
        const { pools, unreadable, told } = read(JSON.stringify({ pools: list }));
        if (unreadable?.length !== 0) assert.ok(told.length > 0);
        const names = [...pools.map(({ name }) => name), ...(unreadable ?? [])];
        assert.equal(new Set(names).size, names.length);
        for (const { ranges: some } of pools) assert.ok(some.length > 0);
      }),
    );
  });
});

describe('pools that can be read no more', () => {
  const [web, db, rest] = [
    addressPool('web', ['192.0.2.1']),
    addressPool('db', ['192.0.2.2']),
    addressPool('rest', ['192.0.2.3']),
  ];
  const former = addressPools([web, db, rest]);

  it('stay as they were, where they stood, and nobody else does', () => {
    const wider = addressPool('rest', ['192.0.2.0/24']);
    const now = lastGoodPools(former, addressPools([web, wider], { unreadable: ['db', 'new'] }));
    assert.deepEqual([now.pools, now.unreadable], [[web, db, wider], ['new']]);
    assert.deepEqual(lastGoodPools(former, addressPools([wider], { unreadable: ['web'] })).pools, [web, wider]);
  });

  it('stay as they were where one of their ranges cannot be read; a new one has the others', () => {
    const half = addressPool('web', ['192.0.2.9']);
    const now = lastGoodPools(former, addressPools([half, db], { incomplete: ['web'] }));
    assert.deepEqual([now.pools, now.incomplete], [[web, db], []]);
    const fresh = addressPool('new', ['192.0.2.9']);
    const wider = lastGoodPools(former, addressPools([fresh], { incomplete: ['new'] }));
    assert.deepEqual([wider.pools, wider.incomplete], [[fresh], ['new']]);
  });

  it('stay all where nothing of the text can be read', () => {
    const broken = addressPools([], { unreadable: undefined });
    assert.deepEqual(lastGoodPools(former, broken), former);
    assert.equal(lastGoodPools(undefined, broken), broken);
    assert.equal(lastGoodPools(broken, broken).unreadable, undefined);
  });

  it('are gone when they are left out', () => {
    assert.deepEqual(lastGoodPools(former, addressPools([db])).pools, [db]);
    assert.deepEqual(lastGoodPools(former, addressPools([])).pools, []);
  });
});

describe('the pools in force', () => {
  const web = addressPool('web', ['192.0.2.0/28', '2001:db8::5-2001:db8::6']);

  it('are the named ones, then that of the flag, whose name is default', () => {
    const flag = ranges('192.0.2.0/24');
    assert.deepEqual(poolsInForce(flag, addressPools([web])), [web, addressPool('default', ['192.0.2.0/24'])]);
    assert.deepEqual(poolsInForce([], addressPools([web])), [web]);
    assert.deepEqual(poolsInForce([], undefined), []);
  });

  it('the first that holds an address is the one it is of', () => {
    const pools = poolsInForce(ranges('192.0.2.0/24'), addressPools([web]));
    assert.deepEqual(
      ['192.0.2.7', '192.0.2.16', '2001:db8::6', '2001:db8::7'].map(text => poolOf(ip(text), pools)?.name),
      ['web', 'default', 'web', undefined],
    );
  });

  it('allow their addresses as prefixes', () => {
    assert.deepEqual(loadBalancerPrefixes(ranges('192.0.2.0/24', '192.0.2.0/28'), addressPools([web])), [
      '192.0.2.0/28',
      '2001:db8::5/128',
      '2001:db8::6/128',
      '192.0.2.0/24',
    ]);
  });
});

describe('the place of named pools', () => {
  it('is none, a ConfigMap or a file', () => {
    assert.equal(poolsPlaceOf(''), undefined);
    assert.deepEqual(poolsPlaceOf('kube-system/pools'), {
      in: 'ConfigMap',
      configMap: { namespace: 'kube-system', name: 'pools' },
    });
    assert.deepEqual(poolsPlaceOf('/etc/fairway/pools.yaml'), { in: 'file', path: '/etc/fairway/pools.yaml' });
  });
});
