/**
 * `npm run bench`: what the daemon costs, beside its targets. `npm run bench -- [--quick] [--services N,N] [plan] [kernel] [startup]`;
 * all benches at 1,000, 5,000 and 10,000 Services of 10 endpoints unless told, one after the other, on an otherwise quiet machine.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchKernel } from '../bench/kernel.ts';
import { benchPlan } from '../bench/plan.ts';
import { benchStartup } from '../bench/startup.ts';

const SIZES = '1000,5000,10000';
const QUICK_SIZES = '300';
const BENCHES = ['plan', 'kernel', 'startup'] as const;
/** sysexits(3). */
const EX_USAGE = 64;

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, services: { type: 'string' } },
  allowPositionals: true,
});
const sizes = (values.services ?? (values.quick ? QUICK_SIZES : SIZES)).split(',').map(Number);
const unknown = positionals.filter(name => !BENCHES.some(bench => bench === name));
if (unknown.length > 0 || sizes.some(size => !Number.isInteger(size) || size < 1)) {
  process.stderr.write(`usage: npm run bench -- [--quick] [--services N,N...] [${BENCHES.join('] [')}]\n`);
  process.exit(EX_USAGE);
}
const chosen = BENCHES.filter(name => positionals.length === 0 || positionals.includes(name));
if (chosen.some(name => name !== 'plan')) {
  execFileSync(process.execPath, [join(import.meta.dirname, 'build.ts')], { stdio: 'inherit' });
}
for (const name of chosen) {
  switch (name) {
    case 'plan':
      await benchPlan(sizes);
      break;
    case 'kernel':
      await benchKernel({ sizes, windowSeconds: values.quick ? 15 : 60 });
      break;
    case 'startup':
      await benchStartup({ runs: values.quick ? 2 : 5 });
      break;
  }
}
