/**
 * A mocha reporter for programs: one JSON text per test on standard output, each begun by a record separator and ended by a newline
 * (RFC 7464), so that whatever the tests themselves print stays apart. Read by `scripts/test.ts`, on this machine and from a guest.
 */
import Mocha from 'mocha';
import { skipReasonOf } from './skip.ts';

/** What is known of one test when it has ended. Titles are full: suite, blank, test. */
export type TestRecord =
  | { readonly outcome: 'passed'; readonly title: string }
  | { readonly outcome: 'failed'; readonly title: string; readonly message: string }
  /** `unavailable` is a failure of the place, not of the test: this machine has no lab to run it in. */
  | { readonly outcome: 'skipped' | 'unavailable'; readonly title: string; readonly reason: string };

export const RECORD_SEPARATOR = '\u001e';

class JsonTextSequence extends Mocha.reporters.Base {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const { EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING } = Mocha.Runner.constants;
    runner.on(EVENT_TEST_PASS, test => {
      write({ outcome: 'passed', title: test.fullTitle() });
    });
    runner.on(EVENT_TEST_FAIL, (test, error) => {
      const title = test.fullTitle();
      const unavailable = error instanceof Error && error.name === 'LabUnavailable';
      write(
        unavailable
          ? { outcome: 'unavailable', title, reason: error.message }
          : { outcome: 'failed', title, message: messageOf(error) },
      );
    });
    runner.on(EVENT_TEST_PENDING, test => {
      write({ outcome: 'skipped', title: test.fullTitle(), reason: skipReasonOf(test) });
    });
  }
}

function write(record: TestRecord): void {
  process.stdout.write(`${RECORD_SEPARATOR}${JSON.stringify(record)}\n`);
}

/** Message, difference and stack, without the frames of mocha and Node.js. */
function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const frames = (thrown.stack ?? '')
    .split('\n')
    .filter(line => /^ {4}at /.test(line) && !/node:internal|node_modules\/mocha/.test(line));
  const cause = thrown.cause === undefined ? [] : [`caused by ${messageOf(thrown.cause)}`];
  return [`${thrown.name}: ${thrown.message}`, ...frames.slice(0, 8), ...cause].join('\n');
}

export default JsonTextSequence;
