/** Every static check of the project, side by side: one line per step, the output of those that failed, status 1 if any did. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';

interface Step {
  readonly name: string;
  /** A file of node_modules or the project, and its arguments. */
  readonly argv: readonly string[];
}

const root = resolve(import.meta.dirname, '..');

// eslint takes as long as all the others together: it has one lane to itself.
const lanes: readonly (readonly Step[])[] = [
  [{ name: 'eslint', argv: ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '.'] }],
  [
    { name: 'types', argv: ['node_modules/typescript7/bin/tsc', '--noEmit', '--pretty', 'false'] },
    {
      name: 'biome',
      argv: ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '--max-diagnostics=50', '.'],
    },
    { name: 'knip', argv: ['node_modules/knip/bin/knip.js', '--no-progress'] },
    { name: 'structure', argv: ['node_modules/mocha/bin/mocha.js', '--reporter=dot', 'test/structure/**/*.test.ts'] },
  ],
];

/** True if the step ended with 0. */
async function run({ name, argv }: Step): Promise<boolean> {
  const started = performance.now();
  const [script = '', ...args] = argv;
  const child = spawn(process.execPath, [join(root, script), ...args], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  await once(child, 'close');
  const passed = child.exitCode === 0;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${passed ? 'ok  ' : 'FAIL'}  ${name.padEnd(10)} ${seconds.padStart(5)} s`);
  if (!passed) console.log(output.trimEnd());
  return passed;
}

async function runInTurn(steps: readonly Step[]): Promise<boolean> {
  let passed = true;
  for (const step of steps) passed = (await run(step)) && passed;
  return passed;
}

const results = await Promise.all(lanes.map(runInTurn));
if (results.includes(false)) process.exitCode = 1;
