/** `fairway check`: which tools and kernel facilities this host has, with a remedy for each that it lacks. */

import { systemClock } from '../net/clock.ts';
import { NO_BGP } from './bgp-access.ts';
import { openHost } from './host.ts';
import type { Invocation } from './invocation.ts';

/** Exit status 0 when nothing is missing, 1 when something is. */
export async function check({ config, environment, nodeName }: Invocation): Promise<number> {
  const {
    abilities: { probe },
  } = await openHost(
    { config, environment, nodeName, clock: systemClock(), bgp: NO_BGP, sharedSetsOf: [], onSpawn: () => undefined },
    new AbortController().signal,
  );
  for (const { ok, facility, remark } of probe.reports)
    process.stdout.write(`${ok ? 'ok     ' : 'missing'} ${facility}: ${remark}\n`);
  return probe.reports.every(({ ok }) => ok) ? 0 : 1;
}
