/**
 * Writes `dist/fairway_VERSION_ARCHITECTURE.deb`: `npm run package [-- --version VERSION] [--outdir FOLDER] [--compression xz|none] [--level 0-9]`.
 *
 * The same sources give the same bytes: times are clamped to $SOURCE_DATE_EPOCH (dpkg-deb(1)), which is that of the last commit unless given; owners, modes and the
 * order of files are set here and by dpkg-deb. What is laid where, and what happens at installation, is in `packaging/debian`.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = resolve(import.meta.dirname, '..');
const MAINTAINER = 'Fairway maintainers <maintainers@fairway.invalid>';
/** What a repository's file becomes in the package. */
const FILES: readonly { readonly from: string; readonly to: string; readonly mode?: number }[] = [
  { from: 'node_modules/node/bin/node', to: 'usr/lib/fairway/node', mode: 0o755 },
  { from: 'packaging/debian/launcher', to: 'usr/bin/fairway', mode: 0o755 },
  { from: 'systemd/fairway.service', to: 'lib/systemd/system/fairway.service' },
  { from: 'systemd/fairway-cleanup.service', to: 'lib/systemd/system/fairway-cleanup.service' },
  { from: 'systemd/fairway-gobgpd.service', to: 'lib/systemd/system/fairway-gobgpd.service' },
  { from: 'systemd/modules-load.d/fairway.conf', to: 'usr/lib/modules-load.d/fairway.conf' },
  { from: 'systemd/sysctl.d/50-fairway.conf', to: 'usr/lib/sysctl.d/50-fairway.conf' },
  // It may hold passwords of BGP neighbours.
  { from: 'systemd/fairway.env', to: 'etc/fairway/fairway.env', mode: 0o640 },
  { from: 'systemd/README.md', to: 'usr/share/doc/fairway/README.md' },
  { from: 'systemd/examples/direct-server-return.conf', to: 'usr/share/doc/fairway/examples/direct-server-return.conf' },
  { from: 'examples/shop.yaml', to: 'usr/share/doc/fairway/examples/shop.yaml' },
  { from: 'examples/shop-policy.yaml', to: 'usr/share/doc/fairway/examples/shop-policy.yaml' },
  { from: 'packaging/debian/lintian-overrides', to: 'usr/share/lintian/overrides/fairway' },
  { from: 'packaging/debian/conffiles', to: 'DEBIAN/conffiles' },
  { from: 'packaging/debian/postinst', to: 'DEBIAN/postinst', mode: 0o755 },
  { from: 'packaging/debian/prerm', to: 'DEBIAN/prerm', mode: 0o755 },
  { from: 'packaging/debian/postrm', to: 'DEBIAN/postrm', mode: 0o755 },
];
const EMPTY_FOLDERS = ['etc/fairway/manifests'];

const { values } = parseArgs({
  options: {
    version: { type: 'string' },
    outdir: { type: 'string', default: join(root, 'dist') },
    compression: { type: 'string', default: 'xz' },
    // 35 MB after 12 s; 9 takes 100 s for 30 MB.
    level: { type: 'string', default: '1' },
  },
});
const version = values.version ?? (JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }).version;
/** What comes before a release sorts before it (deb-version(7)). */
const debianVersion = version.replace('-', '~');
const architecture = text('dpkg', '--print-architecture');
const epoch = Number(process.env['SOURCE_DATE_EPOCH'] ?? lastChange());

const stage = await mkdtemp(join(tmpdir(), 'fairway-package-'));
try {
  await fill();
  await mkdir(values.outdir, { recursive: true });
  const file = join(values.outdir, `fairway_${debianVersion}_${architecture}.deb`);
  execFileSync('dpkg-deb', [`-Z${values.compression}`, `-z${values.level}`, '--build', '--root-owner-group', stage, file], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) },
  });
  console.log(`${file}: ${(statSync(file).size / 1e6).toFixed(1)} MB`);
} finally {
  await rm(stage, { recursive: true, force: true });
}

async function fill(): Promise<void> {
  for (const { from, to } of FILES) {
    await mkdir(dirname(join(stage, to)), { recursive: true });
    await copyFile(join(root, from), join(stage, to));
  }
  for (const folder of EMPTY_FOLDERS) await mkdir(join(stage, folder), { recursive: true });
  const program = join(stage, 'usr/lib/fairway');
  execFileSync(
    process.execPath,
    [join(root, 'scripts/build.ts'), `--outfile=${join(program, 'fairway.js')}`, `--version=${version}`],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  // Says that the program is a module, which Node.js would otherwise find out by reading it twice.
  await writeFile(join(program, 'package.json'), `${JSON.stringify({ name: 'fairway', version, type: 'module' })}\n`);
  const pages = join(stage, 'usr/share/doc/fairway');
  await writeFile(join(pages, 'copyright'), copyright());
  await writeFile(join(pages, 'changelog.gz'), packed(changelog()));
  await writeFile(join(pages, 'CHANGELOG.md.gz'), packed(await readFile(join(root, 'CHANGELOG.md'))));
  await writeFile(join(pages, 'third-party-licenses.gz'), packed(await thirdPartyLicenses()));
  await writeFile(join(stage, 'DEBIAN/control'), await control());
  await setModes();
}

/** Whatever the umask of who builds. */
async function setModes(): Promise<void> {
  const modes = new Map(FILES.map(({ to, mode }) => [join(stage, to), mode]));
  modes.set(join(stage, 'usr/lib/fairway/fairway.js'), 0o755);
  await chmod(stage, 0o755);
  for (const found of await readdir(stage, { recursive: true, withFileTypes: true })) {
    const path = join(found.parentPath, found.name);
    await chmod(path, found.isDirectory() ? 0o755 : (modes.get(path) ?? 0o644));
  }
}

async function control(): Promise<string> {
  let bytes = 0;
  for (const found of await readdir(stage, { recursive: true, withFileTypes: true }))
    if (found.isFile() && !found.parentPath.endsWith('DEBIAN')) bytes += statSync(join(found.parentPath, found.name)).size;
  const template = await readFile(join(root, 'packaging/debian/control'), 'utf8');
  const filled: Readonly<Record<string, string>> = {
    VERSION: debianVersion,
    ARCHITECTURE: architecture,
    MAINTAINER,
    INSTALLED_SIZE: String(Math.ceil(bytes / 1024)),
  };
  return template.replace(/@([A-Z_]+)@/g, (_, name: string) => filled[name] ?? '');
}

function copyright(): string {
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: fairway

Files: *
Copyright: 2026 the Fairway maintainers
License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.

Files: usr/lib/fairway/node
Copyright: Node.js contributors and the authors of what it contains
License: Expat and others
 As its makers built it: https://github.com/nodejs/node/blob/${process.version}/LICENSE

Files: usr/lib/fairway/fairway.js
Copyright: 2026 the Fairway maintainers, and the authors of the npm packages bundled in it
License: Apache-2.0 and others
 The licenses of the npm packages are in /usr/share/doc/fairway/third-party-licenses.gz.
`;
}

/** In Debian's form (deb-changelog(5)); what changed is in the project's own. */
function changelog(): string {
  const date = new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
  return `fairway (${debianVersion}) stable; urgency=medium

  * What changed is told in CHANGELOG.md.gz.

 -- ${MAINTAINER}  ${date}
`;
}

/** Of every npm package that may be in the bundle: those that are no tools of development. */
async function thirdPartyLicenses(): Promise<string> {
  const { packages } = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Readonly<Record<string, { readonly version?: string; readonly license?: string; readonly dev?: boolean }>>;
  };
  const bundled = Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && existsSync(join(root, path)))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const sections: string[] = [];
  for (const [path, { version: of = '', license = '' }] of bundled) {
    const folder = join(root, path);
    const files = (await readdir(folder)).filter(name => /^(licen[cs]e|copying|notice)(\.|$|-)/i.test(name)).sort();
    const texts = await Promise.all(files.map(name => readFile(join(folder, name), 'utf8')));
    sections.push([`${path.replace(/^.*node_modules\//, '')} ${of}: ${license}`, ...texts.map(one => one.trim())].join('\n\n'));
  }
  return `${sections.join(`\n\n${'-'.repeat(72)}\n\n`)}\n`;
}

function packed(content: string | Uint8Array): Uint8Array {
  return gzipSync(content, { level: 9 });
}

/** Of the sources, in seconds since 1970. */
function lastChange(): number {
  try {
    return Number(text('git', '-C', root, 'log', '-1', '--format=%ct'));
  } catch {
    // No git, or a tree that is none of it.
    return Math.floor(statSync(join(root, 'package.json')).mtimeMs / 1000);
  }
}

function text(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}
