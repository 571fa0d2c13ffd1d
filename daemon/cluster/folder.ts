/** A folder of files that people and tools change at any time. */
import { type FSWatcher, watch } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface FolderFile {
  readonly name: string;
  /** Differs after every change of the file's content. */
  readonly stamp: string;
}

export interface Folder {
  readonly path: string;
  /** Files in it, links to files included, in the order of their names. Rejects where the folder cannot be read. */
  list(): Promise<readonly FolderFile[]>;
  read(name: string): Promise<string>;
  /** Calls back after changes, as far as the file system tells of them: some never do. Undefined where it cannot be watched. */
  watch(onChange: () => void): { close(): void } | undefined;
}

/** The folder at a path, which need not exist yet. */
export function folderAt(path: string): Folder {
  return {
    path,
    list: async () => {
      const names = (await readdir(path)).sort();
      const files = await Promise.all(names.map(name => fileAt(path, name)));
      return files.filter(file => file !== undefined);
    },
    read: async name => await readFile(join(path, name), 'utf8'),
    watch: onChange => watcherOf(path, onChange),
  };
}

/** One file as a folder with nothing else in it; empty where it is not there. */
export function folderOfFile(path: string): Folder {
  const [folder, name] = [dirname(path), basename(path)];
  return {
    path,
    list: async () => {
      const file = await fileAt(folder, name);
      return file === undefined ? [] : [file];
    },
    read: async () => await readFile(path, 'utf8'),
    watch: onChange => watcherOf(folder, onChange),
  };
}

async function fileAt(path: string, name: string): Promise<FolderFile | undefined> {
  try {
    const stats = await stat(join(path, name), { bigint: true });
    return stats.isFile() ? { name, stamp: `${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}` } : undefined;
  } catch {
    // It went away between readdir(3) and stat(2), or is a link to nowhere.
    return undefined;
  }
}

function watcherOf(path: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(path, onChange);
    watcher.on('error', () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}
