/**
 * `npm run lab:kernel [-- --jobs N]`: builds the kernel of the lab's guests into the user's cache, whether or not there is one. 3 to 6 minutes
 * on two CPUs.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { buildLabKernel } from '../test/lab/kernel/build.ts';
import { machineNow } from '../test/lab/place.ts';

const { values } = parseArgs({ options: { jobs: { type: 'string', default: String(availableParallelism()) } } });
const began = performance.now();
const progress = (line: string): void =>
  console.log(`${String(Math.round((performance.now() - began) / 1000)).padStart(4)} s  ${line}`);
const { environment, userId } = machineNow();
try {
  await buildLabKernel({ environment, userId, jobs: Number(values.jobs), progress });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
