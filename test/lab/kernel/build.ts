/**
 * Builds the kernel that lab guests boot, once, into the user's cache: User Mode Linux from Debian's source package with `xstate.patch`
 * and `kernel.config` (a fragment over tinyconfig). See `scripts/lab-kernel.ts`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { builtKernelPath, findLabKernel, kernelCache, SOURCE_PACKAGE } from './find.ts';

export interface KernelBuildOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Effective user id; 0 may install packages. */
  readonly userId: number;
  /** Compilers at a time. */
  readonly jobs: number;
  /** Told what happens, a line at a time, at least every few seconds. */
  readonly progress: (line: string) => void;
}

const SOURCES = `/usr/src/${SOURCE_PACKAGE}.tar.xz`;
/** What shows that a package is there, by package. */
const PACKAGES: Readonly<Record<string, string>> = {
  [SOURCE_PACKAGE]: SOURCES,
  flex: '/usr/bin/flex',
  bison: '/usr/bin/bison',
  bc: '/usr/bin/bc',
  make: '/usr/bin/make',
  gcc: '/usr/bin/gcc',
  'libc6-dev': '/usr/include/stdio.h',
  'xz-utils': '/usr/bin/xz',
  patch: '/usr/bin/patch',
};
/** Roughly how many objects the configuration compiles, for a percentage. */
const OBJECTS = 1150;

/** The kernel there is, else a fresh build. Returns the path of its executable; rejects with what failed and its last lines. */
export async function ensureLabKernel(options: KernelBuildOptions): Promise<string> {
  const found = await findLabKernel(options.environment);
  return found.path ?? (await buildLabKernel(options));
}

/** Builds the kernel, whether or not there is one. Returns the path of its executable; rejects with what failed and its last lines. */
export async function buildLabKernel(options: KernelBuildOptions): Promise<string> {
  const { environment, jobs, progress } = options;
  await installPackages(options);
  const target = await builtKernelPath(environment);
  await mkdir(kernelCache(environment), { recursive: true });
  const tree = await mkdtemp(join(kernelCache(environment), 'build-'));
  const here = import.meta.dirname;
  const step = async (title: string, argv: readonly string[], seen: (line: string) => void = () => {}): Promise<void> => {
    progress(title);
    await run(argv, tree, seen);
  };
  try {
    await step(`unpacking ${SOURCES}`, ['tar', '-xf', SOURCES, '--strip-components=1']);
    await step('patching', ['patch', '-p1', '--batch', '-i', join(here, 'xstate.patch')]);
    await step('configuring', ['make', 'ARCH=um', 'tinyconfig']);
    await step('adding the lab’s options', ['scripts/kconfig/merge_config.sh', '-m', '.config', join(here, 'kernel.config')]);
    await step('settling the options', ['make', 'ARCH=um', 'olddefconfig']);
    await step(`compiling, ${jobs} at a time`, ['make', 'ARCH=um', `-j${jobs}`, 'linux'], compilerProgress(progress));
    await step('stripping', ['strip', 'linux']);
    await rename(join(tree, 'linux'), target);
  } finally {
    progress('removing the source tree');
    await rm(tree, { recursive: true, force: true });
  }
  progress(`built ${target} (${Math.round((await stat(target)).size / 1024 / 1024)} MB)`);
  return target;
}

async function installPackages({ userId, progress }: KernelBuildOptions): Promise<void> {
  const missing: string[] = [];
  for (const [debianPackage, proof] of Object.entries(PACKAGES)) {
    const there = await access(proof, constants.R_OK).then(
      () => true,
      () => false,
    );
    if (!there) missing.push(debianPackage);
  }
  if (missing.length === 0) return;
  if (userId !== 0)
    throw new Error(`building the lab's kernel needs Debian packages that are not here: apt-get install ${missing.join(' ')}`);
  progress(`installing ${missing.join(' ')}`);
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing];
  try {
    await run(install, '/', () => {});
  } catch {
    // The package lists of a fresh image are empty or old.
    await run(['apt-get', 'update'], '/', () => {});
    await run(install, '/', () => {});
  }
}

function compilerProgress(progress: (line: string) => void): (line: string) => void {
  let objects = 0;
  return line => {
    if (!/^ {2}(CC|AS|HOSTCC) /.test(line)) return;
    objects += 1;
    if (objects % 100 === 0) progress(`  ${objects} objects, about ${Math.min(99, Math.round((100 * objects) / OBJECTS))} %`);
  };
}

async function run(argv: readonly string[], directory: string, seen: (line: string) => void): Promise<void> {
  const child: ChildProcess = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      LC_ALL: 'C',
      DEBIAN_FRONTEND: 'noninteractive',
    },
  });
  const tail: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', line => {
      tail.push(line);
      if (tail.length > 30) tail.shift();
      seen(line);
    });
  }
  const status = await new Promise<number>(resolve => {
    child.once('error', error => {
      tail.push(error.message);
      resolve(127);
    });
    child.once('close', code => resolve(code ?? 128));
  });
  if (status !== 0) throw new Error([`${argv.join(' ')} ended with status ${status}:`, ...tail].join('\n'));
}
