/** Reading text files of the kernel line by line without holding up the event loop. */
import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { lineSplitter } from './process-runner.ts';

/** Hands over the lines of a file as they are read. Rejects as `fs.open` and `fs.read` do, and with the reason of an aborted signal. */
export type ReadLines = (path: string, onLine: (line: string) => void, signal: AbortSignal) => Promise<void>;

/** Milliseconds of reading and parsing between two turns of the event loop. */
const SLICE_MS = 5;

/**
 * Reads files below /proc. The reads are synchronous on purpose: the kernel writes such a file out of its memory on the spot and gives
 * one page (4 KiB) a read, so that going through the thread pool costs several times what the read does. After every few
 * milliseconds the event loop has its turn. `now` is a monotonic clock in milliseconds.
 */
export function procLines(now: () => number): ReadLines {
  return async (path, onLine, signal) => {
    const splitter = lineSplitter(onLine);
    const buffer = Buffer.allocUnsafe(65_536);
    const file = openSync(path, 'r');
    try {
      let sliceEnd = now() + SLICE_MS;
      for (let length = readSync(file, buffer); length > 0; length = readSync(file, buffer)) {
        splitter.push(buffer.toString('latin1', 0, length));
        if (now() < sliceEnd) continue;
        await nextTurn();
        signal.throwIfAborted();
        sliceEnd = now() + SLICE_MS;
      }
      splitter.end();
    } finally {
      closeSync(file);
    }
  };
}
