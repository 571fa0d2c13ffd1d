/** Mocha suites that run in the lab. The test itself runs on this machine, as any other; only what it starts runs in the lab. */
import { skipBecause } from '../skip.ts';
import { Lab, type LabOptions } from './lab.ts';
import { LabUnavailable } from './place.ts';

/**
 * A suite with a lab of its own, built before its first test and ended after its last. `body` registers tests; within them `lab()` is
 * the lab. Where there is no place for a lab the suite is skipped and says why on standard error, unless FAIRWAY_LAB_REQUIRED is set: then it fails.
 */
export function describeLab(title: string, options: LabOptions, body: (lab: () => Lab) => void): void {
  describe(title, function () {
    // A guest shares its CPU with everything else on the machine.
    this.timeout(60_000);
    let running: Lab | undefined;
    before(`lab for ${title}`, async function () {
      try {
        running = await Lab.start(options);
      } catch (error) {
        if (!(error instanceof LabUnavailable) || (process.env['FAIRWAY_LAB_REQUIRED'] ?? '') !== '') throw error;
        process.stderr.write(`\nSKIPPED, NOT TESTED: ${title}: ${error.message}\n\n`);
        skipBecause(this, error.message);
      }
    });
    after(async () => {
      await running?.close();
    });
    body(() => {
      if (running === undefined) throw new Error('the lab is there within tests and hooks only');
      return running;
    });
  });
}
