/** What the runner of tools says when the system gives it no process. Each in a process of its own, whose limits are lowered for real. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { skipBecause } from '../../skip.ts';

const NET = join(import.meta.dirname, '../../../daemon/net/clock.ts');
const RUNNER = join(import.meta.dirname, '../../../daemon/kernel/process-runner.ts');
/** What an unprivileged user is on any Debian: `nobody`. */
const NOBODY = 65_534;

/** Runs `true` whenever a line comes in, and prints how that ended; `first` runs before each. */
function asking(first: string): string {
  return `
    import { openSync } from 'node:fs';
    import { createInterface } from 'node:readline';
    import { systemClock } from ${JSON.stringify(NET)};
    import { processRunner } from ${JSON.stringify(RUNNER)};
    const runner = processRunner({ environment: { PATH: '/usr/bin:/bin' }, clock: systemClock() });
    console.log('here');
    for await (const line of createInterface({ input: process.stdin })) {
      ${first}
      const { signal } = new AbortController();
      console.log(await runner.run({ argv: ['true'] }, signal).then(({ status }) => 'status ' + status, error => error.code + ' ' + error.message));
    }`;
}

async function answer(child: ChildProcess): Promise<string> {
  const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
  return String(line).trim();
}

describe('a tool that cannot be started', () => {
  it('for want of open files is refused with the limit that is reached, and runs when there are some again', async () => {
    const exhaust = `
      const open = [];
      if (line === 'short') try { for (;;) open.push(openSync('/dev/null')); } catch {}
      else for (const each of globalThis.held ?? []) closeSync(each);
      globalThis.held = open;`;
    const code = asking(exhaust).replace('{ openSync }', '{ closeSync, openSync }');
    const script = 'ulimit -n 64; exec "$@"';
    const child = spawn('sh', ['-c', script, 'sh', process.execPath, '--input-type=module', '-e', code], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    try {
      assert.equal(await answer(child), 'here');
      child.stdin.write('short\n');
      assert.match(await answer(child), /^FW_COMMAND_FAILED 'true' cannot be started: spawn true EMFILE; .*raise LimitNOFILE/);
      child.stdin.write('well\n');
      assert.equal(await answer(child), 'status 0');
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('for want of processes is refused with the limit that is reached, and runs when it is raised', async function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'lowering the limit of another user takes root');
    const child = spawn(process.execPath, ['--input-type=module', '-e', asking('')], {
      uid: NOBODY,
      gid: NOBODY,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    // The soft limit alone, which the user itself may move.
    const limit = (processes: number): Buffer =>
      execFileSync('prlimit', ['--pid', String(child.pid), `--nproc=${processes}:`], { uid: NOBODY, gid: NOBODY });
    try {
      assert.equal(await answer(child), 'here');
      limit(1);
      child.stdin.write('short\n');
      assert.match(await answer(child), /^FW_COMMAND_FAILED 'true' cannot be started: spawn true EAGAIN; .*raise TasksMax/);
      limit(1000);
      child.stdin.write('well\n');
      assert.equal(await answer(child), 'status 0');
    } finally {
      child.kill('SIGKILL');
    }
  });
});
