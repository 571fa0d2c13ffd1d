import assert from 'node:assert/strict';
import type { NetworkPolicy, Pod } from '../../daemon/cluster/kinds.ts';
import type { HostFacts } from '../../daemon/cluster/snapshot.ts';
import { groupChain, groupOf, groupSet, membersSet, policyChain } from '../../modules/policy/names.ts';
import type { PolicyOptions } from '../../modules/policy/options.ts';
import { type RecordedApply, recordApplies, takeApplies } from '../fakes/applies.ts';
import { startPolicyWorld, type World } from '../fakes/daemon.ts';
import {
  ALL_CAPABILITIES,
  blockPeer,
  direction,
  hostFacts,
  ips,
  namespace,
  networkPolicy,
  node,
  pod,
  podPeer,
  policyPort,
  policyRule,
  selector,
  unusableDirection,
} from '../fixtures/cluster.ts';

const IPV4_ONLY: Partial<PolicyOptions> = { families: { ipv4: 'on', ipv6: 'off' } };
const WEB = selector({ app: 'web' });
const CLIENT = selector({ app: 'client' });

/** Lets in what has the label `app: client`, in its own namespace. */
function letsClientsIn(name: string, deviations: Partial<NetworkPolicy> = {}): NetworkPolicy {
  return networkPolicy(name, {
    podSelector: WEB,
    ingress: direction(policyRule({ peers: [podPeer(CLIENT)], ports: [policyPort(80)] })),
    ...deviations,
  });
}

const PODS: readonly Pod[] = [
  pod('web', '10.244.1.5', { labels: { app: 'web' } }),
  pod('web-2', '10.244.1.6', { labels: { app: 'web' } }),
  pod('db', '10.244.1.7', { labels: { app: 'db' } }),
  pod('client', '10.244.2.5', { labels: { app: 'client' } }),
];
const POLICIES = [letsClientsIn('web'), networkPolicy('db', { podSelector: selector({ app: 'db' }) })];

const CLIENTS = membersSet({ in: 'namespace', namespace: 'default', podSelector: CLIENT });
const WEB_GROUP = groupSet(groupOf('ingress', ['default/web']));
const DB_GROUP = groupSet(groupOf('ingress', ['default/db']));

interface PolicyWorld extends World {
  readonly applies: RecordedApply[];
}

/** A daemon at rest with these pods and policies; what it wrote to come there is forgotten. */
async function atRest(
  { pods = PODS, policies = POLICIES }: { readonly pods?: readonly Pod[]; readonly policies?: readonly NetworkPolicy[] } = {},
  options: Partial<PolicyOptions> = IPV4_ONLY,
  host: HostFacts = hostFacts(),
  nodes = [node(1), node(2)],
  prepare: (world: World) => void = () => undefined,
): Promise<PolicyWorld> {
  const world = startPolicyWorld(options, host);
  prepare(world);
  const applies = recordApplies(world.tables);
  const { source } = world;
  source.list('Node', nodes);
  source.list('Service', []);
  source.list('EndpointSlice', []);
  source.list('Namespace', [namespace('default'), namespace('other', { team: 'x' })]);
  source.list('Pod', pods);
  source.list('NetworkPolicy', policies);
  await world.clock.advance(100);
  takeApplies(applies);
  return { ...world, applies };
}

/** What was written until everything came to rest, sweeping up included. */
async function written(world: PolicyWorld, milliseconds = 20_000): Promise<readonly RecordedApply[]> {
  await world.clock.advance(milliseconds);
  return takeApplies(world.applies);
}

function elementsOf({ tables }: World, set: string): readonly string[] {
  return [...tables.ipset.state.values()]
    .flatMap(entry => (entry.kind === 'element' && entry.set === set ? [entry.value] : []))
    .sort();
}

function rulesOf({ tables }: World, chain: string, family = 'ipv4'): readonly string[] | undefined {
  const found = tables.iptables.state.get(`${family} filter ${chain}`);
  return found?.kind === 'chain' ? found.rules : undefined;
}

function diagnosticsOf({ daemon }: World): readonly string[] {
  return daemon.diagnostics().map(({ code, message }) => `${code} ${message}`);
}

describe('one event costs what it changed', () => {
  it('a pod elsewhere that becomes a peer: one batch of ipset, one element', async () => {
    const world = await atRest();
    world.source.put(pod('other', '10.244.2.6', { labels: { app: 'client' } }));
    assert.deepEqual(await written(world), [{ table: 'ipset', changes: [`create ${CLIENTS} 10.244.2.6`] }]);
    await world.daemon.stop();
  });

  it('a pod elsewhere that nothing matches: no write', async () => {
    const world = await atRest();
    world.source.put(
      pod('stranger', '10.244.2.7', { labels: { app: 'stranger' } }),
      pod('other/client', '10.244.2.8', { labels: { app: 'client' } }),
    );
    assert.deepEqual(await written(world), []);
    await world.daemon.stop();
  });

  it('a node that is about to leave the cluster: no write', async () => {
    const world = await atRest();
    world.source.put(node(1, { isLeaving: true }), node(2, { isLeaving: true }));
    assert.deepEqual(await written(world), []);
    await world.daemon.stop();
  });

  it('a pod elsewhere that changes nothing of what is matched: no write', async () => {
    const world = await atRest();
    world.source.put(pod('client', '10.244.2.5', { labels: { app: 'client', version: '2' } }));
    assert.deepEqual(await written(world), []);
    await world.daemon.stop();
  });

  it('a pod of this node that goes from one group to another: one batch of ipset with the two elements', async () => {
    const world = await atRest();
    world.source.put(pod('web-2', '10.244.1.6', { labels: { app: 'db' } }));
    const [apply, ...more] = await written(world);
    assert.deepEqual(more, []);
    assert.equal(apply?.table, 'ipset');
    // In which order is the driver's to see to: into the new one first.
    assert.deepEqual([...apply.changes].sort(), [`create ${DB_GROUP} 10.244.1.6`, `delete ${WEB_GROUP} 10.244.1.6`]);
    await world.daemon.stop();
  });

  it('a pod of this node that is new in a group: one batch, in which it is in its group before it is judged, and judged before it is accepted as this node’s', async () => {
    const world = await atRest();
    world.source.put(pod('web-3', '10.244.1.8', { labels: { app: 'web' } }));
    const [apply, ...more] = await written(world);
    assert.deepEqual(more, []);
    // The order of lines in one batch; what goes does so in the opposite one, by the driver.
    assert.deepEqual(apply?.changes, [
      `create ${WEB_GROUP} 10.244.1.8`,
      'create fairway-ingress 10.244.1.8',
      'create kube-router-local-pods 10.244.1.8',
    ]);
    await world.daemon.stop();
  });

  it('a policy whose ports change: its own chain and nothing else', async () => {
    const world = await atRest();
    world.source.put(
      letsClientsIn('web', { ingress: direction(policyRule({ peers: [podPeer(CLIENT)], ports: [policyPort(443)] })) }),
    );
    assert.deepEqual(await written(world), [
      { table: 'iptables', changes: [`update ipv4 filter ${policyChain('default/web', 'ingress')}`] },
    ]);
    await world.daemon.stop();
  });

  it('a policy that chooses peers as another does: no new set, and the set goes with the last of them', async () => {
    const world = await atRest();
    world.source.put(letsClientsIn('again', { podSelector: selector({ app: 'db' }) }));
    const sets = (await written(world)).flatMap(({ changes }) => changes).filter(change => change.includes('fairway-p-'));
    assert.deepEqual(sets, []);
    world.source.remove('NetworkPolicy', 'default/web');
    await written(world);
    assert.deepEqual(elementsOf(world, CLIENTS), ['10.244.2.5'], 'the other policy still uses it');
    world.source.remove('NetworkPolicy', 'default/again');
    await written(world);
    assert.equal(world.tables.ipset.state.has(CLIENTS), false);
    assert.deepEqual(elementsOf(world, CLIENTS), []);
    await world.daemon.stop();
  });

  it('a namespace that gets other labels: elements of its own pods only', async () => {
    const team = podPeer(undefined, selector({ team: 'x' }));
    const policy = letsClientsIn('web', { ingress: direction(policyRule({ peers: [team] })) });
    const set = membersSet({ in: 'namespaces', namespaceSelector: selector({ team: 'x' }), podSelector: selector() });
    const world = await atRest({
      pods: [...PODS, pod('other/a', '10.244.2.9'), pod('other/b', '10.244.2.10')],
      policies: [policy],
    });
    assert.deepEqual(elementsOf(world, set), ['10.244.2.10', '10.244.2.9']);
    world.source.put(namespace('other', { team: 'y' }));
    const [apply, ...more] = await written(world);
    assert.deepEqual(more, []);
    assert.equal(apply?.table, 'ipset');
    assert.deepEqual([...apply.changes].sort(), [`delete ${set} 10.244.2.10`, `delete ${set} 10.244.2.9`]);
    await world.daemon.stop();
  });

  it('a namespace whose labels nothing asks for: no write', async () => {
    const world = await atRest();
    world.source.put(namespace('default', { colour: 'blue' }));
    assert.deepEqual(await written(world), []);
    await world.daemon.stop();
  });

  it('a policy that selects no pod of this node: no write, until a pod of it comes and after the last has gone', async () => {
    const world = await atRest();
    const batch = letsClientsIn('batch', { podSelector: selector({ app: 'batch' }) });
    world.source.put(batch);
    assert.deepEqual(await written(world), []);
    world.source.put(pod('batch', '10.244.1.9', { labels: { app: 'batch' } }));
    await written(world);
    const chain = policyChain('default/batch', 'ingress');
    assert.equal(rulesOf(world, chain)?.length, 1);
    world.source.remove('Pod', 'default/batch');
    await written(world);
    assert.equal(rulesOf(world, chain), undefined);
    assert.equal(rulesOf(world, groupChain(groupOf('ingress', ['default/batch']))), undefined);
    await world.daemon.stop();
  });

  it('a policy that is deleted: its pods are open at once by one element each, and chains and sets go later, whole', async () => {
    const crowd = Array.from({ length: 500 }, (_, index) =>
      pod(`c-${index}`, `10.244.3.${index % 250}`, { labels: { app: 'client' } }),
    );
    const world = await atRest({ pods: [...PODS, ...crowd] });
    world.source.remove('NetworkPolicy', 'default/web');
    const [first, ...later] = await written(world);
    // No client is taken out of the peers while the pods are still judged by them.
    const opened = ['10.244.1.5', '10.244.1.6'].map(address => `delete fairway-ingress ${address}`);
    assert.equal(first?.table, 'ipset');
    assert.deepEqual(first.changes.filter(change => !change.includes(WEB_GROUP)).sort(), opened);
    assert.deepEqual(
      later.map(({ table }) => table),
      ['iptables', 'ipset'],
    );
    assert.ok(later[1]?.changes.includes(`delete ${CLIENTS}`));
    assert.equal(world.tables.ipset.state.has(WEB_GROUP), false);
    await world.daemon.stop();
  });

  it('a judged pod that gets a group of its own: it goes there from the old one in one batch, when the chain is there', async () => {
    const world = await atRest({ policies: [letsClientsIn('web')] });
    world.source.put(
      pod('web-2', '10.244.1.6', { labels: { app: 'web', extra: '' } }),
      letsClientsIn('more', { podSelector: selector({ extra: '' }) }),
    );
    const group = groupSet(groupOf('ingress', ['default/more', 'default/web']));
    assert.deepEqual(
      (await written(world)).map(({ table, changes }) => [table, changes.filter(change => change.includes('fairway-g-')).sort()]),
      [
        ['ipset', [`create ${group}`]],
        ['iptables', []],
        ['ipset', [`create ${group} 10.244.1.6`, `delete ${WEB_GROUP} 10.244.1.6`]],
      ],
    );
    await world.daemon.stop();
  });

  it('a policy that is deleted, wherever its group stands among others: no chain is written before its pod is open', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const closed = (name: string): NetworkPolicy => networkPolicy(name, { podSelector: selector({ name }) });
    const pods = names.map((name, index) => pod(name, `10.244.1.${10 + index}`, { labels: { name } }));
    const world = await atRest({ pods, policies: names.map(closed) });
    for (const [index, name] of names.entries()) {
      world.source.remove('NetworkPolicy', `default/${name}`);
      const applies = await written(world);
      assert.deepEqual(
        applies.map(({ table }) => table),
        ['ipset', 'iptables', 'ipset'],
        name,
      );
      assert.ok(applies[0]?.changes.includes(`delete fairway-ingress 10.244.1.${10 + index}`));
      world.source.put(closed(name));
      await written(world);
    }
    await world.daemon.stop();
  });

  it('a policy that was away for a moment: as before, and the daemon comes to rest', async () => {
    const world = await atRest();
    const before = new Map(world.tables.iptables.state);
    world.source.remove('NetworkPolicy', 'default/web');
    await world.clock.advance(300);
    world.source.put(letsClientsIn('web'));
    await written(world);
    assert.deepEqual(world.tables.iptables.state, before);
    let timers = 0;
    const after = world.clock.after.bind(world.clock);
    world.clock.after = (milliseconds, fire) => {
      timers++;
      return after(milliseconds, fire);
    };
    await world.clock.advance(20_000);
    // Audits come by; rounds that find nothing to do would be hundreds.
    assert.ok(timers < 10, `${timers} timers in 20 seconds without an event`);
    await world.daemon.stop();
  });

  it('a pod of this node in a namespace without policies: that it is of this node, and nothing else', async () => {
    const world = await atRest();
    world.source.put(pod('other/web', '10.244.1.20', { labels: { app: 'web' } }));
    assert.deepEqual(await written(world), [{ table: 'ipset', changes: ['create kube-router-local-pods 10.244.1.20'] }]);
    world.source.put(pod('other/web', '10.244.1.20', { labels: { app: 'db' } }));
    assert.deepEqual(await written(world), []);
    world.source.remove('Pod', 'other/web');
    assert.deepEqual(await written(world), [{ table: 'ipset', changes: ['delete kube-router-local-pods 10.244.1.20'] }]);
    await world.daemon.stop();
  });

  it('an audit that finds everything right: no write', async () => {
    const world = await atRest();
    assert.deepEqual(await written(world, 300_000), []);
    assert.ok(world.tables.ipset.reads >= 3);
    await world.daemon.stop();
  });

  it('10,000 pods elsewhere, one of them relabelled: one element', async () => {
    const crowd = Array.from({ length: 10_000 }, (_, index) =>
      pod(`crowd-${index}`, `10.244.${2 + Math.floor(index / 250)}.${1 + (index % 250)}`, { labels: { app: 'client' } }),
    );
    const world = await atRest({ pods: [...PODS.slice(0, 3), ...crowd] });
    const [first] = crowd;
    assert.ok(first !== undefined);
    world.source.put({ ...first, labels: {} });
    assert.deepEqual(await written(world), [{ table: 'ipset', changes: [`delete ${CLIENTS} 10.244.2.1`] }]);
    await world.daemon.stop();
  });
});

describe('a policy that cannot be used', () => {
  it('closes its pods, is told, and costs no other policy anything', async () => {
    const world = await atRest({
      policies: [
        letsClientsIn('web'),
        networkPolicy('db', { podSelector: selector({ app: 'db' }), ingress: unusableDirection() }),
      ],
    });
    assert.deepEqual(elementsOf(world, DB_GROUP), ['10.244.1.7']);
    assert.equal(rulesOf(world, policyChain('default/db', 'ingress')), undefined);
    const group = rulesOf(world, groupChain(groupOf('ingress', ['default/db'])));
    assert.equal(group?.at(-1), '-g FAIRWAY-DENY');
    assert.equal(rulesOf(world, policyChain('default/web', 'ingress'))?.length, 1);
    const complaints = diagnosticsOf(world).filter(text => text.startsWith('FW_POLICY_UNUSABLE'));
    assert.equal(complaints.length, 1);
    assert.match(complaints[0] ?? '', /default\/db.*ingress/);
    world.source.put(networkPolicy('db', { podSelector: selector({ app: 'db' }), ingress: direction(policyRule()) }));
    await written(world);
    assert.deepEqual(diagnosticsOf(world), []);
    assert.equal(rulesOf(world, policyChain('default/db', 'ingress'))?.length, 1);
    await world.daemon.stop();
  });

  it('leaves its other direction in force', async () => {
    const policy = networkPolicy('web', {
      podSelector: WEB,
      ingress: unusableDirection(),
      egress: direction(policyRule({ peers: [blockPeer('10.0.0.0/8')] })),
    });
    const world = await atRest({ policies: [policy] });
    assert.equal(rulesOf(world, policyChain('default/web', 'ingress')), undefined);
    assert.match(rulesOf(world, policyChain('default/web', 'egress'))?.[0] ?? '', /^-d 10\.0\.0\.0\/8 .*-g FAIRWAY-ALLOW$/);
    await world.daemon.stop();
  });

  it('is told once, however often its pods change', async () => {
    const world = await atRest({ policies: [networkPolicy('db', { podSelector: WEB, ingress: unusableDirection() })] });
    for (const version of ['1', '2', '3']) {
      world.source.put(pod('web', '10.244.1.5', { labels: { app: 'web', version } }));
      await world.clock.advance(100);
    }
    assert.equal(world.log.matching(/FW_POLICY_UNUSABLE|its ingress rules cannot be used/).length, 1);
    await world.daemon.stop();
  });
});

describe('families', () => {
  const families = ({ tables }: World): readonly string[] =>
    [...new Set([...tables.iptables.state.values()].map(({ family }) => family))].sort();
  const nodeOfIpv4 = [node(1, { internalIPs: ips('192.168.1.1'), podCIDRs: [] }), node(2)];

  it('of a node with both are both, unless a flag says otherwise', async () => {
    for (const [switches, expected] of [
      [{ ipv4: 'auto', ipv6: 'auto' }, ['ipv4', 'ipv6']],
      [{ ipv4: 'on', ipv6: 'off' }, ['ipv4']],
      [{ ipv4: 'off', ipv6: 'on' }, ['ipv6']],
      [{ ipv4: 'off', ipv6: 'off' }, []],
    ] as const) {
      const world = await atRest({}, { families: switches });
      assert.deepEqual(families(world), expected);
      await world.daemon.stop();
    }
  });

  it('of a node with IPv4 alone are IPv4, until a pod has an IPv6 address: then it is closed there too', async () => {
    const world = await atRest({}, {}, hostFacts(), nodeOfIpv4);
    assert.deepEqual(families(world), ['ipv4']);
    world.source.put(pod('db', '10.244.1.7', { labels: { app: 'db' }, addresses: ips('10.244.1.7', 'fd00:10:1::7') }));
    await written(world);
    assert.deepEqual(families(world), ['ipv4', 'ipv6']);
    assert.deepEqual(elementsOf(world, 'inet6:fairway-ingress'), ['fd00:10:1::7']);
    world.source.put(pod('db', '10.244.1.7', { labels: { app: 'db' } }));
    await written(world);
    assert.deepEqual(families(world), ['ipv4']);
    assert.deepEqual(
      [...world.tables.ipset.state.keys()].filter(key => key.startsWith('inet6:')),
      [],
    );
    await world.daemon.stop();
  });

  it('a kernel without IPv6 has nothing of it, and nothing to say about it', async () => {
    const host = hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipv6: false, iptables: { ipv4: true, ipv6: false } } });
    const world = await atRest({}, {}, host);
    assert.deepEqual(families(world), ['ipv4']);
    assert.deepEqual(diagnosticsOf(world), []);
    await world.daemon.stop();
  });
});

describe('sets of many pods', () => {
  it('may grow further beyond 16,384 elements, and 70,000 pods are one set of 70,000', async () => {
    const crowd = Array.from({ length: 70_000 }, (_, index) =>
      pod(`c-${index}`, `10.${128 + (index >> 14)}.${(index >> 7) & 127}.${index & 127}`, {
        labels: { app: 'client' },
        nodeName: 'node-2',
      }),
    );
    const limitOf = ({ tables }: World): number | undefined => {
      const set = tables.ipset.state.get(CLIENTS);
      return set?.kind === 'set' ? set.maxElements : undefined;
    };
    const few = await atRest({ pods: [...PODS.slice(0, 3), ...crowd.slice(0, 16_384)] });
    assert.equal(limitOf(few), 65_536);
    const [, ...rest] = crowd.slice(16_383, 16_385);
    few.source.put(...rest);
    await written(few);
    assert.equal(limitOf(few), 1_048_576);
    await few.daemon.stop();
    const many = await atRest({ pods: [...PODS.slice(0, 3), ...crowd] });
    assert.equal(limitOf(many), 1_048_576);
    assert.equal(elementsOf(many, CLIENTS).length, 70_000);
    await many.daemon.stop();
  }).timeout(30_000);
});

describe('a host that lacks something', () => {
  async function complaints(capabilities: Partial<HostFacts['capabilities']>, options = IPV4_ONLY): Promise<readonly string[]> {
    const world = await atRest({}, options, hostFacts({ capabilities: { ...ALL_CAPABILITIES, ...capabilities } }));
    const found = diagnosticsOf(world);
    await world.daemon.stop();
    return found;
  }

  it('nothing is said where nothing lacks', async () => {
    assert.deepEqual(await complaints({}, {}), []);
  });

  for (const [lack, capabilities, pattern] of [
    ['ipset', { ipset: false }, /^FW_HOST_CAPABILITY ipset .*no network policy is enforced for IPv4/],
    [
      'iptables',
      { iptables: { ipv4: false, ipv6: true } },
      /^FW_HOST_CAPABILITY iptables .*no network policy is enforced for IPv4/,
    ],
    ['br_netfilter', { bridgeNetfilter: false }, /^FW_HOST_CAPABILITY .*br_netfilter/],
    ['NFLOG', { nflog: false }, /^FW_HOST_CAPABILITY .*group 100/],
  ] as const) {
    it(`${lack}: it is said once, with what does not work for it`, async () => {
      const found = await complaints(capabilities);
      assert.equal(found.length, 1, found.join('\n'));
      assert.match(found[0] ?? '', pattern);
    });
  }

  it('ipset, that an earlier run had: its policies stay in force as they are, and are followed when ipset is there', async () => {
    const former = await atRest();
    await former.daemon.stop();
    const host = hostFacts({ capabilities: { ...ALL_CAPABILITIES, ipset: false } });
    const world = await atRest({ policies: [letsClientsIn('web')] }, IPV4_ONLY, host, undefined, ({ tables }) => {
      for (const [key, value] of former.tables.iptables.state) tables.iptables.state.set(key, value);
      for (const [key, value] of former.tables.ipset.state) tables.ipset.state.set(key, value);
      tables.ipset.broken = "'ipset' is not installed";
    });
    await world.clock.advance(120_000);
    assert.deepEqual([...world.tables.iptables.state.keys()], [...former.tables.iptables.state.keys()]);
    assert.match(
      diagnosticsOf(world).join('\n'),
      /ipset is not installed .*no network policy is enforced .*what an earlier run enforced stays/,
    );
    world.tables.ipset.broken = undefined;
    world.tables.iptables.written.length = 0;
    world.daemon.hostChanged(hostFacts());
    await world.clock.advance(20_000);
    assert.equal(rulesOf(world, policyChain('default/web', 'ingress'))?.length, 1);
    assert.equal(rulesOf(world, policyChain('default/db', 'ingress')), undefined, 'the policy that went meanwhile');
    assert.deepEqual(
      world.tables.iptables.written.filter(change => change.includes(policyChain('default/web', 'ingress'))),
      [],
    );
    await world.daemon.stop();
  });

  it('ip6tables: IPv4 is enforced all the same', async () => {
    const host = hostFacts({ capabilities: { ...ALL_CAPABILITIES, iptables: { ipv4: true, ipv6: false } } });
    const world = await atRest({}, {}, host);
    assert.equal(rulesOf(world, policyChain('default/web', 'ingress'))?.length, 1);
    assert.match(diagnosticsOf(world).join('\n'), /^FW_HOST_CAPABILITY ip6tables .*IPv6\.$/);
    await world.daemon.stop();
  });

  it('pod CIDRs, with --netpol-default-deny: it is said, and known pods are judged all the same', async () => {
    const nodes = [node(1, { podCIDRs: [] }), node(2)];
    const world = await atRest({}, { ...IPV4_ONLY, defaultDeny: true }, hostFacts(), nodes);
    assert.match(diagnosticsOf(world).join('\n'), /^FW_NODE_ADDRESS .*node-1.*IPv4 pod CIDR/);
    assert.deepEqual(rulesOf(world, 'FAIRWAY-DEFAULT-DENY'), []);
    assert.deepEqual(elementsOf(world, WEB_GROUP), ['10.244.1.5', '10.244.1.6']);
    await world.daemon.stop();
  });
});
