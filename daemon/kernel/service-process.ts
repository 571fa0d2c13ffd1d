/** Programs that stay, and that outlive us if need be: of a session of their own, with a file for what they say. */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { cannotStart } from './process-runner.ts';

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
  return async (argv, outputFile) => {
    const [program, ...args] = argv;
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
      throw cannotStart(argv, thrown);
    } finally {
      await output.close();
    }
  };
}
