/**
 * The base of the image, from Debian packages alone: mmdebstrap(1) needs an archive of packages and no registry of images. It holds what Containerfile
 * asks for already, so that building from it fetches nothing.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output } from './command.ts';
import { type MachineApt, machineApt } from './machine-apt.ts';
import type { Storage } from './storage.ts';

const NAME = 'localhost/fairway-base';

/** What Debian's own slim image leaves out as well; licences stay. */
const LEFT_OUT = ['doc', 'info', 'lintian', 'locale', 'man'];

/** The packages that Containerfile says the image needs. */
export function packagesOf(containerfile: string): readonly string[] {
  const list = /^ARG PACKAGES="(.*)"$/m.exec(containerfile)?.[1];
  if (list === undefined) throw new Error('Containerfile has no line ARG PACKAGES="..."');
  return list.split(' ');
}

/** The name of an image with these packages, made now unless it is there from an earlier time with the archive as it is. */
export async function baseImage(storage: Storage, packages: readonly string[], onMake: () => void): Promise<string> {
  const apt = await machineApt();
  const argv = mmdebstrap(packages, apt);
  const key = createHash('sha256')
    .update(JSON.stringify([argv, apt.sources, apt.releases]))
    .digest('hex')
    .slice(0, 16);
  const image = `${NAME}:${key}`;
  if (await storage.has(image)) return image;
  onMake();
  const folder = await mkdtemp(join(tmpdir(), 'fairway-base-'));
  try {
    const tar = join(folder, 'base.tar');
    const sources = apt.sources.map((text, index) => ({ path: join(folder, `${index}.sources`), text }));
    for (const { path, text } of sources) await writeFile(path, text);
    await output([...argv, apt.suite, tar, ...sources.map(({ path }) => path)]);
    // Whoever starts a container gives it devices, and who unpacks an image without being root can make none.
    await output(['tar', '--delete', '--file', tar, '--wildcards', './dev/*']);
    for (const old of await storage.imagesNamed(NAME)) await storage.remove(old);
    await storage.import(tar, image);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return image;
}

function mmdebstrap(packages: readonly string[], { options }: MachineApt): readonly string[] {
  return [
    'mmdebstrap',
    '--quiet',
    '--format=tar',
    // What every package counts on; apt itself stays outside, since nothing is installed later.
    '--variant=essential',
    // One /usr from the start: converting it takes a package that takes all of perl with it.
    '--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr',
    `--include=${['usr-is-merged', ...packages].join(',')}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...options.map(line => `--aptopt=${line}`),
    ...LEFT_OUT.map(name => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
    '--dpkgopt=path-include=/usr/share/doc/*/copyright',
    // They are this machine's.
    '--customize-hook=rm -rf "$1"/etc/hostname "$1"/etc/resolv.conf',
  ];
}
