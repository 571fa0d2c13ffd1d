/**
 * One measurement of planning load-balancer addresses, in a process of its own so that sizes do not share a heap: `balancer-plan-process.ts SERVICES`.
 * The real projector, store, module and claims; nothing is written. Prints one line of JSON, {@link BalancerPlanFigures}.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { NodeViewer } from '../daemon/cluster/node-view.ts';
import { Projector } from '../daemon/cluster/project.ts';
import type { HostFacts } from '../daemon/cluster/snapshot.ts';
import { Store } from '../daemon/cluster/store.ts';
import { mustParseAddress } from '../daemon/net/address.ts';
import { instantOf } from '../daemon/net/instant.ts';
import { lbAllocatorModule } from '../modules/lb-allocator/module.ts';
import { mustParseRange } from '../test/fixtures/address-pools.ts';
import { ALL_CAPABILITIES, hostLinks } from '../test/fixtures/cluster.ts';
import { lbAllocatorOptions, leading } from '../test/fixtures/lb-allocation.ts';
import { addressedObject, balancerObject, balancerRange } from './balancer-cluster.ts';
import { type ApiObject, clusterIp, nodeObject, serviceName, serviceObject } from './cluster.ts';
import { obedientDrivers, Stopwatch, Written } from './plan-process.ts';
import { benchReconciler } from './reconciler.ts';

/** Milliseconds of processor time of all threads, and bytes. */
export interface BalancerPlanFigures {
  readonly services: number;
  readonly first: number;
  /** All come back with their addresses at once: planning alone. */
  readonly allBack: number;
  /** One more Service that asks: event to plan. */
  readonly oneMore: readonly number[];
  /** A Service comes back with its address. */
  readonly echo: readonly number[];
  /** Of one Service in the store, by what it asks for. */
  readonly heap: { readonly clusterIP: number; readonly waiting: number; readonly addressed: number };
}

const HOST: HostFacts = {
  hostname: 'node1',
  addresses: [{ link: 'eth0', address: mustParseAddress('192.168.1.11'), prefixLength: 24 }],
  links: hostLinks('lo', 'eth0'),
  capabilities: ALL_CAPABILITIES,
};
const EVENTS = 100;

/** As the texts come from the API server. */
function fill(store: Store, objects: Iterable<ApiObject>): void {
  const projector = new Projector();
  for (const raw of objects) {
    const { object, complaints } = projector.project('Service', JSON.parse(JSON.stringify(raw)));
    if (object === undefined) throw new TypeError(complaints.map(({ message }) => message).join('; '));
    store.upsert(object, complaints);
  }
}

function newStore(): Store {
  const store = new Store({ kinds: ['Service', 'Node'], nodeViewer: new NodeViewer('node1'), onChange: () => undefined });
  const { object, complaints } = new Projector().project('Node', nodeObject(1, '192.168.1.11'));
  if (object !== undefined) store.replace('Node', [{ object, complaints }]);
  return store;
}

/** What one Service of many takes, collected. */
function heapOf(services: number, make: (service: number) => ApiObject): number {
  const store = newStore();
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  fill(store, numbered(services, make));
  store.services();
  globalThis.gc?.();
  return (process.memoryUsage().heapUsed - before) / store.size('Service');
}

function* numbered(services: number, make: (service: number) => ApiObject): Generator<ApiObject, void> {
  for (let service = 0; service < services; service++) yield make(service);
}

async function measure(services: number): Promise<BalancerPlanFigures> {
  const heap = {
    clusterIP: heapOf(services, service => serviceObject(serviceName(service), clusterIp(service))),
    waiting: heapOf(services, balancerObject),
    addressed: heapOf(services, addressedObject),
  };
  const store = newStore();
  fill(store, numbered(services, balancerObject));
  const options = lbAllocatorOptions({ flagRanges: [mustParseRange(balancerRange(services + EVENTS))] });
  const reconciler = benchReconciler(lbAllocatorModule(options), obedientDrivers(new Written()));
  const planned = (): void => reconciler.plan(store.snapshot(instantOf(0), HOST, undefined, { allocation: leading() }));
  const timed = (act: () => void): number => {
    const watch = new Stopwatch();
    watch.start();
    act();
    watch.stop();
    return watch.milliseconds;
  };
  const first = timed(planned);
  // What was given out comes back with the Services themselves; from then on one event at a time.
  fill(store, numbered(services, addressedObject));
  const allBack = timed(planned);
  const [oneMore, echo]: [number[], number[]] = [[], []];
  for (let event = 0; event < EVENTS; event++) {
    const [asks, has] = [balancerObject(services + event), addressedObject(services + event)];
    for (const [object, times] of [
      [asks, oneMore],
      [has, echo],
    ] as const) {
      times.push(
        timed(() => {
          fill(store, [object]);
          planned();
        }),
      );
      // An event in a running daemon meets a loop that has had time to tidy up.
      await breathe();
    }
  }
  return { services, first, allBack, oneMore, echo, heap };
}

const [services = 1000] = process.argv.slice(2).map(Number);
process.stdout.write(`${JSON.stringify(await measure(services))}\n`);
