/**
 * Takes away what a predecessor left on this node, and nothing else. Safe while our daemon runs and packets flow: what is established goes on, since
 * conntrack keeps the translation of a flow without the rule that made it, and IPVS its connections; what is new meets ours, which is there already.
 */
import type { Predecessor } from '../config/options-commands.ts';
import { procLines } from '../kernel/text-lines.ts';
import type { Clock } from '../net/clock.ts';
import { sweepIptables } from './iptables-sweep.ts';
import { sweepIpvs } from './ipvs-sweep.ts';
import { KUBE_PROXY } from './kube-proxy.ts';
import { isSharedSetOfTheirs, KUBE_ROUTER } from './kube-router.ts';
import { sweepRouting } from './routing-sweep.ts';
import { kubeRoutersMarks, sweepRules } from './rule-sweep.ts';
import { sweepNftTables, sweepSets } from './set-sweep.ts';
import { type Ground, Swept } from './sweeping.ts';
import type { Traces } from './traces.ts';

export const TRACES: Readonly<Record<Predecessor, Traces>> = { 'kube-router': KUBE_ROUTER, 'kube-proxy': KUBE_PROXY };

const NO_MARKS: ReadonlySet<number> = new Set();

/** Does not ask whether they still run. Rejects where a tool cannot be asked at all. */
export async function sweep(ground: Ground, clock: Clock, of: Predecessor, signal: AbortSignal): Promise<Swept> {
  const traces = TRACES[of];
  const isKubeRouter = of === 'kube-router';
  const swept = new Swept();
  const marks = isKubeRouter ? await kubeRoutersMarks(ground.runner, signal) : NO_MARKS;
  // Rules first: from here on nothing new comes to what they lead to, and nothing holds the sets.
  const ours = await sweepIptables(ground, traces, marks, swept, signal);
  await sweepNftTables(ground, traces, swept, signal);
  const readLines = procLines(() => clock.now());
  const used = await sweepIpvs({ ground, traces, ours, marks, readLines }, swept, signal);
  await sweepSets(ground, name => traces.isSet(name) || (isKubeRouter && isSharedSetOfTheirs(name, ours)), swept, signal);
  if (!isKubeRouter) return swept;
  await sweepRules(ground, used, swept, signal);
  if (!ours.routing) await sweepRouting(ground, swept, signal);
  return swept;
}
