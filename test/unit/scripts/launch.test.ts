import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { skipBecause } from '../../skip.ts';

const ROOT = resolve(import.meta.dirname, '..', '..', '..');

/** A Node.js of the system that the daemon is too new for. */
function oldNode(): string | undefined {
  return ['/usr/bin/node', '/usr/local/bin/node'].filter(existsSync).find(path => {
    const [major = 0] = execFileSync(path, ['--version'], { encoding: 'utf8' }).slice(1).split('.').map(Number);
    return major < 22;
  });
}

describe("the program on the system's own, older Node.js", function () {
  this.timeout(20_000);
  const directory = mkdtempSync(join(tmpdir(), 'fairway-launch-'));
  after(() => rmSync(directory, { recursive: true, force: true }));

  /** Starts the launcher with a body that prints its own version and process id, and then waits. */
  async function start(node: string): Promise<{ launcher: ReturnType<typeof spawn>; version: string; pid: number }> {
    const program = join(directory, 'dist', 'fairway.mjs');
    mkdirSync(join(directory, 'dist'), { recursive: true });
    if (!existsSync(join(directory, 'node_modules'))) symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
    const body = 'console.log(process.version + " " + process.pid); setInterval(() => {}, 1000);\n';
    writeFileSync(program, readFileSync(join(ROOT, 'scripts', 'launch.mjs'), 'utf8') + body);
    const launcher = spawn(node, [program], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface(launcher.stdout), 'line')) as [string];
    const [version = '', pid = ''] = line.split(' ');
    return { launcher, version, pid: Number(pid) };
  }

  function isRunning(pid: number): boolean {
    // A killed process stays in the table until its new parent has looked.
    try {
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  }

  it('runs on the pinned one, and stops when it is told to', async function () {
    const node = oldNode() ?? skipBecause(this, 'there is no older Node.js here');
    const { launcher, version, pid } = await start(node);
    assert.match(version, /^v24\./);
    launcher.kill('SIGTERM');
    assert.deepEqual(await once(launcher, 'exit'), [null, 'SIGTERM']);
    assert.equal(isRunning(pid), false);
  });

  it('is gone whole when it is killed', async function () {
    const node = oldNode() ?? skipBecause(this, 'there is no older Node.js here');
    const { launcher, pid } = await start(node);
    launcher.kill('SIGKILL');
    await once(launcher, 'exit');
    for (let look = 0; look < 100 && isRunning(pid); look++) await new Promise(done => setTimeout(done, 50));
    assert.equal(isRunning(pid), false);
  });
});
