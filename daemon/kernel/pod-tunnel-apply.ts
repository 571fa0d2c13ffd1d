/** Bringing about one change in one pod's namespace, and judging it by what is there then. */
import { FairwayError } from '../errors.ts';
import type { Change } from '../reconcile/driver.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch } from './ip-batch.ts';
import { loadModules } from './kernel-modules.ts';
import { isStillThere, type PodNamespace, runnerWithin } from './pod-namespace.ts';
import { filtersFor, isInForce, linesFor, type PodVips, podOf } from './pod-tunnel-lines.ts';
import { lookInto, type PodState, tunnelNameOf, tunnelTypeOf } from './pod-tunnel-state.ts';

export interface PodTask {
  readonly change: Change<PodVips>;
  readonly namespace: PodNamespace;
  /** As it is now. */
  readonly state: PodState;
  /** rp_filter as it was before us, where not 0. */
  readonly rpFilter: Readonly<Record<string, number>>;
}

const MODULE = { ipip: 'ipip', ip6tnl: 'ip6_tunnel' } as const;

/** Throws a FairwayError where the pod is not as asked afterwards. A pod that goes meanwhile has nothing to be deleted. */
export async function bringAbout(runner: CommandRunner, task: PodTask, signal: AbortSignal): Promise<void> {
  try {
    await changeLink(runner, task, signal);
    await changeFilters(runner, task, signal);
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof FairwayError) || (await isStillThere(task.namespace))) throw thrown;
    if (task.change.op === 'delete') return;
    throw new FairwayError('FW_COMMAND_FAILED', `pod ${podOf(task.change)} ended while its tunnel was made: ${thrown.message}`);
  }
}

async function changeLink(runner: CommandRunner, { change, namespace, state }: PodTask, signal: AbortSignal): Promise<void> {
  const pod = podOf(change);
  if (state.tunnel === 'foreign' && change.op !== 'delete') {
    const message = `pod ${pod} has a link '${tunnelNameOf(pod)}' of another type than ${tunnelTypeOf(pod)}: rename or delete it`;
    throw new FairwayError('FW_COMMAND_REFUSED', message);
  }
  const attempt = async (from: PodState): Promise<FairwayError | undefined> => {
    const lines = linesFor(from, change);
    if (lines.length === 0) return undefined;
    const read = async (): Promise<ReadonlyMap<string, PodState>> =>
      new Map([[change.key, await lookInto(runner, namespace, pod, signal)]]);
    const isDone = (_: Change<PodVips>, found: ReadonlyMap<string, PodState>): boolean => {
      const after = found.get(change.key);
      return after !== undefined && isInForce(after, change);
    };
    const batch = { runner: runnerWithin(runner, namespace), linesOf: () => lines, nameOf, remedyOf, isDone, read };
    return (await applyBatch<PodVips, PodState>(batch, [change], signal)).failed.get(change.key);
  };
  const first = await attempt(state);
  if (first === undefined) return;
  if (!lacksModule(first.message)) throw first;
  // The kernel asks for it itself, but for its own files' sake only where the daemon's are the host's.
  await loadModules(runner, [MODULE[tunnelTypeOf(pod)]], signal);
  const second = await attempt(await lookInto(runner, namespace, pod, signal));
  if (second !== undefined) throw second;
}

async function changeFilters(
  runner: CommandRunner,
  { change, namespace, state, rpFilter }: PodTask,
  signal: AbortSignal,
): Promise<void> {
  const due = filtersFor(state, change, rpFilter);
  if (due.length === 0) return;
  const argv = ['sysctl', '-q', '-w', ...due] as const;
  const { status, stderr } = await runnerWithin(runner, namespace).run({ argv }, signal);
  if (status === 0) return;
  const pod = podOf(change);
  const left = filtersFor(await lookInto(runner, namespace, pod, signal), change, rpFilter);
  if (left.length === 0) return;
  const said = stderr.trim().split('\n').join('; ');
  // sysctl(8) of procps says `permission denied` of a read-only file system, too.
  const remedy = /read-only|permission denied/i.test(said)
    ? ' (/proc/sys is read-only for Fairway: run it as root, in a privileged container)'
    : '';
  throw new FairwayError('FW_COMMAND_REFUSED', `in pod ${pod} 'sysctl -w ${left.join(' ')}' was refused: ${said}${remedy}`);
}

function nameOf({ pod }: PodVips): string {
  return `link '${tunnelNameOf(pod)}' in pod ${pod}`;
}

function lacksModule(said: string): boolean {
  return /Unknown device type|not supported/.test(said);
}

function remedyOf({ pod }: PodVips, reason: string): string | undefined {
  if (lacksModule(reason)) return `the kernel lacks the ${MODULE[tunnelTypeOf(pod)]} module`;
  if (reason === 'File exists') return `the pod has another tunnel from ${pod}, which takes in what is meant for ours: delete it`;
  return undefined;
}
