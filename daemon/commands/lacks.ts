/** What the host lacks of what the enabled modules need, room in its table of flows included: told, and looked for while the daemon runs. */
import { readFile } from 'node:fs/promises';
import { messageOf } from '../errors.ts';
import type { FacilityReport } from '../kernel/capabilities.ts';
import { watchFlowTable } from '../kernel/flow-table.ts';
import { watchLacks } from '../kernel/host-abilities.ts';
import type { Clock } from '../net/clock.ts';
import type { Log } from '../observe/log.ts';
import type { Module } from '../reconcile/module.ts';
import type { Host } from './host.ts';

export interface LacksOptions {
  readonly host: Host;
  readonly modules: readonly Module[];
  readonly clock: Clock;
  readonly log: Log;
  /** The host can do more than before. */
  readonly onFound: () => void;
}

export function tellLacks({ host, modules, log }: Pick<LacksOptions, 'host' | 'modules' | 'log'>): void {
  for (const { facility, remark } of lacksOf(host, modules)) log.warn(`${facility}: ${remark}`, { code: 'FW_CAPABILITY_KERNEL' });
}

/** Returns at once; ends when the signal aborts. */
export function lookForLacks({ host, modules, clock, log, onFound }: LacksOptions, signal: AbortSignal): void {
  const look = async (): Promise<void> => {
    const found = await host.lookAgain(signal);
    for (const { facility, remark } of found) log.info(`there is now what was lacking: ${facility}: ${remark}`);
    if (found.length > 0) onFound();
  };
  const isLacking = (): boolean => lacksOf(host, modules).length > 0;
  watchLacks({ clock, isLacking, look }, signal).catch((thrown: unknown) => {
    if (!signal.aborted) log.error(`what the host lacks is not looked for any more: ${messageOf(thrown)}`);
  });
}

/** Until the signal aborts. */
export function tellFullFlowTable({ clock, log }: Pick<LacksOptions, 'clock' | 'log'>, signal: AbortSignal): void {
  const remedy =
    'when it is full the kernel drops new flows of the whole node: raise the sysctl net.netfilter.nf_conntrack_max, or find who holds so many (conntrack -L)';
  const stop = watchFlowTable({
    clock,
    readFile: path => readFile(path, 'utf8'),
    onChange: shown => {
      if (shown === undefined) log.info('well again: the table of flows (nf_conntrack) has room');
      else log.warn(`the table of flows (nf_conntrack) is nearly full, ${shown}: ${remedy}`, { code: 'FW_HOST_CAPABILITY' });
    },
  });
  signal.addEventListener('abort', stop, { once: true });
}

function lacksOf({ abilities }: Host, modules: readonly Module[]): readonly FacilityReport[] {
  return abilities.probe.reports.filter(({ ok, neededBy }) => !ok && modules.some(({ name }) => neededBy.includes(name)));
}
