/** Skipping a test so that whoever reads the result knows why. */
import type { Context, Runnable, Suite, Test } from 'mocha';

const REASON = Symbol.for('fairway.skipReason');

/** Skips the test or, from a `before` hook, all tests of its suite. Does not return. */
export function skipBecause(context: Context, reason: string): never {
  const runnable = context.runnable();
  // A hook is not in its suite's list of tests.
  const isTest = runnable.parent?.tests.some(test => test === runnable) ?? false;
  Reflect.set(isTest ? runnable : (runnable.parent ?? runnable), REASON, reason);
  return context.skip();
}

/** The reason a pending test was given, on itself or on a suite around it. */
export function skipReasonOf(test: Test): string {
  for (let at: Runnable | Suite | undefined = test; at !== undefined; at = at.parent) {
    const reason: unknown = Reflect.get(at, REASON);
    if (typeof reason === 'string') return reason;
  }
  return 'no reason is given in the test';
}
