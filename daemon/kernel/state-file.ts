/** A small file of ours that outlives the process, though not the machine: below /run. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface StateFile {
  /** Undefined where there is none. Rejects where it cannot be read. */
  read(): Promise<string | undefined>;
  /** In one piece: a crash leaves the old text or the new. Rejects where it cannot be written. */
  write(text: string): Promise<void>;
}

/** Its folder is made, for root alone. */
export function stateFile(path: string): StateFile {
  return {
    read: () =>
      readFile(path, 'utf8').catch((thrown: unknown) => {
        if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
        throw thrown;
      }),
    async write(text) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      await rename(`${path}.new`, path);
    },
  };
}
