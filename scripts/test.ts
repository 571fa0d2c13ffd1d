/**
 * Runs the tests: `npm test [-- PATTERN...]`, each PATTERN a part of a file's path.
 *
 * Everything that needs no kernel of its own in one mocha process; beside it the files of `test/contract` and `test/lab`, each with a kernel lab
 * of its own, one per CPU. The slowest files are named at the end; the last line is `N passed, N failed, N skipped`.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { availableParallelism, setPriority } from 'node:os';
import { join, resolve } from 'node:path';
import { machineNow } from '../test/lab/place.ts';
import { prepareLab } from '../test/lab/prepare.ts';
import { runLabFile } from '../test/lab/run-in-guest.ts';
import { RECORD_SEPARATOR, type TestRecord } from '../test/reporter.ts';

const root = resolve(import.meta.dirname, '..');
const HOST_FILES = 'test/{unit,property,scenarios,structure,fakes}/**/*.test.ts';
const LAB_FILES = 'test/{contract,lab}/**/*.{test,contract,lab}.ts';
/** Past this a run hangs. */
const HOST_LIMIT_MS = 10 * 60_000;
/** Labs measure milliseconds, and have the processors first. */
const HOST_NICENESS = 5;
/** Files that are named with their time. */
const SLOWEST = 8;

const records: TestRecord[] = [];
/** Seconds that the files of labs took. */
const seconds = new Map<string, number>();
let column = 0;

function endLine(): void {
  if (column > 0) process.stdout.write('\n');
  column = 0;
}

/** A failure or a skip with its reason, as it is shown at once and at the end. */
function describeRecord(record: TestRecord): string {
  switch (record.outcome) {
    case 'passed':
      return `passed: ${record.title}`;
    case 'failed':
      return `FAILED: ${record.title}\n${record.message.replace(/^/gm, '    ')}`;
    case 'skipped':
    case 'unavailable':
      return `skipped: ${record.title}: ${record.reason}`;
  }
}

function report(record: TestRecord): void {
  records.push(record);
  if (record.outcome === 'passed') {
    process.stdout.write('.');
    column = (column + 1) % 120;
    if (column === 0) process.stdout.write('\n');
  } else {
    endLine();
    console.log(describeRecord(record));
  }
}

/** Takes one line of a mocha process with our reporter: a record, or something a test printed. */
function takeLine(line: string): void {
  if (line.startsWith(RECORD_SEPARATOR)) {
    report(JSON.parse(line.slice(RECORD_SEPARATOR.length)) as TestRecord);
  } else if (line !== '') {
    endLine();
    console.log(line);
  }
}

/** Counts the records that mocha counts as failures, and hands all lines on. */
function failureCounter(): { readonly onLine: (line: string) => void; readonly failures: () => number } {
  let failures = 0;
  return {
    failures: () => failures,
    onLine: line => {
      if (/^\u001e\{"outcome":"(failed|unavailable)"/.test(line)) failures++;
      takeLine(line);
    },
  };
}

/** Runs files in one mocha process on this machine. `worker` chooses the CPU of a lab they open. */
async function runOnHost(files: readonly string[], worker: number, niceness = 0): Promise<void> {
  const { onLine, failures } = failureCounter();
  // A test that failed half way may leave something running: the run ends all the same.
  const argv = ['node_modules/mocha/bin/mocha.js', '--exit', '--reporter', join(root, 'test/reporter.ts'), ...files];
  const env = { ...process.env, MOCHA_WORKER_ID: String(worker) };
  const child = spawn(process.execPath, argv, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  if (child.pid !== undefined && niceness > 0) setPriority(child.pid, niceness);
  const limit = setTimeout(() => child.kill('SIGKILL'), HOST_LIMIT_MS);
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  await once(child, 'close');
  clearTimeout(limit);
  onLine(rest);
  // A file that cannot be loaded or a process that dies has no test to blame.
  if (child.exitCode !== 0 && failures() === 0) {
    const title = `${files.length === 1 ? files[0] : 'mocha'} ended with ${child.signalCode ?? `status ${child.exitCode}`}`;
    report({ outcome: 'failed', title, message: errors.trim() });
  } else if (errors.trim() !== '') {
    takeLine(errors.trim());
  }
}

/** Runs a file that must itself be inside a lab: a driver against the real tool. */
async function runInGuest(file: string, cpu: number): Promise<void> {
  const { onLine, failures } = failureCounter();
  try {
    const { status } = await runLabFile(file, { cpu, onLine });
    if (status !== 0 && failures() === 0)
      report({ outcome: 'failed', title: file, message: `the lab ended with status ${status}` });
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    if (error.name === 'LabUnavailable') report({ outcome: 'unavailable', title: file, reason: error.message });
    else report({ outcome: 'failed', title: file, message: error.stack ?? error.message });
  }
}

/** Of labs that some machines hold without a guest; where this one does not, each says so itself. */
const NEEDS_LITTLE: readonly string[] = ['test/lab/policy-', 'test/lab/routing-interop-'];

/** Why there is no lab for everything on this machine; empty where there is one and its kernel. Without the tools there is none at all. */
async function labMissing(): Promise<string> {
  const tools = process.env['FAIRWAY_MISSING_TOOLS'];
  if (tools !== undefined) return tools;
  execFileSync(process.execPath, [join(root, 'scripts/build.ts')], { stdio: 'inherit' });
  return await prepareLab(machineNow(), line => console.log(line));
}

/** One lane a CPU for the files that need a lab, which mostly wait; those of `test/contract` run inside one. The tests of this machine run beside them. */
async function runAll(hostFiles: readonly string[], labFiles: readonly string[]): Promise<void> {
  const missing = labFiles.length === 0 ? '' : await labMissing();
  const hasTools = process.env['FAIRWAY_MISSING_TOOLS'] === undefined;
  const canRun = (file: string): boolean => missing === '' || (hasTools && NEEDS_LITTLE.some(start => file.startsWith(start)));
  for (const file of labFiles) if (!canRun(file)) report({ outcome: 'skipped', title: file, reason: missing });
  const waiting = labFiles.filter(canRun);
  const lane = async (cpu: number): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const begun = performance.now();
      await runLab(file, cpu);
      seconds.set(file, (performance.now() - begun) / 1000);
    }
  };
  const lanes = Array.from({ length: Math.min(2, availableParallelism()) }, (_, cpu) => lane(cpu));
  await Promise.all([...lanes, hostFiles.length === 0 ? undefined : runOnHost(hostFiles, 0, HOST_NICENESS)]);
}

function runLab(file: string, cpu: number): Promise<void> {
  return file.startsWith('test/contract/') ? runInGuest(file, cpu) : runOnHost([file], cpu);
}

function filesOf(glob: string, patterns: readonly string[]): readonly string[] {
  const files = globSync(glob, { cwd: root }).sort();
  return patterns.length === 0 ? files : files.filter(file => patterns.some(pattern => file.includes(pattern)));
}

const patterns = process.argv.slice(2);
const hostFiles = filesOf(HOST_FILES, patterns);
const labFiles = filesOf(LAB_FILES, patterns);
const started = performance.now();
if (hostFiles.length + labFiles.length === 0) {
  report({ outcome: 'failed', title: patterns.join(' '), message: 'no test file matches' });
}
await runAll(hostFiles, labFiles);

endLine();
const counts = { passed: 0, failed: 0, skipped: 0, unavailable: 0 };
for (const { outcome } of records) counts[outcome]++;
if (counts.failed > 0) console.log('\nFailures:\n');
for (const record of records) if (record.outcome === 'failed') console.log(`${describeRecord(record)}\n`);
const slowest = [...seconds].sort(([, one], [, other]) => other - one).slice(0, SLOWEST);
if (slowest.length > 1) console.log(`slowest: ${slowest.map(([file, took]) => `${file} ${took.toFixed(0)} s`).join(', ')}`);
console.log(`${hostFiles.length + labFiles.length} files in ${((performance.now() - started) / 1000).toFixed(1)} s`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped + counts.unavailable} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
