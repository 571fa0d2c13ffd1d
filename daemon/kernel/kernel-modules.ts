/** Asking for kernel modules. */
import { FairwayError } from '../errors.ts';
import type { CommandRunner } from './command.ts';

/**
 * Loads what can be loaded. Failure means nothing: a kernel may have them built in, and one that has not refuses what needs them, with
 * the reason.
 */
export async function loadModules(runner: CommandRunner, names: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await runner.run({ argv: ['modprobe', '-a', '-q', ...new Set(names)] }, signal);
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
  }
}
