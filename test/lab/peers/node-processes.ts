/** The daemon and the gobgpd of a node: found by their namespace, ended one at a time, and what they use. */
import type { LabHost } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { PLACE } from './hosts.ts';

export type NodeProgram = 'fairway' | 'gobgpd';

const CLOCK_TICKS_PER_SECOND = 100;

/** The process id of a node's daemon or gobgpd; undefined where there is none. */
export async function pidOf(lab: Lab, node: LabHost, program: NodeProgram): Promise<number | undefined> {
  const pids = (await lab.expectRun(PLACE, ['ip', 'netns', 'pids', node.name])).split('\n').filter(Boolean);
  for (const pid of pids) {
    const argv = (await lab.readFile(PLACE, `/proc/${pid}/cmdline`).catch(() => '')).split('\0');
    const isIt = program === 'gobgpd' ? /(^|\/)gobgpd$/.test(argv[0] ?? '') : argv.some(word => /\/fairway\.m?js$/.test(word));
    if (isIt) return Number(pid);
  }
  return undefined;
}

/** Sends a signal (`KILL`) to that process alone, not to what it started. */
export async function signalOnly(lab: Lab, node: LabHost, program: NodeProgram, signal: string): Promise<void> {
  const pid = await pidOf(lab, node, program);
  if (pid === undefined) throw new Error(`no ${program} runs on ${node.name}`);
  await lab.expectRun(PLACE, ['kill', `-${signal}`, String(pid)]);
}

export interface Usage {
  /** Since its start. */
  readonly cpuMs: number;
  readonly residentMiB: number;
}

/** What a program of a node has used and holds; zero where it does not run. */
export async function usageOf(lab: Lab, node: LabHost, program: NodeProgram): Promise<Usage> {
  const pid = await pidOf(lab, node, program);
  if (pid === undefined) return { cpuMs: 0, residentMiB: 0 };
  const stat = await lab.readFile(PLACE, `/proc/${pid}/stat`);
  // The name stands in parentheses and may hold blanks; user and system time are the 14th and 15th field, the 12th and 13th after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  const status = await lab.readFile(PLACE, `/proc/${pid}/status`);
  const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
  return { cpuMs: (ticks * 1000) / CLOCK_TICKS_PER_SECOND, residentMiB: Math.round(resident / 1024) };
}
