/**
 * Starts a script of this project with everything it needs: `node scripts/bootstrap.mjs NEEDS SCRIPT [ARGUMENT...]`.
 *
 * NEEDS is `demo` (Debian packages and npm packages, or stop), `test` (the same, but what cannot be installed is handed to the script
 * in FAIRWAY_MISSING_TOOLS, and it skips what needs it) or `npm` (npm packages only). SCRIPT runs on the Node.js this project pins.
 *
 * This file itself is plain JavaScript without a dependency: it runs on Node.js 20 before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

/** sysexits(3). */
const EX_USAGE = 64;
const EX_UNAVAILABLE = 69;

/** Debian package by the command it is looked up by. */
const DEBIAN_PACKAGES = {
  ipvsadm: 'ipvsadm',
  ipset: 'ipset',
  iptables: 'iptables',
  ip: 'iproute2',
  conntrack: 'conntrack',
  modprobe: 'kmod',
  sysctl: 'procps',
  unshare: 'util-linux',
  xz: 'xz-utils',
  perl: 'perl-base',
  openssl: 'openssl',
};

const root = resolve(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
const pinnedNode = join(root, 'node_modules', '.bin', 'node');

function say(text) {
  process.stderr.write(`${text}\n`);
}

/** Ends the process: the remedy is in the text. */
function stop(status, text) {
  say(text);
  process.exit(status);
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isInstalled(command) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return directories.some(directory => directory !== '' && isExecutable(join(directory, command)));
}

function missingCommands() {
  return Object.keys(DEBIAN_PACKAGES).filter(command => !isInstalled(command));
}

/** Runs a command quietly; what it printed is shown if it fails. True if it ended with 0. */
function runs(argv, env = process.env) {
  const result = spawnSync(argv[0], argv.slice(1), { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.status === 0) return true;
  say(`${argv.join(' ')} failed:\n${result.error?.message ?? ''}${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd());
  return false;
}

/** The commands that are still missing afterwards. */
function installDebianPackages() {
  const missing = missingCommands();
  if (missing.length === 0 || process.getuid?.() !== 0 || !isInstalled('apt-get')) return missing;
  const packages = missing.map(command => DEBIAN_PACKAGES[command]);
  say(`Installing Debian packages: ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // A stale package list is only a reason to fail if the installation then does.
  runs(['apt-get', 'update', '-qq'], env);
  runs(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages], env);
  return missingCommands();
}

/** Whether node_modules holds what package-lock.json names, by npm's own record of what it installed. */
function npmPackagesMatchLock() {
  if (!isExecutable(pinnedNode)) return false;
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  return Object.entries(wanted).every(([path, { version, optional, peer }]) => {
    if (path === '') return true;
    const there = installed[path];
    // Optional packages are those of other platforms.
    return there === undefined ? optional === true || peer === true : there.version === version;
  });
}

function installNpmPackages() {
  if (npmPackagesMatchLock()) return;
  say('Installing npm packages (npm ci)');
  // npm ci deletes node_modules: nothing in it may be what runs npm.
  const path = (process.env.PATH ?? '').split(delimiter).filter(directory => !directory.includes('node_modules'));
  const env = { ...process.env, PATH: path.join(delimiter) };
  if (!runs(['npm', 'ci', '--no-audit', '--no-fund', '--loglevel=error'], env)) {
    stop(EX_UNAVAILABLE, 'The npm packages could not be installed; what npm said stands above.');
  }
  // A policy of the user's or of a later npm may keep the pinned Node.js from installing itself.
  if (!isExecutable(pinnedNode) && !(runs(['npm', 'rebuild', 'node', 'esbuild'], env) && isExecutable(pinnedNode))) {
    stop(EX_UNAVAILABLE, 'The pinned Node.js is missing: let the install script of the npm package "node" run, then call again.');
  }
}

/** Replaces this process as far as Node.js 20 can: same terminal, signals handed on, same exit status. */
function runPinned(script, args, env) {
  const child = spawn(pinnedNode, [script, ...args], { cwd: root, env, stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  // The terminal sends SIGINT to the child as well; this process only has to outlive it.
  process.on('SIGINT', () => {});
  child.on('error', error => stop(EX_UNAVAILABLE, `${pinnedNode} cannot be started: ${error.message}`));
  child.on('exit', (status, signal) => {
    if (signal === null) process.exit(status);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

const [needs, script, ...args] = process.argv.slice(2);
if (!['demo', 'test', 'npm'].includes(needs) || script === undefined) {
  stop(EX_USAGE, 'usage: node scripts/bootstrap.mjs demo|test|npm SCRIPT [ARGUMENT...]');
}
const missing = needs === 'npm' ? [] : installDebianPackages();
const aptLine = `apt-get install -y ${missing.map(command => DEBIAN_PACKAGES[command]).join(' ')}`;
if (missing.length > 0 && needs === 'demo') {
  stop(EX_UNAVAILABLE, `Not installed: ${missing.join(', ')}. As root: apt-get update && ${aptLine}`);
}
installNpmPackages();
const env = { ...process.env };
delete env.FAIRWAY_MISSING_TOOLS;
if (missing.length > 0) env.FAIRWAY_MISSING_TOOLS = `not installed: ${missing.join(', ')} (as root: ${aptLine})`;
runPinned(script, args, env);
