/** Finds the kernel that lab guests boot. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, constants, mkdir, open, readFile, rename } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export type FoundKernel =
  | { readonly path: string; readonly missing?: undefined }
  | {
      readonly path?: undefined;
      /** What is wrong and what would help, to follow "for a guest". */
      readonly missing: string;
    };

type Environment = Readonly<Record<string, string | undefined>>;

/** The name of the Debian package with the sources. */
export const SOURCE_PACKAGE = 'linux-source-6.1';

/** Where kernels are kept: `$XDG_CACHE_HOME/fairway-lab`, else `~/.cache/fairway-lab`. */
export function kernelCache(environment: Environment): string {
  const base = environment['XDG_CACHE_HOME'] ?? '';
  return join(base === '' ? join(environment['HOME'] ?? homedir(), '.cache') : base, 'fairway-lab');
}

/** Where the kernel with this configuration and patch is kept once it is built. Another configuration is another file. */
export async function builtKernelPath(environment: Environment): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['kernel.config', 'xstate.patch']) hash.update(await readFile(join(import.meta.dirname, name)));
  return join(kernelCache(environment), `${SOURCE_PACKAGE}-${hash.digest('hex').slice(0, 16)}`);
}

/** `$FAIRWAY_LAB_KERNEL` (an executable, or one packed by xz), else the kernel built by `npm run lab:kernel`. */
export async function findLabKernel(environment: Environment): Promise<FoundKernel> {
  const named = environment['FAIRWAY_LAB_KERNEL'] ?? '';
  if (named !== '') {
    if (!(await has(named, constants.R_OK))) return { missing: `FAIRWAY_LAB_KERNEL names ${named}, which cannot be read` };
    if (named.endsWith('.xz')) return { path: await unpacked(named, environment) };
    return (await has(named, constants.X_OK))
      ? { path: named }
      : { missing: `FAIRWAY_LAB_KERNEL names ${named}, which is not executable` };
  }
  const built = await builtKernelPath(environment);
  if (await has(built, constants.X_OK)) return { path: built };
  return { missing: 'there is no kernel yet: npm run lab:kernel builds one (3 to 6 minutes, once), or set FAIRWAY_LAB_KERNEL' };
}

async function unpacked(packed: string, environment: Environment): Promise<string> {
  const hash = createHash('sha256').update(await readFile(packed));
  const path = join(kernelCache(environment), `unpacked-${hash.digest('hex').slice(0, 16)}`);
  if (await has(path, constants.X_OK)) return path;
  await mkdir(kernelCache(environment), { recursive: true });
  const { stdout } = await promisify(execFile)('xz', ['-dc', packed], { encoding: 'buffer', maxBuffer: 256 * 1024 * 1024 });
  // Renamed into place: two test files may unpack at the same time.
  const partial = `${path}.${process.pid}`;
  const file = await open(partial, 'w');
  await file.writeFile(stdout);
  await file.close();
  await chmod(partial, 0o755);
  await rename(partial, path);
  return path;
}

async function has(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}
