#!/usr/bin/env -S node --max-semi-space-size=2
// The head of dist/fairway.js: it runs before anything of the bundle is evaluated.
import { createRequire as __fairwayRequire } from 'node:module';
import { fileURLToPath as __fairwayPath } from 'node:url';

const require = __fairwayRequire(import.meta.url);
const __filename = __fairwayPath(import.meta.url);
const __dirname = __fairwayPath(new URL('.', import.meta.url));
{
  // A young generation of 2 MB instead of V8's 32 keeps 100 MB of garbage from staying resident. Only the command line can set it.
  const heap = '--max-semi-space-size=2';
  const [major, minor] = process.versions.node.split('.').map(Number);
  const args = [__filename, ...process.argv.slice(2)];
  if (major < 22 || (major === 22 && minor < 19)) {
    const { accessSync, constants } = require('node:fs');
    // Beside the sources, and as the Debian package lays it.
    const places = ['../node_modules/node/bin/node', './node'].map(place => __fairwayPath(new URL(place, import.meta.url)));
    const pinned = places.find(place => {
      try {
        accessSync(place, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
    if (pinned === undefined) {
      process.stderr.write(
        `fairway needs Node.js 22.19 or later; this is ${process.version} (${process.execPath}). Start it with a later one, or run "npm ci" beside dist/ for the pinned one.\n`,
      );
      process.exit(69);
    }
    const child = require('node:child_process').spawn(pinned, [heap, ...args], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, FAIRWAY_LAUNCHER: 'waits' },
    });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) process.on(signal, () => child.kill(signal));
    child.on('error', error => {
      process.stderr.write(`fairway: ${pinned} cannot be started: ${error.message}\n`);
      process.exit(69);
    });
    child.on('exit', (status, signal) => {
      if (signal === null) process.exit(status);
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    });
    // The rest of this file is for the child.
    await new Promise(() => {});
  }
  if (process.env.FAIRWAY_LAUNCHER === 'waits') {
    // Whoever kills the process it started, by a signal that cannot be passed on, means this one.
    delete process.env.FAIRWAY_LAUNCHER;
    process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
    process.channel?.unref();
  }
  const flags = `${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS ?? ''}`;
  if (!/--max[-_]semi[-_]space[-_]size/.test(flags) && process.execve !== undefined) {
    process.execve(process.execPath, [process.execPath, heap, ...process.execArgv, ...args], process.env);
  }
}
