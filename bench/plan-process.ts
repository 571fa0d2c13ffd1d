/**
 * One measurement of planning, in a process of its own so that sizes do not share a heap: `plan-process.ts SERVICES EVENTS`. The real
 * projector, store, module and tables; drivers that remember nothing. Prints one line of JSON, {@link PlanFigures}.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { ClusterKinds, Complaint, Kind } from '../daemon/cluster/kinds.ts';
import { NodeViewer } from '../daemon/cluster/node-view.ts';
import { Projector } from '../daemon/cluster/project.ts';
import type { HostFacts } from '../daemon/cluster/snapshot.ts';
import { Store } from '../daemon/cluster/store.ts';
import { mustParseAddress } from '../daemon/net/address.ts';
import { instantOf } from '../daemon/net/instant.ts';
import type { TableDriver } from '../daemon/reconcile/driver.ts';
import type { Drivers } from '../daemon/reconcile/reconciler.ts';
import { servicesModule } from '../modules/services/module.ts';
import { ALL_CAPABILITIES, hostLinks } from '../test/fixtures/cluster.ts';
import { servicesOptions } from '../test/fixtures/services-options.ts';
import { type ApiObject, clusterObjects, nodeObject, sliceOf } from './cluster.ts';
import { benchReconciler } from './reconciler.ts';

/** Milliseconds of processor time of all threads, and bytes. */
export interface PlanFigures {
  readonly services: number;
  readonly firstList: { readonly projection: number; readonly store: number; readonly plan: number; readonly compare: number };
  /** One figure an event: up to the plan, and on to the script's changes. */
  readonly events: readonly { readonly plan: number; readonly round: number }[];
  /** Changes handed to the drivers by all events together. */
  readonly written: number;
  readonly heapBytes: number;
  readonly residentBytes: number;
}

const HOST: HostFacts = {
  hostname: 'node1',
  addresses: [{ link: 'eth0', address: mustParseAddress('192.168.1.11'), prefixLength: 24 }],
  links: hostLinks('lo', 'eth0', 'kube-bridge'),
  capabilities: ALL_CAPABILITIES,
};

export class Written {
  changes = 0;
}

/** A tool that does what it is told at no cost. */
function obedient<T>(written: Written): TableDriver<T> {
  return {
    read: expected => Promise.resolve(new Map(expected)),
    apply: changes => {
      written.changes += changes.length;
      return Promise.resolve({ failed: new Map() });
    },
    render: () => '',
  };
}

export function obedientDrivers(written: Written): Drivers {
  return {
    sysctl: obedient(written),
    link: obedient(written),
    address: obedient(written),
    route: obedient(written),
    ipset: obedient(written),
    iptables: obedient(written),
    virtualServer: obedient(written),
    fouPort: obedient(written),
    bridgePort: obedient(written),
    markDelivery: obedient(written),
    podTunnel: obedient(written),
    healthPort: obedient(written),
    unicastRoute: obedient(written),
    rule: obedient(written),
    cniConfig: obedient(written),
    bgpServer: obedient(written),
    bgpPolicy: obedient(written),
    bgpPath: obedient(written),
    bgpPeer: obedient(written),
    lanAddress: obedient(written),
    serviceStatus: obedient(written),
  };
}

/** Adds up processor time. */
export class Stopwatch {
  milliseconds = 0;
  #since: NodeJS.CpuUsage | undefined;

  start(): void {
    this.#since = process.cpuUsage();
  }

  stop(): void {
    const { user, system } = process.cpuUsage(this.#since);
    this.milliseconds += (user + system) / 1000;
  }
}

type ReadKind = 'Service' | 'EndpointSlice' | 'Node';
type Listed<K extends Kind> = { object: ClusterKinds[K]; complaints: readonly Complaint[] }[];

/** What a reflector collects of the first lists: texts in, projections out. */
function project(objects: Iterable<ApiObject>, projector: Projector, watch: Stopwatch) {
  const lists: { readonly [K in ReadKind]: Listed<K> } = { Service: [], EndpointSlice: [], Node: [] };
  const take = (kind: ReadKind, raw: unknown): void => {
    const { object, complaints } = projector.project(kind, raw);
    switch (object?.kind) {
      case undefined:
        throw new TypeError(`the bench makes no usable ${kind}: ${complaints.map(({ message }) => message).join('; ')}`);
      case 'Service':
        lists.Service.push({ object, complaints });
        break;
      case 'EndpointSlice':
        lists.EndpointSlice.push({ object, complaints });
        break;
      case 'Node':
        lists.Node.push({ object, complaints });
        break;
    }
  };
  let batch: { kind: ReadKind; text: string }[] = [];
  const flush = (): void => {
    watch.start();
    for (const { kind, text } of batch) take(kind, JSON.parse(text));
    watch.stop();
    batch = [];
  };
  for (const object of objects) {
    batch.push({ kind: kindOf(object.kind), text: JSON.stringify(object) });
    if (batch.length === 500) flush();
  }
  flush();
  return lists;
}

/** In a function of its own, so that the lists are garbage afterwards. */
function fill(store: Store, lists: ReturnType<typeof project>, watch: Stopwatch): void {
  watch.start();
  store.replace('Service', lists.Service);
  store.replace('EndpointSlice', lists.EndpointSlice);
  watch.stop();
}

function kindOf(kind: string): ReadKind {
  if (kind === 'Service' || kind === 'EndpointSlice' || kind === 'Node') return kind;
  throw new TypeError(`no kind ${kind}`);
}

async function measure(services: number, eventCount: number): Promise<PlanFigures> {
  const written = new Written();
  const projector = new Projector();
  const store = new Store({
    kinds: ['Service', 'EndpointSlice', 'Node'],
    nodeViewer: new NodeViewer('node1'),
    onChange: () => undefined,
  });
  const reconciler = benchReconciler(servicesModule(servicesOptions()), obedientDrivers(written));
  const { signal } = new AbortController();
  const now = instantOf(0);
  const watches = { projection: new Stopwatch(), store: new Stopwatch(), plan: new Stopwatch(), compare: new Stopwatch() };

  const nodes = [1, 2, 3].map(number => nodeObject(number, `192.168.1.1${number}`));
  store.replace('Node', project(nodes, projector, watches.projection).Node);
  fill(store, project(clusterObjects(services), projector, watches.projection), watches.store);
  watches.plan.start();
  reconciler.plan(store.snapshot(now, HOST));
  watches.plan.stop();
  watches.compare.start();
  await reconciler.converge(signal);
  watches.compare.stop();

  written.changes = 0;
  const events: { plan: number; round: number }[] = [];
  for (let event = 1; event <= eventCount; event++) {
    const text = JSON.stringify(sliceOf((event * 7919) % services, event));
    const watch = new Stopwatch();
    watch.start();
    const { object, complaints } = projector.project('EndpointSlice', JSON.parse(text));
    if (object !== undefined) store.upsert(object, complaints);
    reconciler.plan(store.snapshot(now, HOST));
    watch.stop();
    const plan = watch.milliseconds;
    watch.start();
    await reconciler.converge(signal);
    watch.stop();
    events.push({ plan, round: watch.milliseconds });
    // An event in a running daemon meets a loop that has had time to tidy up.
    await breathe();
  }
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  const [projection, stored, plan, compare] = [watches.projection, watches.store, watches.plan, watches.compare].map(
    watch => watch.milliseconds,
  );
  return {
    services,
    firstList: { projection: projection ?? 0, store: stored ?? 0, plan: plan ?? 0, compare: compare ?? 0 },
    events,
    written: written.changes,
    heapBytes: heapUsed,
    residentBytes: rss,
  };
}

if (import.meta.main) {
  const [services, events] = process.argv.slice(2).map(Number);
  const figures = await measure(services ?? 1000, events ?? 200);
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}
