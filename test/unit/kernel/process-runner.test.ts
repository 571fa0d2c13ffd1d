import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FairwayError } from '../../../daemon/errors.ts';
import type { Command } from '../../../daemon/kernel/command.ts';
import { packageOf, processRunner } from '../../../daemon/kernel/process-runner.ts';
import { type Clock, systemClock } from '../../../daemon/net/clock.ts';

/** A command of Node itself: `code` runs with `arguments` after it. */
function node(code: string, ...rest: string[]): Command {
  return { argv: [process.execPath, '-e', code, ...rest] };
}

const never = new AbortController().signal;

describe('the process runner', () => {
  const spawned: (readonly string[])[] = [];
  const runner = processRunner({
    environment: { ...process.env, LC_ALL: 'de_DE' },
    clock: systemClock(),
    onSpawn: argv => spawned.push(argv),
  });

  it('gives status, output and errors', async () => {
    const result = await runner.run(node('console.log("out"); console.error("err"); process.exitCode = 3'), never);
    assert.deepEqual(result, { status: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('hands arguments over as they are: nothing is a shell word', async () => {
    const { stdout } = await runner.run(
      node('console.log(JSON.stringify(process.argv.slice(1)))', '$HOME; echo "x"', '*'),
      never,
    );
    assert.deepEqual(JSON.parse(stdout), ['$HOME; echo "x"', '*']);
  });

  it('runs tools in the C locale and finds those of the sbin folders', async () => {
    const bare = processRunner({ environment: { PATH: '/bin' }, clock: systemClock() });
    const { stdout } = await bare.run(node('console.log(process.env.LC_ALL + " " + process.env.PATH)'), never);
    assert.equal(stdout, 'C /bin:/usr/local/sbin:/usr/sbin:/sbin\n');
  });

  it('tells 128 + the signal of a process that a signal ended', async () => {
    assert.equal((await runner.run(node('process.kill(process.pid, "SIGTERM")'), never)).status, 143);
  });

  it('tells of each end, with the command and how long it ran', async () => {
    const ends: (readonly [Command, number])[] = [];
    const told = processRunner({
      environment: process.env,
      clock: systemClock(),
      onEnd: (command, milliseconds) => ends.push([command, milliseconds]),
    });
    const short = node('process.exitCode = 3');
    await told.run(short, never);
    const missing: Command = { argv: ['no-such-tool'] };
    await assert.rejects(told.run(missing, never));
    assert.deepEqual(
      ends.map(([command]) => command),
      [short, missing],
    );
    assert.ok((ends[0]?.[1] ?? 0) > 1);
  });

  it('names the package of a tool that is not there', async () => {
    const empty = processRunner({ environment: { PATH: '/nonexistent' }, clock: systemClock() });
    const failure = await empty.run({ argv: ['ip6tables-legacy-restore-none'] }, never).catch((thrown: unknown) => thrown);
    assert.ok(failure instanceof FairwayError);
    assert.equal(failure.code, 'FW_CAPABILITY_TOOL_MISSING');
    assert.match(failure.message, /'ip6tables-legacy-restore-none' is not installed/);
    const tools = [
      'ipvsadm',
      'ipset',
      'iptables-legacy-restore',
      'ip6tables-save',
      'iptables-nft',
      'ip',
      'conntrack',
      'modprobe',
    ];
    assert.deepEqual(tools.map(packageOf), [
      'ipvsadm',
      'ipset',
      'iptables',
      'iptables',
      'iptables',
      'iproute2',
      'conntrack',
      'kmod',
    ]);
  });

  it('kills a process at its time limit', async () => {
    const failure = await runner
      .run({ ...node('setInterval(() => {}, 1000)'), timeoutMs: 50 }, never)
      .catch((thrown: unknown) => thrown);
    assert.ok(failure instanceof FairwayError);
    assert.equal(failure.code, 'FW_COMMAND_TIMEOUT');
  });

  it('gives up at the limit even where a grandchild keeps the pipes open', async () => {
    const command = node('require("child_process").spawn("sleep", ["3"], { stdio: "inherit" }); setInterval(() => {}, 1000)');
    const start = performance.now();
    await assert.rejects(runner.run({ ...command, timeoutMs: 300 }, never), { code: 'FW_COMMAND_TIMEOUT' });
    assert.ok(performance.now() - start < 2500);
  });

  it('kills a process when its signal aborts, and starts none for an aborted one', async () => {
    const controller = new AbortController();
    const hung = runner.run(node('setInterval(() => {}, 1000)'), controller.signal);
    controller.abort(new Error('stopping'));
    await assert.rejects(hung, /stopping/);
    const before = spawned.length;
    await assert.rejects(runner.run(node(''), controller.signal), /stopping/);
    assert.equal(spawned.length, before);
  });

  it('leaves no timer behind', async () => {
    const pending = new Set<() => void>();
    const clock: Clock = {
      now: systemClock().now,
      after(_milliseconds, fire) {
        pending.add(fire);
        return () => void pending.delete(fire);
      },
    };
    await processRunner({ environment: process.env, clock }).run(node(''), never);
    assert.equal(pending.size, 0);
  });

  it('writes large input and reads large output', async () => {
    const text = '0123456789abcde\n'.repeat(500_000);
    const { stdout } = await runner.run({ argv: ['cat'], stdin: text }, never);
    assert.ok(stdout === text);
  });

  it('survives a tool that does not read its input', async () => {
    const result = await runner.run({ argv: ['sh', '-c', 'exit 9'], stdin: 'x'.repeat(4_000_000) }, never);
    assert.equal(result.status, 9);
  });

  it('hands output over line by line, the last one without its newline too', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lines-'));
    try {
      const file = join(folder, 'text');
      await writeFile(file, `${Array.from({ length: 50_000 }, (_, index) => `line ${index} é`).join('\n')}\n\nend`);
      const seen: string[] = [];
      const result = await runner.lines({ argv: ['cat', file] }, line => seen.push(line), never);
      assert.deepEqual(result, { status: 0, stdout: '', stderr: '' });
      assert.equal(seen.join('\n'), await readFile(file, 'utf8'));
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('ends the process and throws what a reader of lines throws', async () => {
    const endless = node('setInterval(() => console.log("x"), 1)');
    await assert.rejects(
      runner.lines(
        endless,
        () => {
          throw new Error('unreadable');
        },
        never,
      ),
      /unreadable/,
    );
  });
});
