/** Programs that stay, and that outlive us if need be: of a session of their own, with a file for what they say. */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { FairwayError, messageOf } from '../errors.ts';
import { packageOf } from './process-runner.ts';

export interface ServiceProcess {
  readonly pid: number;
  /** How it ended: `exit status 1`, `signal SIGKILL`. */
  readonly ended: Promise<string>;
}

export interface ServiceProcessOptions {
  /** Folders programs are looked up in, as in $PATH. */
  readonly path: string;
}

/**
 * Starts programs in a session of their own, so that a signal of our terminal is not theirs, with the C locale and $PATH as their whole environment. The
 * file is appended to: whoever follows it may cut it. Rejects with FW_CAPABILITY_TOOL_MISSING where there is no such program.
 */
export function serviceStarter({
  path,
}: ServiceProcessOptions): (argv: readonly [string, ...string[]], outputFile: string) => Promise<ServiceProcess> {
  return async ([program, ...args], outputFile) => {
    const output = await open(outputFile, 'a', 0o600);
    try {
      const child = spawn(program, args, {
        cwd: '/',
        detached: true,
        env: { LC_ALL: 'C', PATH: path },
        stdio: ['ignore', output.fd, output.fd],
      });
      const ended = new Promise<string>(resolve => {
        child.once('exit', (status, signal) => resolve(signal === null ? `exit status ${status}` : `signal ${signal}`));
      });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', reject);
      });
      child.unref();
      return { pid: child.pid ?? 0, ended };
    } catch (thrown) {
      throw cannotStart(program, thrown);
    } finally {
      await output.close();
    }
  };
}

function cannotStart(program: string, thrown: unknown): FairwayError {
  if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')
    return new FairwayError(
      'FW_CAPABILITY_TOOL_MISSING',
      `'${program}' is not installed: install the Debian package '${packageOf(program)}'`,
      { cause: thrown },
    );
  return new FairwayError('FW_COMMAND_FAILED', `'${program}' cannot be started: ${messageOf(thrown)}`, { cause: thrown });
}
