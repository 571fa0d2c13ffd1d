/** The bench of planning: no kernel, no tool, what the daemon itself computes. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PlanFigures } from './plan-process.ts';
import { atMost, median, megabytes, milliseconds, plain, printResults, quantile, type Result } from './results.ts';

const EVENTS = 200;
const EVENT_TO_PLAN_MS = 5;
const FIRST_PLAN_MS = 3000;

export async function benchPlan(sizes: readonly number[]): Promise<void> {
  for (const services of sizes) {
    const figures = await measureApart(services);
    printResults(`plan: ${services} Services of 10 endpoints, processor time`, resultsOf(figures));
  }
}

async function measureApart(services: number): Promise<PlanFigures> {
  const argv = [
    '--max-semi-space-size=2',
    '--expose-gc',
    join(import.meta.dirname, 'plan-process.ts'),
    String(services),
    String(EVENTS),
  ];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as PlanFigures;
}

function resultsOf({ firstList, events, written, heapBytes, residentBytes }: PlanFigures): readonly Result[] {
  const { projection, store, plan, compare } = firstList;
  const plans = events.map(event => event.plan);
  const rounds = events.map(event => event.round);
  return [
    atMost('first list to full plan', projection + store + plan, FIRST_PLAN_MS, milliseconds),
    plain('  of it JSON and projection', milliseconds(projection)),
    plain('  of it into the store', milliseconds(store)),
    plain('  of it planning and claims', milliseconds(plan)),
    plain('then comparing all tables with an empty kernel', milliseconds(compare)),
    atMost(`one endpoint changed to plan (median of ${events.length})`, median(plans), EVENT_TO_PLAN_MS, milliseconds),
    plain('  95th percentile', milliseconds(quantile(plans, 0.95))),
    plain('one endpoint changed to the changes for the tools', milliseconds(median(rounds))),
    plain('entries written an event', String(written / events.length), 'exactly 1'),
    plain('heap after it, collected', megabytes(heapBytes)),
    plain('resident (with the type stripper of development)', megabytes(residentBytes)),
  ];
}
