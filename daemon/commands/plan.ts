/** `fairway plan`: what would be changed on this host now, as the scripts that would do it. Changes nothing. */

import { setImmediate as breathe } from 'node:timers/promises';
import { NodeViewer } from '../cluster/node-view.ts';
import { Store } from '../cluster/store.ts';
import { kindsRead } from '../daemon.ts';
import { FairwayError } from '../errors.ts';
import { type Clock, systemClock } from '../net/clock.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import { type ReconcileObserver, Reconciler } from '../reconcile/reconciler.ts';
import { followHost, openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { enabledModules } from './modules.ts';
import { openSource, UNOBSERVED } from './source.ts';

/** Exit status 0 when nothing would change, 2 when something would. */
const NOTHING_TO_DO = 0;
const CHANGES_PENDING = 2;

export async function plan(invocation: Invocation): Promise<number> {
  const { config, environment, nodeName } = invocation;
  const clock = systemClock();
  const signal = new AbortController().signal;
  const modules = await enabledModules(invocation);
  const kinds = kindsRead(modules);
  const source = await openSource({ config, environment, kinds, clock, observer: UNOBSERVED });
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
  const hooks = { clock, onChange: () => undefined, onDisturbance: () => undefined, onTrouble: () => undefined };
  const follower = await followHost(host, hooks, signal);
  source.start(store);
  try {
    await arrived.wait(
      () => store.isSynced(),
      () => missing(store),
    );
    const observer = new PlanReport();
    const { drivers } = host;
    const reconciler = new Reconciler({
      modules,
      drivers,
      clock,
      backoff: exponentialBackoff(Math.random),
      breathe: () => breathe(),
      observer,
    });
    reconciler.plan(store.snapshot(clock.now(), follower.facts, bgp.rib));
    await reconciler.refresh(signal);
    for (const { message } of store.complaints()) process.stderr.write(`${message}\n`);
    for (const { message } of reconciler.diagnostics()) process.stderr.write(`${message}\n`);
    const scripts = reconciler.pending();
    for (const [table, script] of scripts) process.stdout.write(`# ${table}\n${script.endsWith('\n') ? script : `${script}\n`}`);
    return scripts.size === 0 ? NOTHING_TO_DO : CHANGES_PENDING;
  } finally {
    await Promise.all([source.stop(), follower.stop()]);
    bgp.close();
  }
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

class PlanReport implements ReconcileObserver {
  unreadable({ table, error }: Parameters<ReconcileObserver['unreadable']>[0]): void {
    // Where nobody speaks BGP yet, all of it is still to be made.
    if (error.code === 'FW_BGP_UNREACHABLE') return;
    process.stderr.write(`${table} cannot be read: ${error.message}\n`);
  }

  planFailed(_module: string, error: FairwayError): void {
    process.stderr.write(`${error.message}\n`);
  }

  planned(): void {
    // The scripts say what was planned.
  }

  applied(): void {
    // Nothing is applied.
  }

  drifted(): void {
    // Everything is read once.
  }
}
