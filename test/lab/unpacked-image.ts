/** The container image as files: built by the project's own script, unpacked as a node's runtime does. Kept in the user's cache until something in it changes. */
import { access, constants, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage, sourcesDigest } from '../../scripts/image/build.ts';
import { output, ToolFailed } from '../../scripts/image/command.ts';
import { cacheFolder } from '../../scripts/image/storage.ts';

export interface UnpackedImage {
  /** The folder that becomes the container's root. */
  readonly root: string;
  readonly entrypoint: readonly string[];
  /** `NAME=value` */
  readonly environment: readonly string[];
  readonly layers: number;
}

interface Descriptor {
  readonly digest: string;
}

/** image-spec's manifest and configuration, as far as they are read here. */
interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}
interface Configuration {
  readonly config: { readonly Entrypoint: readonly string[]; readonly Env: readonly string[] };
}

/** Unpacked images that are kept, of 225 MB each. */
const KEPT = 4;

const TOOLS = ['mmdebstrap', 'buildah', 'crun', 'strip'];

/** What this machine lacks to build the image and to start a container; undefined where it lacks nothing. */
export async function missingForImages(): Promise<string | undefined> {
  if (process.geteuid?.() !== 0) return 'an image is built and unpacked by root';
  const folders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin'];
  const found = await Promise.all(
    TOOLS.map(tool =>
      Promise.any(folders.map(folder => access(join(folder, tool), constants.X_OK))).then(
        () => true,
        () => false,
      ),
    ),
  );
  const missing = TOOLS.filter((_, index) => found[index] !== true);
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')} (Debian: mmdebstrap buildah crun binutils)`;
}

/** No archive of packages answered: without the network there is no base. */
export function isWithoutArchive(thrown: unknown): thrown is ToolFailed {
  return thrown instanceof ToolFailed && /^mmdebstrap .*\bapt-get update .*failed$/ms.test(thrown.message);
}

/** Builds unless an earlier run did, with the same bundle. Rejects with ToolFailed. */
export async function unpackedImage(onProgress: (line: string) => void): Promise<UnpackedImage> {
  const cache = cacheFolder(process.env);
  const images = join(cache, 'unpacked');
  const folder = join(images, await sourcesDigest());
  if (!(await isThere(folder))) {
    await mkdir(images, { recursive: true });
    await removeOldest(images, KEPT - 1);
    // Renamed into place, so that one which was interrupted is never taken for whole.
    const partial = await mkdtemp(join(images, 'partial-'));
    const archive = join(partial, 'image.oci.tar');
    await buildImage({ cache, archive, onProgress });
    await unpack(archive, partial);
    await rename(partial, folder);
  }
  const now = new Date();
  await utimes(folder, now, now);
  return await describe(folder);
}

/** Those that were used last stay: other checkouts' tests may be at work in them. */
async function removeOldest(images: string, kept: number): Promise<void> {
  const folders = (await readdir(images)).map(name => join(images, name));
  const used = await Promise.all(folders.map(async path => ({ path, at: (await stat(path)).mtimeMs })));
  const old = used.sort((one, other) => other.at - one.at).slice(kept);
  for (const { path } of old) await rm(path, { recursive: true, force: true });
}

async function unpack(archive: string, folder: string): Promise<void> {
  await output(['tar', '--extract', '--file', archive, '--directory', folder]);
  await rm(archive);
  const root = join(folder, 'root');
  await mkdir(root);
  const { layers } = await manifestIn(folder);
  for (const layer of layers) {
    await output(['tar', '--extract', '--numeric-owner', '--file', blob(folder, layer), '--directory', root]);
    await rm(blob(folder, layer));
  }
}

async function describe(folder: string): Promise<UnpackedImage> {
  const { config, layers } = await manifestIn(folder);
  const { Entrypoint, Env } = (await json<Configuration>(blob(folder, config))).config;
  return { root: join(folder, 'root'), entrypoint: Entrypoint, environment: Env, layers: layers.length };
}

async function manifestIn(folder: string): Promise<Manifest> {
  const { manifests } = await json<{ readonly manifests: readonly Descriptor[] }>(join(folder, 'index.json'));
  const [manifest] = manifests;
  if (manifest === undefined) throw new Error(`${folder} holds no image`);
  return await json<Manifest>(blob(folder, manifest));
}

function blob(folder: string, { digest }: Descriptor): string {
  return join(folder, 'blobs', ...digest.split(':'));
}

async function json<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
