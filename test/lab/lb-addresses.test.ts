import assert from 'node:assert/strict';
import { ClusterRole, type PolicyRule } from '../fakes/cluster-role.ts';
import type { LabNode } from './addresses.ts';
import { describeLab } from './describe-lab.ts';
import { answers } from './describe-services.ts';
import { LanCluster, podOf } from './lan-cluster.ts';
import { BOTH_FAMILIES, balanced, type LoadBalancerWish, servedBy } from './lan-services.ts';
import type { ApiObject } from './objects.ts';
import { until } from './until.ts';

/** Of eight addresses each, of which the first and the last are only for who asks for them. */
const FLAGS: readonly string[] = [
  '--loadbalancer-ip-range=203.0.113.128/29,2001:db8:203::8000/125',
  '--loadbalancer-pools=kube-system/fairway-pools',
];
/** What kube-router's allocator has, too. */
const LEASE = { name: 'kube-router-lballoc', namespace: 'kube-system' } as const;

const POOLS = {
  blue: '{name: blue, addresses: [198.51.100.16/29], serviceSelector: {matchLabels: {team: blue}}}',
  two: '{name: two, addresses: [198.51.100.40-198.51.100.41], autoAssign: false}',
  classy: '{name: classy, addresses: [198.51.100.48/29], loadBalancerClasses: [example.com/lab]}',
  crowd: '{name: crowd, addresses: [198.51.100.128/26], serviceSelector: {matchLabels: {team: crowd}}}',
} as const;

/** https://github.com/cloudnativelabs/kube-router/blob/v2.11.1/daemonset/kubeadm-kuberouter.yaml, what is asked for here. */
const KUBE_ROUTER_GRANTS: readonly PolicyRule[] = [
  { apiGroups: [''], resources: ['namespaces', 'pods', 'services', 'nodes', 'endpoints'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update'] },
  { apiGroups: [''], resources: ['services/status'], verbs: ['update'] },
];

function poolsMap(pools: readonly string[]): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'fairway-pools', namespace: 'kube-system' },
    data: { 'pools.yaml': `pools:\n${pools.map(pool => `- ${pool}\n`).join('')}` },
  };
}

describeLab('addresses of LoadBalancer Services', { lans: 1, podsPerNode: 1 }, lab => {
  let cluster: LanCluster;
  const running: LanCluster[] = [];
  let made: ApiObject[] = [];
  let numbers = 0;

  before('three daemons', async function () {
    this.timeout(120_000);
    cluster = await LanCluster.begin(lab(), {
      flags: FLAGS,
      objects: [poolsMap(Object.values(POOLS)), leaseOf('kube-router-x7k2p')],
    });
    running.push(cluster);
    await cluster.start();
  });

  afterEach('the Services of a test go', () => {
    cluster.remove(...made);
    made = [];
  });

  after(() => {
    for (const each of running) each.stop();
  });

  /** A Lease that was renewed just now; without a holder one that was let go. */
  function leaseOf(holder: string): ApiObject {
    const time = new Date().toISOString().replace('Z', '000Z');
    const spec = {
      holderIdentity: holder,
      leaseDurationSeconds: holder === '' ? 1 : 15,
      renewTime: time,
      acquireTime: time,
      leaseTransitions: 1,
    };
    return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: LEASE, spec };
  }

  const holder = (): string =>
    ((cluster.stored('Lease', LEASE.name, LEASE.namespace)?.['spec'] ?? {}) as { readonly holderIdentity?: string })
      .holderIdentity ?? '';

  /** The node whose daemon hands out addresses. */
  async function leader(isMeant: (node: LabNode) => boolean = () => true, limitMs = 25_000): Promise<LabNode> {
    const found = await until(
      'a daemon leads',
      async () => ({ holder: holder(), node: lab().nodes.find(node => podOf(node) === holder()) }),
      ({ node }) => node !== undefined && isMeant(node),
      limitMs,
    );
    return found.node!;
  }

  /** A Service that is younger than all before it. */
  function put(name: string, wish: LoadBalancerWish = {}): ApiObject {
    numbers++;
    const object = balanced(name, numbers, { age: 1000 - numbers, ...wish });
    made.push(object);
    cluster.put(object);
    return object;
  }

  /** Waits until the daemon that leads says it, from now on or just before. */
  async function isSaid(pattern: RegExp, limitMs = 15_000): Promise<void> {
    await until(
      `the leader says ${pattern}`,
      async () => cluster.daemon(await leader()).output.slice(-8000),
      text => pattern.test(text),
      limitMs,
    );
  }

  async function hasEvent(name: string, pattern: RegExp): Promise<void> {
    await until(
      `an event of ${name} says ${pattern}`,
      async () => cluster.eventsOf(name),
      events => events.some(text => pattern.test(text)),
    );
  }

  it('are left to kube-router while it has the Lease, and the daemons say so; then one of them hands them out', async () => {
    const renewed = setInterval(() => cluster.put(leaseOf('kube-router-x7k2p')), 1000);
    try {
      put('first', { spec: BOTH_FAMILIES });
      for (const node of lab().nodes)
        await until(
          `${node.name} says whom it follows`,
          async () => await cluster.status(node),
          text => text.includes('kube-router-x7k2p'),
        );
      assert.deepEqual(cluster.addressesOf('first'), []);
    } finally {
      clearInterval(renewed);
    }
    cluster.put(leaseOf(''));
    assert.deepEqual(await cluster.allocated('first', 2), ['203.0.113.129', '2001:db8:203::8001']);
    const { name } = await leader();
    for (const node of lab().nodes)
      await until(
        `${node.name} says that ${name} hands them out`,
        async () => await cluster.status(node),
        text => (node.name === name ? /handed out here|here/ : new RegExp(podOf({ name } as LabNode))).test(text),
      );
  });

  it('come in the families and the order that the Service asks for, the lowest that are free, never the first or last of a subnet', async () => {
    put('four');
    put('six', { spec: { ipFamilies: ['IPv6'] } });
    put('six-four', { spec: { ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' } });
    assert.deepEqual(await cluster.allocated('four', 1), ['203.0.113.129']);
    assert.deepEqual(await cluster.allocated('six', 1), ['2001:db8:203::8001']);
    assert.deepEqual(await cluster.allocated('six-four', 2), ['2001:db8:203::8002', '203.0.113.130']);
    put('prefers', { labels: { team: 'blue' }, spec: { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'PreferDualStack' } });
    assert.equal((await cluster.allocated('prefers', addresses => addresses.length > 0))[0], '198.51.100.17');
  });

  it('are served on every node, and are free again when the Service is gone or no LoadBalancer any more', async () => {
    const web = put('web');
    cluster.put(...servedBy('web', lab().pod(2, 1)));
    const [address = ''] = await cluster.allocated('web', 1);
    const target = { transport: 'tcp', address, port: 80 } as const;
    for (const node of lab().nodes)
      await until(
        `${node.name} serves ${address}`,
        async () => await answers(lab(), node, target, 1),
        seen => seen === 'pod-2-1',
      );
    cluster.put({ ...web, spec: { ...(web['spec'] as object), type: 'ClusterIP' } });
    assert.deepEqual(await cluster.allocated('web', 0), []);
    put('next');
    assert.deepEqual(await cluster.allocated('next', 1), [address]);
  });

  it('are those that are asked for, by each name of the wish, first and last of a subnet included', async () => {
    put('ours', { annotations: { 'fairway.dev/lb-ips': '203.0.113.128,2001:db8:203::8007' }, spec: BOTH_FAMILIES });
    put('spec', { spec: { loadBalancerIP: '203.0.113.135' } });
    put('metallb', { annotations: { 'metallb.io/loadBalancerIPs': '198.51.100.41' } });
    put('pool', { annotations: { 'fairway.dev/lb-pool': 'two' } });
    assert.deepEqual(await cluster.allocated('ours', 2), ['203.0.113.128', '2001:db8:203::8007']);
    assert.deepEqual(await cluster.allocated('spec', 1), ['203.0.113.135']);
    assert.deepEqual(await cluster.allocated('metallb', 1), ['198.51.100.41']);
    assert.deepEqual(await cluster.allocated('pool', 1), ['198.51.100.40']);
  });

  it('that are asked for and in use, in no pool or unreadable: the Service waits, and an event names the reason', async () => {
    const holding = put('holding', { annotations: { 'fairway.dev/lb-ips': '203.0.113.132' } });
    await cluster.allocated('holding', 1);
    put('wants', { annotations: { 'fairway.dev/lb-ips': '203.0.113.132' } });
    put('outside', { annotations: { 'fairway.dev/lb-ips': '192.0.2.77' } });
    put('garbage', { annotations: { 'fairway.dev/lb-ips': 'the nice one' } });
    put('nowhere', { annotations: { 'fairway.dev/lb-pool': 'nosuch' } });
    await hasEvent('wants', /203\.0\.113\.132.*lab\/holding/);
    await hasEvent('outside', /192\.0\.2\.77/);
    await hasEvent('garbage', /the nice one/);
    await hasEvent('nowhere', /nosuch.*(blue|two)/);
    for (const code of ['FW_LB_TAKEN', 'FW_LB_OUTSIDE', 'FW_LB_REQUEST']) await isSaid(new RegExp(code));
    for (const name of ['wants', 'outside', 'garbage', 'nowhere']) assert.deepEqual(cluster.addressesOf(name), [], name);
    cluster.remove(holding);
    assert.deepEqual(await cluster.allocated('wants', 1), ['203.0.113.132'], 'what becomes free goes to who waits for it');
  });

  it('are shared by two Services that both say so, by other ports; a third with a port of theirs has its own', async () => {
    const sharing = { 'fairway.dev/lb-share': 'one' };
    put('web', { annotations: sharing, port: 80 });
    put('tls', { annotations: { 'metallb.io/allow-shared-ip': 'one' }, port: 443 });
    cluster.put(...servedBy('web', lab().pod(1, 1)), ...servedBy('tls', lab().pod(3, 1)));
    const [address = ''] = await cluster.allocated('web', 1);
    assert.deepEqual(await cluster.allocated('tls', 1), [address]);
    put('web-too', { annotations: sharing, port: 80 });
    assert.notDeepEqual(await cluster.allocated('web-too', 1), [address]);
    for (const [port, pod] of [
      [80, 'pod-1-1'],
      [443, 'pod-3-1'],
    ] as const)
      await until(
        `${pod} answers at port ${port}`,
        async () => await answers(lab(), lab().node(2), { transport: 'tcp', address, port }, 3),
        seen => seen === pod,
      );
  });

  it('of a pool that has no more: the last Service waits, an event names the pool; it gets the one that another gives back', async () => {
    const wish = { annotations: { 'fairway.dev/lb-pool': 'two' } };
    const [one] = [put('one', wish), put('two', wish)];
    await cluster.allocated('one', 1);
    await cluster.allocated('two', 1);
    put('three', wish);
    await hasEvent('three', /\btwo\b/);
    await isSaid(/FW_LB_EXHAUSTED/);
    assert.deepEqual(cluster.addressesOf('three'), []);
    const freed = cluster.addressesOf('one');
    cluster.remove(one);
    assert.deepEqual(await cluster.allocated('three', 1), freed);
  });

  it('follow the pools as they are edited: who is outside moves, the others stay, and a text that cannot be read changes nothing', async () => {
    put('stays', { annotations: { 'fairway.dev/lb-ips': '198.51.100.20' }, labels: { team: 'blue' } });
    put('moves', { labels: { team: 'blue' } });
    assert.deepEqual(await cluster.allocated('moves', 1), ['198.51.100.17']);
    await cluster.allocated('stays', 1);
    const { blue, ...rest } = POOLS;
    cluster.put(poolsMap([blue.replace('198.51.100.16/29', '198.51.100.20-198.51.100.27'), ...Object.values(rest)]));
    assert.deepEqual(await cluster.allocated('moves', ([address]) => address !== '198.51.100.17'), ['198.51.100.21']);
    assert.deepEqual(cluster.addressesOf('stays'), ['198.51.100.20']);
    cluster.put({ ...poolsMap([]), data: { 'pools.yaml': 'pools: [{name: blue' } });
    await isSaid(/fairway-pools/);
    put('more', { labels: { team: 'blue' } });
    assert.deepEqual(await cluster.allocated('more', 1), ['198.51.100.22'], 'the pool is as it was last readable');
    assert.deepEqual(cluster.addressesOf('moves'), ['198.51.100.21']);
    cluster.put(poolsMap(Object.values(POOLS)));
    put('last', { labels: { team: 'blue' } });
    assert.deepEqual(await cluster.allocated('last', 1), ['198.51.100.17'], 'the wider pool is in force');
    assert.deepEqual(cluster.addressesOf('moves'), ['198.51.100.21'], 'who is inside stays');
  });

  it('are for the classes of kube-router and of pools; a Service of another class is left alone', async () => {
    put('foreign', { spec: { loadBalancerClass: 'service.k8s.aws/nlb' } });
    put('kube-router', { spec: { loadBalancerClass: 'kube-router' } });
    put('default', { spec: { loadBalancerClass: 'default' } });
    put('classy', { spec: { loadBalancerClass: 'example.com/lab' } });
    await cluster.allocated('kube-router', 1);
    await cluster.allocated('default', 1);
    assert.deepEqual(await cluster.allocated('classy', 1), ['198.51.100.49']);
    assert.deepEqual(cluster.addressesOf('foreign'), []);
  });

  it('are put right where somebody edits the status, and left where another controller wrote it', async () => {
    const edited = (name: string, ...ips: readonly string[]): void => {
      const object = cluster.stored('Service', name)!;
      const entry = {
        manager: 'kubectl-edit',
        operation: 'Update',
        apiVersion: 'v1',
        time: '2026-01-01T12:00:00Z',
        fieldsType: 'FieldsV1',
        subresource: 'status',
      };
      const fieldsV1 = { 'f:status': { 'f:loadBalancer': { 'f:ingress': {} } } };
      cluster.put({
        ...object,
        metadata: { ...object.metadata, managedFields: [{ ...entry, fieldsV1 }] } as ApiObject['metadata'],
        status: { loadBalancer: ips.length === 0 ? {} : { ingress: ips.map(ip => ({ ip })) } },
      });
    };
    put('emptied');
    put('ours', { spec: { loadBalancerClass: 'kube-router' } });
    const [before, own] = [await cluster.allocated('emptied', 1), await cluster.allocated('ours', 1)];
    edited('emptied');
    assert.deepEqual(await cluster.allocated('emptied', 1), before);
    edited('ours', '192.0.2.99');
    assert.deepEqual(await cluster.allocated('ours', ([address]) => address !== '192.0.2.99'), own);
    edited('emptied', '192.0.2.98');
    await hasEvent('emptied', /192\.0\.2\.98/);
    assert.deepEqual(cluster.addressesOf('emptied'), ['192.0.2.98']);
  });

  it('that the API server does not let us write: it is named with the remedy, all else goes on, and they come when it does', async () => {
    cluster.server.behaviour.forbidden.add('update services/status');
    put('denied');
    await isSaid(/lab\/denied.*services\/status/);
    assert.deepEqual(cluster.addressesOf('denied'), []);
    cluster.server.behaviour.forbidden.delete('update services/status');
    const began = performance.now();
    await cluster.allocated('denied', 1, 60_000);
    process.stdout.write(`      written ${Math.round(performance.now() - began)} ms after it was allowed\n`);
  });

  it('are written where somebody else changes the Service again and again meanwhile (409)', async () => {
    for (let count = 0; count < 4; count++)
      cluster.server.answerNext('update services/status', { status: 409, message: 'modified' });
    put('contested');
    await cluster.allocated('contested', 1, 30_000);
  });

  it("come under kube-router's own ClusterRole too, which grants no events and no pools", async () => {
    cluster.server.behaviour.role = new ClusterRole(KUBE_ROUTER_GRANTS);
    put('migrating');
    await cluster.allocated('migrating', 1);
    cluster.server.behaviour.role = undefined;
  });

  it('are handed out by the next daemon within three seconds where the leader is told to stop', async () => {
    const first = await leader();
    const began = performance.now();
    const stopped = cluster.daemon(first).stop();
    put('after');
    await cluster.allocated('after', 1);
    const took = Math.round(performance.now() - began);
    process.stdout.write(`      the leader stopped: the next Service had its address after ${took} ms\n`);
    assert.ok(took < 3000, `${took} ms`);
    assert.equal(await stopped, 0);
    assert.notEqual(await leader(), first);
    await cluster.start([first]);
  });

  it('are handed out by the next daemon after the lease where the leader is killed, and nothing that was given is taken', async function () {
    this.timeout(90_000);
    put('given', { spec: BOTH_FAMILIES });
    const given = await cluster.allocated('given', 2);
    const first = await leader();
    const began = performance.now();
    await cluster.daemon(first).kill();
    put('after');
    await cluster.allocated('after', 1, 25_000);
    process.stdout.write(
      `      the leader killed: the next Service had its address after ${Math.round(performance.now() - began)} ms\n`,
    );
    assert.notEqual(await leader(node => node !== first), first);
    assert.deepEqual(cluster.addressesOf('given'), given);
    await cluster.start([first]);
  });

  it('never go to two Services, nor change, where a leader is paused in the midst of its work and wakes when another leads', async function () {
    this.timeout(120_000);
    const first = await leader();
    const names = Array.from({ length: 40 }, (_, index) => `crowd-${index + 1}`);
    for (const name of names.slice(0, 25)) put(name, { labels: { team: 'crowd' } });
    await until(
      'the first ones are written',
      async () => names.filter(name => cluster.addressesOf(name).length > 0).length,
      count => count > 0,
    );
    cluster.daemon(first).signal('STOP');
    const written = names.filter(name => cluster.addressesOf(name).length > 0).length;
    for (const name of names.slice(25)) put(name, { labels: { team: 'crowd' } });
    const second = await leader(node => node !== first);
    for (const name of names) await cluster.allocated(name, 1, 20_000);
    const before = names.map(name => cluster.addressesOf(name).join());
    const mark = cluster.daemon(first).lines.length;
    cluster.daemon(first).signal('CONT');
    await until(
      `${first.name} follows ${second.name}`,
      async () => ({ status: await cluster.status(first), said: cluster.daemon(first).lines.slice(mark) }),
      ({ status }) => status.includes(podOf(second)),
    );
    // One more, so that the leader has had its turn after the other woke.
    put('last', { labels: { team: 'crowd' } });
    const [last = ''] = await cluster.allocated('last', 1);
    const after = names.map(name => cluster.addressesOf(name).join());
    process.stdout.write(`      ${written} of 25 were written when the leader was paused\n`);
    assert.deepEqual(after, before);
    assert.equal(new Set([...after, last]).size, names.length + 1);
  });
});
