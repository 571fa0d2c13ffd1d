import assert from 'node:assert/strict';
import {
  blocksSet,
  bucketChain,
  bucketOf,
  bucketSet,
  CHAINS,
  groupChain,
  groupOf,
  groupSet,
  membersSet,
  namedPortSet,
  ofFamily,
  policyChain,
  SETS,
} from '../../../modules/policy/names.ts';
import { DIRECTIONS, type Members } from '../../../modules/policy/program.ts';
import { cidrs, requirement, selector } from '../../fixtures/cluster.ts';

/** The longest key of a policy that the API server takes. */
const LONGEST = `${'n'.repeat(63)}/${'p'.repeat(253)}`;
const [CIDR] = cidrs('10.0.0.0/8');
assert.ok(CIDR !== undefined);

function inNamespace(name: string, labels: Readonly<Record<string, string>> = {}): Members {
  return { in: 'namespace', namespace: name, podSelector: selector(labels) };
}

describe('names of chains', () => {
  it('are at most 28 characters, whatever the policies are called', () => {
    const hashed = DIRECTIONS.flatMap(direction => [
      policyChain(LONGEST, direction),
      groupChain(groupOf(direction, [LONGEST, `${LONGEST}q`])),
      bucketChain(direction, 'f'),
    ]);
    for (const name of [...Object.values(CHAINS), ...hashed]) {
      assert.ok(name.length <= 28, name);
      assert.match(name, /^FAIRWAY-[A-Za-z0-9-]+$/);
    }
  });

  it('tell policies apart whose namespace and name have the same letters', () => {
    assert.notEqual(policyChain('a/bc', 'ingress'), policyChain('ab/c', 'ingress'));
  });

  it('tell the directions of one policy and of one group apart', () => {
    assert.notEqual(policyChain('a/b', 'ingress').slice(11), policyChain('a/b', 'egress').slice(11));
    const [ingress = '', egress = ''] = DIRECTIONS.map(direction => groupChain(groupOf(direction, ['a/b'])));
    assert.notEqual(ingress.slice(11), egress.slice(11));
  });

  it('tell a group of two policies from a group of one and from a group of other two', () => {
    const names = [['a/b', 'a/c'], ['a/b'], ['a/b', 'a/d'], ['a/ba/c']].map(policies => groupChain(groupOf('ingress', policies)));
    assert.equal(new Set(names).size, names.length);
  });
});

describe('names of sets', () => {
  it('are at most 31 characters with the prefix of IPv6, and none is the same in both families', () => {
    const names = [
      ...Object.values(SETS),
      groupSet(groupOf('ingress', [LONGEST])),
      membersSet(inNamespace('n'.repeat(63), { [`${'d'.repeat(63)}/${'k'.repeat(63)}`]: 'v'.repeat(63) })),
      namedPortSet('cluster', 'SCTP', 'a-port-of-15-ch'),
      blocksSet([{ cidr: CIDR, except: [] }]),
      ...DIRECTIONS.map(direction => bucketSet(direction, 'f')),
    ];
    for (const name of names) {
      assert.ok(ofFamily(name, 'ipv6').length <= 31, ofFamily(name, 'ipv6'));
      assert.equal(ofFamily(name, 'ipv4'), name);
      assert.equal(ofFamily(name, 'ipv6'), `inet6:${name}`);
    }
  });

  it('are equal for equal selections and for no others', () => {
    assert.equal(membersSet(inNamespace('a', { x: '1', y: '2' })), membersSet(inNamespace('a', { y: '2', x: '1' })));
    const different: readonly Members[] = [
      inNamespace('a'),
      inNamespace('b'),
      inNamespace('a', { x: '1' }),
      inNamespace('a', { x: '1,2' }),
      { in: 'namespace', namespace: 'a', podSelector: selector({}, requirement('x', 'In', '1', '2')) },
      { in: 'namespace', namespace: 'a', podSelector: selector({}, requirement('x', 'NotIn', '1')) },
      { in: 'namespace', namespace: 'a', podSelector: selector({}, requirement('x', 'Exists')) },
      { in: 'namespaces', namespaceSelector: selector(), podSelector: selector() },
      { in: 'namespaces', namespaceSelector: selector({ x: '1' }), podSelector: selector() },
      { in: 'namespaces', namespaceSelector: selector(), podSelector: selector({ x: '1' }) },
    ];
    assert.equal(new Set(different.map(membersSet)).size, different.length);
  });

  it('tell blocks apart by what is left out of which', () => {
    const [a, b, part] = cidrs('10.0.0.0/8', '11.0.0.0/8', '10.1.0.0/16');
    assert.ok(a !== undefined && b !== undefined && part !== undefined);
    const names = [
      [{ cidr: a, except: [] }],
      [{ cidr: a, except: [part] }],
      [
        { cidr: a, except: [] },
        { cidr: part, except: [] },
      ],
      [
        { cidr: a, except: [] },
        { cidr: b, except: [] },
      ],
    ].map(blocksSet);
    assert.equal(new Set(names).size, names.length);
  });

  it('tell named ports apart by scope, protocol and name', () => {
    const names = [
      namedPortSet('node', 'TCP', 'http'),
      namedPortSet('cluster', 'TCP', 'http'),
      namedPortSet('node', 'UDP', 'http'),
      namedPortSet('node', 'TCP', 'https'),
    ];
    assert.equal(new Set(names).size, names.length);
  });
});

describe('the bucket of a group', () => {
  it('is one of sixteen, spreads groups evenly, and is the same in both families', () => {
    const counts = new Map<string, number>();
    for (let number = 0; number < 1600; number++) {
      const bucket = bucketOf(groupOf('ingress', [`a/p${number}`]));
      counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
    }
    assert.deepEqual(
      [...counts.keys()].sort(),
      Array.from({ length: 16 }, (_, bucket) => bucket.toString(16)),
    );
    for (const [bucket, count] of counts) assert.ok(count > 60 && count < 140, `${count} of 1600 in ${bucket}`);
  });
});
