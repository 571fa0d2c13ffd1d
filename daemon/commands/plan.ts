/** `fairway plan`: what would be changed on this host now, and by whose wish. Changes nothing. */
import { readFile } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import { NodeViewer } from '../cluster/node-view.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import { Store } from '../cluster/store.ts';
import { asksDaemon } from '../config/commands.ts';
import { defaultConfig } from '../config/parse.ts';
import { FairwayError } from '../errors.ts';
import { type Clock, systemClock } from '../net/clock.ts';
import { createLog } from '../observe/log.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import type { TableDriver } from '../reconcile/driver.ts';
import { kindsRead } from '../reconcile/module.ts';
import { type Drivers, type ReconcileObserver, Reconciler } from '../reconcile/reconciler.ts';
import { STAGES } from '../reconcile/tables.ts';
import type { TableChanges } from '../reconcile/view.ts';
import { storeDiagnostics } from '../store-diagnostics.ts';
import { lookAtAllocation } from './allocation.ts';
import { readBundle } from './bundle.ts';
import { ask, controlSocketOf, textOf } from './control.ts';
import { followHost, openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { enabledModules } from './modules.ts';
import { planOutput } from './plan-text.ts';
import { openCluster, UNOBSERVED } from './source.ts';

/** What would be done, and what is wrong with objects or could not be planned. */
export interface Planned {
  readonly tables: readonly TableChanges[];
  readonly complaints: readonly string[];
}

const NOTHING_TO_DO = 0;
const UNREADABLE = 1;
const CHANGES_PENDING = 2;

/**
 * Of the running daemon where no flag says what else is meant; of a snapshot; else of a daemon with these flags. Exit status 0 when nothing would
 * change, 2 when something would, 1 when something could not be read.
 */
export async function plan(invocation: Invocation): Promise<number> {
  const { tables, complaints } = await planned(invocation);
  const unreadable = tables.flatMap(({ table, unreadable: error }) => {
    // Where nobody speaks BGP yet, all of it is still to be made, and is in the plan.
    return error === undefined || error.code === 'FW_BGP_UNREACHABLE' ? [] : [`${table} cannot be read: ${error.message}`];
  });
  for (const line of [...complaints, ...unreadable]) process.stderr.write(`${line}\n`);
  process.stdout.write(planOutput(tables, invocation.config.output));
  if (tables.some(({ changes }) => changes.length > 0)) return CHANGES_PENDING;
  return unreadable.length > 0 ? UNREADABLE : NOTHING_TO_DO;
}

async function planned(invocation: Invocation): Promise<Planned> {
  const { config, nodeName, explicit } = invocation;
  if (config.snapshot !== '') return plannedOfBundle(invocation);
  if (asksDaemon(explicit)) {
    const answer = await ask(controlSocketOf(config, nodeName), '/plan');
    return JSON.parse(await textOf(answer)) as Planned;
  }
  return plannedAnew(invocation);
}

/** With the flags that the daemon had, on what it knew. */
async function plannedOfBundle(invocation: Invocation): Promise<Planned> {
  const { config, environment } = invocation;
  if (config.output === 'script')
    throw new FairwayError('FW_CONFIG_INVALID', '--output=script needs the host itself: with --snapshot use text or json');
  const bundle = readBundle(await readFile(config.snapshot), config.snapshot);
  const modules = await enabledModules({
    ...invocation,
    // Options of this version that the other had not yet.
    config: { ...defaultConfig(environment), ...bundle.config },
    explicit: new Set(bundle.explicit) as Invocation['explicit'],
  });
  const observer = new PlanReport();
  const reconciler = reconcilerOf({ modules, drivers: recordedDrivers(bundle.tables), clock: systemClock(), observer });
  reconciler.plan(bundle.snapshot);
  const tables = await reconciler.examine(new AbortController().signal);
  return { tables, complaints: [...observer.complaints, ...reconciler.diagnostics().map(({ message }) => message)] };
}

/** Tables that can only be looked at. */
function recordedDrivers(tables: ReadonlyMap<string, ReadonlyMap<string, unknown>>): Drivers {
  const recorded = (name: string): TableDriver<never> => ({
    read: () => Promise.resolve((tables.get(name) ?? new Map<string, unknown>()) as ReadonlyMap<string, never>),
    apply: () => Promise.reject(new TypeError('a snapshot cannot be changed')),
    render: () => '',
  });
  return Object.fromEntries(STAGES.map(name => [name, recorded(name)])) as unknown as Drivers;
}

async function plannedAnew(invocation: Invocation): Promise<Planned> {
  const { config, environment, nodeName } = invocation;
  const clock = systemClock();
  const signal = new AbortController().signal;
  const modules = await enabledModules(invocation);
  const kinds = kindsRead(modules);
  const cluster = await openCluster({
    config,
    environment,
    kinds,
    clock,
    observer: UNOBSERVED,
    onRemark: message => process.stderr.write(`${message}\n`),
  });
  const { lookAtBgp } = await import('./bgp.ts');
  const bgp = await lookAtBgp(config, nodeName, clock, signal);
  const host = await openHost(
    {
      config,
      environment,
      nodeName,
      clock,
      bgp: bgp.access,
      sharedSetsOf: modules.map(({ name }) => name),
      onSpawn: () => undefined,
    },
    signal,
  );
  const arrived = new Arrivals(clock, config.cacheSyncTimeout);
  const store = new Store({
    kinds,
    nodeViewer: new NodeViewer(nodeName),
    onChange: () => {
      arrived.look();
    },
  });
  const log = createLog({ verbosity: 0, format: config.logFormat, descriptor: 2 });
  const services = (): Snapshot['services'] => store.services();
  const { source, serviceStatus, allocation } = await lookAtAllocation({ invocation, cluster, clock, log, services });
  const hooks = { clock, onChange: () => undefined, onDisturbance: () => undefined, onTrouble: () => undefined };
  const follower = await followHost(host, hooks, signal);
  source.start(store);
  try {
    await arrived.wait(
      () => store.isSynced(),
      () => missing(store),
    );
    const observer = new PlanReport();
    const reconciler = reconcilerOf({ modules, drivers: { ...host.drivers, serviceStatus }, clock, observer });
    reconciler.plan(store.snapshot(clock.now(), follower.facts, bgp.rib, { allocation }));
    const tables = await reconciler.examine(signal);
    const facts = { store, nodeName, host: follower.facts, poolsKey: config.loadbalancerPools };
    const wrong = [...storeDiagnostics(facts), ...reconciler.diagnostics()].map(({ message }) => message);
    // A broken file is one trouble of all kinds.
    const degraded = new Set(store.degradations().values());
    return { tables, complaints: [...degraded, ...observer.complaints, ...wrong] };
  } finally {
    await Promise.all([source.stop(), follower.stop()]);
    bgp.close();
  }
}

function reconcilerOf(
  parts: Pick<ConstructorParameters<typeof Reconciler>[0], 'modules' | 'drivers' | 'clock' | 'observer'>,
): Reconciler {
  return new Reconciler({ ...parts, backoff: exponentialBackoff(Math.random), breathe: () => breathe() });
}

function missing(store: Store): string {
  const reasons = [...store.degradations()].map(([kind, reason]) => `${kind}: ${reason}`);
  return `still waiting for ${store.unlisted().join(', ')}${reasons.length === 0 ? '' : ` (${reasons.join('; ')})`}`;
}

/** Waits for something that events bring about. */
class Arrivals {
  readonly #clock: Clock;
  readonly #limitMs: number;
  #look: () => void = () => undefined;

  constructor(clock: Clock, limitMs: number) {
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  look(): void {
    this.#look();
  }

  wait(isThere: () => boolean, complaint: () => string): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(this.#limitMs, () => {
        reject(new FairwayError('FW_API_UNREACHABLE', complaint()));
      });
      this.#look = () => {
        if (!isThere()) return;
        cancel();
        resolve();
      };
      this.#look();
    });
  }
}

/** Only planning can fail: nothing is read into belief, nothing applied. */
class PlanReport implements ReconcileObserver {
  readonly complaints: string[] = [];

  planFailed(_module: string, error: FairwayError): void {
    this.complaints.push(error.message);
  }

  unreadable(): void {
    // Told by the examination.
  }

  planned(): void {
    // The changes say what was planned.
  }

  applied(): void {
    // Nothing is applied.
  }

  drifted(): void {
    // Nothing is believed yet.
  }
}
