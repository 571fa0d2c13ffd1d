/**
 * A store of images of our own, in the user's cache, and buildah(1) working in it. Copies in place of overlays, and a chroot in place of a container: so it
 * works inside containers and on kernels that allow neither.
 */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { output } from './command.ts';

/** `$XDG_CACHE_HOME/fairway`, else `~/.cache/fairway`. */
export function cacheFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const base = environment['XDG_CACHE_HOME'] ?? '';
  return join(base === '' ? join(environment['HOME'] ?? homedir(), '.cache') : base, 'fairway');
}

export interface ImageBuild {
  readonly containerfile: string;
  /** The folder with everything it copies. */
  readonly context: string;
  /** Values of its ARG lines. */
  readonly args: Readonly<Record<string, string>>;
}

export class Storage {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(cache: string): Promise<Storage> {
    const folder = join(cache, 'storage');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return new Storage(folder);
  }

  async has(image: string): Promise<boolean> {
    return (await this.imagesNamed(image)).length > 0;
  }

  /** With their tags. */
  async imagesNamed(name: string): Promise<readonly string[]> {
    const lines = await this.#buildah(['images', '--format', '{{.Name}}:{{.Tag}}']);
    return lines.split('\n').filter(line => line === name || line.startsWith(`${name}:`));
  }

  /** Makes an image of one layer. */
  async import(tar: string, image: string): Promise<void> {
    const container = (await this.#buildah(['from', 'scratch'])).trim();
    try {
      await this.#buildah(['add', '--quiet', container, tar, '/']);
      await this.#buildah(['commit', '--quiet', '--disable-compression', container, image]);
    } finally {
      await this.#buildah(['rm', container]);
    }
  }

  /** The id of the image. A base that is not here is fetched. */
  async build({ containerfile, context, args }: ImageBuild): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'fairway-image-'));
    const idFile = join(folder, 'id');
    try {
      const given = Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
      await this.#buildah(['build', '--no-cache', '--force-rm', '--iidfile', idFile, '--file', containerfile, ...given, context]);
      return (await readFile(idFile, 'utf8')).trim();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** As an archive that podman, docker, ctr and skopeo read, under this name. */
  async export(image: string, archive: string, name: string): Promise<void> {
    await rm(archive, { force: true });
    await this.#buildah(['push', '--quiet', image, `oci-archive:${archive}:${name}`]);
  }

  async remove(image: string): Promise<void> {
    await this.#buildah(['rmi', '--force', image]);
  }

  async #buildah(args: readonly string[]): Promise<string> {
    const where = ['--storage-driver', 'vfs', '--root', join(this.#folder, 'images'), '--runroot', join(this.#folder, 'run')];
    return await output(['buildah', ...where, ...args], { environment: { BUILDAH_ISOLATION: 'chroot' } });
  }
}
