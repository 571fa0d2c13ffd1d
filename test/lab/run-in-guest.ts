/**
 * Runs a whole mocha file inside a lab's bare place, for tests that use the tools and the kernel from their own process. (Tests with a topology
 * run on this machine and open a lab themselves: see describe-lab.ts.)
 *
 * As a program, it runs one command in a guest, with this process's standard output and error and the command's exit status:
 *
 *   node test/lab/run-in-guest.ts [-m MIB] [-t SECONDS] [-e NAME=VALUE]... [-d DIRECTORY] [-o RESULTS] [-c CPU|none] [-k ARGUMENT]... -- COMMAND...
 */
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { startGuest, TIME_LIMIT_REACHED } from './guest.ts';
import { findLabKernel } from './kernel/find.ts';
import { machineNow, openPlace } from './place.ts';
import { LabProcess, runProgram } from './process.ts';

export interface LabFileOptions {
  /** The CPU a guest is pinned to. */
  readonly cpu: number;
  /** Told every line that mocha and the tests print, as it comes. Mocha speaks through `test/reporter.ts`. */
  readonly onLine: (line: string) => void;
  /** Milliseconds until the place is ended; 10 minutes unless told. */
  readonly timeLimitMs?: number;
}

/**
 * Runs one test file with mocha in a place of its own: the root namespace of a guest, or a fresh network namespace of this machine. Returns
 * mocha's exit status. Rejects with LabUnavailable if there is no place, with LabGone (and the kernel's last words) if it dies.
 */
export async function runLabFile(file: string, options: LabFileOptions): Promise<{ readonly status: number }> {
  const { cpu, onLine, timeLimitMs = 600_000 } = options;
  const place = await openPlace({ machine: machineNow(), pinning: { cpu }, timeLimitMs });
  try {
    await runProgram(place.agent, '', ['ip', 'link', 'set', 'lo', 'up'], { directory: '/' });
    const root = resolve(import.meta.dirname, '../..');
    const argv = [
      process.execPath,
      'node_modules/mocha/bin/mocha.js',
      '--exit',
      '--reporter',
      join(root, 'test/reporter.ts'),
      file,
    ];
    const mocha = new LabProcess(place.agent, '', argv, { directory: root, onLine: line => onLine(line.text) });
    return { status: await mocha.exited };
  } finally {
    await place.agent.close();
  }
}

async function runCommand(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      memory: { type: 'string', short: 'm', default: '1024' },
      time: { type: 'string', short: 't', default: '300' },
      env: { type: 'string', short: 'e', multiple: true, default: [] },
      directory: { type: 'string', short: 'd', default: process.cwd() },
      results: { type: 'string', short: 'o' },
      cpu: { type: 'string', short: 'c', default: String(availableParallelism() - 1) },
      kernel: { type: 'string', short: 'k', multiple: true, default: [] },
    },
  });
  const kernel = await findLabKernel(process.env);
  if (positionals.length === 0) {
    console.error('run-in-guest: no command');
    process.exitCode = 2;
  } else if (kernel.path === undefined) {
    console.error(`run-in-guest: for a guest ${kernel.missing}`);
    process.exitCode = 2;
  } else {
    const guest = await startGuest({
      kernel: kernel.path,
      argv: positionals,
      environment: Object.fromEntries(
        ['NO_COLOR=1', ...values.env].map(pair => [pair.split('=', 1)[0] ?? '', pair.slice(pair.indexOf('=') + 1)]),
      ),
      directory: values.directory,
      memoryMiB: Number(values.memory),
      timeLimitMs: Number(values.time) * 1000,
      pinning: values.cpu === 'none' ? 'unpinned' : { cpu: Number(values.cpu) },
      kernelArguments: values.kernel,
      ...(values.results === undefined ? {} : { results: values.results }),
    });
    const end = { end: false };
    await Promise.allSettled([pipeline(guest.stdout, process.stdout, end), pipeline(guest.stderr, process.stderr, end)]);
    const { status, console: lastWords } = await guest.exited;
    if (lastWords !== '') console.error(`run-in-guest: the guest died; its console:\n${lastWords}`);
    if (status === TIME_LIMIT_REACHED) console.error(`run-in-guest: time limit of ${values.time} s`);
    process.exitCode = status;
  }
}

if (import.meta.main) await runCommand();
