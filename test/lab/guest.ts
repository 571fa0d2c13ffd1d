/**
 * Runs one command in a throw-away User Mode Linux guest. The guest is a real Linux kernel that runs as an ordinary process; its root
 * is this machine's root, read-only, under an overlay in memory, so whatever the command writes vanishes with it. Its one
 * writable window on this machine is `/run/job`.
 *
 * The command's three standard streams are the guest's consoles 1 (in and out) and 2 (err); console 0 is the kernel's own and is kept
 * apart, for the report of a guest that dies. See `user_mode_linux(7)` and the kernel's Documentation/virt/uml.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, cp, mkdir, mkdtemp, open, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

/** The exit status of a guest that ended without reporting its command's own (a kernel panic, a killed process). */
export const GUEST_DIED = 125;
/** The exit status of a command that met its time limit, as timeout(1). */
export const TIME_LIMIT_REACHED = 124;

/**
 * How many bytes may be on their way into a guest's standard input. UML never again looks at a console whose terminal buffer (4,096 bytes) has
 * once been full, so whoever writes must know what has been read. Nor does it see what arrives before the console is open: the guest
 * speaks first.
 */
export const CONSOLE_WINDOW = 3072;

/** Which CPU of this machine the guest may run on. A guest is one thread that traces its processes: pinned, it is 2 to 4 times faster. */
export type Pinning = { readonly cpu: number } | 'unpinned';

export interface GuestOptions {
  /** The kernel's executable; see `findLabKernel`. */
  readonly kernel: string;
  /** Program and arguments; found by the guest's PATH, which contains the sbin directories. */
  readonly argv: readonly string[];
  /** Added to a minimal environment (PATH, HOME, LANG). */
  readonly environment?: Readonly<Record<string, string>>;
  /** Working directory in the guest, which sees this machine's files. */
  readonly directory: string;
  /** Guest memory in MiB; taken from /dev/shm, page by page as the guest touches it. */
  readonly memoryMiB?: number;
  /** Milliseconds until the guest is killed and the status is 124. */
  readonly timeLimitMs: number;
  readonly pinning: Pinning;
  /** `pipe` makes the command's standard input writable here, within CONSOLE_WINDOW; the default is an empty one. */
  readonly input?: 'pipe' | 'empty';
  /** Where files the command leaves in `/run/job/out` are copied to when the guest has ended. */
  readonly results?: string;
  /** Further kernel arguments, such as `time-travel`. */
  readonly kernelArguments?: readonly string[];
}

export interface GuestExit {
  /** The command's exit status; 128 + signal if one ended it; 124 and 125 as above. */
  readonly status: number;
  /** The last lines of the kernel's console: empty unless the guest died. */
  readonly console: string;
}

export interface Guest {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly inputWindow: number;
  /** Settles when the guest is gone and both outputs are complete. Never rejects. */
  readonly exited: Promise<GuestExit>;
  /** Ends the guest and everything in it at once. */
  kill(): void;
}

/** Starts a guest. Rejects if the job's folder cannot be made; a kernel that does not start is reported by `exited` with status 125. */
export async function startGuest(options: GuestOptions): Promise<Guest> {
  const job = await writeJob(options);
  const consoleLog = await open(join(job, 'console'), 'w');
  const memory = options.memoryMiB ?? 1024;
  const kernelArgv = [
    options.kernel,
    `mem=${memory}M`,
    'root=/dev/root',
    'rootfstype=hostfs',
    'rootflags=/',
    'ro',
    `init=${join(job, 'init')}`,
    'con=null',
    'con0=null,fd:1',
    'con1=fd:5,fd:3',
    'con2=null,fd:4',
    'ssl=null',
    `umid=guest`,
    `uml_dir=${job}/uml/`,
    'quiet',
    // Without it the first getrandom(2) of a Go or Node program may wait for minutes.
    'random.trust_cpu=on',
    // Devices these drivers make unasked would differ from the machine's own namespaces.
    'dummy.numdummies=0',
    'ifb.numifbs=0',
    'bonding.max_bonds=0',
    'fb_tunnels=none',
    `labjob=${job}`,
    ...(options.kernelArguments ?? []),
  ];
  const pinned = options.pinning === 'unpinned' ? kernelArgv : ['taskset', '-c', String(options.pinning.cpu), ...kernelArgv];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...pinned], {
    stdio: ['ignore', consoleLog.fd, consoleLog.fd, 'pipe', 'pipe', 'pipe'],
    // Its own session and process group: one signal reaches the kernel and all processes it traces.
    detached: true,
    env: { ...process.env, TMPDIR: await memoryBackingDirectory(memory) },
  });
  return new RunningGuest(child, job, consoleLog, options);
}

/** The job's folder: what `init.pl` reads, and the `out` directory it writes to. */
async function writeJob(options: GuestOptions): Promise<string> {
  const job = await mkdtemp(join(tmpdir(), 'fairway-lab-'));
  if (/[\s,]/.test(job)) throw new Error(`the lab cannot work in ${job}: set TMPDIR to a path without blanks and commas`);
  await mkdir(join(job, 'out'));
  await mkdir(join(job, 'uml'));
  const nulTerminated = (strings: readonly string[]): string => strings.map(string => `${string}\0`).join('');
  await cp(join(import.meta.dirname, 'init.pl'), join(job, 'init'));
  await chmod(join(job, 'init'), 0o755);
  await writeFile(join(job, 'argv'), nulTerminated(options.argv));
  await writeFile(
    join(job, 'env'),
    nulTerminated(Object.entries(options.environment ?? {}).map(([name, value]) => `${name}=${value}`)),
  );
  await writeFile(join(job, 'cwd'), options.directory);
  await writeFile(join(job, 'seed'), randomBytes(64));
  if (options.input === 'pipe') await writeFile(join(job, 'stdin'), '');
  return job;
}

/** Guest memory is a file mapped executable: it must not lie on a small file system (containers have 64 MB in /dev/shm) or a noexec one. */
async function memoryBackingDirectory(memoryMiB: number): Promise<string> {
  const mounts = await readFile('/proc/mounts', 'utf8');
  const noexec = mounts.split('\n').some(line => / \/dev\/shm \S+ (\S+,)?noexec\b/.test(line));
  const shm = await statfs('/dev/shm').catch(() => undefined);
  const roomy = shm !== undefined && shm.bavail * shm.bsize >= memoryMiB * 1024 * 1024;
  const writable = await access('/dev/shm', constants.W_OK).then(
    () => true,
    () => false,
  );
  return roomy && writable && !noexec ? '/dev/shm' : tmpdir();
}

class RunningGuest implements Guest {
  readonly inputWindow = CONSOLE_WINDOW;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<GuestExit>;
  readonly #pid: number | undefined;
  #limitReached = false;
  readonly #killWithUs = (): void => this.kill();

  constructor(child: ChildProcess, job: string, consoleLog: { close(): Promise<void> }, options: GuestOptions) {
    this.#pid = child.pid;
    this.stdout = streamAt(child, 3);
    this.stderr = streamAt(child, 4);
    this.stdin = streamAt(child, 5);
    process.once('exit', this.#killWithUs);
    const limit = setTimeout(() => {
      this.#limitReached = true;
      this.kill();
    }, options.timeLimitMs);
    const ended = new Promise<void>(resolve => {
      child.once('error', () => resolve());
      child.once('close', () => resolve());
    });
    this.exited = ended.then(async () => {
      clearTimeout(limit);
      process.removeListener('exit', this.#killWithUs);
      this.kill();
      await consoleLog.close();
      return await this.#collect(job, options);
    });
  }

  kill(): void {
    if (this.#pid === undefined) return;
    try {
      process.kill(-this.#pid, 'SIGKILL');
    } catch {
      // ESRCH: everything in the group has ended already.
    }
  }

  async #collect(job: string, options: GuestOptions): Promise<GuestExit> {
    const reported = await readFile(join(job, 'out/status'), 'utf8').catch(() => '');
    const console = await readFile(join(job, 'console'), 'utf8').catch(() => '');
    if (options.results !== undefined) await cp(join(job, 'out'), options.results, { recursive: true });
    await rm(job, { recursive: true, force: true });
    if (this.#limitReached) return { status: TIME_LIMIT_REACHED, console: '' };
    if (reported !== '') return { status: Number(reported), console: '' };
    return { status: GUEST_DIED, console: lastLines(console) };
  }
}

/** A panic ends with a stack trace that says less than the lines before it. */
function lastLines(console: string): string {
  const lines = console.split('\n').filter(line => line !== '' && !/^ \[<[0-9a-f]+>\]/.test(line));
  return lines.slice(-20).join('\n');
}

/** Node makes every extra pipe a socket, open in both directions. Its errors (EPIPE, ECONNRESET) mean that the guest is gone, which `exited` tells. */
function streamAt(child: ChildProcess, index: 3 | 4 | 5): Socket {
  // @types/node knows five streams only.
  const streams: readonly unknown[] = child.stdio;
  const stream = streams[index];
  if (!(stream instanceof Socket)) throw new TypeError(`standard stream ${index} of the guest is not a socket`);
  stream.on('error', () => {});
  return stream;
}
