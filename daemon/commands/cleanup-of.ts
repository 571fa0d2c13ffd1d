/** `fairway cleanup --of`: what a predecessor left on this node, and nothing of ours. */
import { processRunner } from '../kernel/process-runner.ts';
import { runningAs } from '../leftovers/running.ts';
import { sweep } from '../leftovers/sweep.ts';
import { systemClock } from '../net/clock.ts';
import type { Invocation } from './invocation.ts';
import { requireRoot } from './privilege.ts';

/** Exit status 0 when nothing of theirs is left, 1 when something is, or one of them still runs: then nothing is touched at all. */
export async function cleanupOf({ config, environment }: Invocation): Promise<number> {
  requireRoot();
  const signal = new AbortController().signal;
  const clock = systemClock();
  const all = [...new Set(config.of)];
  const running: string[] = [];
  for (const of of all) {
    const how = await runningAs(of, signal);
    if (how !== undefined)
      running.push(
        `${of} runs on this node (${how}): it would make everything anew. Delete its DaemonSet or keep it from this node, then run this again\n`,
      );
  }
  if (running.length > 0) {
    process.stderr.write(`nothing was removed. ${running.join('')}`);
    return 1;
  }
  const runner = processRunner({ environment, clock });
  let isAnyLeft = false;
  for (const of of all) {
    const { counts, left } = await sweep({ ...config, runner }, clock, of, signal);
    for (const [kind, count] of counts) process.stdout.write(`removed ${count} ${kind} of ${of}\n`);
    if (counts.size + left.length === 0) process.stdout.write(`nothing of ${of} was there\n`);
    for (const what of left) process.stderr.write(`not removed: ${of}: ${what}\n`);
    isAnyLeft ||= left.length > 0;
  }
  return isAnyLeft ? 1 : 0;
}
