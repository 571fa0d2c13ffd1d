/**
 * One measurement of planning for routes, in a process of its own so that sizes do not share a heap: `routing-plan-process.ts NODES MODE EVENTS`. The
 * real projector, store, module and tables; drivers that remember nothing. Prints one line of JSON, {@link RoutingPlanFigures}.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { ClusterKinds } from '../daemon/cluster/kinds.ts';
import { NodeViewer } from '../daemon/cluster/node-view.ts';
import { Projector } from '../daemon/cluster/project.ts';
import { type HostFacts, NO_RIB } from '../daemon/cluster/snapshot.ts';
import { Store } from '../daemon/cluster/store.ts';
import { mustParseAddress } from '../daemon/net/address.ts';
import { instantOf } from '../daemon/net/instant.ts';
import { routingModule } from '../modules/routing/module.ts';
import { ALL_CAPABILITIES, hostLinks } from '../test/fixtures/cluster.ts';
import { routingOptions } from '../test/fixtures/routing-options.ts';
import { obedientDrivers, Stopwatch, Written } from './plan-process.ts';
import { benchReconciler } from './reconciler.ts';
import {
  NETWORK_BITS,
  NODE_ADDRESS,
  NODE_EVENTS,
  NODE_NAME,
  type NodeChange,
  type NodeEvent,
  nodeScene,
  routedNode,
} from './routing-cluster.ts';
import type { RoutingMode } from './routing-nodes.ts';

/** Milliseconds of processor time of all threads, and bytes. */
export interface RoutingPlanFigures {
  readonly first: { readonly plan: number; readonly compare: number };
  readonly events: Readonly<Record<NodeEvent, EventPlanFigures>>;
  readonly heapBytes: number;
}

export interface EventPlanFigures {
  /** One figure an event, from its text to the changes for the tools. */
  readonly cpu: readonly number[];
  /** Changes handed to the drivers by all events together, without what takes them back. */
  readonly written: number;
}

const HOST: HostFacts = {
  hostname: NODE_NAME,
  addresses: [{ link: 'eth0', address: mustParseAddress(NODE_ADDRESS), prefixLength: NETWORK_BITS }],
  links: hostLinks('lo', 'eth0', 'kube-bridge'),
  capabilities: ALL_CAPABILITIES,
};
const NOW = instantOf(0);
const WARM_UP_EVENTS = 20;

class Planning {
  readonly #written = new Written();
  readonly #projector = new Projector();
  readonly #store = new Store({
    kinds: ['Service', 'EndpointSlice', 'Node'],
    nodeViewer: new NodeViewer(NODE_NAME),
    onChange: () => undefined,
  });
  readonly #reconciler: ReturnType<typeof benchReconciler>;
  readonly #signal = new AbortController().signal;

  constructor(mode: RoutingMode) {
    const options = routingOptions({ overlay: undefined, cniFile: undefined, podRoutes: mode === 'api' ? 'api' : 'bgp' });
    this.#reconciler = benchReconciler(routingModule(options), obedientDrivers(this.#written));
  }

  async first(nodes: number): Promise<RoutingPlanFigures['first']> {
    const texts = Array.from({ length: nodes }, (_, index) => JSON.stringify(routedNode(index + 1)));
    const [plan, compare] = [new Stopwatch(), new Stopwatch()];
    plan.start();
    this.#store.replace('Service', []);
    this.#store.replace('EndpointSlice', []);
    this.#store.replace(
      'Node',
      texts.map(text => this.#project(text)),
    );
    this.#plan();
    plan.stop();
    compare.start();
    await this.#reconciler.converge(this.#signal);
    compare.stop();
    return { plan: plan.milliseconds, compare: compare.milliseconds };
  }

  async events(what: NodeEvent, nodes: number, count: number): Promise<EventPlanFigures> {
    const cpu: number[] = [];
    let written = 0;
    for (let round = 0; round < count; round++) {
      const { event, back } = nodeScene(what, nodes, round);
      const before = this.#written.changes;
      cpu.push(await this.#happens(event));
      written += this.#written.changes - before;
      await this.#happens(back);
    }
    return { cpu, written };
  }

  /** Milliseconds of processor time. */
  async #happens(change: NodeChange): Promise<number> {
    const text = 'put' in change ? JSON.stringify(change.put) : '';
    const watch = new Stopwatch();
    watch.start();
    if ('put' in change) {
      const { object, complaints } = this.#project(text);
      this.#store.upsert(object, complaints);
    } else this.#store.remove('Node', change.deleted);
    this.#plan();
    await this.#reconciler.converge(this.#signal);
    watch.stop();
    // An event in a running daemon meets a loop that has had time to tidy up.
    await breathe();
    return watch.milliseconds;
  }

  #plan(): void {
    this.#reconciler.plan(this.#store.snapshot(NOW, HOST, NO_RIB));
  }

  #project(text: string): { object: ClusterKinds['Node']; complaints: ReturnType<Projector['project']>['complaints'] } {
    const { object, complaints } = this.#projector.project('Node', JSON.parse(text));
    if (object?.kind !== 'Node') throw new TypeError(`no usable Node: ${complaints.map(({ message }) => message).join('; ')}`);
    return { object, complaints };
  }
}

if (import.meta.main) {
  const [nodes, mode, events] = process.argv.slice(2);
  const planning = new Planning(mode as RoutingMode);
  const first = await planning.first(Number(nodes));
  const figures = new Map<NodeEvent, EventPlanFigures>();
  for (const what of NODE_EVENTS) {
    await planning.events(what, Number(nodes), WARM_UP_EVENTS);
    figures.set(what, await planning.events(what, Number(nodes), Number(events)));
  }
  globalThis.gc?.();
  const { heapUsed } = process.memoryUsage();
  const printed: RoutingPlanFigures = {
    first,
    events: Object.fromEntries(figures) as unknown as RoutingPlanFigures['events'],
    heapBytes: heapUsed,
  };
  process.stdout.write(`${JSON.stringify(printed)}\n`);
}
