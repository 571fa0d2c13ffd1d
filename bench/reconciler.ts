/** The daemon's reconciler with nobody to report to. */
import { setImmediate as breathe } from 'node:timers/promises';
import { systemClock } from '../daemon/net/clock.ts';
import type { Module } from '../daemon/reconcile/module.ts';
import { type Drivers, Reconciler } from '../daemon/reconcile/reconciler.ts';

/** A plan that fails is thrown: what it would have cost is not what is measured. */
export function benchReconciler(module: Module, drivers: Drivers): Reconciler {
  const nothing = (): void => undefined;
  return new Reconciler({
    modules: [module],
    drivers,
    clock: systemClock(),
    backoff: { delay: () => 1000 },
    breathe: () => breathe(),
    observer: {
      planned: nothing,
      planFailed: (_module, error) => {
        throw error;
      },
      applied: nothing,
      drifted: nothing,
      unreadable: nothing,
    },
  });
}
