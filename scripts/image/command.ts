/** Running the tools that build images. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** A tool that is missing or ended badly; the message has its last lines. */
export class ToolFailed extends Error {
  override readonly name = 'ToolFailed';
}

export interface ToolOptions {
  readonly directory?: string;
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Its standard input; empty unless told. */
  readonly input?: string;
}

/** What it printed on standard output. Rejects with ToolFailed unless it ends with 0. */
export async function output(argv: readonly string[], options: ToolOptions = {}): Promise<string> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    cwd: options.directory,
    env: { ...process.env, ...options.environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  let stdout = '';
  let all = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    all += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (all += text));
  try {
    await once(child, 'close');
  } catch (thrown) {
    throw new ToolFailed(`${program} cannot be started`, { cause: thrown });
  }
  if (child.exitCode === 0) return stdout;
  const tail = all.trim().split('\n').slice(-20).join('\n');
  throw new ToolFailed(`${argv.join(' ')} ended with ${child.signalCode ?? `status ${child.exitCode}`}:\n${tail}`);
}
