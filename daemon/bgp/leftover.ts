/** The gobgpd that a daemon of ours left running. */
import { kill } from 'node:process';
import type { Clock } from '../net/clock.ts';
import { RunFolder } from './run-folder.ts';
import { wait } from './wait.ts';

/** Milliseconds it has to end by itself, and between two looks at whether it has. */
const END = { limitMs: 3_000, lookMs: 50 };

/** Ends it, and with it all its sessions; neighbours are told. Resolves with whether there was one. */
export async function endLeftover(path: string, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const folder = new RunFolder(path);
  const pid = await folder.findGobgpd();
  if (pid === undefined) return false;
  kill(pid, 'SIGTERM');
  const begin = clock.now();
  while (await folder.isOurGobgpd(pid)) {
    if (clock.now() - begin > END.limitMs) kill(pid, 'SIGKILL');
    await wait(clock, END.lookMs, signal);
  }
  await folder.clear();
  return true;
}
