/** Makes sure that labs can be opened, before the first test needs one. */
import { availableParallelism } from 'node:os';
import { ensureLabKernel } from './kernel/build.ts';
import { findLabKernel } from './kernel/find.ts';
import { type Machine, whyNotThisMachine } from './place.ts';

/**
 * Builds the guests' kernel if labs will run in guests and there is none (3 to 6 minutes, once). Returns an empty string, or why there will be no
 * lab. A build that fails is such a reason, too.
 */
export async function prepareLab(machine: Machine, progress: (line: string) => void): Promise<string> {
  const unfit = machine.environment['FAIRWAY_LAB_PLACE'] === 'guest' ? 'a guest is asked for' : await whyNotThisMachine(machine);
  if (unfit === '') return '';
  if (machine.platform !== 'linux' || machine.architecture !== 'x64') return `${unfit}, and a guest needs linux on x86_64`;
  if ((await findLabKernel(machine.environment)).path !== undefined) return '';
  progress(`labs will run in guests: ${unfit}`);
  try {
    const { environment, userId } = machine;
    await ensureLabKernel({ environment, userId, jobs: availableParallelism(), progress });
    return '';
  } catch (error) {
    return `the guests' kernel cannot be built: ${error instanceof Error ? error.message : String(error)}`;
  }
}
