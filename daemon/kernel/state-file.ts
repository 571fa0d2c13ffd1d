/** A small file of ours that outlives the process: below /run for as long as the machine runs, elsewhere for good. */
import { mkdir, open, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface StateFile {
  /** Undefined where there is none. Rejects where it cannot be read. */
  read(): Promise<string | undefined>;
  /** In one piece: a crash leaves the old text or the new. Rejects where it cannot be written. */
  write(text: string): Promise<void>;
}

/** One that a reboot does not take, and which nobody could make anew. */
export interface LastingFile extends StateFile {
  readonly path: string;
  /** Where {@link setAside} puts it. */
  readonly asidePath: string;
  /** Moves it away, that it is not written over. Nothing happens where there is none. */
  setAside(): Promise<void>;
}

/** Its folder is made, for root alone. */
export function stateFile(path: string): StateFile {
  return {
    read: () => textOf(path),
    async write(text) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      await rename(`${path}.new`, path);
    },
  };
}

/** Likewise; what was written is on the disk. */
export function lastingFile(path: string): LastingFile {
  const asidePath = `${path}.broken`;
  return {
    path,
    asidePath,
    read: () => textOf(path),
    async write(text) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const file = await open(`${path}.new`, 'w', 0o600);
      try {
        await file.writeFile(text);
        // Without it, a file system may have the new name on the disk before the text (rename(2), fsync(2)): an empty file after a power failure.
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.new`, path);
    },
    async setAside() {
      await rename(path, asidePath).catch(ifAbsent);
    },
  };
}

function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ifAbsent);
}

function ifAbsent(thrown: unknown): undefined {
  if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
  throw thrown;
}
