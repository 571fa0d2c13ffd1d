/** From this checkout to an image in an archive: `Containerfile` at work on the pinned Node.js, the bundle and the init step. */
import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { baseImage, packagesOf } from './base.ts';
import { output } from './command.ts';
import { Storage } from './storage.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');
const CONTAINERFILE = join(ROOT, 'Containerfile');
const NODE = 'node_modules/node/bin/node';
/** What Containerfile copies from here. */
const COPIED = ['LICENSE', NODE, 'dist/fairway.js', 'manifests/install-cni.sh'];

export interface ImageOptions {
  /** Of ours; see `cacheFolder`. */
  readonly cache: string;
  /** An image to build from in place of one made by mmdebstrap. */
  readonly base?: string;
  /** The file that is made. */
  readonly archive: string;
  readonly onProgress: (line: string) => void;
}

/** `fairway:0.1.0` */
export async function imageName(): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return `fairway:${version}`;
}

/** Of everything in this checkout that an image is made of: two images with the same are alike, but for Debian's updates. */
export async function sourcesDigest(): Promise<string> {
  const hash = createHash('sha256');
  for (const path of [CONTAINERFILE, ...COPIED.map(name => join(ROOT, name))]) hash.update(await readFile(path));
  return hash.digest('hex').slice(0, 16);
}

/** Builds; `dist/fairway.js` must be there. Rejects with ToolFailed. */
export async function buildImage({ cache, base, archive, onProgress }: ImageOptions): Promise<void> {
  const storage = await Storage.open(cache);
  const packages = packagesOf(await readFile(CONTAINERFILE, 'utf8'));
  const from = base ?? (await baseImage(storage, packages, () => onProgress('making a base of Debian packages (mmdebstrap)')));
  const context = await mkdtemp(join(tmpdir(), 'fairway-context-'));
  try {
    await gather(context);
    onProgress(`building from ${from}`);
    const image = await storage.build({ containerfile: CONTAINERFILE, context, args: { BASE: from } });
    onProgress('packing');
    await storage.export(image, archive, await imageName());
    await storage.remove(image);
  } finally {
    await rm(context, { recursive: true, force: true });
  }
}

/** A folder with these files alone: a checkout's node_modules may be a link to somewhere else, which no builder follows. */
async function gather(context: string): Promise<void> {
  for (const name of COPIED) {
    const to = join(context, name);
    await mkdir(dirname(to), { recursive: true });
    await copyFile(join(ROOT, name), to);
  }
  const node = join(context, NODE);
  // 18 MB of names that only a debugger of V8 itself reads.
  await output(['strip', '--strip-unneeded', node]);
  await chmod(node, 0o755);
}

/** In megabytes. */
export async function sizeOf(path: string): Promise<string> {
  return ((await stat(path)).size / 1e6).toFixed(1);
}
