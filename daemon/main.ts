/** From argv to a command and an exit status. */
import { hostname } from 'node:os';
import { check } from './commands/check.ts';
import { cleanup } from './commands/cleanup.ts';
import { cleanupOf } from './commands/cleanup-of.ts';
import type { Invocation } from './commands/invocation.ts';
import { plan } from './commands/plan.ts';
import { profile } from './commands/profile.ts';
import { run } from './commands/run.ts';
import { snapshot } from './commands/snapshot.ts';
import { status } from './commands/status.ts';
import { why } from './commands/why.ts';
import { nodeNameOf } from './config/config.ts';
import { EX_CONFIG, formatConfigError } from './config/config-error.ts';
import { helpText } from './config/describe.ts';
import { parseArguments } from './config/parse.ts';
import { FairwayError, messageOf } from './errors.ts';
import { VERSION } from './version.ts';

async function main(): Promise<number> {
  const parsed = parseArguments(process.argv.slice(2), process.env);
  switch (parsed.kind) {
    case 'help':
      process.stdout.write(helpText(process.stdout.columns));
      return 0;
    case 'version':
      process.stdout.write(`fairway ${VERSION}\n`);
      return 0;
    case 'errors':
      for (const error of parsed.errors) process.stderr.write(`${formatConfigError(error)}\n`);
      return EX_CONFIG;
    case 'run': {
      const invocation: Invocation = { ...parsed, nodeName: nodeNameOf(parsed.config, hostname()), environment: process.env };
      return execute(invocation);
    }
  }
}

function execute(invocation: Invocation): Promise<number> {
  switch (invocation.command) {
    case 'run':
      return run(invocation);
    case 'plan':
      return plan(invocation);
    case 'cleanup':
      return invocation.config.of.length > 0 ? cleanupOf(invocation) : cleanup(invocation);
    case 'check':
      return check(invocation);
    case 'status':
      return status(invocation);
    case 'why':
      return why(invocation);
    case 'snapshot':
      return snapshot(invocation);
    case 'profile':
      return profile(invocation);
  }
}

// Whoever read what we print has seen enough: `fairway plan | head`.
process.stdout.once('error', () => process.exit(process.exitCode));

try {
  process.exitCode = await main();
} catch (thrown) {
  const isOurs = thrown instanceof FairwayError;
  process.stderr.write(`fairway: ${isOurs ? `${thrown.code}: ` : ''}${messageOf(thrown)}\n`);
  if (!isOurs && thrown instanceof Error) process.stderr.write(`${thrown.stack ?? ''}\n`);
  process.exitCode = isOurs && thrown.code.startsWith('FW_CONFIG_') ? EX_CONFIG : 1;
}
