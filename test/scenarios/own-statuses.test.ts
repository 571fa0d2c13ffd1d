/** LoadBalancer Services without Kubernetes: the daemon on a real folder of manifests, and a real file for what was handed out. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openOwnStatuses } from '../../daemon/allocation/own-statuses.ts';
import type { StatusPort } from '../../daemon/allocation/status-port.ts';
import { ManifestSource } from '../../daemon/cluster/manifests.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { metricsStatus } from '../../daemon/commands/measure.ts';
import { Daemon } from '../../daemon/daemon.ts';
import { lastingFile } from '../../daemon/kernel/state-file.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { wallNow } from '../../daemon/net/wall-clock.ts';
import { Metrics } from '../../daemon/observe/metrics.ts';
import type { ApplyResult, Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { entry, type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { kindsRead, type Module, type Plan } from '../../daemon/reconcile/module.ts';
import type { ServiceStatus } from '../../daemon/reconcile/service-tables.ts';
import { servicesModule } from '../../modules/services/module.ts';
import { LogLines } from '../fakes/daemon.ts';
import { fakeTables } from '../fakes/tables.ts';
import { hostFacts, ip } from '../fixtures/cluster.ts';
import { servicesOptions } from '../fixtures/services-options.ts';

/** As simple an allocator as there can be: who has an address keeps it, others get the lowest free one in the order of the snapshot. */
const LOWEST_FREE: Module = {
  name: 'lb-allocator',
  reads: ['Service'],
  writes: ['serviceStatus'],
  plan({ services }: Snapshot): Plan {
    const fragments = new Map<string, Fragment>();
    const taken = new Set([...services.values()].flatMap(({ loadBalancerIPs }) => loadBalancerIPs));
    for (const [key, { meta, loadBalancer }] of services) {
      if (loadBalancer === undefined) continue;
      const { ingressIPs: found } = loadBalancer;
      let host = 1;
      while (taken.has(ip(`198.51.100.${host}`))) host++;
      const addresses = found.length > 0 ? found : [ip(`198.51.100.${host}`)];
      for (const address of addresses) taken.add(address);
      const owner = { kind: 'Service', key, since: meta.creationTimestamp };
      const { namespace, name, uid } = meta;
      const entries = [entry('serviceStatus', { namespace, name, uid, addresses, found })];
      fragments.set(ownerKey(owner), { owner, entries, diagnostics: [] });
    }
    return { fragments };
  },
};

/** Writes each status at once. */
class StatusTable implements TableDriver<ServiceStatus> {
  readonly #port: StatusPort;

  constructor(port: StatusPort) {
    this.#port = port;
  }

  read(expected: ReadonlyMap<string, ServiceStatus>): Promise<ReadonlyMap<string, ServiceStatus>> {
    const there = [...expected].filter(([, { found }]) => found.length > 0);
    return Promise.resolve(new Map(there.map(([key, status]) => [key, { ...status, addresses: status.found }])));
  }

  async apply(changes: readonly Change<ServiceStatus>[], signal: AbortSignal): Promise<ApplyResult> {
    for (const change of changes) {
      const { namespace, name, uid, found } = change.op === 'delete' ? change.from : change.to;
      const addresses = change.op === 'delete' ? [] : change.to.addresses;
      await this.#port.write({ key: change.key, namespace, name, uid, addresses, found }, () => true, signal);
    }
    return { failed: new Map() };
  }

  render(): string {
    return '';
  }
}

interface World {
  readonly daemon: Daemon;
  readonly log: LogLines;
  /** The load-balancer addresses that are served, as `address:port`, sorted. */
  served(): readonly string[];
  /** Resolves as soon as these are served; mocha's timeout is the limit. */
  serves(...addresses: readonly string[]): Promise<void>;
}

/** The daemon on the folder `manifests` below the given one, from its start. */
async function startOn(folder: string): Promise<World> {
  const [clock, log] = [systemClock(), new LogLines()];
  const modules = [servicesModule(servicesOptions()), LOWEST_FREE];
  const manifests = new ManifestSource({ directory: join(folder, 'manifests'), kinds: kindsRead(modules), clock, settleMs: 5 });
  const file = lastingFile(join(folder, 'state', 'load-balancer.json'));
  const source = await openOwnStatuses({ source: manifests, file, clock, log, wallNow });
  const tables = fakeTables();
  let settled = Promise.withResolvers<void>();
  const daemon: Daemon = new Daemon({
    nodeName: 'node-1',
    poolsKey: '',
    modules,
    drivers: { ...tables, serviceStatus: new StatusTable(source) },
    source,
    bgp: undefined,
    host: hostFacts(),
    clock,
    backoff: { delay: () => 500 },
    breathe: () => Promise.resolve(),
    log,
    metrics: new Metrics({ version: 'test', clock, wallNow, status: () => metricsStatus(daemon, 0, clock.now()) }),
    auditPeriodMs: 60_000,
    auditPace: 'adaptive',
    cacheSyncTimeoutMs: 60_000,
    onSettled: () => {
      settled.resolve();
      settled = Promise.withResolvers<void>();
    },
  });
  daemon.start();
  const served = (): readonly string[] =>
    [...tables.virtualServer.state.keys()].flatMap(key => /^TCP (198\.51\.100\..*)$/.exec(key)?.[1] ?? []).sort();
  return {
    daemon,
    log,
    served,
    async serves(...addresses) {
      while (served().join() !== addresses.join()) await settled.promise;
    },
  };
}

function balanced(name: string, port: number): string {
  return `---\napiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {type: LoadBalancer, ports: [{port: ${port}}]}\n`;
}

describe('LoadBalancer Services in a folder of manifests', () => {
  let folder: string;
  const write = (...services: readonly string[]): void => writeFileSync(join(folder, 'manifests/shop.yaml'), services.join(''));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-own-'));
    mkdirSync(join(folder, 'manifests'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('get addresses that are served, keep them through a restart in whatever order they come, and give them back when they go', async () => {
    write(balanced('web', 80), balanced('api', 81));
    const first = await startOn(folder);
    await first.serves('198.51.100.1:80', '198.51.100.2:81');
    await first.daemon.stop();
    assert.deepEqual(readdirSync(join(folder, 'state')), ['load-balancer.json']);

    write(balanced('new', 82), balanced('api', 81), balanced('web', 80));
    const second = await startOn(folder);
    await second.serves('198.51.100.1:80', '198.51.100.2:81', '198.51.100.3:82');
    write(balanced('new', 82), balanced('api', 81));
    await second.serves('198.51.100.2:81', '198.51.100.3:82');
    write(balanced('new', 82), balanced('api', 81), balanced('other', 83));
    await second.serves('198.51.100.1:83', '198.51.100.2:81', '198.51.100.3:82');
    await second.daemon.stop();

    const { services } = JSON.parse(readFileSync(join(folder, 'state/load-balancer.json'), 'utf8')) as { services: object };
    assert.deepEqual(Object.keys(services), ['default/api', 'default/new', 'default/other']);
    assert.deepEqual([...first.log.matching(/^(error|warn)/), ...second.log.matching(/^(error|warn)/)], []);
  });

  it('get addresses where the file of earlier ones is torn, which is kept', async () => {
    write(balanced('web', 80));
    mkdirSync(join(folder, 'state'));
    writeFileSync(join(folder, 'state/load-balancer.json'), '{"serv');
    const world = await startOn(folder);
    await world.serves('198.51.100.1:80');
    await world.daemon.stop();
    assert.equal(readFileSync(join(folder, 'state/load-balancer.json.broken'), 'utf8'), '{"serv');
    assert.match(readFileSync(join(folder, 'state/load-balancer.json'), 'utf8'), /"default\/web"/);
    assert.equal(world.log.matching(/^error .*code=FW_STATE_FILE/).length, 1);
  });

  it('get addresses where no file can be written', async () => {
    write(balanced('web', 80));
    writeFileSync(join(folder, 'state'), 'not a folder');
    const world = await startOn(folder);
    await world.serves('198.51.100.1:80');
    await world.daemon.stop();
    assert.equal(readFileSync(join(folder, 'state'), 'utf8'), 'not a folder');
    assert.equal(world.log.matching(/cannot be written to .*load-balancer\.json/).length, 1);
  });
});
