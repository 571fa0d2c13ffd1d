/** Each metric moves when its thing happens, and only then. */
import assert from 'node:assert/strict';
import { countedPaths } from '../../daemon/bgp/counted-paths.ts';
import { measuresOf } from '../../daemon/commands/measure.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { BgpPath } from '../../daemon/reconcile/routing-tables.ts';
import { startPolicyWorld, startWorld, type World } from '../fakes/daemon.ts';
import { piecesOf } from '../fakes/pieces.ts';
import { atRest, ROUTES, tell, withdraw } from '../fakes/routing-world.ts';
import { FakeTable } from '../fakes/tables.ts';
import { direction, ip, namespace, networkPolicy, node, pod, policyRule, selector, service, slice } from '../fixtures/cluster.ts';

type Page = ReadonlyMap<string, number>;

/** Values by name and labels, as they stand on the page. */
async function scrape({ metrics }: Pick<World, 'metrics'>): Promise<Page> {
  const lines = (await piecesOf(metrics)).join('').matchAll(/^((?:kube_router|fairway)_\S+) (\S+)$/gm);
  return new Map([...lines].map(([, name = '', value = '']) => [name, Number(value)]));
}

/** What is another value than before; buckets and sums of histograms stay out. */
async function moved(
  world: Pick<World, 'metrics'>,
  happens: () => Promise<void> | void,
): Promise<Readonly<Record<string, number>>> {
  const before = await scrape(world);
  await happens();
  const changes = [...(await scrape(world))].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const);
  return Object.fromEntries(changes.filter(([name, change]) => change !== 0 && !/_bucket|_sum|timestamp/.test(name)));
}

async function startedWithServices(): Promise<World> {
  const world = startWorld();
  world.source.list('Node', [node(1)]);
  world.source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
  world.source.list('Service', [service('web')]);
  await world.clock.advance(1000);
  return world;
}

describe('metrics of Services', () => {
  it('an endpoint comes: one plan, one batch to IPVS, one latency', async () => {
    const world = await startedWithServices();
    const changes = await moved(world, async () => {
      world.source.put(slice('web', ['10.244.1.5', '10.244.1.6']));
      await world.clock.advance(100);
    });
    for (const [name, change] of Object.entries({
      'fairway_changes_total{table="virtualServer",op="update"}': 1,
      'fairway_apply_seconds_count{table="virtualServer"}': 1,
      'fairway_plan_seconds_count{module="services"}': 1,
      fairway_round_seconds_count: 1,
      fairway_programming_latency_seconds_count: 1,
      kube_router_controller_ipvs_services_sync_time_count: 1,
    }))
      assert.equal(changes[name], change, name);
    await world.daemon.stop();
  });

  it('a Service comes without endpoints, and goes', async () => {
    const world = await startedWithServices();
    const lonely = service('lonely', { clusterIPs: [ip('10.96.0.77')] });
    const come = await moved(world, async () => {
      world.source.put(lonely);
      await world.clock.advance(100);
    });
    assert.equal(come['fairway_services_without_endpoints'], 1);
    const listeners = come['kube_router_controller_ipvs_services'] ?? 0;
    assert.ok(listeners > 0);
    assert.equal(come['fairway_table_entries{table="virtualServer"}'], listeners);
    assert.equal(come['fairway_table_wanted_entries{table="virtualServer"}'], listeners);
    const gone = await moved(world, async () => {
      world.source.remove('Service', 'default/lonely');
      await world.clock.advance(100);
    });
    assert.equal(gone['fairway_services_without_endpoints'], -1);
    assert.equal(gone['kube_router_controller_ipvs_services'], -listeners);
    await world.daemon.stop();
  });

  it('IPVS refuses an entry: an error by its code, a lag that grows, a degraded module; a retry; and all is well again', async () => {
    const world = await startedWithServices();
    const [key = ''] = world.tables.virtualServer.state.keys();
    world.tables.virtualServer.refused.set(key, 'no memory');
    const changes = await moved(world, async () => {
      world.source.put(slice('web', ['10.244.1.5', '10.244.1.6']));
      await world.clock.advance(400);
    });
    assert.equal(changes['fairway_errors_total{code="FW_COMMAND_REFUSED"}'], 1);
    assert.equal(changes['fairway_failures_total{table="virtualServer"}'], 1);
    assert.equal(changes['fairway_table_failing_entries{table="virtualServer"}'], 1);
    assert.equal(changes['fairway_module_state{module="services",state="degraded"}'], 1);
    assert.equal(changes['fairway_module_state{module="services",state="ok"}'], -1);
    assert.equal(changes['fairway_programming_latency_seconds_count'], undefined, 'it is not in force');
    assert.ok((changes['fairway_programming_lag_seconds'] ?? 0) >= 0.39);
    const successAt = 'fairway_sync_last_success_timestamp_seconds{module="services"}';
    const stuckAt = (await scrape(world)).get(successAt) ?? 0;

    world.tables.virtualServer.refused.clear();
    const before = await scrape(world);
    await world.clock.advance(1000);
    const after = await scrape(world);
    const grown = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
    assert.equal(grown('fairway_retries_total{table="virtualServer"}'), 1);
    assert.equal(grown('fairway_programming_latency_seconds_count'), 1);
    assert.ok(grown('fairway_programming_latency_seconds_sum') >= 0.5, 'from the event, not from the retry');
    assert.equal(after.get('fairway_programming_lag_seconds'), 0);
    assert.equal(after.get('fairway_module_state{module="services",state="ok"}'), 1);
    assert.ok((after.get(successAt) ?? 0) > stuckAt);
    await world.daemon.stop();
  });

  it('somebody flushes IPVS: drift, a read-back, and a repair', async () => {
    const world = await startedWithServices();
    const count = world.tables.virtualServer.state.size;
    world.tables.virtualServer.state.clear();
    const changes = await moved(world, () => world.clock.advance(61_000));
    assert.equal(changes['fairway_drift_total{table="virtualServer",found="missing"}'], count);
    assert.equal(changes['fairway_read_seconds_count{table="virtualServer"}'], 1);
    assert.equal(changes['fairway_programming_latency_seconds_count'], undefined, 'no event, no latency');
    await world.daemon.stop();
  });

  it('a table that cannot be read is one error a try', async () => {
    const world = await startedWithServices();
    world.tables.virtualServer.broken = 'ipvsadm: no such file';
    const changes = await moved(world, () => world.clock.advance(60_000));
    const tries = changes['fairway_errors_total{code="FW_COMMAND_FAILED"}'] ?? 0;
    // Half a second, doubling: 0.5 + 1 + 2 + ... in what is left of a minute.
    assert.ok(tries >= 1 && tries <= 8, `${tries} errors in a minute`);
    await world.daemon.stop();
  });
});

describe('metrics of network policy', () => {
  it('a policy comes: its chains and sets, and the time that it took', async () => {
    const world = startPolicyWorld({ families: { ipv4: 'on', ipv6: 'off' } });
    world.source.list('Node', [node(1)]);
    world.source.list('Namespace', [namespace('default')]);
    world.source.list('Service', []);
    world.source.list('EndpointSlice', []);
    world.source.list('Pod', [pod('web', '10.244.1.5', { labels: { app: 'web' } })]);
    world.source.list('NetworkPolicy', []);
    await world.clock.advance(1000);
    const changes = await moved(world, async () => {
      const web = { podSelector: selector({ app: 'web' }), ingress: direction(policyRule({ peers: [] })) };
      world.source.put(networkPolicy('web', web));
      await world.clock.advance(1000);
    });
    assert.ok((changes['kube_router_controller_policy_chains'] ?? 0) >= 2, 'the chains of the policy and of its group');
    assert.ok((changes['kube_router_controller_policy_ipsets'] ?? 0) >= 1);
    assert.equal(changes['kube_router_controller_iptables_sync_time_count'], 1);
    assert.equal(changes['kube_router_controller_policy_chains_sync_time_count'], 1);
    assert.equal(changes['kube_router_controller_routes_sync_time_count'], undefined);
    await world.daemon.stop();
  });
});

describe('metrics of pod routing', () => {
  it('a neighbour withdraws a route and tells it again', async () => {
    const world = await atRest();
    const changes = await moved(world, async () => {
      withdraw(world, '10.244.2.0/24');
      await world.clock.advance(1000);
    });
    assert.equal(changes['kube_router_controller_bgp_advertisements_received'], 1);
    assert.equal(changes['kube_router_host_routes_removed'], 1);
    assert.equal(changes['kube_router_host_routes_synced'], -1);
    assert.equal(changes['kube_router_host_routes_added'], undefined);
    assert.ok((changes['kube_router_host_routes_sync_time_count'] ?? 0) >= 1);
    assert.equal(changes['kube_router_controller_routes_sync_time_count'], 1);
    const again = await moved(world, async () => {
      tell(world, ROUTES);
      await world.clock.advance(1000);
    });
    assert.equal(again['kube_router_host_routes_added'], 1);
    assert.equal(again['kube_router_host_routes_synced'], 1);
    await world.daemon.stop();
  });

  it('a node joins: a batch of neighbours', async () => {
    const world = await atRest();
    const changes = await moved(world, async () => {
      world.source.put(node(3));
      await world.clock.advance(1000);
    });
    assert.equal(changes['kube_router_controller_bgp_internal_peers_sync_time_count'], 1);
    await world.daemon.stop();
  });

  it('paths that gobgpd took are counted by kind; one that it refused is not', async () => {
    const world = await atRest();
    const table = new FakeTable<BgpPath>();
    const driver = countedPaths(table, measuresOf(world.metrics.kubeRouter).advertised);
    const path = (prefix: string, audience: BgpPath['audience']): BgpPath => ({
      prefix: mustParsePrefix(prefix),
      nextHop: ip('192.168.1.1'),
      audience,
    });
    const create = (to: BgpPath): { op: 'create'; key: string; to: BgpPath } => ({ op: 'create', key: to.prefix, to });
    const pods = path('10.244.1.0/24', 'everyone');
    const vip = path('203.0.113.80/32', 'fabric');
    const refused = path('203.0.113.81/32', 'fabric');
    table.refused.set(refused.prefix, 'no');
    const { signal } = new AbortController();
    const told = await moved(world, async () => {
      await driver.apply([create(pods), create(vip), create(refused)], signal);
    });
    assert.deepEqual(told, {
      'kube_router_controller_bgp_advertisements_sent{type="pod-route"}': 1,
      'kube_router_controller_bgp_advertisements_sent{type="advertise-vip"}': 1,
    });
    const withdrawn = await moved(world, async () => {
      await driver.apply(
        [pods, vip].map(from => ({ op: 'delete', key: from.prefix, from })),
        signal,
      );
    });
    assert.deepEqual(withdrawn, { 'kube_router_controller_bgp_advertisements_sent{type="withdraw-vip"}': 1 });
    await world.daemon.stop();
  });
});

describe('metrics of tools', () => {
  it('time each run of iptables by family and kind, and of ipset by the families of its sets', async () => {
    const world = startWorld();
    const { ran } = measuresOf(world.metrics.kubeRouter);
    const counted = async (argv: readonly [string, ...string[]], stdin?: string): Promise<readonly string[]> => {
      const command = stdin === undefined ? { argv } : { argv, stdin };
      const names = Object.keys(await moved(world, () => ran(command, 12)));
      return names.map(name => name.replace(/^kube_router_controller_(.*)_time_count$/, '$1'));
    };
    assert.deepEqual(await counted(['iptables-nft-save']), ['iptables_v4_save']);
    assert.deepEqual(await counted(['ip6tables-legacy-restore', '--noflush']), ['iptables_v6_restore']);
    assert.deepEqual(await counted(['iptables-restore', '--noflush'], '*filter\n'), ['iptables_v4_restore']);
    assert.deepEqual(await counted(['ipset', 'restore', '-exist'], 'add fairway-a 10.0.0.1\n'), ['policy_ipset_v4_restore']);
    assert.deepEqual(await counted(['ipset', 'restore', '-exist'], 'add inet6:fairway-a fd00::1\n'), ['policy_ipset_v6_restore']);
    const both = 'add inet6:fairway-a fd00::1\nadd fairway-a 10.0.0.1\n';
    assert.deepEqual(await counted(['ipset', 'restore', '-exist'], both), ['policy_ipset_v4_restore', 'policy_ipset_v6_restore']);
    assert.deepEqual(await counted(['ipset', 'save']), []);
    assert.deepEqual(await counted(['ip', '-batch', '-']), []);
    await world.daemon.stop();
  });
});

describe('metrics of the API server', () => {
  it('the silence of a kind grows until it is heard of again, were it only by a bookmark', async () => {
    const world = startWorld();
    const { api } = world.metrics;
    const silence = async (): Promise<number | undefined> =>
      (await scrape(world)).get('fairway_api_silence_seconds{kind="Service"}');
    assert.equal(await silence(), undefined);
    api.listed('Service', 'watch-list');
    await world.clock.advance(61_000);
    assert.equal(await silence(), 61);
    api.bookmark('Service');
    assert.equal(await silence(), 0);
    await world.clock.advance(5000);
    api.failed('Service', 'FW_API_UNREACHABLE');
    assert.equal(await silence(), 5, 'a failure is no word of it');
    const page = await scrape(world);
    assert.equal(page.get('fairway_errors_total{code="FW_API_UNREACHABLE"}'), 1);
    assert.equal(page.get('fairway_api_failures_total{kind="Service",code="FW_API_UNREACHABLE"}'), 1);
    await world.daemon.stop();
  });
});
