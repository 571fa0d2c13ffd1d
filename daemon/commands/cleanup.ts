/** `fairway cleanup`: the same loop with nothing wanted. Everything of ours goes, nothing of anyone else's. */

import { setImmediate as breathe } from 'node:timers/promises';
import { endLeftovers } from '../bgp/leftover.ts';
import { MODULE_NAMES } from '../config/modules.ts';
import type { Predecessor } from '../config/options-commands.ts';
import { KUBE_PROXY } from '../leftovers/kube-proxy.ts';
import { hasLink, runningAs } from '../leftovers/running.ts';
import { systemClock } from '../net/clock.ts';
import { exponentialBackoff } from '../reconcile/backoff.ts';
import type { Failure } from '../reconcile/outcome.ts';
import { type Drivers, type ReconcileObserver, Reconciler } from '../reconcile/reconciler.ts';
import { type IptablesEntry, STAGES } from '../reconcile/tables.ts';
import { NO_BGP } from './bgp-access.ts';
import { openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { withoutKubeRouters, withoutSuccessors } from './ours.ts';
import { requireRoot } from './privilege.ts';
import { RUN_FOLDER } from './run-folder.ts';

/** Exit status 0 when nothing of ours is left, 1 when something could not be removed (named on standard error). */
export async function cleanup({ config, environment, nodeName }: Invocation): Promise<number> {
  requireRoot();
  const signal = new AbortController().signal;
  const clock = systemClock();
  const running = await successors(signal);
  const host = await openHost(
    { config, environment, nodeName, clock, bgp: NO_BGP, sharedSetsOf: MODULE_NAMES, onSpawn: () => undefined },
    signal,
  );
  const observer = new CleanupReport();
  const drivers = withoutSuccessors(await withoutKubeRouters(host.drivers, signal), running);
  const reconciler = new Reconciler({
    modules: [],
    drivers,
    clock,
    backoff: exponentialBackoff(Math.random),
    breathe: () => breathe(),
    observer,
    tables: STAGES,
  });
  // Before the sets: rules of either flavour hold them.
  await sweep(host.otherIptables, observer, signal);
  await host.bgpGate.clear();
  observer.removed('gobgpd', await endLeftovers(RUN_FOLDER, clock, signal));
  await reconciler.converge(signal);
  const left = reconciler.status().flatMap(({ failures }) => failures);
  // What a host has no facility for cannot have been left on it.
  const unread = reconciler
    .status()
    .flatMap(({ unreadable }) => (unreadable === undefined || isAbsent(unreadable) ? [] : [unreadable]));
  for (const { table, key, error } of [...left, ...unread])
    process.stderr.write(`not removed: ${table} ${key}: ${error.message}\n`);
  process.stdout.write(observer.lines.length === 0 ? 'nothing of ours was there\n' : observer.lines.join(''));
  return left.length + unread.length === 0 ? 0 : 1;
}

/** Who has taken over from us on this node already. kube-proxy shares nothing with us but IPVS. */
async function successors(signal: AbortSignal): Promise<ReadonlySet<Predecessor>> {
  const running = new Set<Predecessor>();
  if ((await runningAs('kube-router', signal)) !== undefined) running.add('kube-router');
  if ((await hasLink(KUBE_PROXY.dummy)) && (await runningAs('kube-proxy', signal)) !== undefined) running.add('kube-proxy');
  return running;
}

/** Deletes all that the driver finds. A flavour that is not installed or not in the kernel holds nothing of ours. */
async function sweep(driver: Drivers['iptables'], observer: CleanupReport, signal: AbortSignal): Promise<void> {
  const found = await driver.read(new Map(), signal).catch(() => new Map<string, IptablesEntry>());
  if (found.size === 0) return;
  const deletes = [...found].map(([key, from]) => ({ op: 'delete' as const, key, from }));
  const { failed } = await driver.apply(deletes, signal);
  observer.removed('iptables of the other flavour', found.size - failed.size);
}

function isAbsent({ error }: Failure): boolean {
  return ['FW_CAPABILITY_KERNEL', 'FW_CAPABILITY_TOOL_MISSING', 'FW_BGP_UNREACHABLE'].includes(error.code);
}

class CleanupReport implements ReconcileObserver {
  readonly lines: string[] = [];

  applied({ table, deletes }: Parameters<ReconcileObserver['applied']>[0]): void {
    this.removed(table, deletes);
  }

  removed(what: string, count: number): void {
    if (count > 0) this.lines.push(`removed ${count} of ${what}\n`);
  }

  planned(): void {
    // Nothing is planned: nothing is wanted.
  }

  planFailed(): void {
    // There is no module that could.
  }

  drifted(): void {
    // Everything is read once.
  }

  unreadable(): void {
    // Told at the end, from the status.
  }
}
