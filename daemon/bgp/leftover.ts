/** The gobgpd that a daemon of ours left running. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { kill } from 'node:process';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import { RunFolder } from './run-folder.ts';

/** Milliseconds it has to end by itself, and between two looks at whether it has. */
const END = { limitMs: 3_000, lookMs: 50 };

/** Ends those of our network namespace whose folders are below this one, and with them all their sessions; neighbours are told. Resolves with how many there were. */
export async function endLeftovers(path: string, clock: Clock, signal: AbortSignal): Promise<number> {
  const names = await readdir(path).catch(() => []);
  const ended = await Promise.all(names.map(name => endLeftover(join(path, name), clock, signal)));
  return ended.filter(was => was === 'ended').length;
}

async function endLeftover(path: string, clock: Clock, signal: AbortSignal): Promise<'ended' | 'none'> {
  const folder = new RunFolder(path);
  const pid = await folder.findGobgpd();
  if (pid === undefined) return 'none';
  signalTo(pid, 'SIGTERM');
  const begin = clock.now();
  while (await folder.isOurGobgpd(pid)) {
    if (clock.now() - begin > END.limitMs) signalTo(pid, 'SIGKILL');
    await pause(clock, END.lookMs, signal);
  }
  await folder.clear();
  return 'ended';
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    kill(pid, signal);
  } catch {
    // It ended a moment ago.
  }
}
