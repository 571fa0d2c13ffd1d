import assert from 'node:assert/strict';
import type { NetworkPolicy, PolicyPeer, PolicyPort } from '../../../daemon/cluster/kinds.ts';
import { type IptablesEntry, TABLES } from '../../../daemon/reconcile/tables.ts';
import { policyChain } from '../../../modules/policy/names.ts';
import type { Direction } from '../../../modules/policy/program.ts';
import {
  blockPeer,
  direction,
  namespace,
  networkPolicy,
  pod,
  podPeer,
  policyPort,
  policyRule,
  selector,
} from '../../fixtures/cluster.ts';
import { assertGolden, goldenNames } from '../../fixtures/golden.ts';
import { ipsetEntries, iptablesEntries, policyFragments, policyScripts } from '../../fixtures/policy-scripts.ts';
import { CASES } from './emit-cases.ts';

const POD = pod('shop/web', '10.244.1.5');

function rulesOf(
  policy: NetworkPolicy,
  way: Direction = 'ingress',
  family: 'ipv4' | 'ipv6' = 'ipv4',
): readonly string[] | undefined {
  const key = `${policy.meta.namespace}/${policy.meta.name}`;
  const home = { ...POD, meta: { ...POD.meta, namespace: policy.meta.namespace } };
  const fragments = policyFragments({ pods: [home], networkPolicies: [policy], namespaces: [namespace(policy.meta.namespace)] });
  const found = iptablesEntries(fragments).find(
    entry => entry.kind === 'chain' && entry.family === family && entry.name === policyChain(key, way),
  );
  return found?.kind === 'chain' ? found.rules : undefined;
}

function ofPorts(...ports: readonly PolicyPort[]): NetworkPolicy {
  return networkPolicy('shop/p', { ingress: direction(policyRule({ ports })) });
}

function ofPeers(...peers: readonly PolicyPeer[]): NetworkPolicy {
  return networkPolicy('shop/p', { ingress: direction(policyRule({ peers })) });
}

function setsOf(policy: NetworkPolicy, type: string): readonly (readonly string[])[] {
  const entries = ipsetEntries(policyFragments({ pods: [POD], networkPolicies: [policy], namespaces: [namespace('shop')] }));
  return entries.flatMap(set =>
    set.kind === 'set' && set.type === type && set.name.includes('fairway-b-')
      ? [entries.flatMap(entry => (entry.kind === 'element' && entry.set === set.name ? [entry.value] : []))]
      : [],
  );
}

describe('the scripts for a node', () => {
  for (const { title, golden, cluster, options } of CASES) {
    it(title, () => {
      const { ipset, iptables } = policyScripts(policyFragments(cluster, options));
      assertGolden(`policy/${golden}.txt`, `# ipset restore\n${ipset}\n${iptables}`);
    });
  }

  it('each golden file belongs to a case', () => {
    assert.deepEqual(goldenNames('policy'), CASES.map(({ golden }) => `${golden}.txt`).sort());
  });

  it('name no set and no chain that they do not make', () => {
    for (const { cluster, options } of CASES) {
      const fragments = policyFragments(cluster, options);
      const entries = iptablesEntries(fragments);
      const there = new Set([...entries.map(TABLES.iptables.key), ...ipsetEntries(fragments).map(TABLES.ipset.key)]);
      for (const entry of entries) {
        for (const { key } of TABLES.iptables.requires(entry)) assert.ok(there.has(key), key);
      }
    }
  });
});

describe('ports in rules', () => {
  it('more than 15 slots of multiport go on in further rules, none twice, and a range takes two', () => {
    const singles = Array.from({ length: 15 }, (_, index) => policyPort(1000 + 2 * index));
    assert.equal(rulesOf(ofPorts(...singles))?.length, 1);
    assert.equal(rulesOf(ofPorts(...singles, policyPort(5000)))?.length, 2);
    const ranges = Array.from({ length: 16 }, (_, index) => policyPort(1000 + 10 * index, { last: 1003 + 10 * index }));
    const rules = rulesOf(ofPorts(policyPort(1), ...ranges)) ?? [];
    const lists = rules.map(rule => /--dports (\S+) /.exec(rule)?.[1]?.split(',') ?? []);
    assert.deepEqual(lists.flat(), ['1', ...ranges.map(port => (port.match === 'range' ? `${port.first}:${port.last}` : ''))]);
    for (const list of lists) {
      assert.ok(list.reduce((slots, item) => slots + (item.includes(':') ? 2 : 1), 0) <= 15, list.join());
    }
  });

  it('a range that would take the 15th and a 16th slot opens the next rule', () => {
    const rules = rulesOf(
      ofPorts(...Array.from({ length: 8 }, (_, index) => policyPort(100 * index + 100, { last: 100 * index + 110 }))),
    );
    assert.deepEqual(
      rules?.map(rule => /--dports (\S+) /.exec(rule)?.[1]?.split(',').length),
      [7, 1],
    );
  });
});

describe('blocks in rules', () => {
  it('one block is an address match, everything is no match at all', () => {
    assert.match(rulesOf(ofPeers(blockPeer('10.0.0.0/8')))?.[0] ?? '', /^-s 10\.0\.0\.0\/8 /);
    assert.match(rulesOf(ofPeers(blockPeer('0.0.0.0/0')))?.[0] ?? '', /^-m comment /);
    assert.match(rulesOf(ofPeers(blockPeer('0.0.0.0/0'), blockPeer('10.0.0.0/8')))?.[0] ?? '', /^-m comment /);
  });

  it('a family that no block is of has no chain: nobody of it is let in', () => {
    assert.equal(rulesOf(ofPeers(blockPeer('10.0.0.0/8')), 'ingress', 'ipv6'), undefined);
    assert.equal(rulesOf(ofPeers(blockPeer('fd00::/8')), 'ingress', 'ipv4'), undefined);
  });

  it('several blocks are one set; those with exceptions each their own, everything in halves', () => {
    assert.deepEqual(setsOf(ofPeers(blockPeer('10.0.0.0/8'), blockPeer('11.1.1.1/32')), 'hash:net'), [
      ['10.0.0.0/8', '11.1.1.1'],
    ]);
    assert.deepEqual(setsOf(ofPeers(blockPeer('0.0.0.0/0', '10.0.0.0/8')), 'hash:net'), [
      ['0.0.0.0/1', '128.0.0.0/1', '10.0.0.0/8 nomatch'],
    ]);
    assert.deepEqual(setsOf(ofPeers(blockPeer('::/0', '8000::/1')), 'hash:net'), [['::/1', '8000::/1 nomatch']]);
    assert.equal(
      setsOf(ofPeers(blockPeer('10.0.0.0/8', '10.1.0.0/16'), blockPeer('10.0.0.0/8', '10.2.0.0/16')), 'hash:net').length,
      2,
    );
  });
});

describe('odd names', () => {
  const LONG = networkPolicy(`${'n'.repeat(63)}/${'p'.repeat(253)}`, { ingress: direction(policyRule()) });
  const ODD = [
    'a"b',
    "a'b",
    'a\nb',
    'a\\b',
    'a$(b)',
    'a b',
    'ä'.repeat(200),
    '日本'.repeat(100),
    'a\u0000b',
    '-j ACCEPT',
    '😀'.repeat(90),
  ];

  function comments(entries: readonly IptablesEntry[], option: string): readonly string[] {
    const rules = entries.flatMap(entry => (entry.kind === 'chain' ? entry.rules : []));
    return rules.flatMap(rule => [...rule.matchAll(new RegExp(`--${option} ("[^"]*"|\\S+)`, 'g'))].map(([, text = '']) => text));
  }

  it('never break a rule: each is one line, its comment one word of at most 255 bytes, its log prefix of at most 63', () => {
    for (const policy of [LONG, ...ODD.map(name => networkPolicy(`shop/${name}`, { ingress: direction(policyRule()) }))]) {
      const { namespace: home, name } = policy.meta;
      const local = { ...POD, meta: { ...POD.meta, namespace: home } };
      const fragments = policyFragments({ pods: [local], networkPolicies: [policy], namespaces: [namespace(home)] });
      const entries = iptablesEntries(fragments);
      const found = comments(entries, 'comment');
      assert.ok(found.length > 0);
      for (const text of found) {
        const bare = text.replaceAll('"', '');
        assert.ok(Buffer.byteLength(bare) <= 255, name);
        assert.match(bare, /^[A-Za-z0-9_./:[\] ?-]+$/);
      }
      for (const text of comments(entries, 'nflog-prefix')) assert.ok(Buffer.byteLength(text.replaceAll('"', '')) <= 63, text);
      for (const line of policyScripts(fragments).iptables.split('\n')) {
        assert.equal((line.match(/"/g) ?? []).length % 2, 0, line);
        assert.match(line, /^$|^[*:#-]|^COMMIT$/);
      }
    }
  });

  it('two policies whose names differ only in what is replaced or cut have chains of their own', () => {
    const policies = ['a"b', "a'b", `${'p'.repeat(252)}x`, `${'p'.repeat(252)}y`].map(name =>
      networkPolicy(`shop/${name}`, { ingress: direction(policyRule()) }),
    );
    const fragments = policyFragments({ pods: [POD], networkPolicies: policies, namespaces: [namespace('shop')] });
    const chains = iptablesEntries(fragments).filter(
      entry => entry.kind === 'chain' && entry.family === 'ipv4' && entry.name.startsWith('FAIRWAY-PI-'),
    );
    assert.equal(chains.length, 4);
  });
});

describe('what policies have in common', () => {
  it('one selector of two policies is one set, whatever order its labels are in', () => {
    const rule = (labels: Readonly<Record<string, string>>): NetworkPolicy['ingress'] =>
      direction(policyRule({ peers: [podPeer(selector(labels))] }));
    const policies = [
      networkPolicy('shop/a', { ingress: rule({ x: '1', y: '2' }) }),
      networkPolicy('shop/b', { ingress: rule({ y: '2', x: '1' }) }),
    ];
    const fragments = policyFragments({ pods: [POD], networkPolicies: policies, namespaces: [namespace('shop')] });
    const sets = ipsetEntries(fragments).filter(entry => entry.kind === 'set' && entry.name.startsWith('fairway-p-'));
    assert.equal(sets.length, 1);
  });
});
