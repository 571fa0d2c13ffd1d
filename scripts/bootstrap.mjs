/**
 * Starts a script of this project with everything it needs: `node scripts/bootstrap.mjs NEEDS SCRIPT [ARGUMENT...]`.
 *
 * NEEDS is `demo` (Debian packages and npm packages, or stop), `image` (the same with what builds images), `test` (all of these and what only tests use,
 * but what cannot be installed is handed to the script in FAIRWAY_MISSING_TOOLS, and it skips what needs it) or `npm` (npm packages only). SCRIPT runs on
 * the Node.js this project pins.
 *
 * This file itself is plain JavaScript without a dependency: it runs on Node.js 20 before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

/** sysexits(3). */
const EX_USAGE = 64;
const EX_UNAVAILABLE = 69;

/** Debian package by the command it is looked up by: what every lab needs. */
const LAB_PACKAGES = {
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
  gobgpd: 'gobgpd',
};

/** What the demo shows besides: a router of somebody else's. */
const DEMO_PACKAGES = { bird: 'bird2' };

/** What builds the container image, without a registry. */
const IMAGE_PACKAGES = { mmdebstrap: 'mmdebstrap', buildah: 'buildah', strip: 'binutils' };

/** What some suites need. Each of these looks for it and skips without. */
const SUITE_PACKAGES = {
  ...DEMO_PACKAGES,
  ...IMAGE_PACKAGES,
  crun: 'crun',
  vtysh: 'frr',
  // The command alone; the package of its name makes a service of it.
  exabgp: 'python3-exabgp',
  '/usr/lib/cni/bridge': 'containernetworking-plugins',
  'systemd-analyze': 'systemd',
  // Our own package depends on it.
  'update-ca-certificates': 'ca-certificates',
};

const DEBIAN_PACKAGES = { ...LAB_PACKAGES, ...SUITE_PACKAGES };

/** Services that these packages start and have started at every boot, by the package. Labs start their own; this machine is asked to route nothing. */
const SERVICES = { gobgpd: 'gobgpd', bird2: 'bird', frr: 'frr' };

/** Asked before a package starts a service (invoke-rc.d(8)); 101 forbids it. */
const START_POLICY = '/usr/sbin/policy-rc.d';

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
  if (command.startsWith('/')) return isExecutable(command);
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return directories.some(directory => directory !== '' && isExecutable(join(directory, command)));
}

function missingOf(packages) {
  return Object.keys(packages).filter(command => !isInstalled(command));
}

function packagesOf(commands) {
  return commands.map(command => DEBIAN_PACKAGES[command]);
}

/** Runs a command quietly; what it printed is shown if it fails. True if it ended with 0. */
function runs(argv, env = process.env) {
  const result = spawnSync(argv[0], argv.slice(1), { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.status === 0) return true;
  say(`${argv.join(' ')} failed:\n${result.error?.message ?? ''}${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd());
  return false;
}

/** Nothing that is installed meanwhile is started. A policy of the machine's own is left in force. */
function withoutStarts(install) {
  if (existsSync(START_POLICY)) return install();
  // Until the policy is gone again, an interrupt ends what is running, not this process.
  const wait = () => {};
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, wait);
  writeFileSync(START_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return install();
  } finally {
    rmSync(START_POLICY, { force: true });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, wait);
  }
}

/** A package also says that its service is to start at the next boot. */
function keepFromStarting(service) {
  if (isInstalled('systemctl')) runs(['systemctl', '--root=/', '--quiet', 'disable', `${service}.service`]);
  if (existsSync(`/etc/init.d/${service}`)) runs(['update-rc.d', service, 'disable']);
}

/** The commands of these packages that are still missing afterwards. */
function installDebianPackages(wanted) {
  const missing = missingOf(wanted);
  if (missing.length === 0 || process.getuid?.() !== 0 || !isInstalled('apt-get')) return missing;
  const packages = packagesOf(missing);
  say(`Installing Debian packages: ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  withoutStarts(() => {
    // A stale package list is only a reason to fail if the installation then does.
    runs(['apt-get', 'update', '-qq'], env);
    const install = ['apt-get', 'install', '-y', '-qq', '--no-install-recommends'];
    // One that is not to be had stops no other.
    if (!runs([...install, ...packages], env)) for (const one of packages) runs([...install, one], env);
  });
  const stillMissing = missingOf(wanted);
  for (const command of missing) {
    const service = SERVICES[DEBIAN_PACKAGES[command]];
    if (service !== undefined && !stillMissing.includes(command)) keepFromStarting(service);
  }
  return stillMissing;
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
if (!['demo', 'image', 'test', 'npm'].includes(needs) || script === undefined) {
  stop(EX_USAGE, 'usage: node scripts/bootstrap.mjs demo|image|test|npm SCRIPT [ARGUMENT...]');
}
const WANTED = { npm: {}, demo: { ...LAB_PACKAGES, ...DEMO_PACKAGES }, image: IMAGE_PACKAGES, test: DEBIAN_PACKAGES };
const missing = installDebianPackages(WANTED[needs]);
const aptLine = `apt-get install -y ${packagesOf(missing).join(' ')}`;
if (missing.length > 0 && needs !== 'test') {
  stop(EX_UNAVAILABLE, `Not installed: ${missing.join(', ')}. As root: apt-get update && ${aptLine}`);
}
const missingOfLabs = missing.filter(command => command in LAB_PACKAGES);
installNpmPackages();
const env = { ...process.env };
delete env.FAIRWAY_MISSING_TOOLS;
if (missingOfLabs.length > 0) env.FAIRWAY_MISSING_TOOLS = `not installed: ${missingOfLabs.join(', ')} (as root: ${aptLine})`;
runPinned(script, args, env);
