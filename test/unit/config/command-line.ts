/** Command lines for tests: everything is built and the API server is near unless a test says otherwise. */
import assert from 'node:assert/strict';
import { formatConfigError } from '../../../daemon/config/config-error.ts';
import { MODULE_NAMES, type ModuleName } from '../../../daemon/config/modules.ts';
import { type ParseResult, parseArguments } from '../../../daemon/config/parse.ts';

export const IN_CLUSTER = { KUBERNETES_SERVICE_HOST: '10.96.0.1' };
export const ALL_BUILT: ReadonlySet<ModuleName> = new Set(MODULE_NAMES);

export type Accepted = Extract<ParseResult, { kind: 'run' }>;

/** The result of a command line that must be accepted. */
export function accepted(argv: readonly string[], env: Record<string, string> = IN_CLUSTER, built = ALL_BUILT): Accepted {
  const result = parseArguments(argv, env, built);
  if (result.kind === 'errors') assert.fail(result.errors.map(formatConfigError).join('\n'));
  assert.ok(result.kind === 'run', `expected a configuration, not ${result.kind}`);
  return result;
}

/** What the user is told of a command line that must be refused, one line per fault. */
export function refused(argv: readonly string[], env: Record<string, string> = IN_CLUSTER): readonly string[] {
  const result = parseArguments(argv, env, ALL_BUILT);
  assert.ok(result.kind === 'errors', `expected errors, not ${result.kind}`);
  return result.errors.map(formatConfigError);
}
