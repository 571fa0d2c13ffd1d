/** The files of CNI: configurations, which a runtime reads at any moment, and the plugins that are installed. */
import { access, constants, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** The files as the driver needs them; what it rejects with carries the `code` of errno(3). */
export interface CniFiles {
  /** Undefined where there is no such file. */
  read(path: string): Promise<string | undefined>;
  /** In one step: who reads meanwhile gets the old text or the new one, also after a loss of power. */
  replace(path: string, text: string): Promise<void>;
  hasPlugin(name: string): Promise<boolean>;
}

/** Where Kubernetes and the distributions keep plugins. */
export const PLUGIN_FOLDERS: readonly string[] = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

/** Of a file that is new: readable, as others in that folder are. */
const NEW_FILE_MODE = 0o644;

export function cniFiles({ pluginFolders }: { readonly pluginFolders: readonly string[] }): CniFiles {
  return {
    read: path => unlessAbsent(readFile(path, 'utf8')),
    async replace(path, text) {
      // A link stays one: what it leads to is replaced.
      const target = (await unlessAbsent(realpath(path))) ?? path;
      await mkdir(dirname(target), { recursive: true });
      const mode = (await unlessAbsent(stat(target)))?.mode ?? NEW_FILE_MODE;
      await replaceFile(target, text, mode & 0o777);
    },
    async hasPlugin(name) {
      const found = await Promise.all(pluginFolders.map(folder => isExecutable(join(folder, name))));
      return found.includes(true);
    },
  };
}

/** The name of the file beside it is always the same, so that a crash leaves at most one; no runtime takes it for a configuration. */
async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const folder = dirname(path);
  const beside = join(folder, `.${basename(path)}.fairway`);
  try {
    await writeThrough(beside, text, mode);
    await rename(beside, path);
  } catch (thrown) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw thrown;
  }
  await flushFolder(folder);
}

async function writeThrough(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, 'w', mode);
  try {
    // The umask, or the file that a crash left, may have given it another.
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the rename last. */
async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function unlessAbsent<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
    throw thrown;
  }
}
