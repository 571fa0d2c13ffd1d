// Preloaded into a daemon (`node --import`): the longest pause of its event loop, written to $FAIRWAY_BENCH_PAUSES every second, in
// milliseconds. A timer that is due every few milliseconds tells how late it is; that costs more than the daemon itself does at rest.
import { writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 10;
const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
monitor.enable();
const file = process.env.FAIRWAY_BENCH_PAUSES;
if (file !== undefined) {
  setInterval(() => {
    // Where this comes at the end of a pause the monitor has not seen it yet, and reset now, it never would.
    setTimeout(() => {
      writeFileSync(file, `${monitor.max / 1e6 - RESOLUTION_MS}\n`, { flag: 'a' });
      monitor.reset();
    }, 2 * RESOLUTION_MS).unref();
  }, 1000).unref();
}
